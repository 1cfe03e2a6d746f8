"""Plans of `mounts add` and `mounts remove`; and each of their safety rules broken by a damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from plan.damage import argument, drop, find, find_last, insert, like, move, step
from support import default_config

from ocirt.config.read import Config
from ocirt.errors import ConfigError, PlanError, UnsupportedError
from ocirt.plan.decode import SIGNATURES
from ocirt.plan.encode import encode
from ocirt.plan.enter import Entrance
from ocirt.plan.enter_mounts import compile_addition, compile_removal
from ocirt.plan.facts import Facts
from ocirt.plan.kernel import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MNT_DETACH,
    MOUNT_ATTR,
    MS_SLAVE,
    OPEN_TREE_CLONE,
)
from ocirt.plan.step import Plan, Reg
from ocirt.plan.verify import RULES
from ocirt.plan.verify_enter import ENTER_RULES
from ocirt.plan.verify_enter_mounts import MOUNTS_RULES, verify_mounts

OF_ITS_OWN = CLONE_NEWNS | CLONE_NEWPID
LISTED: list[dict[str, Any]] = [
    {"destination": "/data/x", "source": "/source", "options": ["rbind", "ro"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700", "ro"]},
    {"destination": "/tmp", "options": ["remount", "bind", "noexec"]},
]


def plan_of(what: str, *mounts: dict[str, Any], namespaces: int = OF_ITS_OWN, user_maps: int = 0) -> Plan:
    config = default_config()
    config["mounts"] = list(mounts or (LISTED if what == "add" else LISTED[:2]))
    if namespaces & CLONE_NEWUSER:
        config["linux"]["namespaces"].append({"type": "user"})
    facts = Facts(wait_for_start=False, directories={"/source": True}, user_maps=user_maps)
    entrance = Entrance(namespaces, into_cgroup=False)
    if what == "add":
        return compile_addition(Config(config, "", "/bundle"), facts, entrance)[0]
    return compile_removal(Config(config, "", "/bundle"), facts, entrance)


@pytest.mark.parametrize("what", ["add", "remove"])
@pytest.mark.parametrize("namespaces", [OF_ITS_OWN, CLONE_NEWNS, OF_ITS_OWN | CLONE_NEWUSER])
def test_every_plan_is_safe_and_can_be_encoded(what: str, namespaces: int) -> None:
    plan = plan_of(what, namespaces=namespaces)
    verify_mounts(plan)
    assert encode(plan).content
    assert {step.call for step in plan.steps} <= set(SIGNATURES), "explain can show them"
    assert plan.steps[-1].call == "exit_group"


def test_what_is_the_hosts_is_taken_before_the_container_is_entered() -> None:
    plan = plan_of("add")
    assert plan.steps[find(plan, "open_tree")].args[1] == "/source"
    assert find(plan, "open_tree") < find(plan, "setns") < find(plan, "chroot") < find(plan, "fsopen")


def test_a_removal_names_one_entry_of_an_open_folder() -> None:
    plan = plan_of("remove", {"destination": "/a/../b//c"}, {"destination": "d"})
    assert [step.args[1] for step in plan.steps if step.call == "openat2"] == ["/", "b"]
    assert [step.args[0] for step in plan.steps if step.call == "umount2"] == ["c", "d"]


@pytest.mark.parametrize(
    ("mount", "error", "pointer"),
    [
        ({"destination": "/sys/fs/cgroup", "type": "cgroup"}, UnsupportedError, "/mounts/0/type"),
        ({"destination": "/x", "type": "tmpfs", "options": ["silent"]}, UnsupportedError, "/mounts/0/options"),
        ({"destination": "/x/..", "type": "tmpfs"}, ConfigError, "/mounts/0/destination"),
        ({"destination": "/x", "type": "tmpfs", "options": ["mode=1", "nix", "tmpcopyup", "rro=1"]}, None, ""),
    ],
)
def test_what_a_running_container_cannot_get(
    mount: dict[str, Any], error: type[ConfigError | UnsupportedError] | None, pointer: str
) -> None:
    if error is None:
        verify_mounts(plan_of("add", mount))  # the kernel will say what it thinks of such options
        return
    with pytest.raises(error) as caught:
        plan_of("add", mount)
    assert caught.value.pointer == pointer


# Damages

Damage = Callable[[Plan], None]
DAMAGES: list[tuple[str, str, str, Damage]] = []


def breaks(rule: str, what: str, kind: str = "add") -> Callable[[Damage], Damage]:
    def note(damage: Damage) -> Damage:
        DAMAGES.append((rule, what, kind, damage))
        return damage

    return note


@breaks("mounts-only", "it goes on when the host has been told")
def _(plan: Plan) -> None:
    drop(plan, len(plan.steps) - 1)


@breaks("calls-known", "it executes something")
def _(plan: Plan) -> None:
    plan.steps[-1] = like(plan, -1, "execve", "/bin/sh", 0, 0)


@breaks("mounts-only", "it ends before it is done")
def _(plan: Plan) -> None:
    insert(plan, find(plan, "fsopen"), plan.steps[-1])


@breaks("host-met", "the host is not told")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "sync"))


@breaks("mounts-private", "the mount namespace is not entered")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "setns"))


@breaks("mounts-inside", "a source is looked up in the container")
def _(plan: Plan) -> None:
    at = find_last(plan, "move_mount")
    insert(plan, at, like(plan, at, "open_tree", AT_FDCWD, "/etc", OPEN_TREE_CLONE, result=Reg(99, "tree")))


@breaks("mounts-inside", "all of the container's mounts change")
def _(plan: Plan) -> None:
    at = find_last(plan, "move_mount")
    attributes = MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0)
    insert(plan, at, like(plan, at, "mount_setattr", AT_FDCWD, "/", AT_RECURSIVE, attributes, MOUNT_ATTR.size))


@breaks("targets-by-descriptor", "a destination by its path")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount")
    argument(plan, at, 2, AT_FDCWD)
    argument(plan, at, 3, "/data/x")


@breaks("mounts-private", "what is bound is still a peer of the host's mount")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", where=lambda one: one.args[3] == MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0)))


@breaks("enter-hidden", "processes of the container may look into it")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl"))


@breaks("enter-unseen", "it keeps what it entered by")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "close", where=lambda one: type(one.args[0]) is int))


@breaks("enter-order", "the root of the host is opened")
def _(plan: Plan) -> None:
    move(plan, find(plan, "openat2"), find(plan, "setns"))


@breaks("calls-known", "a process of the container is looked into")
def _(plan: Plan) -> None:
    insert(plan, len(plan.steps) - 1, step("ptrace", 1))


@breaks("mounts-inside", "a path of several parts", "remove")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "umount2"), 0, "data/x")


@breaks("mounts-inside", "a symlink is followed", "remove")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "umount2"), 1, MNT_DETACH)


@breaks("mounts-inside", "the folder is another one", "remove")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "fchdir"))


@pytest.mark.parametrize(("rule", "what", "kind", "damage"), DAMAGES, ids=[f"{one[0]}-{one[1]}" for one in DAMAGES])
def test_each_damage_is_seen(rule: str, what: str, kind: str, damage: Damage) -> None:
    assert rule in RULES | ENTER_RULES | MOUNTS_RULES
    plan = plan_of(kind)
    damage(plan)
    with pytest.raises(PlanError, match=f"safety rule {rule}: "):
        verify_mounts(plan)


def test_each_rule_of_its_own_is_broken_by_a_damage() -> None:
    assert {damage[0] for damage in DAMAGES} >= set(MOUNTS_RULES)


def of_an_ordinary_user(*mounts: dict[str, Any]) -> Plan:
    config = default_config()
    config["mounts"] = list(mounts or LISTED)
    config["linux"]["namespaces"].append({"type": "user"})
    facts = Facts(wait_for_start=False, directories={"/source": True}, unprivileged=True, permitted=0)
    entrance = Entrance(OF_ITS_OWN | CLONE_NEWUSER, into_cgroup=False)
    return compile_addition(Config(config, "", "/bundle"), facts, entrance)[0]


def test_an_ordinary_user_takes_from_copies_that_the_user_namespace_owns() -> None:
    plan = of_an_ordinary_user()
    verify_mounts(plan)
    calls = [(one.call, one.args[-1]) for one in plan.steps if one.call in ("setns", "unshare", "clone3")]
    assert calls == [
        ("setns", CLONE_NEWUSER),
        ("unshare", CLONE_NEWNS),
        ("setns", CLONE_NEWPID),
        ("clone3", -1),
        ("setns", CLONE_NEWNS),
    ]
    assert find(plan, "unshare") < find(plan, "mount_setattr") < find(plan, "open_tree") < find(plan, "clone3")


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("mounts-inside", lambda plan: drop(plan, find(plan, "setns"))),
        ("enter-order", lambda plan: setattr(plan, "unprivileged", False)),
        ("mounts-private", lambda plan: drop(plan, find(plan, "mount_setattr"))),
        ("mounts-private", lambda plan: drop(plan, find_last(plan, "setns"))),
        ("mounts-inside", lambda plan: argument(plan, find(plan, "unshare"), 0, CLONE_NEWNS | CLONE_NEWUSER)),
        ("enter-order", lambda plan: insert(plan, find(plan, "clone3") + 1, step("unshare", CLONE_NEWNS))),
        ("enter-hidden", lambda plan: drop(plan, find(plan, "prctl"))),
    ],
)
def test_an_ordinary_users_damaged_plan_is_refused(rule: str, damage: Callable[[Plan], None]) -> None:
    plan = of_an_ordinary_user()
    damage(plan)
    with pytest.raises(PlanError) as caught:
        verify_mounts(plan)
    assert f"safety rule {rule}:" in str(caught.value)
