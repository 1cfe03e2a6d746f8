"""A plan as the bytes that ocirt-init walks (init/wire.h). Pure: the same plan gives the same bytes."""

from __future__ import annotations

from _struct import pack

from ocirt.errors import PlanError
from ocirt.plan.step import Buffer, Field, Reg, Slot, Vector
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.wire import (
    HEADER,
    KIND_DATA,
    KIND_REG,
    MAGIC,
    MAX_PLAN,
    MAX_STEPS,
    NO_REGISTER,
    OP_CALL,
    SLOT,
    STEP,
    VERSION,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan

_ERRNOS: dict[tuple[int, ...], bytes] = {}


class Data:
    """The data area: every distinct string and structure once, aligned to 8."""

    def __init__(self) -> None:
        self.bytes = bytearray(8)
        self.relocs: list[int] = []
        self.slots: dict[Slot, tuple[int, int]] = {}
        self._known: dict[bytes, int] = {}
        self._buffers: dict[Buffer, int] = {}

    def add(self, content: bytes) -> int:
        at = self._known.get(content)
        if at is None:
            at = self._known[content] = self._append(content)
        return at

    def _append(self, content: bytes) -> int:
        area = self.bytes
        at = len(area)
        area += content
        area += bytes(-len(area) % 8)
        return at

    def buffer(self, buffer: Buffer) -> int:
        at = self._buffers.get(buffer)
        if at is None:
            at = self._buffers[buffer] = self._append(bytes(buffer.size))
        return at

    def slot(self, slot: Slot) -> int:
        prefix = slot.prefix.encode("utf-8", "surrogateescape")
        at = self._append(prefix + bytes(slot.size + 1))
        self.slots[slot] = (at + len(prefix), slot.size)
        return at

    def vector(self, vector: Vector) -> int:
        places = [
            self.slot(item) if isinstance(item, Slot) else self.add(item.encode("utf-8", "surrogateescape") + b"\0")
            for item in vector.items
        ]
        at = self._append(pack(f"<{len(places) + 1}Q", *places, 0))
        self.relocs += range(at, at + 8 * len(places), 8)
        return at


class Encoded:
    """The plan's bytes, and where in its data a reply may write: slot → (offset, size)."""

    __slots__ = ("content", "slots")

    def __init__(self, content: bytes, slots: dict[Slot, tuple[int, int]]) -> None:
        self.content = content
        self.slots = slots


def encode(plan: Plan) -> Encoded:
    """Raises PlanError if the plan is beyond the format's bounds."""
    machine, numbers = MACHINES[plan.machine]
    data = Data()
    steps = bytearray()
    for step in plan.steps:
        values = [0, 0, 0, 0, 0, 0]
        kinds = 0
        for i, arg in enumerate(step.args):
            kind = type(arg)
            if kind is int:
                values[i] = arg if arg >= 0 else arg & 0xFFFFFFFFFFFFFFFF  # type: ignore[operator,assignment]
            elif kind is Reg:
                values[i] = arg.number  # type: ignore[union-attr]
                kinds |= KIND_REG << 2 * i
            else:
                values[i] = _place(data, arg)
                kinds |= KIND_DATA << 2 * i
        ok, fail = step.ok, step.fail
        steps += STEP.pack(
            step.op,
            step.result.number if step.result else NO_REGISTER,
            numbers[step.call] if step.op == OP_CALL else 0,
            ok.index if ok else 0,
            fail.index if fail else 0,
            _errnos(step.errnos),
            kinds,
            1 if step.log else 0,
            *values,
        )
    if len(plan.steps) > MAX_STEPS:
        raise PlanError(f"{len(plan.steps)} steps are more than {MAX_STEPS}")
    return _assemble(plan, machine, steps, data)


def _place(data: Data, arg: object) -> int:
    if isinstance(arg, str):
        return data.add(arg.encode("utf-8", "surrogateescape") + b"\0")
    if isinstance(arg, bytes):
        return data.add(arg)
    if isinstance(arg, Buffer):
        return data.buffer(arg)
    if isinstance(arg, Field):
        return data.buffer(arg.buffer) + arg.at
    if isinstance(arg, Vector):
        return data.vector(arg)
    raise PlanError(f"a step cannot have a {type(arg).__name__} as argument")


def _errnos(errnos: tuple[int, ...]) -> bytes:
    packed = _ERRNOS.get(errnos)
    if packed is None:
        packed = _ERRNOS[errnos] = bytes(errnos)
    return packed


def _assemble(plan: Plan, machine: int, steps: bytearray, data: Data) -> Encoded:
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
    return Encoded(b"".join((header, steps, relocs, slots, gap, content)), data.slots)
