"""The safety rules of the plans that `mounts add` and `mounts remove` have: those of `enter`, and those of mounts.

What is the host's is only copied, and before the container is entered; inside, everything goes by descriptors that were
opened below the container's root. No program is executed.
"""

from __future__ import annotations

from ocirt.plan.enter import ROOT
from ocirt.plan.kernel import CLONE_NEWNS, CLONE_NEWUSER, MNT_DETACH, UMOUNT_NOFOLLOW
from ocirt.plan.step import Reg
from ocirt.plan.verify import calls_of, prove
from ocirt.plan.verify_enter import ENTER_CHECKS, EnterWalk, open_root, take_cgroup
from ocirt.plan.verify_mounts import MOUNT_CHECKS, is_name
from ocirt.plan.verify_order import ORDER_CHECKS
from ocirt.plan.verify_walk import MALFORMED, broken, malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan, Step
    from ocirt.plan.verify_walk import Check, Walk

MOUNTS_RULES = {
    "mounts-only": "it ends when the host has been told; no code of the image runs",
    "mounts-inside": "inside the container everything is named by descriptors below its root, or by one name in them",
}


class MountsWalk(EnterWalk):
    """Of such a plan: it has the rights of the container's root, and then some business there."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, ROOT)

    def finish(self) -> None:
        index = len(self.steps) - 1
        last = self.steps[index]
        if last.call != "exit_group" or last.args != (0,):
            raise broken("mounts-only", index, last, "it has to end")
        if not self.ready or self.steps[index - 1].call != "sync":
            raise broken("host-met", index, last, "the host was not told")
        self.check_entered(index, last)


def _inside(walk: Walk, fd: object) -> bool:
    assert isinstance(walk, MountsWalk)
    return type(fd) is Reg and fd.number in walk.inside and walk.rooted and walk.certain and not walk.held


def _setns(walk: Walk, index: int, step: Step) -> None:
    _base("setns", walk, index, step)
    kinds = step.args[1]
    if type(kinds) is int and kinds & CLONE_NEWNS:
        # The container's own, which was cut off from the host's when it was made.
        walk.own_mounts = walk.private = True


def _chroot(walk: Walk, index: int, step: Step) -> None:
    _base("chroot", walk, index, step)
    if not walk.entered & CLONE_NEWNS:
        raise broken("mounts-private", index, step, "it would mount on the host")
    walk.detached = False  # the root is the container's, and mounts are still to come


def _fchdir(walk: Walk, index: int, step: Step) -> None:
    if not _inside(walk, step.args[0]):
        _base("fchdir", walk, index, step)


def _umount2(walk: Walk, index: int, step: Step) -> None:
    """One name in a folder of the container's, not followed."""
    before = walk.steps[index - 1]
    name, flags = step.args
    if before.call != "fchdir" or not _inside(walk, before.args[0]):
        raise broken("mounts-inside", index, step, "the folder was not opened inside the root")
    if not is_name(name) or flags != MNT_DETACH | UMOUNT_NOFOLLOW:
        raise broken("mounts-inside", index, step, "a path of several parts, or a link, could lead to another mount")


def _openat2(walk: Walk, index: int, step: Step) -> None:
    """The container's root by its path, once we are in it; then whatever is below."""
    if type(step.args[0]) is Reg:
        _mounts("openat2", walk, index, step)
        return
    open_root(walk, index, step)


def _open_tree(walk: Walk, index: int, step: Step) -> None:
    assert isinstance(walk, MountsWalk)
    if type(step.args[0]) is int and step.args[0] in walk.held:
        take_cgroup(walk, index, step)
        return
    if type(step.args[0]) is not Reg and (walk.cloned or walk.entered & CLONE_NEWNS):
        raise broken("mounts-inside", index, step, "a path is the container's by now")
    _mounts("open_tree", walk, index, step)


def _mount_setattr(walk: Walk, index: int, step: Step) -> None:
    if type(step.args[0]) is not Reg and (walk.cloned or not walk.own_mounts):
        raise broken("mounts-inside", index, step, "only what a descriptor says is changed")
    _mounts("mount_setattr", walk, index, step)


def _unshare(walk: Walk, index: int, step: Step) -> None:
    """Copies of the host's mounts, of which an ordinary user's plan takes some, before it enters."""
    if step.args != (CLONE_NEWNS,) or not walk.unprivileged or not walk.entered & CLONE_NEWUSER or not walk.certain:
        raise broken("mounts-inside", index, step, "only an ordinary user's plan needs copies of all mounts")
    if walk.cloned:
        raise broken("enter-order", index, step, "the mounts are the container's by now")
    walk.own_mounts = True


def _sync(walk: Walk, index: int, step: Step) -> None:
    """SYNC_READY, last; SYNC_COPY and SYNC_MAKE, for the host to help; SYNC_ATTACHED, as every plan of `enter`."""
    assert isinstance(walk, MountsWalk)
    if walk.attached and walk.rooted:
        ORDER_CHECKS["sync"](walk, index, step)  # type: ignore[misc]
    else:
        _base("sync", walk, index, step)


def _exit(walk: Walk, index: int, step: Step) -> None:
    if index != len(walk.steps) - 1:
        raise broken("mounts-only", index, step, "nothing can follow it")


def _base(call: str, walk: Walk, index: int, step: Step) -> None:
    check = ENTER_CHECKS[call]
    assert check
    check(walk, index, step)


def _mounts(call: str, walk: Walk, index: int, step: Step) -> None:
    check = MOUNT_CHECKS[call]
    assert check
    check(walk, index, step)


_OWN: dict[str, Check] = {
    "chroot": _chroot,
    "exit_group": _exit,
    "fchdir": _fchdir,
    "mount_setattr": _mount_setattr,
    "open_tree": _open_tree,
    "openat2": _openat2,
    "setns": _setns,
    "sync": _sync,
    "umount2": _umount2,
    "unshare": _unshare,
}
_ENTER = "clone3 close prctl setgroups setresgid setresuid".split()
_ORDER = ("close_range", "expect", "keyctl", "load", "rt_sigaction", "send descriptor", "setsid")
_MOUNTS = "fsconfig fsmount fsopen fspick mkdirat mknodat move_mount readlinkat symlinkat".split()
_CALLS = calls_of(
    {call: ENTER_CHECKS[call] for call in _ENTER}
    | {call: ORDER_CHECKS[call] for call in _ORDER}
    | {call: MOUNT_CHECKS[call] for call in _MOUNTS}
    | _OWN
)


def verify_mounts(plan: Plan) -> None:
    """Raise PlanError, naming rule and step, for the first rule that a plan of `enter_mounts` breaks."""
    try:
        prove(plan, MountsWalk(plan), _CALLS)
    except MALFORMED as error:
        raise malformed(error) from error
