"""Damages to how namespaces are entered: user namespaces, joined ones, moved clocks, the caller's own mounts."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, find_last, insert, like, move, root_of, step, tolerate

from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_PARENT,
    EPERM,
    MOUNT_ATTR,
    MOVE_MOUNT_BY_DESCRIPTOR,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    PR_SET_DUMPABLE,
)
from ocirt.plan.step import Plan

USER = "user-namespace"
SHARED = "without-mount-namespace"


@breaks("mounts-private", "a copy of the host's mount stays its peer", USER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer="/mounts/7", where=lambda one: one.args[2] & AT_RECURSIVE))


@breaks("mounts-private", "the root file system stays the host's peer", USER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer="/root/path"))


@breaks("mounts-private", "a mount before the clone", USER)
def _(plan: Plan) -> None:
    root = root_of(plan)
    at = find(plan, "clone3")
    insert(plan, at, like(plan, at, "move_mount", root, "", root, "", MOVE_MOUNT_BY_DESCRIPTOR))


@breaks("mounts-private", "a mount of the host is changed before the clone", USER)
def _(plan: Plan) -> None:
    attributes = MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0)
    at = find(plan, "clone3")
    insert(plan, at, step("mount_setattr", AT_FDCWD, "/", AT_RECURSIVE, attributes, MOUNT_ATTR.size))


@breaks("mounts-private", "a user namespace in the host's mount namespace", USER)
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    flags = plan.steps[at].args[0]
    assert isinstance(flags, int)
    argument(plan, at, 0, flags & ~CLONE_NEWNS)


@breaks("host-met", "root of the user namespace before there are maps", USER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", pointer="/linux/uidMappings"))


@breaks("credentials-order", "uid before gid in the user namespace", USER)
def _(plan: Plan) -> None:
    move(plan, find(plan, "setresuid"), find(plan, "setresgid"))


@breaks("credentials-order", "init becomes somebody, not root", USER)
def _(plan: Plan) -> None:
    plan.steps[find(plan, "setresgid")].args = (5, 5, 5)


@breaks("credentials-order", "root of the user namespace for the second time", USER)
def _(plan: Plan) -> None:
    at = find(plan, "setresuid")
    for offset, call in enumerate(("setresuid", "setresuid", "setresgid")):
        insert(plan, at + 1 + offset, like(plan, at, call, 0, 0, 0))


@breaks("host-met", "the ipc namespace of the host's root", USER)
def _(plan: Plan) -> None:
    move(plan, find(plan, "unshare", pointer="/linux/namespaces/2"), find(plan, "clone3") + 1)


@breaks("host-met", "a namespace by a number that nobody checked", "joined")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setns"), 0, "/proc/1/ns/net")


@breaks("host-met", "a pid namespace after the clone", "joined")
def _(plan: Plan) -> None:
    move(plan, find(plan, "setns"), find(plan, "clone3") + 3)


@breaks("host-met", "the cgroup namespace before the cgroups", "joined")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", pointer="/linux/cgroupsPath"))


@breaks("namespaces-entered", "a namespace is not joined", "joined")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setns", where=lambda one: one.args[1] == CLONE_NEWNET))


@breaks("namespaces-entered", "a namespace is not made")
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    flags = plan.steps[at].args[0]
    assert isinstance(flags, int)
    argument(plan, at, 0, flags & ~CLONE_NEWNET)


@breaks("namespaces-entered", "the cgroup namespace is not made")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "unshare"))


@breaks("init-hidden", "init can be traced from the user namespace that it joins", "joined")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl"))


@breaks("init-hidden", "init hides too late", "joined")
def _(plan: Plan) -> None:
    move(plan, find(plan, "prctl"), find(plan, "clone3"))


@breaks("credentials-order", "init is dumpable", "joined")
def _(plan: Plan) -> None:
    at = find(plan, "prctl")
    insert(plan, at + 1, like(plan, at, "prctl", PR_SET_DUMPABLE, 1, 0, 0, 0))


@breaks("credentials-order", "the caller's groups are kept", "joined")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setgroups"))


@breaks("credentials-order", "setgroups may fail in a new user namespace", USER)
def _(plan: Plan) -> None:
    tolerate(plan, find_last(plan, "setgroups"), EPERM)


@breaks("mounts-private", "the container's mounts end up in the namespace that is joined", "joined-mount")
def _(plan: Plan) -> None:
    move(plan, find(plan, "setns"), find(plan, "clone3"))


@breaks("mounts-private", "the root of the host's processes is changed", SHARED)
def _(plan: Plan) -> None:
    at = find(plan, "chroot")
    plan.steps[at].call = "pivot_root"
    plan.steps[at].args = (".", ".")


@breaks("mounts-private", "the detached root stays the host's peer", SHARED)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer="/root/path"))


@breaks("mounts-private", "all mounts of the host are changed", SHARED)
def _(plan: Plan) -> None:
    attributes = MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0)
    at = find(plan, "mount_setattr", pointer="/root/path")
    insert(plan, at, like(plan, at, "mount_setattr", AT_FDCWD, "/", AT_RECURSIVE, attributes, MOUNT_ATTR.size))


@breaks("mounts-private", "the root is the host's own mount, no copy", SHARED)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree", pointer="/root/path"), 2, OPEN_TREE_CLOEXEC)


@breaks("mounts-private", "what is attached in the detached root would be the host's", SHARED)
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer="/mounts/0")
    attributes = MOUNT_ATTR.pack(1, 0, 0, 0)
    target = plan.steps[at].args[2]
    insert(plan, at, like(plan, at, "mount_setattr", target, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size))


@breaks("pivot-before-code", "chroot to somewhere else", SHARED)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fchdir"), 0, root_of(plan).number + 1)


@breaks("pivot-before-code", "no chdir after the chroot", SHARED)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "chroot") + 1)


@breaks("pivot-before-code", "chroot in a mount namespace of its own")
def _(plan: Plan) -> None:
    at = find(plan, "pivot_root")
    plan.steps[at].call, plan.steps[at].args = "chroot", (".",)
    drop(plan, at + 1)


@breaks("pivot-before-code", "no chroot at all", SHARED)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "chroot"))


@breaks("host-met", "the clocks are moved after the clone", "clocks")
def _(plan: Plan) -> None:
    move(plan, find(plan, "unshare"), find(plan, "clone3") + 1)


@breaks("writes-inside", "another file than one of our procfs is written", "clocks")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "write"), 0, 1)


@breaks("buffers-bounded", "more is written than there is", "clocks")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "write"), 2, 4096)


@breaks("targets-by-descriptor", "another file of the procfs is opened", "clocks")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat", pointer="/linux/timeOffsets"), 1, "self/../sysrq-trigger")


@breaks("mounts-private", "init is nobody's child", "joined")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "clone3"), 0, CLONE_NEWNS | CLONE_NEWNET)
    assert not (CLONE_NEWNS | CLONE_NEWNET) & CLONE_PARENT
