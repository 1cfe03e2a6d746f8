"""What each call of a plan may do where it stands: the order of things, from clone3 to execve.

One function a call, in the table ORDER_CHECKS.
"""

from __future__ import annotations

from ocirt.plan.kernel import (
    AT_FDCWD,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    CLOSE_RANGE_CLOEXEC,
    LAST_DESCRIPTOR,
    MNT_DETACH,
    MOVE_MOUNT_F_EMPTY_PATH,
    RLIMIT,
    RLIMIT_NOFILE,
    SCHED_ATTR,
    SIGACTION_SIZE,
    SIGSET_SIZE,
)
from ocirt.plan.step import Buffer, Field, Reg
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_HOOKS, SYNC_MAPPED, SYNC_READY
from ocirt.plan.verify_credentials import ROOTS
from ocirt.plan.verify_walk import ALL_ONES, broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Step
    from ocirt.plan.verify_walk import Check, Walk


_CLONE_FLAGS = (
    CLONE_PARENT | CLONE_INTO_CGROUP | CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID
    | CLONE_NEWTIME | CLONE_NEWUSER | CLONE_NEWUTS
)  # fmt: skip


def _clone(walk: Walk, index: int, step: Step) -> None:
    flags = step.args[0]
    if not walk.certain or walk.cloned or type(flags) is not int:
        raise broken("mounts-private", index, step, "it may run once only, and not be skipped")
    if not flags & CLONE_PARENT or flags & ~_CLONE_FLAGS:
        raise broken("mounts-private", index, step, "init needs the host as its parent, and nothing in common with it")
    walk.own_mounts = bool(flags & CLONE_NEWNS)
    if flags & CLONE_NEWUSER:
        _makes_user(walk)
    if walk.in_user and not walk.own_mounts:
        raise broken("mounts-private", index, step, "a user namespace needs a mount namespace of its own")
    walk.cloned = True
    walk.entered |= flags
    walk.into_cgroup = bool(flags & CLONE_INTO_CGROUP)


def _makes_user(walk: Walk) -> None:
    walk.maps_due = walk.in_user = True
    walk.owns_user = walk.unprivileged


def _expect(walk: Walk, index: int, step: Step) -> None:
    field, _, _, width, errno = step.args
    if width not in (1, 2, 4, 8) or type(errno) is not int or not 0 < errno < 256:
        raise broken("buffers-bounded", index, step, "no such width or errno")
    if type(field) is Field and not 0 <= field.at <= field.buffer.size - width:
        raise broken("buffers-bounded", index, step, "the field is not inside its buffer")


def _leave(walk: Walk, index: int, step: Step) -> None:
    """chdir(2), fchdir(2): the working directory is another one, so a check of it does not count any more."""
    walk.checked = False
    start = step.args[0]
    walk.at_root = step.call == "fchdir" and walk.certain and type(start) is Reg and start.number == walk.root


def _pivot_root(walk: Walk, index: int, step: Step) -> None:
    """fchdir to the new root, pivot_root, umount2 of the old one, chdir: in one row, with nothing between."""
    steps = walk.steps
    if not walk.own_mounts:
        raise broken("mounts-private", index, step, "it would change the root of the host's processes")
    rest = [(one.call, one.args, one.ok or one.fail or one.errnos or None) for one in steps[index : index + 3]]
    if not walk.at_root or steps[index - 1].call != "fchdir":
        raise broken("pivot-before-code", index, step, "the working directory is not the new root")
    if rest != [("pivot_root", (".", "."), None), ("umount2", (".", MNT_DETACH), None), ("chdir", ("/",), None)]:
        raise broken("pivot-before-code", index, step, "the old root has to be taken off at once")
    walk.detached = True


def _chroot(walk: Walk, index: int, step: Step) -> None:
    """In a mount namespace that others use: fchdir to the detached tree, chroot, chdir, in one row. The same where the
    tree was moved over the root between the first two (_over_root)."""
    steps = walk.steps
    if walk.own_mounts and walk.unmounted is not None:
        _over_root(walk, index, step)
        return
    rest = [(one.call, one.args, one.ok or one.fail or one.errnos or None) for one in steps[index : index + 2]]
    if walk.own_mounts or not walk.private or walk.root not in walk.trees:
        raise broken("pivot-before-code", index, step, "only a tree that is mounted nowhere cannot be left again")
    if not walk.at_root or steps[index - 1].call != "fchdir":
        raise broken("pivot-before-code", index, step, "the working directory is not the new root")
    if rest != [("chroot", (".",), None), ("chdir", ("/",), None)]:
        raise broken("pivot-before-code", index, step, "the working directory has to be the new root's")
    walk.detached = True


def _over_root(walk: Walk, index: int, step: Step) -> None:
    """Without pivot_root: what shows the host's kernel taken off, and then fchdir, move_mount, chroot and chdir in one
    row."""
    begin = index - 2 - len(walk.unmounted or ())
    row = [(one.call, one.args, one.ok or one.fail or one.errnos or None) for one in walk.steps[begin : index + 2]]
    root = walk.steps[index - 2].args[0]
    wanted: list[tuple[str, tuple[object, ...], None]] = [
        *(("umount2", (place, MNT_DETACH), None) for place in walk.unmounted or ()),
        ("fchdir", (root,), None),
        ("move_mount", (root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), None),
        ("chroot", (".",), None),
        ("chdir", ("/",), None),
    ]
    if row != wanted or not walk.at_root or not walk.private or not walk.certain:
        raise broken("pivot-before-code", index, step, "the host's procfs goes, and the root is moved over the old one")
    walk.detached = True


def _setns(walk: Walk, index: int, step: Step) -> None:
    """Of descriptors that the host has checked; pid, time and user before the clone, which they act on."""
    fd, kind = step.args
    if type(fd) is not int or not walk.certain:
        raise broken("host-met", index, step, "an inherited descriptor that the host has checked")
    if kind == CLONE_NEWCGROUP:
        if not (walk.attached or walk.into_cgroup) or not walk.cloned:
            raise broken("host-met", index, step, "the host has not joined the cgroups yet")
    elif kind == CLONE_NEWNS:
        if not walk.cloned or walk.own_mounts:
            raise broken("mounts-private", index, step, "the mounts were made elsewhere")
    elif walk.cloned:
        raise broken("host-met", index, step, "it has no effect on a process that is there already")
    elif kind == CLONE_NEWUSER:
        if not walk.hidden:
            raise broken("init-hidden", index, step, "processes of the namespace may trace it")
        walk.in_user = True
    elif kind == CLONE_NEWPID and not walk.hidden and not walk.unprivileged:
        raise broken("init-hidden", index, step, "processes of the namespace may trace it")
    walk.entered |= kind if type(kind) is int else 0


def _write_file(walk: Walk, index: int, step: Step) -> None:
    fd, content, size = step.args
    if type(fd) is not Reg or fd.number not in walk.files or not walk.certain:
        raise broken("writes-inside", index, step, "only files of our own procfs are written to")
    if type(content) is not str or len(content.encode()) != size:
        raise broken("buffers-bounded", index, step, "the text has another length")


def _umount2(walk: Walk, index: int, step: Step) -> None:
    before = walk.steps[index - 1].call, walk.steps[index - 2].call
    if walk.unmounted and step.args[0] in walk.unmounted and walk.own_mounts and walk.private:
        return  # _over_root sees to their order
    if before[0] != "pivot_root" and before != ("open_tree", "mount"):
        raise broken("pivot-before-code", index, step, "only the old root is unmounted, and what mount(2) put over it")


def _getcwd(walk: Walk, index: int, step: Step) -> None:
    """getcwd(2), and at once the check of its answer, which begins with a slash inside the root only."""
    buffer, size = step.args
    if type(buffer) is not Buffer or type(size) is not int or size > buffer.size:
        raise broken("buffers-bounded", index, step, "the buffer is smaller")
    after = walk.steps[index + 1] if index + 1 < len(walk.steps) else step
    if walk.detached and walk.certain and after.call == "expect" and not after.fail:
        field = after.args[0]
        walk.checked = (
            type(field) is Field
            and field.buffer is buffer
            and field.at == 0
            and after.args[1:4] == (ALL_ONES, ord("/"), 1)
        )


def _sync(walk: Walk, index: int, step: Step) -> None:
    if step.args[0] == SYNC_ATTACHED:
        walk.attached = walk.certain
    elif step.args[0] == SYNC_MAPPED:
        walk.maps_due = walk.maps_due and not walk.certain
    elif step.args[0] == SYNC_READY:
        walk.ready = walk.certain
    elif step.args[0] == SYNC_HOOKS and (walk.detached or not (walk.attached or walk.into_cgroup)):
        raise broken("host-met", index, step, "hooks run in the container's cgroups, before the old root goes")


def _unshare(walk: Walk, index: int, step: Step) -> None:
    if type(step.args[0]) is int and walk.certain:
        walk.entered |= step.args[0]
    if step.args[0] == CLONE_NEWTIME and not walk.cloned and walk.certain:
        return
    if step.args[0] == CLONE_NEWUSER and not walk.cloned and walk.certain and walk.unprivileged:
        _makes_user(walk)
        return
    if step.args[0] == CLONE_NEWIPC and len(walk.roots) == len(ROOTS) and walk.certain:
        return
    if step.args[0] != CLONE_NEWCGROUP or not (walk.attached or walk.into_cgroup):
        raise broken("host-met", index, step, "the namespace's root would be the caller's cgroup")


def _close(walk: Walk, index: int, step: Step) -> None:
    """The register may hold something else next."""
    fd = step.args[0]
    if type(fd) is Reg:
        walk.procfs.discard(fd.number)
        walk.files.discard(fd.number)


def _close_range(walk: Walk, index: int, step: Step) -> None:
    walk.closed = walk.certain and step.args == (walk.control, LAST_DESCRIPTOR, CLOSE_RANGE_CLOEXEC)


def _dup3(walk: Walk, index: int, step: Step) -> None:
    if step.args[1] not in (0, 1, 2):
        walk.closed = False


def _sigaction(walk: Walk, index: int, step: Step) -> None:
    action, size = step.args[1], step.args[3]
    if type(action) is not bytes or len(action) != SIGACTION_SIZE or size != SIGSET_SIZE:
        raise broken("buffers-bounded", index, step, "struct sigaction has another size")


def _prlimit64(walk: Walk, index: int, step: Step) -> None:
    limit = step.args[2]
    if walk.stage and step.args[:2] != (0, RLIMIT_NOFILE):
        raise broken("privileges-gone", index, step, f"it has no place after {walk.reached}")
    if type(limit) is not bytes or len(limit) != RLIMIT.size:
        raise broken("buffers-bounded", index, step, "struct rlimit64 has another size")


def _sched_setattr(walk: Walk, index: int, step: Step) -> None:
    attributes = step.args[1]
    if type(attributes) is not bytes or not len(attributes) == SCHED_ATTR.size == attributes[0]:
        raise broken("buffers-bounded", index, step, "struct sched_attr has another size")


def _set_bits(walk: Walk, index: int, step: Step) -> None:
    """sched_setaffinity(2) counts in bytes, set_mempolicy(2) in bits and one more."""
    bits, size = (step.args[2], step.args[1]) if step.call == "sched_setaffinity" else step.args[1:]
    if step.call == "set_mempolicy" and type(size) is int:
        size = (size + 6) // 8
    if (len(bits) if type(bits) is bytes else bits) != size:
        raise broken("buffers-bounded", index, step, "the set has another size")


def _set_name(walk: Walk, index: int, step: Step) -> None:
    name, size = step.args
    if type(name) is not str or len(name.encode()) != size:
        raise broken("buffers-bounded", index, step, "the name has another length")


def _execve(walk: Walk, index: int, step: Step) -> None:
    if index != len(walk.steps) - 1:
        raise broken("execve-last", index, step, "nothing can follow it")


ORDER_CHECKS: dict[str, Check] = {
    "chdir": _leave,
    "chroot": _chroot,
    "clone3": _clone,
    "close": _close,
    "close_range": _close_range,
    "dup3": _dup3,
    "execve": _execve,
    "expect": _expect,
    "faccessat2": None,
    "fchdir": _leave,
    "fchown": None,
    "getcwd": _getcwd,
    "ioctl": None,
    "ioprio_set": None,
    "keyctl": None,
    "load": None,
    "personality": None,
    "pivot_root": _pivot_root,
    "prlimit64": _prlimit64,
    "report to": None,
    "rt_sigaction": _sigaction,
    "sched_setaffinity": _set_bits,
    "sched_setattr": _sched_setattr,
    "send descriptor": None,
    "set_mempolicy": _set_bits,
    "setdomainname": _set_name,
    "sethostname": _set_name,
    "setns": _setns,
    "setsid": None,
    "socket": None,
    "sync": _sync,
    "umask": None,
    "umount2": _umount2,
    "unshare": _unshare,
    "write": _write_file,
}
