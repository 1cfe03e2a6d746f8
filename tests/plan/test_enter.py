"""Plans that go into a container: a hook's and that of `exec`; and each of their safety rules broken by a damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plan.damage import argument, drop, find, find_last, insert, like, move, step
from support import default_config

from ocirt.config.read import Config
from ocirt.errors import PlanError
from ocirt.plan.decode import SIGNATURES
from ocirt.plan.encode import encode
from ocirt.plan.enter import CALLER, EXEC, PROGRAM, ROOT, Entrance, compile_hook, inherited_to_enter
from ocirt.plan.enter_exec import compile_exec
from ocirt.plan.facts import Facts, Filter
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    O_RDWR,
    OPEN_HOW,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
)
from ocirt.plan.step import Plan, Reg, Vector
from ocirt.plan.verify import RULES
from ocirt.plan.verify_enter import ENTER_RULES, verify_enter

KIND = {CALLER: "createRuntime", ROOT: "createContainer", PROGRAM: "startContainer"}
OF_ITS_OWN = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP


def hook_plan(rights: str, *, namespaces: int = OF_ITS_OWN, into_cgroup: bool = False, **hook: object) -> Plan:
    config = default_config(user={"uid": 1000, "gid": 1000, "umask": 0o22})
    config["hooks"] = {KIND[rights]: [{"path": "/bin/hook", **hook}]}
    entrance = None if rights == CALLER else Entrance(namespaces, into_cgroup=into_cgroup)
    return compile_hook(
        Config(config, "", "/bundle"), Facts(), entrance, rights=rights, kind=KIND[rights], index=0, folder="/folder"
    )


def exec_plan(
    *, namespaces: int = OF_ITS_OWN, into_cgroup: bool = False, preserved: int = 0, **process: object
) -> Plan:
    config = default_config(**{"user": {"uid": 1000, "gid": 1000, "umask": 0o22}, "terminal": True, **process})
    facts = Facts(preserved=preserved, wait_for_start=False, permitted=2**41 - 1)
    return compile_exec(Config(config, "", "/bundle"), facts, Entrance(namespaces, into_cgroup=into_cgroup)).plan


def calls(plan: Plan) -> list[str]:
    return [step.call for step in plan.steps]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("env", [[], ["HOME=/"]])
@pytest.mark.parametrize("namespaces", [0, OF_ITS_OWN, OF_ITS_OWN | CLONE_NEWUSER])
@pytest.mark.parametrize("into_cgroup", [False, True])
def test_every_plan_of_exec_is_safe_and_can_be_encoded(
    terminal: bool, env: list[str], namespaces: int, into_cgroup: bool
) -> None:
    affinity = {"initial": "0-3", "final": "8000"}
    plan = exec_plan(
        namespaces=namespaces,
        into_cgroup=into_cgroup,
        terminal=terminal,
        env=env,
        execCPUAffinity=affinity,
        preserved=3,
    )
    verify_enter(plan, EXEC)
    assert encode(plan).content
    assert set(calls(plan)) <= set(SIGNATURES), "explain can show them"


def test_memory_that_is_shared_with_the_host_may_stay_until_the_filter_is_loaded() -> None:
    config = Config(default_config(), "", "/bundle")
    config.spec["hooks"] = {"startContainer": [{"path": "/bin/hook"}]}
    listening = Filter(bytes(8), SECCOMP_FILTER_FLAG_NEW_LISTENER)
    facts = Facts(seccomp=listening, wait_for_start=False)
    entrance = Entrance(OF_ITS_OWN, into_cgroup=True)
    verify_enter(compile_exec(config, facts, entrance).plan, EXEC)
    plan = compile_hook(config, facts, entrance, rights=PROGRAM, kind="startContainer", index=0, folder="/")
    verify_enter(plan, PROGRAM)
    assert "wait" in calls(plan)


def test_exec_sets_its_processors_before_and_after_the_cgroup_is_joined() -> None:
    plan = exec_plan(execCPUAffinity={"initial": "0-3", "final": "65"})
    steps = [one.args for one in plan.steps if one.call == "sched_setaffinity"]
    assert steps == [(0, 8, b"\x0f" + bytes(7)), (0, 16, bytes(8) + b"\x02" + bytes(7))]
    assert (
        find(plan, "sched_setaffinity")
        < find(plan, "clone3")
        < find(plan, "sync")
        < find_last(plan, "sched_setaffinity")
    )


def test_exec_takes_its_terminal_and_home_from_the_containers_root() -> None:
    plan = exec_plan()
    opened = [one.args[1] for one in plan.steps if one.call == "openat2"]
    assert opened == ["/", "dev/pts/ptmx", "etc/passwd"]
    assert find(plan, "chroot") < find(plan, "openat2")
    assert "move_mount" not in calls(plan), "its terminal is no console of the container"
    assert "openat2" not in calls(exec_plan(terminal=False, env=["HOME=/"]))


@pytest.mark.parametrize("rights", KIND)
@pytest.mark.parametrize("namespaces", [0, OF_ITS_OWN, OF_ITS_OWN | CLONE_NEWUSER, CLONE_NEWNET])
@pytest.mark.parametrize("into_cgroup", [False, True])
def test_every_plan_is_safe_and_can_be_encoded(rights: str, namespaces: int, into_cgroup: bool) -> None:
    plan = hook_plan(rights, namespaces=namespaces, into_cgroup=into_cgroup)
    verify_enter(plan, rights)
    assert encode(plan).content
    assert set(calls(plan)) <= set(SIGNATURES), "explain can show them"


def test_a_hook_of_the_runtime_joins_nothing_and_runs_in_its_folder() -> None:
    plan = hook_plan(CALLER)
    assert not {"setns", "chroot", "capset", "setresuid"} & set(calls(plan))
    assert plan.steps[find(plan, "chdir")].args == ("/folder",)


def test_path_arguments_and_environment() -> None:
    for hook, args, env in (
        ({}, ("/bin/hook",), ()),
        ({"args": [], "env": None}, ("/bin/hook",), ()),
        ({"args": ["a", ""], "env": ["A=1", "A=2"]}, ("a", ""), ("A=1", "A=2")),
    ):
        path, given_args, given_env = hook_plan(CALLER, **hook).steps[-1].args
        assert path == "/bin/hook"
        assert isinstance(given_args, Vector) and isinstance(given_env, Vector)
        assert (given_args.items, given_env.items) == (args, env)


ENTERING = ("open_tree", "setns", "clone3", "sync", "chroot", "close")


def entering(plan: Plan) -> list[tuple[str, object]]:
    """The steps by which it enters: each with its first argument, of setns(2) the second."""
    return [(one.call, one.args[one.call == "setns"]) for one in plan.steps if one.call in ENTERING]


def test_nothing_of_the_host_is_left_in_it_when_it_appears_in_the_container() -> None:
    """In the container's cgroup namespace, clone3 could not put it into the cgroup."""
    plan = hook_plan(ROOT, into_cgroup=True)
    cgroup = next(one.result for one in plan.steps if one.call == "open_tree")
    assert cgroup
    assert entering(plan) == [
        ("open_tree", 6),
        ("close", 6),
        ("setns", CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET),
        ("chroot", "."),
        ("close", 5),
        ("clone3", CLONE_PARENT | CLONE_INTO_CGROUP),
        ("close", cgroup),
        ("sync", 1),
        ("setns", CLONE_NEWCGROUP),
        ("close", 4),
    ]


def test_where_a_user_namespace_hides_it_all_but_pid_is_joined_after_the_host_has_attached_it() -> None:
    plan = hook_plan(ROOT, namespaces=OF_ITS_OWN | CLONE_NEWUSER)
    assert entering(plan) == [
        ("setns", CLONE_NEWPID),
        ("clone3", CLONE_PARENT),
        ("sync", 1),
        ("setns", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWUSER),
        ("chroot", "."),
        ("close", 5),
        ("close", 4),
    ]


def test_what_is_inherited_is_closed_before_rights_go() -> None:
    plan = hook_plan(PROGRAM, into_cgroup=True)
    closed = [one.args[0] for one in plan.steps[: find(plan, "capset")] if one.call == "close"]
    numbers = inherited_to_enter(Entrance(0, into_cgroup=True))
    assert [number for number in closed if type(number) is int] == [
        numbers["cgroup"],
        numbers["root"],
        numbers["first"],
    ]


# Damages

Damage = Callable[[Plan], None]
DAMAGES: list[tuple[str, str, str, Damage]] = []


def breaks(rule: str, what: str, rights: str = PROGRAM) -> Callable[[Damage], Damage]:
    def note(damage: Damage) -> Damage:
        DAMAGES.append((rule, what, rights, damage))
        return damage

    return note


@breaks("first-act", "the caller's descriptors stay")
def _(plan: Plan) -> None:
    drop(plan, 0)


@breaks("enter-order", "a new namespace")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "clone3"), 0, CLONE_PARENT | CLONE_NEWNS)


@breaks("enter-order", "no child of the host's")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "clone3"), 0, 0)


@breaks("enter-order", "two clones")
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    insert(plan, at, plan.steps[at])


@breaks("enter-unseen", "the namespaces after the clone")
def _(plan: Plan) -> None:
    move(plan, find(plan, "setns"), find(plan, "sync"))


@breaks("enter-unseen", "the mount namespace is missing when it appears", ROOT)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setns"), 1, CLONE_NEWPID | CLONE_NEWNET)


@breaks("enter-unseen", "the root is the host's when it appears", ROOT)
def _(plan: Plan) -> None:
    at = find(plan, "fchdir")
    drop(plan, at)
    drop(plan, at)


@breaks("enter-unseen", "the root's descriptor is there when it appears", EXEC)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "close", where=lambda one: one.args == (5,)))


@breaks("enter-unseen", "no namespace at all")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setns"))


@breaks("enter-order", "the cgroup namespace before the host's part", ROOT)
def _(plan: Plan) -> None:
    move(plan, find_last(plan, "setns"), find(plan, "sync"))


@breaks("namespaces-entered", "not into the cgroup namespace", ROOT)
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "setns"))


@breaks("enter-order", "a namespace after the root")
def _(plan: Plan) -> None:
    at = find(plan, "chroot")
    insert(plan, at + 1, like(plan, at, "setns", 4, CLONE_NEWNET))


@breaks("enter-order", "namespaces by a descriptor that was not given for it")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setns"), 0, 3)


@breaks("enter-order", "the cgroup namespace with the others")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setns"), 1, OF_ITS_OWN)


@breaks("enter-order", "chroot to where it is")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fchdir"))


@breaks("enter-order", "chroot to a path")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "chroot"), 0, "/")


@breaks("enter-order", "the root is a register's", ROOT)
def _(plan: Plan) -> None:
    at = find(plan, "fchdir")
    insert(plan, at, like(plan, at, "umask", 0, result=Reg(0, "umask")))
    argument(plan, at + 1, 0, Reg(0, "umask"))


@breaks("enter-order", "a pidfd survives to the credentials")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "close", where=lambda one: one.args == (4,)))


@breaks("enter-order", "no meeting with the host")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sync"), 0, 2)


@breaks("host-met", "no meeting at all", CALLER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync"))


@breaks("enter-hidden", "it can be traced")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl"))


@breaks("enter-hidden", "it can be traced again", ROOT)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "prctl"), 1, 1)


@breaks("enter-nothing", "a hook of the runtime's in the container", CALLER)
def _(plan: Plan) -> None:
    at = find(plan, "sync")
    insert(plan, at + 1, like(plan, at, "setns", 4, CLONE_NEWNET))


@breaks("enter-rights", "the host's rights")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "capset"))


@breaks("credentials-order", "the uid after the capabilities")
def _(plan: Plan) -> None:
    move(plan, find(plan, "setresuid"), find(plan, "capset"))


@breaks("pivot-before-code", "the working directory is not checked")
def _(plan: Plan) -> None:
    at = find(plan, "getcwd")
    drop(plan, at)
    drop(plan, at)


@breaks("privileges-gone", "a namespace after the credentials")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    insert(plan, at + 1, like(plan, at, "setns", 4, CLONE_NEWNET))


@breaks("enter-order", "a mount", ROOT)
def _(plan: Plan) -> None:
    insert(plan, len(plan.steps) - 2, step("open_tree", -100, "/", 1, pointer=plan.steps[-1].pointer))


@breaks("enter-order", "a file system of its own", ROOT)
def _(plan: Plan) -> None:
    at = find(plan, "sync")
    insert(plan, at + 1, like(plan, at, "fsopen", "tmpfs", 0))


@breaks("calls-known", "a file", ROOT)
def _(plan: Plan) -> None:
    insert(plan, len(plan.steps) - 2, step("mkdirat", -100, "/x", 0o755, pointer=plan.steps[-1].pointer))


@breaks("descriptors-closed", "descriptors survive", CALLER)
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "close_range"))


@breaks("execve-last", "no program", CALLER)
def _(plan: Plan) -> None:
    drop(plan, len(plan.steps) - 1)


@breaks("host-met", "the program starts before the host says so", EXEC)
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "sync"))


@breaks("enter-order", "the host's root", EXEC)
def _(plan: Plan) -> None:
    move(plan, find(plan, "openat2"), find(plan, "fchdir"))


@breaks("enter-order", "another folder for the root", EXEC)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2"), 1, "/tmp")


@breaks("enter-order", "the root to read", EXEC)
def _(plan: Plan) -> None:
    at = find(plan, "openat2")
    argument(plan, at, 2, OPEN_HOW.pack(0, 0, 0))


@breaks("targets-by-descriptor", "the terminal by a path", EXEC)
def _(plan: Plan) -> None:
    at = find(plan, "openat2", where=lambda one: one.args[1] == "dev/pts/ptmx")
    argument(plan, at, 2, OPEN_HOW.pack(O_RDWR, 0, 0))


@breaks("devices-checked", "whatever is at /dev/pts/ptmx", EXEC)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "statx"))


@breaks("enter-rights", "the runtime's rights", EXEC)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "capset"))


@breaks("pivot-before-code", "wherever the caller was", EXEC)
def _(plan: Plan) -> None:
    at = find(plan, "getcwd")
    drop(plan, at)
    drop(plan, at)


@breaks("calls-known", "a terminal for a hook")
def _(plan: Plan) -> None:
    insert(plan, len(plan.steps) - 2, step("ioctl", 0, 0x540E, 0, pointer=plan.steps[-1].pointer))


# Damages of plans that are put into a cgroup by the clone, and of those with a user namespace


def refused(plan: Plan, rights: str) -> str:
    with pytest.raises(PlanError) as error:
        verify_enter(plan, rights)
    return error.value.message


def test_the_cgroups_folder_itself_is_not_taken_along() -> None:
    """By ".." it leads to the host's root."""
    plan = exec_plan(into_cgroup=True)
    argument(plan, find(plan, "clone3"), 1, 6)
    assert refused(plan, EXEC).startswith("safety rule enter-unseen:")
    plan = exec_plan(into_cgroup=True)
    drop(plan, find(plan, "close", where=lambda one: one.args == (6,)))
    assert refused(plan, EXEC).startswith("safety rule enter-unseen:")


@pytest.mark.parametrize(("at", "value"), [(0, AT_FDCWD), (1, "/sys/fs/cgroup"), (2, AT_EMPTY_PATH)])
def test_only_a_copy_of_the_cgroup_is_taken(at: int, value: object) -> None:
    plan = exec_plan(into_cgroup=True)
    argument(plan, find(plan, "open_tree"), at, value)
    assert refused(plan, EXEC).startswith("safety rule enter-order:")


def test_nothing_is_copied_once_the_container_is_entered() -> None:
    plan = exec_plan(into_cgroup=True)
    move(plan, find(plan, "open_tree"), find(plan, "fchdir"))
    assert refused(plan, EXEC).startswith("safety rule ")


def with_user_namespace() -> Plan:
    return hook_plan(PROGRAM, namespaces=OF_ITS_OWN | CLONE_NEWUSER)


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: move(plan, find(plan, "setns"), find(plan, "sync")),
        lambda plan: move(plan, find_last(plan, "setns"), find(plan, "sync")),
        lambda plan: argument(plan, find(plan, "setns"), 1, CLONE_NEWPID | CLONE_NEWNET),
        lambda plan: move(plan, find(plan, "fchdir"), find(plan, "sync")),
    ],
    ids=["pid after the clone", "the others before the host's part", "both at once", "the root before the clone"],
)
def test_with_a_user_namespace_the_order_is_another(damage: Damage) -> None:
    plan = with_user_namespace()
    verify_enter(plan, PROGRAM)
    damage(plan)
    assert refused(plan, PROGRAM).startswith("safety rule enter-order:")


@pytest.mark.parametrize(
    ("rule", "rights", "damage"),
    [pytest.param(rule, rights, damage, id=f"{rule}: {what}") for rule, what, rights, damage in DAMAGES],
)
def test_a_damaged_plan_is_refused_by_its_rule(rule: str, rights: str, damage: Damage) -> None:
    plan = exec_plan() if rights == EXEC else hook_plan(rights)
    verify_enter(plan, rights)
    damage(plan)
    with pytest.raises(PlanError) as refused:
        verify_enter(plan, rights)
    assert refused.value.message.startswith(f"safety rule {rule}:"), refused.value.message


def test_in_a_user_namespace_it_is_nobody_of_the_host_s() -> None:
    plan = hook_plan(ROOT, namespaces=OF_ITS_OWN | CLONE_NEWUSER)
    drop(plan, find(plan, "setresuid"))
    with pytest.raises(PlanError, match="safety rule credentials-order"):
        verify_enter(plan, ROOT)


def test_every_rule_of_its_own_is_broken_by_some_damage() -> None:
    broken = {rule for rule, *_ in DAMAGES}
    assert set(ENTER_RULES) <= broken <= set(ENTER_RULES) | set(RULES)


@pytest.mark.parametrize("namespaces", [OF_ITS_OWN, OF_ITS_OWN | CLONE_NEWUSER])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_program_s_label_profile_filter_and_schedule_are_the_hook_s(
    namespaces: int, no_new_privileges: bool
) -> None:
    config = default_config(
        apparmorProfile="docker-default",
        selinuxLabel="system_u:system_r:container_t:s0",
        noNewPrivileges=no_new_privileges,
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 7},
    )
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    config["hooks"] = {kind: [{"path": "/bin/hook"}] for kind in KIND.values()}
    facts = Facts(
        security_modules=("apparmor", "selinux"), seccomp=Filter(bytes(8), 0), wait_for_start=False, container_id="one"
    )
    for rights in (ROOT, PROGRAM):
        plan = compile_hook(
            Config(config, "", "/bundle"),
            facts,
            Entrance(namespaces, into_cgroup=False),
            rights=rights,
            kind=KIND[rights],
            index=0,
            folder="/folder",
        )
        verify_enter(plan, rights)
        found = {"write", "seccomp", "ioprio_set"} & set(calls(plan))
        assert found == ({"write", "seccomp", "ioprio_set"} if rights == PROGRAM else set())
    # What only the host's root may write is written before the user namespace is joined.
    assert find_last(plan, "write") < find_last(plan, "setns")
    assert calls(plan)[-2:] == ["seccomp" if no_new_privileges else "capset", "execve"]
