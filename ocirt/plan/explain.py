"""A plan in words: what `ocirt explain` prints. Made from the steps that are encoded, so what is shown is what runs.

    /mounts/0  mount proc on /proc
       13  $fs = fsopen("proc", FSOPEN_CLOEXEC)
       18  $target = openat2($rootfs, "proc", {flags=…, resolve=…}, 24)    ENOENT ignored; then → step 20
           … 1 step if it does not exist

Branches that are only taken when something is missing are folded, unless all is asked for.
"""

from __future__ import annotations

from ocirt.errors import printable
from ocirt.plan.decode import arguments, errno_name, register
from ocirt.plan.kernel import EEXIST, EINVAL, ENOENT, ENOTDIR
from ocirt.plan.step import Reg
from ocirt.plan.wire import OP_EXPECT, OP_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.plan.step import Plan, Step

TAIL_COLUMN = 76
"""Where the remarks on a call begin, if it is not longer."""


class Style:
    """The escape sequences of a terminal; empty strings elsewhere."""

    __slots__ = ("bold", "dim", "end", "warn")

    def __init__(self, *, colour: bool) -> None:
        self.bold, self.dim, self.warn, self.end = (
            ("\033[1m", "\033[2m", "\033[33m", "\033[0m") if colour else ("",) * 4
        )


def unclear_names(steps: Sequence[Step]) -> frozenset[str]:
    """Names that two registers have at one time: these are shown with the registers' numbers."""
    live: dict[str, set[int]] = {}
    unclear = set()
    for step in steps:
        if step.result:
            numbers = live.setdefault(step.result.name, set())
            numbers.add(step.result.number)
            if len(numbers) > 1:
                unclear.add(step.result.name)
        elif step.call == "close" and isinstance(step.args[0], Reg):
            live.get(step.args[0].name, set()).discard(step.args[0].number)
    return frozenset(unclear)


def _named(reg: Reg, unclear: frozenset[str]) -> Reg:
    return Reg(reg.number, f"{reg.name}-{reg.number}") if reg.name in unclear else reg


def _decoded(step: Step, unclear: frozenset[str]) -> list[str]:
    return arguments(step.call, tuple(_named(arg, unclear) if isinstance(arg, Reg) else arg for arg in step.args))


def step_call(step: Step, unclear: frozenset[str] = frozenset()) -> str:
    """The call, decoded: `$fd = openat2(…)`."""
    args = _decoded(step, unclear)
    result = f"{register(_named(step.result, unclear))} = " if step.result else ""
    if step.op == OP_LOAD:
        return result + args[0]
    if step.op == OP_EXPECT:
        value, mask, want, _, errno = args
        return f"expect {value}{'' if mask == '~0' else ' & ' + mask} == {want}, or {errno}"
    return f"{result}{step.call}({', '.join(args)})"


def step_flow(step: Step) -> str:
    """Where it goes on, if not simply at the next step."""
    parts = []
    errnos = ", ".join(map(errno_name, step.errnos))
    if step.fail:
        parts.append(f"{errnos or 'else'} → step {step.fail.index}")
    elif errnos:
        parts.append(f"{errnos} ignored")
    if step.ok:
        parts.append(f"then → step {step.ok.index}")
    return "; ".join(parts)


def documents(plan: Plan) -> list[dict[str, Any]]:
    """All steps for `explain --json`."""
    unclear = unclear_names(plan.steps)
    return [_document(index, step, unclear) for index, step in enumerate(plan.steps)]


def _document(index: int, step: Step, unclear: frozenset[str]) -> dict[str, Any]:
    return {
        "index": index,
        "call": step.call,
        "args": _decoded(step, unclear),
        "pointer": step.pointer,
        "doing": step.doing,
        "result": register(_named(step.result, unclear)) if step.result else None,
        "ignores": [errno_name(errno) for errno in step.errnos],
        "ok": step.ok.index if step.ok else None,
        "fail": step.fail.index if step.fail else None,
    }


def folds(steps: Sequence[Step]) -> dict[int, tuple[int, str]]:
    """first step of a branch off the usual way → (the step after the branch, when it is taken).

    Such a branch lies between a step and the place to which that step jumps when all is as usual. No step that is
    shown may jump into its middle.
    """
    jumps: dict[int, list[int]] = {}  # a step → the steps that jump to it
    for index, step in enumerate(steps):
        for label in (step.ok, step.fail):
            if label:
                jumps.setdefault(label.index, []).append(index)
    found: dict[int, tuple[int, str]] = {}
    hidden: set[int] = set()
    at = 0
    while at < len(steps):
        start, end = at + 1, _branch_end(steps, at)
        inside = (source for target in range(start + 1, end) for source in jumps.get(target, ()))
        if end > start and not any(source < at and source not in hidden for source in inside):
            others = any(source < at for source in jumps.get(start, ()))
            found[start] = end, "otherwise" if others else _when(steps[at], start)
            hidden.update(range(start, end))
            at = end
        else:
            at += 1
    return found


def _branch_end(steps: Sequence[Step], at: int) -> int:
    """Where the branch that begins right after this step ends; 0 if none does."""
    ok, fail = steps[at].ok, steps[at].fail
    if ok and ok.index > at + 1:
        return ok.index
    if ok and fail and fail.index > at + 1:
        return fail.index
    return 0


def _when(step: Step, start: int) -> str:
    """Under which condition this step goes on at `start`, the one that follows it."""
    if step.op == OP_EXPECT or not step.ok or step.ok.index == start:
        return "otherwise"
    errnos = frozenset(step.errnos)
    if errnos and errnos <= {ENOENT, ENOTDIR}:
        return "if it does not exist"
    if errnos == {EEXIST}:
        return "if it exists already"
    if step.call == "move_mount" and errnos == {EINVAL, ENOTDIR}:
        return "if it is a directory"
    return f"if that fails with {' or '.join(map(errno_name, step.errnos))}" if errnos else "if that fails"


def plan_lines(plan: Plan, *, everything: bool = False, colour: bool = False) -> list[str]:
    """The plan's text, a line for each step below a line for each config value that they are due to."""
    style = Style(colour=colour)
    steps = plan.steps
    unclear = unclear_names(steps)
    hidden = {} if everything else folds(steps)
    wide = min(max((len(step.pointer) for step in steps), default=0), 32)
    number = len(str(len(steps)))
    lines: list[str] = []
    group: tuple[str, str] | None = None
    at = 0
    while at < len(steps):
        step = steps[at]
        fold = hidden.get(at)
        if fold:
            end, when = fold
            count = end - at
            lines.append(f"  {'':{number}}  {style.dim}… {count} step{'' if count == 1 else 's'} {when}{style.end}")
            at = end
            continue
        if (step.pointer, step.doing) != group:
            group = step.pointer, step.doing
            lines.append(
                f"{style.bold}{printable(step.pointer) or 'always':{wide}}{style.end}  {printable(step.doing)}"
            )
        call, flow = step_call(step, unclear), step_flow(step)
        line = f"  {style.dim}{at:{number}}{style.end}  "
        lines.append(f"{line}{call:{TAIL_COLUMN}}  {style.dim}{flow}{style.end}" if flow else line + call)
        at += 1
    return lines
