"""What each call of a plan may do where it stands: the order of things, from clone3 to execve.

One function a call, in the table ORDER_CHECKS, with what it has to know of the steps before it in a Walk.
"""

from __future__ import annotations

from ocirt.errors import PlanError
from ocirt.plan.kernel import (
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLOSE_RANGE_CLOEXEC,
    LAST_DESCRIPTOR,
    MNT_DETACH,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    RLIMIT,
    RLIMIT_NOFILE,
    SCHED_ATTR,
    SIGACTION_SIZE,
    SIGSET_SIZE,
)
from ocirt.plan.step import Buffer, Field, Reg
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_HOOKS, SYNC_MAPPED, SYNC_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ocirt.plan.step import Plan, Step

    Check: TypeAlias = "Callable[[Walk, int, Step], None] | None"

_CREDENTIALS = ("bounding", "setgroups", "setresgid", "setresuid", "capset", "ambient", "no_new_privs")
_STAGE = {name: number for number, name in enumerate(_CREDENTIALS, 1)}
_NEEDED = ("setgroups", "setresgid", "setresuid", "capset", "ambient")
_ROOTS = ("setgroups", "setresgid", "setresuid")
_PRCTL = {PR_CAPBSET_DROP: "bounding", PR_CAP_AMBIENT: "ambient", PR_SET_NO_NEW_PRIVS: "no_new_privs"}
ALL_ONES = 0xFFFFFFFFFFFFFFFF


def broken(rule: str, index: int, step: Step, why: str) -> PlanError:
    return PlanError(
        f"safety rule {rule}: step {index} ({step.call}: {step.doing}): {why}",
        pointer=step.pointer or None,
        hint="a defect in ocirt: nothing was run",
    )


class Walk:
    """What is known of the steps so far.

    certain   does the present step run on every way through the plan, and end the run if it fails?
    inside    registers that hold something below the container's root, or a file system that only init sees
    trees     registers that hold a tree which is mounted nowhere
    peers     of these the ones that the host's mounts may share events with
    files     registers that hold a file of our own procfs, opened for writing
    shared    pointers of the mounts whose peers the host's may stay, because the configuration says so
    place     the register of the root file system's place on the host
    entered   CLONE_NEW* flags of the namespaces that were made or joined
    stage     how far the credentials have come
    rights    the first capset's effective, permitted and inheritable sets: the program's, but for CAP_SYS_ADMIN
    words     the register with the address of the memory that is shared with the host
    raised    is CAP_SYS_ADMIN effective beyond the program's rights?
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        self.shared = plan.shared
        self.inherited = plan.inherited
        self.control = plan.control
        self.certain = False
        self.inside: set[int] = set()
        self.procfs: set[int] = set()
        self.trees: set[int] = set()
        self.peers: set[int] = set()
        self.files: set[int] = set()
        self.root = self.place = -1
        # The configuration may ask for the caller's groups; then they are touched nowhere.
        self.roots: list[str] = ["setgroups"] if plan.keeps_groups else []
        self.stage = self.entered = 0
        self.reached = ""
        self.rights = (0, 0, 0)
        self.raised = self.filtered = False
        self.words = -1
        self.seen: set[str] = set(self.roots)
        self.no_groups = self.own_mounts = self.maps_due = self.in_user = False
        self.cloned = self.into_cgroup = self.private = self.at_root = self.detached = False
        self.checked = self.attached = self.ready = self.closed = False

    def finish(self) -> None:
        """What has to have happened before execve."""
        index = len(self.steps) - 1
        last = self.steps[index]
        if last.call != "execve":
            raise broken("execve-last", index, last, "a plan ends in execve")
        if not self.detached:
            raise broken("pivot-before-code", index, last, "the old root is still there")
        if not self.checked:
            raise broken("pivot-before-code", index, last, "the working directory was not checked")
        self.check_rights(index, last, "credentials-order")
        if not self.ready:
            raise broken("host-met", index, last, "the host was not asked whether all is ready")
        if not self.closed:
            raise broken("descriptors-closed", index, last, "descriptors may survive execve")

    def check_rights(self, index: int, last: Step, rule: str) -> None:
        for name in _NEEDED:
            if name not in self.seen:
                raise broken(rule, index, last, f"{name} is missing")
        if self.raised:
            raise broken(rule, index, last, "CAP_SYS_ADMIN was not given up")


def _clone(walk: Walk, index: int, step: Step) -> None:
    flags = step.args[0]
    if not walk.certain or walk.cloned or type(flags) is not int:
        raise broken("mounts-private", index, step, "it may run once only, and not be skipped")
    if not flags & CLONE_PARENT:
        raise broken("mounts-private", index, step, "init needs the host as its parent")
    walk.own_mounts = bool(flags & CLONE_NEWNS)
    walk.maps_due = bool(flags & CLONE_NEWUSER)
    walk.in_user = walk.in_user or walk.maps_due
    if walk.in_user and not walk.own_mounts:
        raise broken("mounts-private", index, step, "a user namespace needs a mount namespace of its own")
    walk.cloned = True
    walk.entered |= flags
    walk.into_cgroup = bool(flags & CLONE_INTO_CGROUP)


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
    """In a mount namespace that others use: fchdir to the detached tree, chroot, chdir, in one row."""
    steps = walk.steps
    rest = [(one.call, one.args, one.ok or one.fail or one.errnos or None) for one in steps[index : index + 2]]
    if walk.own_mounts or not walk.private or walk.root not in walk.trees:
        raise broken("pivot-before-code", index, step, "only a tree that is mounted nowhere cannot be left again")
    if not walk.at_root or steps[index - 1].call != "fchdir":
        raise broken("pivot-before-code", index, step, "the working directory is not the new root")
    if rest != [("chroot", (".",), None), ("chdir", ("/",), None)]:
        raise broken("pivot-before-code", index, step, "the working directory has to be the new root's")
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
        walk.in_user = True
    walk.entered |= kind if type(kind) is int else 0


def _write_file(walk: Walk, index: int, step: Step) -> None:
    fd, content, size = step.args
    if type(fd) is not Reg or fd.number not in walk.files or not walk.certain:
        raise broken("writes-inside", index, step, "only files of our own procfs are written to")
    if type(content) is not str or len(content.encode()) != size:
        raise broken("buffers-bounded", index, step, "the text has another length")


def _umount2(walk: Walk, index: int, step: Step) -> None:
    before = walk.steps[index - 1].call, walk.steps[index - 2].call
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
    if step.args[0] == CLONE_NEWIPC and len(walk.roots) == len(_ROOTS) and walk.certain:
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


def _becomes_root(walk: Walk, index: int, step: Step) -> bool:
    """In a user namespace: to be its root, once, before any other step of the credentials."""
    if not walk.in_user or not walk.cloned or walk.stage or len(walk.roots) == len(_ROOTS):
        return False
    if step.call != _ROOTS[len(walk.roots)] or any(step.args):
        raise broken("credentials-order", index, step, "init is not yet root of its user namespace")
    if walk.maps_due:
        raise broken("host-met", index, step, "the host has not written the maps")
    if not walk.certain:
        raise broken("credentials-order", index, step, "it may not be skipped")
    walk.roots.append(step.call)
    return True


def credentials(walk: Walk, index: int, step: Step) -> None:
    name = step.call
    if name == "prctl":
        option = step.args[0]
        if option == PR_SET_KEEPCAPS:
            return
        if option not in _PRCTL:
            raise broken("credentials-order", index, step, f"no rule knows the option {option!r}")
        name = _PRCTL[option]
    number = _STAGE[name]
    if number < walk.stage:
        raise broken("credentials-order", index, step, f"{name} after {walk.reached}")
    if not walk.certain or step.ok:
        raise broken("credentials-order", index, step, f"{name} may not be skipped")
    if name in walk.seen:
        if name not in ("bounding", "ambient"):
            raise broken("credentials-order", index, step, f"{name} for the second time")
    elif name == "ambient" and step.args[1] != PR_CAP_AMBIENT_CLEAR_ALL:
        raise broken("credentials-order", index, step, "the ambient set is not empty before it is filled")
    walk.stage, walk.reached = number, name
    walk.seen.add(name)


def _set_ids(walk: Walk, index: int, step: Step) -> None:
    """Real, effective and saved id: one that stays behind would be a way back."""
    if _becomes_root(walk, index, step):
        return
    real, effective, saved = step.args
    if type(real) is not int or not 0 <= real < 0xFFFFFFFF or not real == effective == saved:
        raise broken("credentials-order", index, step, "the three ids have to be one")
    credentials(walk, index, step)


def _setgroups(walk: Walk, index: int, step: Step) -> None:
    if not walk.cloned and not walk.in_user and step.args == (0, 0) and walk.certain:
        walk.no_groups = True
        return
    if step.errnos:
        if not walk.no_groups or step.args != (0, 0) or step.fail or step.ok:
            raise broken("credentials-order", index, step, "groups of the caller may be left")
        walk.certain = True
    if _becomes_root(walk, index, step):
        return
    count, groups = step.args
    if (len(groups) if type(groups) is bytes else groups) != 4 * count:  # type: ignore[operator]
        raise broken("buffers-bounded", index, step, "it would set groups that nobody named")
    credentials(walk, index, step)


def sized(walk: Walk, index: int, step: Step, sizes: tuple[int, ...]) -> None:
    if tuple(len(arg) if type(arg) is bytes else -1 for arg in step.args) != sizes:
        raise broken("buffers-bounded", index, step, "a structure has another size")


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
    "prctl": credentials,
    "prlimit64": _prlimit64,
    "report to": None,
    "rt_sigaction": _sigaction,
    "sched_setaffinity": _set_bits,
    "sched_setattr": _sched_setattr,
    "send descriptor": None,
    "set_mempolicy": _set_bits,
    "setdomainname": _set_name,
    "setgroups": _setgroups,
    "sethostname": _set_name,
    "setns": _setns,
    "setresgid": _set_ids,
    "setresuid": _set_ids,
    "setsid": None,
    "socket": None,
    "sync": _sync,
    "umask": None,
    "umount2": _umount2,
    "unshare": _unshare,
    "write": _write_file,
}
