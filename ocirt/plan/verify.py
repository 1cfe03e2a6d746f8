"""The safety rules, proved on every plan before it runs.

Two passes over the steps: how they follow each other, and what each call may do where it stands. RULES names each rule;
tests/plan/test_verify.py breaks each of them, and docs/safety-rules.md says what they prevent.

Jumps go forward only, so a step runs on every way through the plan unless a jump passes over it. What has to happen
counts only if the step is `certain` in this sense and no failure of it is tolerated.
"""

from __future__ import annotations

from ocirt.errors import PlanError
from ocirt.plan.inherited import MOST_INHERITED
from ocirt.plan.kernel import (
    AT_FDCWD,
    EACCES,
    EEXIST,
    EINVAL,
    ELOOP,
    ENOENT,
    ENOSYS,
    ENOTDIR,
    EPERM,
    LAST_DESCRIPTOR,
    OPEN_TREE_CLONE,
)
from ocirt.plan.step import Own, Reg, Slot, Vector
from ocirt.plan.verify_asked import ASKED_RULES, prove_asked
from ocirt.plan.verify_credentials import CREDENTIAL_CHECKS
from ocirt.plan.verify_filter import FILTER_CHECKS
from ocirt.plan.verify_mounts import MASKS, MOUNT_CHECKS, check_mask
from ocirt.plan.verify_order import ORDER_CHECKS
from ocirt.plan.verify_walk import MALFORMED, Walk, broken, malformed
from ocirt.plan.wire import (
    ARGS,
    ERRNOS,
    OP_CALL,
    OP_CHANNEL,
    OP_CLONE,
    OP_EXPECT,
    OP_LOAD,
    OP_SENDFD,
    OP_SYNC,
    OP_WAIT,
    REGISTERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ocirt.plan.step import Plan, Step
    from ocirt.plan.verify_walk import Check

    Calls: TypeAlias = "dict[str, tuple[int, bool, Check]]"

RULES = {
    "first-act": "init closes what the caller leaked before anything else",
    "calls-known": "every step is a call that these rules know",
    "jumps-forward": "every jump goes forward, to a step of the plan, and no step is left without a way to it",
    "jumps-local": "a jump passes over steps of its own configuration value only",
    "registers-set": "every register is set, and not closed again, on every way to its use, and not set over another",
    "steps-fit": "a step has at most six arguments and four errnos",
    "failures-known": "only a failure that is known to be harmless does not end the run",
    "slots-in-data": "what the host fills in later is the value of an environment variable, never a path or a flag",
    "own-anything": "where the plans of two containers differ, any string may stand: a keyring's name, or the path of"
    " what is copied from the host",
    "buffers-bounded": "what a call reads or writes lies in the memory that was given for it",
    "mounts-private": "no mount can reach the host: a new mount namespace, cut off, comes first",
    "targets-by-descriptor": "no mount stays at a raw path: targets are descriptors opened inside the root",
    "writes-inside": "before the old root is gone, files are made by name in descriptors inside the root only",
    "namespaces-entered": "every namespace that is not the host's is made or joined before execve",
    "init-hidden": "a user or pid namespace is joined only when its processes cannot look into init",
    "sysctls-own": "a kernel parameter is set only if it belongs to a namespace that the container has for itself",
    "devices-checked": "a device that was found, and any file that is really opened, is checked to be the right device",
    "masks-not-skipped": "a masked or readonly path is skipped only when it does not exist",
    "pivot-before-code": "the root is changed, the old one detached and the working directory checked before execve",
    "credentials-order": "bounding set, groups, gid, uid, capabilities, ambient set, no_new_privs: once, in this order;"
    " only CAP_SYS_ADMIN may stay longer, for the filter",
    "privileges-gone": "nothing but what the program's start needs follows the first credentials step",
    "host-met": "the host has joined the cgroups before their namespace is made, and has set all up before execve",
    "descriptors-closed": "no descriptor survives execve but those that the caller hands on",
    "seccomp-last": "the filter is loaded with the right to; only the wait for the host, capset (each if need be) and"
    " execve follow",
    "execve-last": "execve is the last step, and the only one of its kind",
} | ASKED_RULES

_SPECIAL = {
    "clone3": OP_CLONE,
    "sync": OP_SYNC,
    "send descriptor": OP_SENDFD,
    "load": OP_LOAD,
    "expect": OP_EXPECT,
    "report to": OP_CHANNEL,
    "wait": OP_WAIT,
}
# What may follow the first credentials step.
_LATE = {
    *"prctl setgroups setresgid setresuid capset chdir getcwd faccessat2 load expect sync close openat".split(),
    *("report to", "umask", "prlimit64", "close_range", "mmap", "seccomp", "wait", "execve"),
}
# call → the errnos that a plan may tolerate; () stands for any.
_HARMLESS: dict[str, tuple[int, ...]] = {
    "keyctl": (ENOSYS,),
    "openat2": (ENOENT, ENOTDIR, ELOOP, EACCES),
    "mkdirat": (EEXIST,),
    "mknodat": (EEXIST,),
    "symlinkat": (EEXIST,),
    "unlinkat": (ENOENT,),
    "move_mount": (EINVAL, ENOTDIR),  # of a mask only
    "chdir": (),
    "setgroups": (EPERM,),  # where all groups went before
    "faccessat2": (),
    "expect": (),
}


def calls_of(checks: dict[str, Check]) -> Calls:
    """call → (its operation, whether it may follow the first credentials step, its check)."""
    return {call: (_SPECIAL.get(call, OP_CALL), call in _LATE, check) for call, check in checks.items()}


_CALLS = calls_of(ORDER_CHECKS | CREDENTIAL_CHECKS | FILTER_CHECKS | MOUNT_CHECKS)
_NO_LEAK = ("mmap", "seccomp")
"""Calls whose results do not survive execve: an address, and a listener that the kernel makes close-on-exec."""
_UNKNOWN = (0, False, None)


def verify(plan: Plan) -> None:
    """Raise PlanError, naming rule and step, for the first rule that a container's plan breaks."""
    try:
        prove(plan, Walk(plan), _CALLS)
        prove_asked(plan)
    except MALFORMED as error:
        raise malformed(error) from error


def prove(plan: Plan, walk: Walk, calls: Calls) -> None:
    """The two passes: how steps follow each other, and what each of `calls` may do where it stands."""
    steps = plan.steps
    if not steps:
        raise PlanError("safety rule execve-last: the plan is empty")
    first = steps[0]
    if (
        first.call != "close_range"
        or first.args[1:] != (LAST_DESCRIPTOR, 0)
        or first.args[0] != plan.inherited + 1
        or not 0 <= plan.inherited - plan.control <= MOST_INHERITED
    ):
        raise broken("first-act", 0, first, "init has to close the caller's descriptors first")
    _verify_flow(steps)
    passed_over = 0  # steps below this one may be jumped over
    for index, step in enumerate(steps):
        op, late, check = calls.get(step.call, _UNKNOWN)
        if step.op != op:
            raise broken("calls-known", index, step, "no rule knows this call")
        if not late and walk.stage:
            raise broken("privileges-gone", index, step, f"it has no place after {walk.reached}")
        ok, fail = step.ok, step.fail
        if step.result is not None and op == OP_CALL and step.call not in _NO_LEAK:
            walk.closed = False
        if check is not None:
            walk.certain = index >= passed_over and fail is None and not step.errnos
            check(walk, index, step)
        if ok is not None and ok.index > passed_over:
            passed_over = ok.index
        if fail is not None and fail.index > passed_over:
            passed_over = fail.index
    walk.finish()


def _verify_flow(steps: list[Step]) -> None:
    """jumps-forward, jumps-local, registers-set, steps-fit, failures-known, slots-in-data: how steps follow each other.

    `known` is the set of registers (as bits) that are set on every way to a step; as jumps go forward only, one pass
    meets every way to a step before the step itself.
    """
    count = len(steps)
    arriving: dict[int, int] = {}
    known: int | None = 0
    farthest = 0
    pointer = steps[0].pointer
    for index, step in enumerate(steps):
        if step.pointer != pointer:
            pointer = step.pointer
            if farthest > index:
                raise broken("jumps-local", index, step, "a jump of another concern passes over it")
            if pointer.startswith(MASKS):
                check_mask(steps, index)
        if arriving and (jumped := arriving.pop(index, None)) is not None:
            known = jumped if known is None else known & jumped
        if known is None:
            raise broken("jumps-forward", index, step, "no way leads here")
        for arg in step.args:
            kind = type(arg)
            if kind is int or kind is str or kind is bytes:
                continue
            if kind is Reg:
                if not known >> arg.number & 1:  # type: ignore[union-attr]
                    raise broken("registers-set", index, step, f"{arg!r} may not be set here")
            elif kind is Slot or kind is Vector:
                _check_vector(index, step, arg)
            elif kind is Own:
                _check_own(index, step, arg)
        after = known
        result = step.result
        if result is not None:
            if not 0 <= result.number < REGISTERS:
                raise broken("registers-set", index, step, f"there is no register {result.number}")
            if step.op == OP_CALL and known >> result.number & 1 and step.call != "write":
                raise broken("registers-set", index, step, f"{result!r} still holds something")
            after = known | 1 << result.number
        elif step.call == "close" and type(step.args[0]) is Reg:
            after = known & ~(1 << step.args[0].number)
        ok, fail, errnos = step.ok, step.fail, step.errnos
        if len(step.args) > ARGS:
            raise broken("steps-fit", index, step, "more arguments than a step holds")
        if ok is None and fail is None and not errnos:
            known = after
            continue
        if len(errnos) > ERRNOS:
            raise broken("steps-fit", index, step, "more errnos than a step holds")
        if (errnos or fail is not None) and not _is_harmless(step):
            raise broken("failures-known", index, step, "a failure of this call has to end the run")
        follows: int | None = after
        for label, arrives in ((ok, after), (fail, known)):
            if label is not None:
                if not index < label.index < count:
                    raise broken("jumps-forward", index, step, f"it goes on at step {label.index}")
                arriving[label.index] = arriving.get(label.index, arrives) & arrives
                farthest = max(farthest, label.index)
        if ok is not None:
            follows = None
        if fail is None and errnos:  # a tolerated failure goes on at the next step, without the result
            follows = known if follows is None else known & follows
        known = follows


def _is_harmless(step: Step) -> bool:
    """`fail` without errnos means any errno."""
    harmless = _HARMLESS.get(step.call)
    if harmless is None:
        return False
    errnos = step.errnos
    if not harmless:
        return not errnos or 0 < min(errnos) <= max(errnos) < 256
    for errno in errnos:
        if errno not in harmless:
            return False
    return bool(errnos)


def _check_vector(index: int, step: Step, arg: object) -> None:
    """Only execve's environment may hold a slot, and only for what follows NAME=."""
    if step.call == "execve" and type(arg) is Vector:
        slots = [item for item in arg.items if not isinstance(item, str)]
        if not slots or (
            arg is step.args[-1]
            and all(type(slot) is Slot and slot.prefix.find("=") == len(slot.prefix) - 1 > 0 for slot in slots)
        ):
            return
    raise broken("slots-in-data", index, step, "only the environment of execve may hold a slot")


def _check_own(index: int, step: Step, arg: object) -> None:
    """What is proved holds for whatever the string says: the name of a session keyring, and the path of something that
    is copied from the host for a mount, which may be any path."""
    if step.call == "keyctl" and arg is step.args[1]:
        return
    if step.call == "open_tree" and step.pointer.startswith("/mounts/") and arg is step.args[1]:
        start, flags = step.args[0], step.args[2]
        if start == AT_FDCWD and type(flags) is int and flags & OPEN_TREE_CLONE:
            return
    raise broken("own-anything", index, step, "it would have to be known what the string says")
