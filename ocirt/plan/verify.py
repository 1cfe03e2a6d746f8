"""The safety rules, proved on every plan before it runs.

A few passes over the steps. RULES names each rule; tests/plan/test_verify.py breaks each of them, and
docs/safety-rules.md says what they prevent.
"""

from __future__ import annotations

from ocirt.errors import PlanError
from ocirt.plan.kernel import (
    CLOSE_RANGE_CLOEXEC,
    EINVAL,
    ENOENT,
    ENOTDIR,
    LAST_DESCRIPTOR,
    MOVE_MOUNT_BY_DESCRIPTOR,
    OPEN_HOW,
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
)
from ocirt.plan.step import Buffer, Field, Reg, Slot, Vector
from ocirt.plan.wire import ARGS, ERRNOS, OP_CALL, OP_CLONE, OP_EXPECT, REGISTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan, Step

# Calls that need a right which the credentials steps take away.
PRIVILEGED = frozenset(
    (
        "clone3 unshare setns open_tree fsopen fsmount move_mount mount_setattr pivot_root umount2 mknodat"
        " sethostname setdomainname setgroups setresgid setresuid"
    ).split()
)
MOUNTING = frozenset("fsopen fsconfig fsmount open_tree move_mount mount_setattr umount2 pivot_root".split())
OPENING = frozenset("openat openat2 open_tree fsopen fsmount socket dup3".split())
_CREDENTIALS = ("bounding", "setgroups", "setresgid", "setresuid", "capset", "ambient", "no_new_privs")
_STAGE = {name: number for number, name in enumerate(_CREDENTIALS, 1)}
_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_BENEATH


def _fail(rule: str, index: int, step: Step, why: str) -> PlanError:
    return PlanError(
        f"safety rule {rule}: step {index} ({step.call}: {step.doing}): {why}",
        pointer=step.pointer or None,
        hint="a defect in ocirt: nothing was run",
    )


def verify(plan: Plan) -> None:
    """Raise PlanError, naming rule and step, for the first rule that the plan breaks."""
    steps = plan.steps
    if not steps:
        raise PlanError("safety rule execve-last: the plan is empty")
    _verify_flow(steps)
    _verify_mounts(steps)
    _verify_order(steps)


def _verify_flow(steps: list[Step]) -> None:
    """jumps-forward, registers-set, slots-in-data, errnos-fit: nothing is used before it is there.

    `known[i]` is the set of registers (as bits) that are set on every way to step i; jumps go forward only, so
    one pass meets every way to a step before the step itself.
    """
    count = len(steps)
    arriving: dict[int, int] = {}
    known: int | None = 0
    for index, step in enumerate(steps):
        jumped = arriving.pop(index, None)
        if jumped is not None:
            known = jumped if known is None else known & jumped
        if known is None:  # no way leads here
            known = 0
        for arg in step.args:
            kind = type(arg)
            if kind is int or kind is str or kind is bytes:
                continue
            if kind is Reg:
                if not known >> arg.number & 1:  # type: ignore[union-attr]
                    raise _fail("registers-set", index, step, f"{arg!r} may not be set here")
            elif kind is Slot or (kind is Vector and step.call != "execve"):
                raise _fail("slots-in-data", index, step, "only the environment of execve may hold a slot")
            elif kind is Field and not arg.at < arg.buffer.size:  # type: ignore[union-attr]
                raise _fail("buffers-bounded", index, step, "a field lies outside its buffer")
        after = known
        result = step.result
        if result is not None:
            if not 0 <= result.number < REGISTERS:
                raise _fail("registers-set", index, step, f"there is no register {result.number}")
            after = known | 1 << result.number
        if len(step.args) > ARGS or len(step.errnos) > ERRNOS:
            raise _fail("errnos-fit", index, step, "more arguments or errnos than a step holds")
        ok, fail = step.ok, step.fail
        follows: int | None = after
        if ok is not None:
            if not index < ok.index < count:
                raise _fail("jumps-forward", index, step, f"it goes on at step {ok.index}")
            arriving[ok.index] = arriving.get(ok.index, after) & after
            follows = None
        if fail is not None:
            if not index < fail.index < count:
                raise _fail("jumps-forward", index, step, f"it goes on at step {fail.index}")
            arriving[fail.index] = arriving.get(fail.index, known) & known
        elif step.errnos:  # a tolerated failure goes on at the next step, without the result
            follows = known
        known = follows


def _verify_mounts(steps: list[Step]) -> None:
    """targets-by-descriptor, masks-not-skipped: where mounts go, and that no mask is left out."""
    safe: set[int] = set()  # registers that hold what was found inside the root
    for index, step in enumerate(steps):
        call = step.call
        if call == "openat2":
            how, start = step.args[2], step.args[0]
            resolve = OPEN_HOW.unpack(how)[2] if isinstance(how, bytes) and len(how) == OPEN_HOW.size else 0
            inside = bool(resolve & _IN_ROOT) and type(start) is Reg
            if not inside and not (step.pointer == "/root/path" and not safe):
                raise _fail("targets-by-descriptor", index, step, "opened without RESOLVE_IN_ROOT")
            if step.result is not None:
                safe.add(step.result.number)
        elif call == "move_mount":
            source, path, target, target_path, flags = step.args
            if (
                type(source) is not Reg
                or type(target) is not Reg
                or path != ""
                or target_path != ""
                or flags != MOVE_MOUNT_BY_DESCRIPTOR
            ):
                raise _fail("targets-by-descriptor", index, step, "a mount target must be a descriptor")
            if target.number not in safe:
                raise _fail("targets-by-descriptor", index, step, f"{target!r} was not opened inside the root")
        elif call in ("mount", "chroot"):
            raise _fail("targets-by-descriptor", index, step, "this call takes a raw path")
        elif step.result is not None:
            safe.discard(step.result.number)
        if step.errnos and step.pointer.startswith(("/linux/maskedPaths/", "/linux/readonlyPaths/")):
            _verify_mask(steps, index, step)


def _verify_mask(steps: list[Step], index: int, step: Step) -> None:
    absent = call_opens = step.call == "openat2"
    allowed = (ENOENT, ENOTDIR) if call_opens else (EINVAL, ENOTDIR)
    if any(errno not in allowed for errno in step.errnos):
        raise _fail("masks-not-skipped", index, step, 'a path may be skipped only because it "does not exist"')
    if absent:
        return
    # A directory: the way on must mount something over it still.
    at = step.fail.index if step.fail else index + 1
    while at < len(steps) and steps[at].pointer == step.pointer:
        if steps[at].call == "move_mount":
            return
        at += 1
    raise _fail("masks-not-skipped", index, step, "a failure leaves the path without a mask")


def _stage_of(step: Step) -> str | None:
    call = step.call
    if call == "prctl":
        option = step.args[0]
        if option == PR_CAPBSET_DROP:
            return "bounding"
        if option == PR_CAP_AMBIENT:
            return "ambient"
        if option == PR_SET_NO_NEW_PRIVS:
            return "no_new_privs"
        return None
    return call if call in _STAGE else None


def _verify_order(steps: list[Step]) -> None:
    """execve-last, pivot-before-code, credentials-order, privileges-gone, descriptors-closed, first-act."""
    first, last = steps[0], steps[-1]
    if first.call != "close_range" or first.args[1:] != (LAST_DESCRIPTOR, 0) or first.errnos or first.fail:
        raise _fail("first-act", 0, first, "init has to close the caller's descriptors first")
    if last.call != "execve":
        raise _fail("execve-last", len(steps) - 1, last, "a plan ends in execve")
    stage, reached, seen = 0, "", set()
    cloned = pivoted = detached = checked = closed = False
    for index, step in enumerate(steps):
        call = step.call
        if call == "execve" and index != len(steps) - 1:
            raise _fail("execve-last", index, step, "nothing can follow it")
        name = _stage_of(step)
        if name is not None:
            number = _STAGE[name]
            if number < stage:
                raise _fail("credentials-order", index, step, f"{name} after {reached}")
            if step.errnos or step.fail or step.ok:
                raise _fail("credentials-order", index, step, f"{name} may not be skipped")
            stage, reached = number, name
            seen.add(name)
        elif stage and call in PRIVILEGED:
            raise _fail("privileges-gone", index, step, f"it needs rights that {reached} gave up")
        if step.op == OP_CLONE:
            cloned = True
        elif call == "pivot_root":
            pivoted = not (step.errnos or step.fail or step.ok)
        elif call == "umount2" and pivoted:
            detached = not (step.errnos or step.fail or step.ok)
        elif step.op == OP_EXPECT and detached and _expects_slash(steps, index):
            checked = True
        elif call == "close_range" and step.args == (3, LAST_DESCRIPTOR, CLOSE_RANGE_CLOEXEC):
            closed = not (step.errnos or step.fail or step.ok)
        elif call in OPENING and not (call == "dup3" and step.args[1] in (0, 1, 2)):
            closed = False
        if call in MOUNTING and not cloned and call != "close_range":
            raise _fail("pivot-before-code", index, step, "it would change the host's mounts")
    if not pivoted or not detached:
        raise _fail("pivot-before-code", len(steps) - 1, last, "the old root is still there")
    if not checked:
        raise _fail("pivot-before-code", len(steps) - 1, last, "the working directory was not checked")
    if not closed:
        raise _fail("descriptors-closed", len(steps) - 1, last, "descriptors may survive execve")
    for name in ("setgroups", "setresgid", "setresuid", "capset", "ambient"):
        if name not in seen:
            raise _fail("credentials-order", len(steps) - 1, last, f"{name} is missing")


def _expects_slash(steps: list[Step], index: int) -> bool:
    """Is this the check of what getcwd(2) has just written?"""
    step, before = steps[index], steps[index - 1]
    if before.call != "getcwd" or before.op != OP_CALL or before.errnos or before.fail or step.fail:
        return False
    field, where = step.args[0], before.args[0]
    return (
        type(field) is Field
        and type(where) is Buffer
        and field.buffer is where
        and field.at == 0
        and step.args[2] == ord("/")
    )


RULES = {
    "first-act": "init closes what the caller leaked before anything else",
    "execve-last": "execve is the last step, and the only one of its kind",
    "jumps-forward": "every jump goes forward, to a step of the plan",
    "registers-set": "every register is set on every way to its use",
    "buffers-bounded": "what is checked in memory lies in the buffer that was filled",
    "errnos-fit": "a step has at most six arguments and four errnos",
    "slots-in-data": "what the host fills in later is part of the environment, never of a path or a flag",
    "targets-by-descriptor": "no mount goes to a raw path: targets are descriptors opened inside the root",
    "masks-not-skipped": "a masked or readonly path is skipped only when it does not exist",
    "pivot-before-code": "the root is changed, the old one detached and the working directory checked before execve",
    "credentials-order": "bounding set, groups, gid, uid, capabilities, ambient set, no_new_privs: in this order",
    "privileges-gone": "no privileged call follows the credentials steps",
    "descriptors-closed": "no descriptor that is opened survives execve",
}
