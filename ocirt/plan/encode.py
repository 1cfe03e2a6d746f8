"""A plan as the bytes that ocirt-init walks (init/wire.h). Pure: the same plan gives the same bytes."""

from __future__ import annotations

from _struct import Struct, pack

from ocirt.errors import PlanError
from ocirt.plan.step import Buffer, Field, Own, Program, Reg, Slot, Vector
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.wire import (
    ARGS,
    HEADER,
    KIND_DATA,
    KIND_REG,
    MAGIC,
    MAX_PLAN,
    MAX_STEPS,
    NO_REGISTER,
    OP_CALL,
    SLOT,
    VERSION,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan

_MASK = 0xFFFFFFFFFFFFFFFF
# wire.STEP by the number of arguments that are there: the others are zeros.
_PACK = [Struct(f"<BBHHH4sHBx{count}Q{8 * (ARGS - count)}x").pack for count in range(ARGS + 1)]


class Data:
    """The data area: every distinct string, structure and buffer once, aligned to 8. `places`: what is where."""

    def __init__(self) -> None:
        self.bytes = bytearray(8)
        self.relocs: list[int] = []
        self.slots: dict[Slot, tuple[int, int]] = {}
        self.owned: dict[Own, tuple[int, int]] = {}
        self.places: dict[object, int] = {}

    def place(self, arg: object) -> int:
        """Where an argument is, put there if it is new."""
        at = self.places.get(arg)
        if at is None:
            at = self.places[arg] = self._put(arg)
        return at

    def _put(self, arg: object) -> int:
        if isinstance(arg, str):
            return self._append(arg.encode("utf-8", "surrogateescape") + b"\0")
        if isinstance(arg, bytes):
            return self._append(arg)
        if isinstance(arg, Buffer):
            return self._append(bytes(arg.size))
        if isinstance(arg, Field):
            return self.place(arg.buffer) + arg.at
        if isinstance(arg, Slot):
            return self._slot(arg)
        if isinstance(arg, Own):
            return self._own(arg)
        if isinstance(arg, Vector):
            return self._vector(arg)
        if isinstance(arg, Program):
            return self._program(arg)
        raise PlanError(f"a step cannot have a {type(arg).__name__} as argument")

    def _append(self, content: bytes) -> int:
        area = self.bytes
        at = len(area)
        area += content
        area += bytes(-len(area) % 8)
        return at

    def _slot(self, slot: Slot) -> int:
        prefix = slot.prefix.encode("utf-8", "surrogateescape")
        at = self._append(prefix + bytes(slot.size + 1))
        self.slots[slot] = (at + len(prefix), slot.size)
        return at

    def _own(self, own: Own) -> int:
        content = own.content.encode("utf-8", "surrogateescape")
        at = self._append(content + b"\0")
        self.owned[own] = at, len(content)
        return at

    def _vector(self, vector: Vector) -> int:
        places = [self.place(item) for item in vector.items]
        at = self._append(pack(f"<{len(places) + 1}Q", *places, 0))
        self.relocs += range(at, at + 8 * len(places), 8)
        return at

    def _program(self, program: Program) -> int:
        instructions = self.place(program.instructions)
        at = self._append(pack("<H6xQ", len(program.instructions) // 8, instructions))
        self.relocs.append(at + 8)
        return at


class Encoded:
    """The plan's bytes, and where in its data a reply may write: slot → (offset, size). owned: the same of the strings
    that are this container's own, but offsets in `content`."""

    __slots__ = ("content", "owned", "slots")

    def __init__(
        self, content: bytes, slots: dict[Slot, tuple[int, int]], owned: dict[Own, tuple[int, int]] | None = None
    ) -> None:
        self.content = content
        self.slots = slots
        self.owned = owned or {}

    def of_another(self, names: dict[Own, str]) -> Encoded:
        """The plan of a container whose own strings are others. Raises PlanError for one that is longer."""
        content = bytearray(self.content)
        for own, name in names.items():
            at, size = self.owned[own]
            text = name.encode("utf-8", "surrogateescape")
            if len(text) > size or 0 in text:
                raise PlanError(f"{name!r} is no string of {size} bytes")
            content[at : at + size] = text + bytes(size - len(text))
        return Encoded(bytes(content), self.slots)


def encode(plan: Plan) -> Encoded:
    """Raises PlanError if the plan is beyond the format's bounds."""
    machine, numbers = MACHINES[plan.machine]
    data = Data()
    places = data.places
    rows = []
    for step in plan.steps:
        values: list[int] = []
        kinds = shift = 0
        for arg in step.args:
            # By type, because most arguments are numbers, registers and strings that were there before.
            kind = type(arg)
            if kind is int:
                values.append(arg if arg >= 0 else arg & _MASK)  # type: ignore[operator,arg-type]
            elif kind is Reg:
                values.append(arg.number)  # type: ignore[union-attr]
                kinds |= KIND_REG << shift
            else:
                at = places.get(arg)
                values.append(data.place(arg) if at is None else at)
                kinds |= KIND_DATA << shift
            shift += 2
        result, ok, fail = step.result, step.ok, step.fail
        rows.append(
            _PACK[len(values)](
                step.op,
                result.number if result else NO_REGISTER,
                numbers[step.call] if step.op == OP_CALL else 0,
                ok.index if ok else 0,
                fail.index if fail else 0,
                bytes(step.errnos) if step.errnos else b"",
                kinds,
                1 if step.log else 0,
                *values,
            )
        )
    if len(rows) > MAX_STEPS:
        raise PlanError(f"{len(rows)} steps are more than {MAX_STEPS}")
    return _assemble(plan, machine, b"".join(rows), data)


def _assemble(plan: Plan, machine: int, steps: bytes, data: Data) -> Encoded:
    relocs = pack(f"<{len(data.relocs)}I", *data.relocs)
    slots = b"".join(SLOT.pack(*place) for place in data.slots.values())
    relocs_at = HEADER.size + len(steps)
    slots_at = relocs_at + len(relocs)
    data_at = (slots_at + len(slots) + 7) & ~7
    gap = bytes(data_at - slots_at - len(slots))
    content = data.bytes + bytes(8)  # its last byte must be 0
    size = data_at + len(content)
    if size > MAX_PLAN:
        raise PlanError(f"a plan of {size} bytes is larger than {MAX_PLAN}")
    header = HEADER.pack(
        MAGIC,
        VERSION,
        machine,
        size,
        len(plan.steps),
        relocs_at,
        len(data.relocs),
        slots_at,
        len(data.slots),
        data_at,
        len(content),
        plan.control,
    )
    owned = {own: (data_at + at, room) for own, (at, room) in data.owned.items()}
    return Encoded(b"".join((header, steps, relocs, slots, gap, content)), data.slots, owned)
