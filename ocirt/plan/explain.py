"""A plan in words: what `ocirt explain` prints. Made from the steps that are encoded, so what is shown is what runs.

    ── Root file system and mounts ──────────────────────────────────────────
    The root is attached; then each mount is made …

    /mounts/0  mount proc on /proc
       13  $fs = fsopen("proc", FSOPEN_CLOEXEC)
       18  $target = openat2($rootfs, "proc", {flags=…, resolve=…}, 24)    ENOENT ignored; then → step 20
           … 1 step if it does not exist
    /linux/cgroupsPath  on the host: put the container into its cgroups
        ▸  /sys/fs/cgroup/pids/c/cgroup.procs ← PID

Branches that are only taken when something is missing are folded, unless all is asked for. What the host does stands
where it meets init: before the step that waits for it, or after the one that it needs.
"""

from __future__ import annotations

from textwrap import wrap

from ocirt.errors import printable
from ocirt.plan.decode import arguments
from ocirt.plan.kernel import EEXIST, EINVAL, ENOENT, ENOTDIR
from ocirt.plan.notation import errno_name, register
from ocirt.plan.step import Reg
from ocirt.plan.wire import OP_EXPECT, OP_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.plan.step import Plan, Step

TAIL_COLUMN = 76
"""Where the remarks on a call begin, if it is not longer."""


WIDTH = 100
"""Of a heading's line."""

SECTIONS = {
    "beginning": (
        "The beginning",
        "ocirt starts ocirt-init, still in the host's namespaces, and hands it this plan. Nothing that the caller left"
        " open comes along.",
    ),
    "taken": (
        "What is the host's",
        "The host's files are out of reach for the root of a user namespace: what is needed of them is copied before.",
    ),
    "namespaces": (
        "Namespaces",
        "A new process goes on: the container's first. What it changes from here on is the container's alone.",
    ),
    "root": (
        "Root file system and mounts",
        "The root is attached; then each mount is made where nobody sees it, and put on a descriptor of its place, so"
        " that no link leads it out of the root.",
    ),
    "devices": (
        "Devices and terminal",
        "The nodes that every container has, those of the configuration, /dev/console.",
    ),
    "hidden": ("What is readonly or hidden", "Last of the mounts, so that none of them lies on top again."),
    "pivot": (
        "Change of root",
        "The host's root goes out of sight. From here on paths are the container's, and nothing is opened outside.",
    ),
    "rights": ("Rights", "They go away in the one order in which each step still may do what it has to."),
    "program": (
        "The program",
        "It is looked up with its own rights while create can still say what is wrong, and executed at start.",
    ),
}
"""Name of a plan's section (plan.compile) → its heading, and what happens in it."""
AFTERWARDS = ("Afterwards", "init has become the program; nothing of ocirt stays beside it.")


class HostStep:
    """What the host does beside init.

    operation   "create", "start" or "delete"
    before      the step of init before which it is shown; as many as there are: after all of them
    actions     each in a line of its own, such as "FILE ← VALUE"
    """

    __slots__ = ("actions", "before", "doing", "operation", "pointer")

    def __init__(self, operation: str, before: int, pointer: str, doing: str, actions: Sequence[str] = ()) -> None:
        self.operation = operation
        self.before = before
        self.pointer = pointer
        self.doing = doing
        self.actions = list(actions)

    def document(self) -> dict[str, Any]:
        """For `explain --json`."""
        return {name: getattr(self, name) for name in ("operation", "before", "pointer", "doing", "actions")}


class Style:
    """The escape sequences of a terminal; empty strings elsewhere."""

    __slots__ = ("bold", "dim", "end", "heading", "host", "warn")

    def __init__(self, *, colour: bool) -> None:
        self.bold, self.dim, self.warn, self.heading, self.host, self.end = (
            ("\033[1m", "\033[2m", "\033[33m", "\033[1;36m", "\033[32m", "\033[0m") if colour else ("",) * 6
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


def sections(plan: Plan) -> list[dict[str, Any]]:
    """The plan's sections for `explain --json`."""
    return [
        {"name": name, "title": SECTIONS[name][0], "text": SECTIONS[name][1], "first": first}
        for first, name in plan.sections
    ]


def plan_lines(
    plan: Plan, *, everything: bool = False, colour: bool = False, host: Sequence[HostStep] = ()
) -> list[str]:
    """The plan's text: a line for each step below a line for each config value that they are due to, with headings
    where the plan has sections, and what the host does in between."""
    text = _Text(plan, everything=everything, style=Style(colour=colour), host=host)
    text.write()
    return text.lines


class _Text:
    """The lines of a plan in the making."""

    def __init__(self, plan: Plan, *, everything: bool, style: Style, host: Sequence[HostStep]) -> None:
        self.plan = plan
        self.style = style
        self.unclear = unclear_names(plan.steps)
        self.hidden = {} if everything else folds(plan.steps)
        pointers = [*(step.pointer for step in plan.steps), *(step.pointer for step in host)]
        self.wide = min(max(map(len, pointers), default=0), 32)
        self.number = len(str(len(plan.steps)))
        self.sections = list(plan.sections)
        self.host = sorted(host, key=lambda step: step.before)
        self.group: tuple[str, str] | None = None
        self.lines: list[str] = []

    def write(self) -> None:
        steps, at = self.plan.steps, 0
        while at < len(steps):
            fold = self.hidden.get(at)
            if fold:  # and with it what the host does only then
                self.host = [step for step in self.host if not at <= step.before < fold[0]]
            self._until(at)
            if fold:
                at = self._folded(at, *fold)
            else:
                self._step(at, steps[at])
                at += 1
        if self.host and self.plan.sections:
            self._heading(*AFTERWARDS)
        self._until(len(steps))

    def _until(self, at: int) -> None:
        """The headings, and what the host does, before this step."""
        while self.sections and self.sections[0][0] <= at:
            first, name = self.sections.pop(0)
            if not (self.sections and self.sections[0][0] == first):  # one without steps is not worth a heading
                self._heading(*SECTIONS[name])
        while self.host and self.host[0].before <= at:
            self._host_step(self.host.pop(0))

    def _heading(self, title: str, sentence: str) -> None:
        style = self.style
        self.lines += ["", f"{style.heading}{f'── {title} ':─<{WIDTH}}{style.end}"]
        self.lines += [f"{style.dim}{line}{style.end}" for line in wrap(sentence, WIDTH)]
        self.lines.append("")
        self.group = None

    def _title(self, pointer: str, doing: str) -> None:
        style = self.style
        self.lines.append(f"{style.bold}{printable(pointer) or 'always':{self.wide}}{style.end}  {doing}")

    def _host_step(self, step: HostStep) -> None:
        style = self.style
        when = "" if step.operation == "create" else f", at {step.operation}"
        self._title(step.pointer, f"{style.host}on the host{when}: {printable(step.doing)}{style.end}")
        for action in step.actions:
            self.lines.append(f"  {style.host}{'▸':>{self.number}}{style.end}  {printable(action)}")
        self.group = None

    def _folded(self, at: int, end: int, when: str) -> int:
        style, count = self.style, end - at
        text = f"… {count} step{'' if count == 1 else 's'} {when}"
        self.lines.append(f"  {'':{self.number}}  {style.dim}{text}{style.end}")
        return end

    def _step(self, at: int, step: Step) -> None:
        style = self.style
        if (step.pointer, step.doing) != self.group:
            self.group = step.pointer, step.doing
            self._title(step.pointer, printable(step.doing))
        call, flow = step_call(step, self.unclear), step_flow(step)
        line = f"  {style.dim}{at:{self.number}}{style.end}  "
        self.lines.append(f"{line}{call:{TAIL_COLUMN}}  {style.dim}{flow}{style.end}" if flow else line + call)
