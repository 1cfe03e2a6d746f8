"""A procfs of init's own, which nothing in the container can shadow."""

from __future__ import annotations

from ocirt.plan.kernel import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    O_CLOEXEC,
    OPEN_TREE_CLOEXEC,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan, Reg


def open_proc(plan: Plan, *, whole: bool = False) -> Reg:
    """A detached mount of it, with no more than processes in it (`subset=pid`) unless the whole is asked for, which
    then must not be held for longer than it is used: a process of the container could take it from init's /proc/1/fd.

    Its descriptor gets the number that is free when this begins: the first that is opened in the container has the
    plan's, so that all later ones lie above it.
    """
    if not whole:
        plan.at("", "make a private procfs")
    proc = plan.open("proc", "fsopen", "proc", FSOPEN_CLOEXEC)
    if not whole:
        plan.call("fsconfig", proc, FSCONFIG_SET_STRING, "subset", "pid", 0, log=True)
    plan.call("fsconfig", proc, FSCONFIG_CMD_CREATE, 0, 0, 0, log=True)
    mount = plan.open("mount", "fsmount", proc, FSMOUNT_CLOEXEC, 0, log=True)
    plan.call("dup3", mount, proc, O_CLOEXEC)
    plan.close(mount)
    return proc


def hosts_proc(plan: Plan) -> Reg:
    """The procfs of the mount namespace that init has copied, as an O_PATH descriptor (open_tree(2) without a copy)."""
    plan.at("", "open /proc")
    return plan.open("proc", "open_tree", AT_FDCWD, "/proc", OPEN_TREE_CLOEXEC)
