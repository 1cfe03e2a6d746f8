"""Damages to mounts, and to the files that are opened and made."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, insert, jump, like, move, step, tolerate

from ocirt.plan.kernel import (
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CLONE_NEWNS,
    CLONE_PARENT,
    EACCES,
    EEXIST,
    ELOOP,
    ENOENT,
    MOUNT_ATTR,
    MOUNT_ATTR_IDMAP,
    MS_SHARED,
    O_CLOEXEC,
    O_PATH,
    OPEN_HOW,
    RESOLVE_IN_ROOT,
)
from ocirt.plan.step import Buffer, Field, Plan
from ocirt.plan.wire import OP_CLONE

# mounts-private


@breaks("mounts-private", "no mount namespace of its own")
def _(plan: Plan) -> None:
    flags = plan.steps[find(plan, "clone3")].args[0]
    assert isinstance(flags, int)
    argument(plan, find(plan, "clone3"), 0, flags & ~CLONE_NEWNS)


@breaks("mounts-private", "a child of itself, not of the host's ocirt")
def _(plan: Plan) -> None:
    flags = plan.steps[find(plan, "clone3")].args[0]
    assert isinstance(flags, int)
    argument(plan, find(plan, "clone3"), 0, flags & ~CLONE_PARENT)


@breaks("mounts-private", "no clone at all")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "clone3"))


@breaks("mounts-private", "two clones")
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    insert(plan, at, step("clone3", *plan.steps[at].args, pointer="/linux/namespaces", op=OP_CLONE))


@breaks("mounts-private", "the namespace still shares its mounts with the host's")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer="/linux/namespaces"))


@breaks("mounts-private", "a mount after the old root has gone")
def _(plan: Plan) -> None:
    at = find(plan, "chdir", pointer="/process/cwd")
    insert(plan, at, like(plan, at, "fsopen", "tmpfs", 1))


# targets-by-descriptor


@breaks("targets-by-descriptor", "a mount onto a raw path")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer="/mounts/0")
    argument(plan, at, 2, AT_FDCWD)
    argument(plan, at, 3, "/rootfs/proc")


@breaks("targets-by-descriptor", "a mount onto a path below a descriptor")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "move_mount", pointer="/mounts/0"), 3, "proc")


@breaks("targets-by-descriptor", "a target that symlinks could lead out of the root")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/0")
    argument(plan, at, 2, OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, 0))


@breaks("targets-by-descriptor", "a target in the host's tree, resolved in it", "binds")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/7")
    argument(plan, at, 0, plan.steps[find(plan, "open_tree", pointer="/mounts/7")].result)


@breaks("targets-by-descriptor", "a copy of a host's folder as a target", "binds")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer="/mounts/7")
    argument(plan, at, 2, plan.steps[find(plan, "open_tree", pointer="/mounts/7")].result)


@breaks("targets-by-descriptor", "a mount onto the root's place on the host, later")
def _(plan: Plan) -> None:
    place = plan.steps[find(plan, "openat2", pointer="/root/path")].result
    drop(plan, find(plan, "close", pointer="/root/path", where=lambda one: one.args[0] is place))
    taken = {one.result.number for one in plan.steps if one.result} - {place.number if place else -1}
    free = max(taken) + 1
    for one in plan.steps:  # nothing else uses its number
        if one.result and place and one.result.number == place.number and one.result is not place:
            one.result.number = free
    argument(plan, find(plan, "move_mount", pointer="/mounts/0"), 2, place)


@breaks("targets-by-descriptor", "a flag of the host's mounts is changed by path")
def _(plan: Plan) -> None:
    at = find(plan, "mount_setattr", pointer="/linux/namespaces")
    argument(plan, at, 3, MOUNT_ATTR.pack(1, 0, 0, 0))


@breaks("targets-by-descriptor", "a file of the host is opened")
def _(plan: Plan) -> None:
    at = find(plan, "openat")
    argument(plan, at, 0, AT_FDCWD)
    argument(plan, at, 1, "/etc/shadow")


@breaks("targets-by-descriptor", "mount(2) onto a path in the root", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount"), 1, "/rootfs/old")


@breaks("targets-by-descriptor", "mount(2) that changes the host's mount", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount"), 3, MS_SHARED)


@breaks("targets-by-descriptor", "what mount(2) has mounted stays over the root", "rare-mounts")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "umount2"))


@breaks("targets-by-descriptor", "the root is taken for what mount(2) has mounted", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount") + 1, 1, "/")


@breaks("pivot-before-code", "more is taken off than mount(2) has mounted", "rare-mounts")
def _(plan: Plan) -> None:
    at = find(plan, "umount2")
    insert(plan, at + 1, like(plan, at, "umount2", *plan.steps[at].args))


@breaks("mounts-private", "mount(2) while the namespace still shares its mounts", "rare-mounts")
def _(plan: Plan) -> None:
    move(plan, find(plan, "mount_setattr", pointer="/linux/namespaces"), find(plan, "umount2"))


@breaks("buffers-bounded", "more options than mount(2) reads", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount"), 4, "x" * 4096)


@breaks("targets-by-descriptor", "a file system of the host is changed", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fspick"), 0, AT_FDCWD)
    argument(plan, find(plan, "fspick"), 1, "/")


@breaks("targets-by-descriptor", "a target that is not followed, out of the root", "rare-mounts")
def _(plan: Plan) -> None:
    at = find(plan, "open_tree", where=lambda one: one.args[2] == O_CLOEXEC | AT_SYMLINK_NOFOLLOW and one.args[1] != "")
    argument(plan, at, 1, "..")


@breaks("mounts-private", "a bind mount stays a peer of the host's without the configuration's word", "rare-mounts")
def _(plan: Plan) -> None:
    plan.shared.clear()


@breaks("mounts-private", "an id map of what is mounted already", "idmapped")
def _(plan: Plan) -> None:
    at = find(plan, "mount_setattr", pointer="/mounts/7")
    move(plan, at, find(plan, "move_mount", pointer="/mounts/7"))


@breaks("mounts-private", "an id map from a descriptor that nobody has given", "idmapped")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount_setattr", pointer="/mounts/7"), 3, MOUNT_ATTR.pack(MOUNT_ATTR_IDMAP, 0, 0, 99))


@breaks("buffers-bounded", "a symlink's content is read beyond the buffer", "rare-mounts")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "readlinkat"), 3, 4096)


# writes-inside


@breaks("writes-inside", "a folder is made on the host")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mkdirat", pointer="/mounts/0"), 0, AT_FDCWD)


@breaks("writes-inside", "a folder is made at a path that the image may lead elsewhere")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mkdirat", pointer="/mounts/0"), 1, "a/b")


@breaks("writes-inside", "a folder is made above")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mkdirat", pointer="/mounts/0"), 1, "..")


@breaks("writes-inside", "a link is made on the host")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "symlinkat", pointer="/linux/devices"), 1, AT_FDCWD)


@breaks("writes-inside", "a file of the host is removed")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "unlinkat"), 0, AT_FDCWD)


@breaks("writes-inside", "a node is made in a bind mount's source", "binds")
def _(plan: Plan) -> None:
    at = find(plan, "mknodat", pointer="/mounts/8")
    argument(plan, at, 0, plan.steps[find(plan, "open_tree", pointer="/mounts/8")].result)


# devices-checked


@breaks("devices-checked", "the host's /dev/null is not looked at")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "statx"))


@breaks("devices-checked", "any device will do as /dev/null")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "expect", pointer="/linux/maskedPaths"))


@breaks("devices-checked", "the check may fail")
def _(plan: Plan) -> None:
    at = find(plan, "expect", pointer="/linux/maskedPaths")
    jump(plan, at, at + 1, way="fail")


@breaks("devices-checked", "another buffer is checked")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "expect", pointer="/linux/maskedPaths"), 0, Field(Buffer(256), 0x1C))


@breaks("devices-checked", "whatever is called zero is left", "least")
def _(plan: Plan) -> None:
    at = find(plan, "mknodat", where=lambda one: one.args[1] == "zero")
    tolerate(plan, at, EEXIST)
    jump(plan, at, at + 1)
    argument(plan, at + 1, 1, "null")


@breaks("devices-checked", "the image's file is taken for the terminal", "terminal")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "statx", pointer="/process/terminal"))


@breaks("devices-checked", "a target is really opened: a FIFO of the image would block")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/0")
    argument(plan, at, 2, OPEN_HOW.pack(O_CLOEXEC, 0, RESOLVE_IN_ROOT))


# masks-not-skipped

MASK = "/linux/maskedPaths/3"
READONLY = "/linux/readonlyPaths/2"


@breaks("masks-not-skipped", "a masked path is skipped when it goes through a symlink")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "openat2", pointer=MASK), ENOENT, ELOOP)


@breaks("masks-not-skipped", "a masked path is skipped when it is there")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer=MASK)
    plan.steps[at].ok = plan.steps[at].fail


@breaks("masks-not-skipped", "neither a file nor a directory is mounted over it")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "move_mount", pointer=MASK))
    drop(plan, find(plan, "move_mount", pointer=MASK))


@breaks("masks-not-skipped", "a directory stays visible")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer=MASK)
    plan.steps[at].fail = plan.steps[at].ok


@breaks("masks-not-skipped", "the second attempt may fail too")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer=MASK, where=lambda one: not one.errnos)
    tolerate(plan, at, 22)


@breaks("masks-not-skipped", "a mask is given up for a reason that is none")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer=MASK)
    jump(plan, find(plan, "open_tree", pointer=MASK), at + 1)


@breaks("masks-not-skipped", "a readonly path is skipped when it may not be opened")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "openat2", pointer=READONLY), EACCES)


@breaks("masks-not-skipped", "a readonly path stays writable")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer=READONLY))


@breaks("masks-not-skipped", "a readonly path gets another flag")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount_setattr", pointer=READONLY), 3, MOUNT_ATTR.pack(2, 0, 0, 0))
