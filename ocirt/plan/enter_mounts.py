"""The plans of `mounts add` and `mounts remove`: mounts of a container that is there already.

They go in as a hook does (enter). What is the host's is taken before, as for a container with a user namespace: inside,
a path is the container's, and means whatever the container wants it to mean.
"""

from __future__ import annotations

from ocirt.errors import ConfigError, UnsupportedError
from ocirt.plan import mounts, rootfs
from ocirt.plan.enter import enter, hide, inherited_to_enter, open_root
from ocirt.plan.inherited import CONTROL
from ocirt.plan.kernel import CLONE_NEWNS, CLONE_NEWUSER, MNT_DETACH, MS_SLAVE, UMOUNT_NOFOLLOW
from ocirt.plan.options import parse_options
from ocirt.plan.paths import HOW_SIZE, IN_ROOT_NO_SYMLINKS, parts_of
from ocirt.plan.scope import Scope, reset
from ocirt.plan.step import Plan
from ocirt.plan.tags import SYNC_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config
    from ocirt.plan.enter import Entrance
    from ocirt.plan.facts import Facts


def compile_addition(config: Config, facts: Facts, entrance: Entrance) -> tuple[Plan, list[str]]:
    """(the plan that makes the mounts of config.spec, warnings). config.spec is the container's with other `mounts`.

    Raises ConfigError; UnsupportedError for a mount that only a new container can have.
    """
    for index, mount in enumerate(config.spec["mounts"]):
        _check(mount, f"/mounts/{index}")
    scope = _begin(config, facts, entrance)
    scope.takes_first = True
    there = 0
    if scope.facts.unprivileged:
        there = _copy_mounts(scope)
    mounts.take_all(scope)
    _enter(scope, entrance, there)
    mounts.mount_all(scope)
    mounts.finish_readonly(scope)
    _end(scope)
    return scope.plan, scope.warnings


def compile_removal(config: Config, facts: Facts, entrance: Entrance) -> Plan:
    """The plan that takes off, one after the other, what is mounted on the destinations: of each the topmost mount.

    No symlink is followed: the container could have put it there, and have another mount taken off than is meant.
    """
    scope = _begin(config, facts, entrance)
    _enter(scope, entrance)
    plan = scope.plan
    for index, mount in enumerate(config.spec["mounts"]):
        *folders, name = parts_of(mount["destination"])
        plan.at(f"/mounts/{index}", f"unmount /{'/'.join((*folders, name))}")
        parent = scope.root
        if folders:
            parent = plan.open("folder", "openat2", scope.root, "/".join(folders), IN_ROOT_NO_SYMLINKS, HOW_SIZE)
        plan.call("fchdir", parent)
        plan.call("umount2", name, MNT_DETACH | UMOUNT_NOFOLLOW)
        if folders:
            plan.close(parent)
    _end(scope)
    return plan


def _check(mount: dict[str, Any], pointer: str) -> None:
    """What a container can only get while it is made."""
    options = parse_options(mount.get("options") or (), pointer)
    kind = mount.get("type") or ""
    if kind == "cgroup" and not options.bind:
        raise UnsupportedError("cgroups are mounted when a container is made", pointer=pointer + "/type")
    if options.needs_mount2(mount.get("source") or kind):
        # mount(2) would need a place for a moment, and all that a running container has is in its sight.
        raise UnsupportedError(
            "options that only mount(2) takes (iversion, silent, loud, long values) need a new container",
            pointer=pointer + "/options",
        )
    if not parts_of(mount["destination"]):
        raise ConfigError('expected a path below "/"', pointer=pointer + "/destination")


def _begin(config: Config, facts: Facts, entrance: Entrance) -> Scope:
    plan = Plan(facts.machine, control=CONTROL)
    scope = Scope(config, facts, plan)
    scope.inherited = inherited_to_enter(entrance, facts)
    plan.namespaces = entrance.namespaces
    reset(scope)
    return scope


def _copy_mounts(scope: Scope) -> int:
    """An ordinary user has no right to copy a mount where they are. In a mount namespace that the container's user
    namespace owns, they have, and there is a copy of all of the host's. The process has the caller's ids still."""
    plan = scope.plan
    hide(scope, "/mounts")
    plan.at("/mounts", "join the container's user namespace")
    plan.call("setns", scope.inherited["first"], CLONE_NEWUSER)
    plan.at("/mounts", "make a mount namespace to copy from")
    plan.call("unshare", CLONE_NEWNS)
    rootfs.cut_namespace_off(plan, MS_SLAVE)
    scope.isolated = True
    return CLONE_NEWUSER


def _enter(scope: Scope, entrance: Entrance, there: int = 0) -> None:
    enter(scope, entrance, "/mounts", labelled=False, there=there)
    open_root(scope)


def _end(scope: Scope) -> None:
    scope.plan.at("", "tell the host that all is done")
    scope.plan.sync(SYNC_READY)
    scope.plan.call("exit_group", 0)
