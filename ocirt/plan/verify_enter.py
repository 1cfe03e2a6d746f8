"""The safety rules of a plan that goes into a container (`enter`): those of a container's plan that apply, and its own.

It makes no mount, no file and no namespace: a call that could is none that these rules know. `exec` may do a little
more than a hook: open the container's /dev/ptmx and /etc/passwd, and look for its program.
"""

from __future__ import annotations

from ocirt.plan.enter import CALLER, EXEC, OF_CHILDREN, PROGRAM, ROOT
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWUSER,
    CLONE_PARENT,
    O_CLOEXEC,
    O_PATH,
    OPEN_HOW,
    PR_SET_DUMPABLE,
)
from ocirt.plan.rootfs import CLONE_TREE
from ocirt.plan.step import Reg
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_READY
from ocirt.plan.verify import calls_of, prove
from ocirt.plan.verify_asked import prove_asked
from ocirt.plan.verify_credentials import CREDENTIAL_CHECKS
from ocirt.plan.verify_filter import FILTER_CHECKS
from ocirt.plan.verify_mounts import MOUNT_CHECKS
from ocirt.plan.verify_order import ORDER_CHECKS
from ocirt.plan.verify_walk import MALFORMED, Walk, broken, malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan, Step
    from ocirt.plan.verify_walk import Check

ENTER_RULES = {
    "enter-order": "pid namespace, clone, the host's part, cgroup and user namespace; what led there is closed",
    "enter-unseen": "nothing of the host's is in it when it appears in the container, unless a user namespace hides it",
    "enter-hidden": "what enters a container cannot be looked into by what is in it",
    "enter-rights": "code of the image runs with the program's rights: the credentials are complete",
    "enter-nothing": "a hook of the runtime's joins no namespace",
}


class EnterWalk(Walk):
    """whose: rights it has, enter.CALLER, ROOT, PROGRAM or EXEC. held: inherited descriptors that lead inside."""

    def __init__(self, plan: Plan, whose: str) -> None:
        super().__init__(plan)
        self.whose = whose
        # Between control and plan; the memory that is shared with the host leads nowhere.
        words = {step.args[4] for step in plan.steps if step.call == "mmap" and len(step.args) == 6}
        self.held = set(range(plan.control + 1, plan.inherited)) - words
        self.rooted = False
        # In a user namespace nobody sees what is hidden; else all is entered before the clone, but for the cgroup's.
        self.shielded = bool(plan.namespaces & CLONE_NEWUSER)
        self.cgroup: Reg | None = None

    def finish(self) -> None:
        index = len(self.steps) - 1
        last = self.steps[index]
        if last.call != "execve":
            raise broken("execve-last", index, last, "a plan ends in execve")
        if not self.closed:
            raise broken("descriptors-closed", index, last, "descriptors may survive execve")
        if not self.attached:
            raise broken("host-met", index, last, "the host has not attached the process")
        if self.whose == CALLER:
            return
        self.check_entered(index, last)
        if self.whose in (PROGRAM, EXEC):
            self.check_rights(index, last, "enter-rights")
            if not self.checked:
                raise broken("pivot-before-code", index, last, "the working directory was not checked")
        if self.whose == EXEC and not self.ready:
            raise broken("host-met", index, last, "the host was not asked whether all is ready")

    def check_entered(self, index: int, last: Step) -> None:
        self.check_namespaces(index, last)
        if not self.hidden:
            raise broken("enter-hidden", index, last, "processes of the container may trace it")
        if not self.rooted or self.held:
            raise broken("enter-order", index, last, "it has not entered, or still holds what it entered by")
        if self.entered & CLONE_NEWUSER and len(self.roots) < 3:
            raise broken("credentials-order", index, last, "it has an id of the host's")


def _clone(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    flags = step.args[0]
    if not walk.certain or walk.cloned or flags not in (CLONE_PARENT, CLONE_PARENT | CLONE_INTO_CGROUP):
        raise broken("enter-order", index, step, "a child of the host's, once, in no new namespace")
    if walk.whose != CALLER and not walk.shielded:
        missing = walk.namespaces & ~walk.entered & ~CLONE_NEWCGROUP
        if missing or not walk.rooted or len(walk.held) > bool(walk.namespaces & CLONE_NEWCGROUP):
            raise broken("enter-unseen", index, step, "it still has something of the host's")
        if flags & CLONE_INTO_CGROUP and (walk.cgroup is None or step.args[1] is not walk.cgroup):
            raise broken("enter-unseen", index, step, "the cgroup's folder leads to the host's root")
    walk.cloned = True


def take_cgroup(walk: Walk, index: int, step: Step) -> None:
    """The one tree that is copied: the cgroup's, by its descriptor, in the host's mount namespace."""
    assert isinstance(walk, EnterWalk)
    if type(step.args[0]) is not int or step.args[0] not in walk.held or walk.cloned or walk.entered:
        raise broken("enter-order", index, step, "only the cgroup is taken along, before anything is entered")
    if step.args[1:] != ("", CLONE_TREE | AT_EMPTY_PATH) or walk.shielded or not walk.certain:
        raise broken("enter-order", index, step, "a copy that is mounted nowhere")
    walk.cgroup = step.result


def _setns(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    fd, kinds = step.args
    if walk.whose == CALLER:
        raise broken("enter-nothing", index, step, "it runs where the caller is")
    if not walk.hidden:
        raise broken("enter-hidden", index, step, "processes of the container may trace it")
    if type(fd) is not int or fd not in walk.held or type(kinds) is not int or not walk.certain:
        raise broken("enter-order", index, step, "by an inherited descriptor")
    check = _setns_shielded if walk.shielded else _setns_unseen
    check(walk, index, step, kinds)
    walk.entered |= kinds
    walk.in_user = walk.in_user or bool(kinds & CLONE_NEWUSER)


def _setns_shielded(walk: EnterWalk, index: int, step: Step, kinds: int) -> None:
    # As an ordinary user in one call with the user namespace, which has the right to the others.
    of_children = kinds & (OF_CHILDREN | CLONE_NEWUSER) if walk.unprivileged else kinds & OF_CHILDREN
    if walk.rooted:
        raise broken("enter-order", index, step, "before the root changes")
    if walk.cloned if of_children else not walk.attached:
        raise broken("enter-order", index, step, "pid and time before the clone, all others after the host's part")
    if of_children and kinds != of_children:
        raise broken("enter-order", index, step, "not all of these act on the same process")


def _setns_unseen(walk: EnterWalk, index: int, step: Step, kinds: int) -> None:
    if kinds == CLONE_NEWCGROUP:
        if not walk.attached:
            raise broken("enter-order", index, step, "the host puts it into the cgroup from outside")
    elif walk.rooted or walk.cloned or kinds & (CLONE_NEWCGROUP | CLONE_NEWUSER):
        raise broken("enter-order", index, step, "before the root changes, and all but the cgroup's before the clone")


def _sync(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    if walk.whose == EXEC and step.args[0] == SYNC_READY and walk.rooted and walk.attached:
        walk.ready = walk.certain
        return
    if step.args[0] != SYNC_ATTACHED or not walk.cloned or not walk.certain:
        raise broken("enter-order", index, step, "the host attaches the child")
    walk.attached = True


def _fchdir(walk: Walk, index: int, step: Step) -> None:
    """Only to the root that is inherited, and chroot(2) follows at once."""
    assert isinstance(walk, EnterWalk)
    after = walk.steps[index + 1] if index + 1 < len(walk.steps) else step
    if type(step.args[0]) is Reg or step.args[0] not in walk.held or not walk.certain or after.call != "chroot":
        raise broken("enter-order", index, step, "it could be a folder of the host's")


def _chroot(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    before = walk.steps[index - 1]
    if before.call != "fchdir" or step.args != (".",) or not walk.certain or not (walk.attached or not walk.shielded):
        raise broken("enter-order", index, step, "the root is the container's first process's")
    walk.rooted = walk.detached = True


def _close(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    if walk.certain and type(step.args[0]) is int:
        walk.held.discard(step.args[0])
    check = ORDER_CHECKS["close"]
    assert check
    check(walk, index, step)


def _prctl(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    if step.args[0] == PR_SET_DUMPABLE:
        walk.hidden = walk.certain and step.args[1] == 0
    else:
        _credentials(walk, index, step)


def _credentials(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    if walk.held or not walk.rooted:
        raise broken("enter-order", index, step, "it has not entered, or still holds what it entered by")
    _check(walk, index, step)


def _check(walk: Walk, index: int, step: Step) -> None:
    check = _RIGHTS[step.call]
    assert check
    check(walk, index, step)


def _setgroups(walk: Walk, index: int, step: Step) -> None:
    """The caller's groups may go early."""
    if walk.cloned:
        _credentials(walk, index, step)
    else:
        _check(walk, index, step)


def _own_procfs(walk: Walk, index: int, step: Step) -> None:
    """No file system but one, which is mounted nowhere: the kernel's word, whatever the container has at /proc."""
    assert isinstance(walk, EnterWalk)
    if (step.call == "fsopen" and step.args[0] != "proc") or not walk.attached or (walk.shielded and walk.detached):
        raise broken("enter-order", index, step, "it needs a procfs at most, before it has the container's rights")
    check = MOUNT_CHECKS[step.call]
    assert check
    detached, walk.detached = walk.detached, False  # the root is the container's by now, and it is mounted on none
    check(walk, index, step)
    walk.detached = detached


def _openat2(walk: Walk, index: int, step: Step) -> None:
    """The container's root by its path, once we are in it; then whatever is opened below that, as a container does."""
    assert isinstance(walk, EnterWalk)
    if walk.whose == EXEC and step.args[0] == AT_FDCWD:
        open_root(walk, index, step)
        return
    check = MOUNT_CHECKS["openat2"]
    assert check
    check(walk, index, step)


def open_root(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, EnterWalk)
    start, path, how, size = step.args
    if not (walk.rooted and walk.certain) or walk.held or (start, path) != (AT_FDCWD, "/") or step.result is None:
        raise broken("enter-order", index, step, "it would be the host's")
    if type(how) is not bytes or size != OPEN_HOW.size or OPEN_HOW.unpack(how) != (O_PATH | O_CLOEXEC, 0, 0):
        raise broken("enter-order", index, step, "the root is only a place to start from")
    walk.inside.add(step.result.number)


ENTER_CHECKS: dict[str, Check] = {
    "chroot": _chroot,
    "clone3": _clone,
    "close": _close,
    "fchdir": _fchdir,
    "prctl": _prctl,
    "setns": _setns,
    "sync": _sync,
    **dict.fromkeys(("fsconfig", "fsmount", "fsopen"), _own_procfs),
    "open_tree": take_cgroup,
    "openat2": _openat2,
    "setgroups": _setgroups,
    **dict.fromkeys(("capset", "setresgid", "setresuid"), _credentials),
}
_KNOWN = ORDER_CHECKS | CREDENTIAL_CHECKS | FILTER_CHECKS | MOUNT_CHECKS
_RIGHTS = {call: _KNOWN[call] for call in ("capset", "prctl", "setgroups", "setresgid", "setresuid")}
_SHARED = (
    *"chdir close_range dup3 execve expect getcwd keyctl load prlimit64 rt_sigaction seccomp setsid umask".split(),
    *"write ioprio_set personality sched_setaffinity sched_setattr set_mempolicy".split(),
)
_PROGRAMS = ("mmap", "wait")
"""What goes on under the program's filter does beside that: the filter may have a listener."""
_EXECS = (*_PROGRAMS, "faccessat2", "fchown", "ioctl", "send descriptor", "statx")
"""What only `exec` does beside that: its terminal, its program."""
_CALLS = {
    rights: calls_of({call: _KNOWN[call] for call in _SHARED + more} | ENTER_CHECKS)
    for rights, more in ((CALLER, ()), (ROOT, ()), (PROGRAM, _PROGRAMS), (EXEC, _EXECS))
}


def verify_enter(plan: Plan, rights: str) -> None:
    """Raise PlanError, naming rule and step, for the first rule that a plan of `enter` or `enter_exec` breaks."""
    try:
        prove(plan, EnterWalk(plan, rights), _CALLS[rights])
        prove_asked(plan)
    except MALFORMED as error:
        raise malformed(error) from error
