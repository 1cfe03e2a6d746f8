"""The plan: a list of steps, each one system call, as pure data.

A step's arguments are Python values: `int` (an immediate), `str` (a string that the kernel reads), `bytes` (a
structure), `Vector` (an argv), `Program` (a filter), `Buffer` and `Field` (memory that a call fills and a later step
checks), `Slot` (bytes that the host fills while the plan runs), `Own` (a string in which the plans of two containers
with one configuration differ) and `Reg` (the result of an earlier step). `encode`
turns them into bytes, `explain` into words, `verify` proves rules about them.
"""

from __future__ import annotations

from ocirt.errors import PlanError
from ocirt.plan.wire import OP_CALL, OP_CHANNEL, OP_CLONE, OP_EXPECT, OP_LOAD, OP_SENDFD, OP_SYNC, OP_WAIT, REGISTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from ocirt.plan.asked import Asked

    Argument: TypeAlias = "int | str | bytes | Reg | Vector | Buffer | Field | Slot | Own | Program"


class Reg:
    """A register: holds what a step returned, mostly a descriptor."""

    __slots__ = ("name", "number")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name

    def __repr__(self) -> str:
        return f"${self.name}"


class Buffer:
    """`size` zeroed bytes that a call writes into."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Field:
    """A place in a buffer, for EXPECT."""

    __slots__ = ("at", "buffer")

    def __init__(self, buffer: Buffer, at: int) -> None:
        self.buffer = buffer
        self.at = at


class Slot:
    """A string that the host may complete: `prefix`, then at most `size` bytes, then a NUL."""

    __slots__ = ("prefix", "size")

    def __init__(self, prefix: str, size: int) -> None:
        self.prefix = prefix
        self.size = size


class Own:
    """A string that names what is this container's own, such as its cgroup: another container's plan may be the same
    but for that. It has its bytes for itself."""

    __slots__ = ("content",)

    def __init__(self, content: str) -> None:
        self.content = content


class Vector:
    """A NULL-terminated array of strings, as execve(2) takes it."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[str | Slot]) -> None:
        self.items = tuple(items)


class Program:
    """A filter of classic BPF, as seccomp(2) takes it (struct sock_fprog)."""

    __slots__ = ("instructions",)

    def __init__(self, instructions: bytes) -> None:
        self.instructions = instructions


class Label:
    """A later step to jump to; `Plan.place` says where it is."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index = 0


class Step:
    """One step. `ok` and `fail` are labels to jump to, `errnos` the failures that do not end the run."""

    __slots__ = ("args", "call", "doing", "errnos", "fail", "log", "ok", "op", "pointer", "result")

    def __init__(
        self,
        op: int,
        call: str,
        args: tuple[Argument, ...],
        pointer: str,
        doing: str,
        result: Reg | None,
        ok: Label | None,
        fail: Label | None,
        errnos: tuple[int, ...],
        log: bool,
    ) -> None:
        self.op = op
        self.call = call
        self.args = args
        self.pointer = pointer
        self.doing = doing
        self.result = result
        self.ok = ok
        self.fail = fail
        self.errnos = errnos
        self.log = log


class Plan:
    """Steps in the making. `at()` says which config value the steps that follow come from and what they do."""

    def __init__(self, machine: str, *, control: int) -> None:
        self.machine = machine
        self.control = control
        self.keeps_groups = False
        self.unprivileged = False  # the caller has no right but over its own user namespaces
        self.nested = False  # the caller is in one itself
        self.inherited = control  # the highest descriptor that init is given
        self.namespaces = 0  # the CLONE_NEW* flags of those that are not the host's
        self.unmounted: tuple[str, ...] | None = None  # without pivot_root: places of the host that have to be
        self.asked: Asked | None = None  # what the program is to have, for `verify` to compare
        self.shared: set[str] = set()  # pointers of the mounts that the configuration shares with the host
        self.steps: list[Step] = []
        self.sections: list[tuple[int, str]] = []
        self.owned: dict[str, Own] = {}  # by the names of Facts.own
        self.pointer = ""
        self.doing = ""
        self._free = list(range(REGISTERS - 1, -1, -1))

    def section(self, name: str) -> None:
        """The steps from here on are about one concern, which `explain` has a heading for."""
        self.sections.append((len(self.steps), name))

    def at(self, pointer: str, doing: str) -> None:
        """The steps from here on are due to the value at `pointer`; an error says that `doing` failed."""
        self.pointer = pointer
        self.doing = doing

    # Each method below adds one step.

    def call(
        self,
        name: str,
        *args: Argument,
        ignore: tuple[int, ...] = (),
        ok: Label | None = None,
        fail: Label | None = None,
        log: bool = False,
    ) -> None:
        """A system call. It may fail with the errnos of `ignore`, and then goes on at `fail` (default: the next step).

        `fail` without `ignore` stands for any errno. `log`: args[0] is an fs context whose log explains a failure.
        """
        self.steps.append(Step(OP_CALL, name, args, self.pointer, self.doing, None, ok, fail, ignore, log))

    def open(
        self,
        register: str | Reg,
        name: str,
        *args: Argument,
        ignore: tuple[int, ...] = (),
        ok: Label | None = None,
        fail: Label | None = None,
        log: bool = False,
    ) -> Reg:
        """A system call whose result goes into a register: a new one of this name, or a given one."""
        reg = self.register(register) if isinstance(register, str) else register
        self.steps.append(Step(OP_CALL, name, args, self.pointer, self.doing, reg, ok, fail, ignore, log))
        return reg

    def close(self, *registers: Reg) -> None:
        """close(2) each, and give the registers back."""
        for reg in registers:
            self.call("close", reg)
            self._free.append(reg.number)

    def clone(self, flags: int, cgroup: int | Reg = -1) -> None:
        self._special(OP_CLONE, "clone3", (flags, cgroup))

    def sync(self, tag: int) -> None:
        self._special(OP_SYNC, "sync", (tag,))

    def send_descriptor(self, reg: Reg, tag: int) -> None:
        self._special(OP_SENDFD, "send descriptor", (reg, tag))

    def wait(self, words: Reg, value: Reg, looks: int) -> None:
        """Without a system call: tell the host `value` by memory that it shares, and wait until it answers so."""
        self._special(OP_WAIT, "wait", (words, value, looks))

    def channel(self, reg: Reg) -> None:
        self._special(OP_CHANNEL, "report to", (reg,))

    def load(self, register: str | Reg, value: int | str, *, ok: Label | None = None) -> Reg:
        reg = self.register(register) if isinstance(register, str) else register
        self._special(OP_LOAD, "load", (value,), result=reg, ok=ok)
        return reg

    def expect(
        self,
        value: Reg | Field,
        want: int,
        *,
        errno: int,
        mask: int = 0xFFFFFFFFFFFFFFFF,
        width: int = 8,
        ok: Label | None = None,
        fail: Label | None = None,
    ) -> None:
        """Go on only if (value & mask) == want, else fail with `errno` (or go on at `fail`)."""
        self._special(OP_EXPECT, "expect", (value, mask, want, width, errno), ok=ok, fail=fail)

    def place(self, *labels: Label) -> None:
        """The labels stand for the next step."""
        for label in labels:
            label.index = len(self.steps)

    def own(self, name: str, content: str) -> Own:
        """The same for each name. Raises PlanError if that stands for something else already."""
        one = self.owned.setdefault(name, Own(content))
        if one.content != content:
            raise PlanError(f"{name} is {one.content} and {content}")
        return one

    def register(self, name: str) -> Reg:
        if not self._free:
            raise PlanError(f"more than {REGISTERS} registers in use", pointer=self.pointer)
        return Reg(self._free.pop(), name)

    def _special(
        self,
        op: int,
        call: str,
        args: tuple[Argument, ...],
        *,
        result: Reg | None = None,
        ok: Label | None = None,
        fail: Label | None = None,
    ) -> None:
        self.steps.append(Step(op, call, args, self.pointer, self.doing, result, ok, fail, (), False))
