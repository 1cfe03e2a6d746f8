"""What each call of a plan may do where it stands: mounts, and the files that are opened and made.

One function a call, in the table MOUNT_CHECKS; and the check of a masked or readonly path's steps as a whole.
"""

from __future__ import annotations

from ocirt.config.names import NAMESPACES
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    EINVAL,
    ENOENT,
    ENOTDIR,
    MNT_DETACH,
    MOUNT_ATTR,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_BY_DESCRIPTOR,
    MS_DIRSYNC,
    MS_I_VERSION,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_PRIVATE,
    MS_RDONLY,
    MS_SILENT,
    MS_SLAVE,
    MS_SYNCHRONOUS,
    O_CLOEXEC,
    O_PATH,
    O_WRONLY,
    OPEN_HOW,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    S_IFCHR,
    S_IFMT,
    S_IFREG,
    STATX_MODE_AT,
    STATX_RDEV_MAJOR_AT,
    STATX_RDEV_MINOR_AT,
    STATX_SIZE,
)
from ocirt.plan.options import MAX_DATA
from ocirt.plan.rootfs import CLONE_TREE, ON_ROOT
from ocirt.plan.step import Buffer, Field, Reg
from ocirt.plan.verify_walk import ALL_ONES, broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Step
    from ocirt.plan.verify_walk import Check, Walk

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_BENEATH
_NO_DETOUR = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_IN_PROCFS = ("self/fd/", "self/timens_offsets")
_ATTRIBUTES = ("self/attr/apparmor/exec", "self/attr/exec", "self/attr/keycreate")
_CUT_OFF = ((0, 0, MS_SLAVE, 0), (0, 0, MS_PRIVATE, 0))
_ITSELF = OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW
_FILE_SYSTEM_FLAGS = (
    MS_RDONLY | MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | MS_SILENT | MS_I_VERSION | MS_LAZYTIME
)  # fmt: skip
MASKS = ("/linux/maskedPaths/", "/linux/readonlyPaths/")


def _mounting(walk: Walk, index: int, step: Step) -> None:
    """Of every call that makes or changes a mount. Before the clone only trees that are mounted nowhere are touched."""
    if walk.detached and step.call != "mount_setattr":
        raise broken("mounts-private", index, step, "mounts are made before the old root goes")
    if not walk.cloned and step.call == "move_mount":
        raise broken("mounts-private", index, step, "mounts are made in the new namespace")
    if not walk.certain and not step.pointer.startswith(MASKS):
        raise broken("failures-known", index, step, "a part of a mount may not be skipped")


def _fsopen(walk: Walk, index: int, step: Step) -> None:
    _mounting(walk, index, step)
    if step.result is not None:
        walk.inside.discard(step.result.number)
        if step.args[0] == "proc":
            walk.procfs.add(step.result.number)


def _fsmount(walk: Walk, index: int, step: Step) -> None:
    _mounting(walk, index, step)
    if step.result is not None:
        walk.inside.add(step.result.number)
        walk.trees.add(step.result.number)
        walk.peers.discard(step.result.number)


def _open_tree(walk: Walk, index: int, step: Step) -> None:
    _mounting(walk, index, step)
    start, path, result = step.args[0], step.args[1], step.result
    if result is None or ((type(start) is Reg) != (path == "") and not _is_itself(walk, step)):
        raise broken("targets-by-descriptor", index, step, "a descriptor, or else a path of the host")
    number = result.number
    inside = path != "" and type(start) is Reg
    for kind in (walk.inside, walk.trees, walk.peers):
        kind.discard(number)
    if inside:
        walk.inside.add(number)
    flags = step.args[2]
    if type(flags) is int and flags & OPEN_TREE_CLONE:
        walk.trees.add(number)
        if type(start) is not Reg and not walk.private:
            walk.peers.add(number)
    elif not walk.own_mounts:
        raise broken("mounts-private", index, step, "a mount of the host itself, not a copy")
    elif (start, path, flags) == (AT_FDCWD, "/proc", OPEN_TREE_CLOEXEC) and walk.hosts_procfs and not walk.stage:
        walk.procfs.add(number)
    if type(start) is not Reg and step.pointer == "/root/path":
        walk.root = number
        walk.inside.add(number)
    asked = step.pointer.startswith("/mounts/")  # that is bound whatever it is
    if path == "/dev/null" and not asked and not _checks_device(walk.steps, index + 1, result, "", S_IFCHR, 1, 3):
        raise broken("devices-checked", index, step, "it may be something else than 1:3")


def _is_itself(walk: Walk, step: Step) -> bool:
    """One name in a directory inside the root, not followed if it is a symlink, and not copied."""
    start, name, flags = step.args
    return type(start) is Reg and start.number in walk.inside and is_name(name) and flags == _ITSELF


def _mount(walk: Walk, index: int, step: Step) -> None:
    """mount(2) of a new file system over our namespace's root; at once a copy of it, and the mount taken off."""
    _mounting(walk, index, step)
    steps = walk.steps
    source, target, kind, flags, data = step.args
    rest = [(one.call, one.args, one.ok or one.fail or one.errnos or None) for one in steps[index + 1 : index + 3]]
    if not (walk.private and walk.cloned and walk.own_mounts):
        raise broken("mounts-private", index, step, "it could reach the host")
    if target != "/" or type(source) is not str or type(kind) is not str:
        raise broken("targets-by-descriptor", index, step, "only over the root of the namespace may it mount")
    if type(flags) is not int or flags & ~_FILE_SYSTEM_FLAGS:
        raise broken("targets-by-descriptor", index, step, "flags that change other mounts")
    if not (data == 0 if type(data) is int else type(data) is str and len(data.encode()) <= MAX_DATA):
        raise broken("buffers-bounded", index, step, "the options are longer than a page")
    if rest != [("open_tree", (AT_FDCWD, ON_ROOT, CLONE_TREE), None), ("umount2", (ON_ROOT, MNT_DETACH), None)]:
        raise broken("targets-by-descriptor", index, step, "a mount over the root has to be taken off at once")


def _fspick(walk: Walk, index: int, step: Step) -> None:
    """Only what is mounted inside the root is changed."""
    _mounting(walk, index, step)
    start, path, _ = step.args
    if type(start) is not Reg or start.number not in walk.inside or path != "":
        raise broken("targets-by-descriptor", index, step, "it was not opened inside the root")
    if step.result is not None:
        walk.inside.discard(step.result.number)


def _readlinkat(walk: Walk, index: int, step: Step) -> None:
    buffer, size = step.args[2:]
    if type(buffer) is not Buffer or type(size) is not int or size > buffer.size:
        raise broken("buffers-bounded", index, step, "the buffer is smaller")


def _mount_setattr(walk: Walk, index: int, step: Step) -> None:
    _mounting(walk, index, step)
    start, path, flags, attributes, size = step.args
    if type(attributes) is not bytes or not len(attributes) == size == MOUNT_ATTR.size:
        raise broken("buffers-bounded", index, step, "struct mount_attr has another size")
    if type(start) is Reg and path == "":
        number = start.number
        if not walk.own_mounts and number not in walk.trees:
            raise broken("mounts-private", index, step, "a mount of the host would change")
        put, _, _, user_namespace = MOUNT_ATTR.unpack(attributes)
        if put & MOUNT_ATTR_IDMAP and (number not in walk.trees or not 0 < user_namespace <= walk.inherited):
            raise broken(
                "mounts-private", index, step, "an id map is for a tree that is mounted nowhere, and inherited"
            )
        if flags == AT_EMPTY_PATH | AT_RECURSIVE and MOUNT_ATTR.unpack(attributes) in _CUT_OFF:
            walk.peers.discard(number)
            if number == walk.root and walk.cloned and not walk.own_mounts:
                walk.private = True  # the whole of what the container has is this tree
        return
    if not walk.own_mounts:
        raise broken("mounts-private", index, step, "the host's own mounts would change")
    if (start, path, flags) != (AT_FDCWD, "/", AT_RECURSIVE) or MOUNT_ATTR.unpack(attributes) not in _CUT_OFF:
        raise broken("targets-by-descriptor", index, step, "only to cut the namespace off may a path be used")
    walk.private = True


def _openat2(walk: Walk, index: int, step: Step) -> None:
    start, _, how, size = step.args
    result = step.result
    if type(how) is not bytes or not len(how) == size == OPEN_HOW.size:
        raise broken("buffers-bounded", index, step, "struct open_how has another size")
    if result is None:
        raise broken("targets-by-descriptor", index, step, "its descriptor is lost")
    flags, _, resolve = OPEN_HOW.unpack(how)
    if type(start) is Reg and start.number in walk.procfs:
        _open_procfs(walk, index, step, flags, resolve)
        return
    if resolve & _IN_ROOT and type(start) is Reg and start.number in walk.inside:
        walk.inside.add(result.number)
    elif step.pointer == "/root/path" and walk.certain and walk.place < 0 and flags & O_PATH:
        walk.place = result.number
    else:
        raise broken("targets-by-descriptor", index, step, "opened elsewhere than inside the root")
    if not flags & O_PATH and not _checks_device(walk.steps, index + 1, result, "", S_IFCHR, 5, 2):
        raise broken("devices-checked", index, step, "whatever the image has there is opened")


def _open_procfs(walk: Walk, index: int, step: Step, flags: int, resolve: int) -> None:
    """A file that is written to: nothing else can be in its place, and what it sets is the container's own."""
    path, result = step.args[1], step.result
    if type(path) is not str or resolve & _NO_DETOUR != _NO_DETOUR or flags & ~O_CLOEXEC != O_WRONLY or result is None:
        raise broken("targets-by-descriptor", index, step, "something else could be in the file's place")
    if path in _ATTRIBUTES:
        walk.files.add(result.number)
        return
    if not path.startswith("sys/") or not resolve & RESOLVE_NO_SYMLINKS:
        raise broken("targets-by-descriptor", index, step, "only known files of the private procfs are opened")
    from ocirt.config.sysctl import namespace_of

    if not walk.entered & NAMESPACES.get(namespace_of(path[4:]), 0):
        raise broken("sysctls-own", index, step, "the kernel parameter is the host's")
    walk.files.add(result.number)


def _openat(walk: Walk, index: int, step: Step) -> None:
    start, path = step.args[0], step.args[1]
    if type(start) is not Reg or start.number not in walk.procfs or not str(path).startswith(_IN_PROCFS):
        raise broken("targets-by-descriptor", index, step, "only the private procfs is opened so")
    if step.result is not None:
        walk.files.add(step.result.number)


def _move_mount(walk: Walk, index: int, step: Step) -> None:
    _mounting(walk, index, step)
    source, path, target, target_path, flags = step.args
    if not walk.private:
        raise broken("mounts-private", index, step, "it could reach the host")
    if walk.unmounted is not None and walk.at_root and walk.steps[index + 1].call == "chroot":
        return  # the root itself: chroot's rule looks at all of it
    if step.errnos and not step.pointer.startswith(MASKS[0]):
        raise broken("failures-known", index, step, "a mount may not be skipped")
    if (
        type(source) is not Reg
        or type(target) is not Reg
        or (path, target_path, flags) != ("", "", MOVE_MOUNT_BY_DESCRIPTOR)
    ):
        raise broken("targets-by-descriptor", index, step, "a mount target must be a descriptor")
    if target.number not in walk.inside and not (target.number == walk.place and step.pointer == "/root/path"):
        raise broken("targets-by-descriptor", index, step, f"{target!r} was not opened inside the root")
    if source.number in walk.peers and step.pointer not in walk.shared:
        raise broken("mounts-private", index, step, "what is mounted below it would appear on the host")
    walk.trees.discard(source.number)


def _write(walk: Walk, index: int, step: Step, place: int = 0) -> None:
    """Of every call that makes or removes a file; `place` is its descriptor's among the arguments."""
    start, name = step.args[place], step.args[place + 1]
    if walk.detached:
        return
    if type(start) is not Reg or start.number not in walk.inside:
        raise broken("writes-inside", index, step, "it could write to the host")
    if not is_name(name):
        raise broken("writes-inside", index, step, "a path of several parts could lead out")


def is_name(name: object) -> bool:
    return type(name) is str and "/" not in name and name not in ("", ".", "..")


def _fchownat(walk: Walk, index: int, step: Step) -> None:
    """By a descriptor alone, and of what is inside the root."""
    start, name, _, _, flags = step.args
    if type(start) is not Reg or start.number not in walk.inside or name != "" or flags != AT_EMPTY_PATH:
        raise broken("writes-inside", index, step, "it could be a file of the host")


def _symlinkat(walk: Walk, index: int, step: Step) -> None:
    _write(walk, index, step, 1)


def _mknodat(walk: Walk, index: int, step: Step) -> None:
    _write(walk, index, step)
    start, name, mode, device = step.args
    if type(mode) is not int or type(device) is not int:
        raise broken("devices-checked", index, step, "mode and device must be known")
    kind = mode & S_IFMT
    if step.errnos and kind != S_IFREG:
        major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
        if not _checks_device(walk.steps, index + 1, start, name, kind, major, minor):
            raise broken("devices-checked", index, step, "what is there already may be something else")


def _checks_device(steps: list[Step], at: int, start: object, name: object, kind: int, major: int, minor: int) -> bool:
    """Are the steps at `at` a statx(2) and the three checks of its result?"""
    if at + 3 >= len(steps):
        return False
    status = steps[at]
    flags = AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    if status.call != "statx" or status.args[:3] != (start, name, flags) or status.errnos or status.fail or status.ok:
        return False
    wanted = (
        (STATX_MODE_AT, S_IFMT, kind, 2),
        (STATX_RDEV_MAJOR_AT, ALL_ONES, major, 4),
        (STATX_RDEV_MINOR_AT, ALL_ONES, minor, 4),
    )
    for step, (place, mask, value, width) in zip(steps[at + 1 : at + 4], wanted, strict=True):
        field = step.args[0]
        if step.call != "expect" or step.fail or step.ok or step.args[1:4] != (mask, value, width):
            return False
        if type(field) is not Field or field.buffer is not status.args[4] or field.at != place:
            return False
    return True


def _statx(walk: Walk, index: int, step: Step) -> None:
    buffer = step.args[4]
    if type(buffer) is not Buffer or buffer.size < STATX_SIZE:
        raise broken("buffers-bounded", index, step, "struct statx is larger")


def check_mask(steps: list[Step], index: int) -> None:
    """masks-not-skipped: the steps of one masked or readonly path. Only the first may find that it does not exist; of
    two ways to mount something over it, the last has to succeed."""
    first = steps[index]
    pointer = first.pointer
    if first.call != "openat2" or first.ok or not _only(first.errnos, ENOENT, ENOTDIR):
        raise broken("masks-not-skipped", index, first, 'a path may be skipped only because it "does not exist"')
    readonly = not pointer.startswith(MASKS[1])
    last_way = 0  # where the run goes on if the first attempt fails
    for at in range(index + 1, len(steps)):
        step = steps[at]
        if step.pointer != pointer:
            break
        call = step.call
        if call == "move_mount" and step.errnos:
            if not _only(step.errnos, EINVAL, ENOTDIR):
                raise broken("masks-not-skipped", at, step, "the kernel says more than that it is of another kind")
            last_way = step.fail.index if step.fail else at + 1
        elif step.errnos or step.fail or step.ok:
            raise broken("masks-not-skipped", at, step, "it may be skipped")
        elif call == "mount_setattr" and type(step.args[3]) is bytes:
            readonly = readonly or bool(step.args[3][0] & MOUNT_ATTR_RDONLY)
        elif call == "move_mount":
            if not readonly:
                raise broken("masks-not-skipped", at, step, "what is mounted is not readonly")
            if last_way > at:
                raise broken("masks-not-skipped", at, step, "a failure of the first attempt passes over it")
            return
    raise broken("masks-not-skipped", index, first, "nothing is mounted over the path")


def _only(errnos: tuple[int, ...], one: int, other: int) -> bool:
    return {one, other}.issuperset(errnos)


MOUNT_CHECKS: dict[str, Check] = {
    "fchownat": _fchownat,
    "fsconfig": _mounting,
    "fsmount": _fsmount,
    "fsopen": _fsopen,
    "fspick": _fspick,
    "mkdirat": _write,
    "mknodat": _mknodat,
    "mount": _mount,
    "mount_setattr": _mount_setattr,
    "move_mount": _move_mount,
    "open_tree": _open_tree,
    "openat": _openat,
    "openat2": _openat2,
    "readlinkat": _readlinkat,
    "statx": _statx,
    "symlinkat": _symlinkat,
    "unlinkat": _write,
}
