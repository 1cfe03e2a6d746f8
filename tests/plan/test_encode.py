"""encode: what comes out is what went in, read back by a decoder that is written here from the drawing in wire.h."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from plan.cases import CASES, compile_case

from ocirt.errors import PlanError
from ocirt.plan.encode import Encoded, encode
from ocirt.plan.step import Buffer, Field, Label, Own, Plan, Reg, Slot, Step, Vector
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.wire import (
    HEADER,
    KIND_DATA,
    KIND_IMM,
    KIND_REG,
    MAGIC,
    MAX_STEPS,
    NO_REGISTER,
    OP_CALL,
    REGISTERS,
    SLOT,
    STEP,
    VERSION,
)

HEADER_FIELDS = "magic version machine size steps relocs_at relocs slots_at slots data_at data_size control".split()
MASK64 = 0xFFFFFFFFFFFFFFFF


class Read:
    """A plan's bytes, taken apart."""

    def __init__(self, encoded: Encoded) -> None:
        content = encoded.content
        self.header = dict(zip(HEADER_FIELDS, HEADER.unpack_from(content), strict=True))
        head = self.header
        self.steps = [STEP.unpack_from(content, HEADER.size + STEP.size * index) for index in range(head["steps"])]
        at = head["relocs_at"]
        self.relocs = [int.from_bytes(content[at + 4 * i : at + 4 * i + 4], "little") for i in range(head["relocs"])]
        self.slots = [SLOT.unpack_from(content, head["slots_at"] + SLOT.size * i) for i in range(head["slots"])]
        self.data = content[head["data_at"] : head["data_at"] + head["data_size"]]

    def string(self, at: int) -> bytes:
        return self.data[at : self.data.index(b"\0", at)]

    def vector(self, at: int) -> list[int]:
        """The offsets in a NULL-terminated array; each has to be among the relocs."""
        offsets = []
        while offset := int.from_bytes(self.data[at : at + 8], "little"):
            assert at in self.relocs
            offsets.append(offset)
            at += 8
        assert at not in self.relocs
        return offsets


def check_argument(read: Read, encoded: Encoded, arg: Any, kind: int, value: int) -> None:
    match arg:
        case int():
            assert (kind, value) == (KIND_IMM, arg & MASK64)
        case Reg():
            assert (kind, value) == (KIND_REG, arg.number)
        case str():
            assert kind == KIND_DATA
            assert read.string(value) == arg.encode()
        case Own():
            assert kind == KIND_DATA
            assert read.string(value) == arg.content.encode()
        case bytes():
            assert kind == KIND_DATA
            assert read.data[value : value + len(arg)] == arg
        case Buffer():
            assert kind == KIND_DATA
            assert read.data[value : value + arg.size] == bytes(arg.size)
        case Field():
            assert kind == KIND_DATA
            assert value + arg.buffer.size - arg.at <= len(read.data)
        case Vector():
            assert kind == KIND_DATA
            offsets = read.vector(value)
            assert len(offsets) == len(arg.items)
            for offset, item in zip(offsets, arg.items, strict=True):
                if isinstance(item, Slot):
                    assert read.string(offset) == item.prefix.encode()
                    assert encoded.slots[item] == (offset + len(item.prefix), item.size)
                else:
                    assert read.string(offset) == item.encode()


def check_step(read: Read, encoded: Encoded, step: Step, fields: tuple[Any, ...], numbers: dict[str, int]) -> None:
    op, result, number, ok, fail, errnos, kinds, flags, *values = fields
    assert op == step.op
    assert result == (step.result.number if step.result else NO_REGISTER)
    assert number == (numbers[step.call] if step.op == OP_CALL else 0)
    assert ok == (step.ok.index if step.ok else 0)
    assert fail == (step.fail.index if step.fail else 0)
    assert errnos.rstrip(b"\0") == bytes(step.errnos)
    assert flags == int(step.log)
    for place, value in enumerate(values):
        arg = step.args[place] if place < len(step.args) else 0
        check_argument(read, encoded, arg, kinds >> 2 * place & 3, value)


@pytest.mark.parametrize("name", CASES)
def test_a_plan_reads_back_as_it_was_written(name: str) -> None:
    plan = compile_case(name).plan
    encoded = encode(plan)
    read = Read(encoded)
    machine, numbers = MACHINES[plan.machine]
    assert (read.header["magic"], read.header["version"]) == (MAGIC, VERSION)
    assert (read.header["machine"], read.header["control"]) == (machine, plan.control)
    assert read.header["size"] == len(encoded.content)
    assert len(read.steps) == len(plan.steps)
    for step, fields in zip(plan.steps, read.steps, strict=True):
        check_step(read, encoded, step, fields, numbers)


@pytest.mark.parametrize("name", CASES)
def test_areas_follow_each_other_and_data_ends_with_a_nul(name: str) -> None:
    encoded = encode(compile_case(name).plan)
    head = Read(encoded).header
    ends = [
        0,
        HEADER.size,
        HEADER.size + STEP.size * head["steps"],
        head["relocs_at"] + 4 * head["relocs"],
        head["slots_at"] + SLOT.size * head["slots"],
        head["data_at"] + head["data_size"],
    ]
    starts = [0, HEADER.size, head["relocs_at"], head["slots_at"], head["data_at"], len(encoded.content)]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))
    assert head["data_at"] % 8 == 0
    assert encoded.content[-1] == 0


def new_plan() -> Plan:
    return Plan("x86_64", control=3)


def test_encoding_is_pure() -> None:
    plan = compile_case("default").plan
    assert encode(plan).content == encode(plan).content


def test_the_same_string_is_stored_once_and_a_buffer_never_shared() -> None:
    plan = new_plan()
    one, other = Buffer(16), Buffer(16)
    for buffer in (one, one, other):
        plan.call("getcwd", buffer, 16)
    plan.call("chdir", "/same")
    plan.call("chdir", "/same")
    places = [fields[8] for fields in Read(encode(plan)).steps]
    assert places[0] == places[1]
    assert abs(places[1] - places[2]) >= 16
    assert places[3] == places[4]


def test_a_slot_is_in_nothing_that_another_step_reads() -> None:
    """Also when two slots and a string have the same text."""
    plan = new_plan()
    first, second = Slot("HOME=", 32), Slot("HOME=", 32)
    plan.call("chdir", "HOME=")
    plan.call("execve", "/x", Vector(["HOME="]), Vector([first, second]))
    encoded = encode(plan)
    areas = sorted((at - 5, at + size + 1) for at, size in encoded.slots.values())
    chdir = Read(encoded).steps[0][8]
    areas.append((chdir, chdir + 6))
    areas.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(areas))


def test_what_is_a_containers_own_is_in_nothing_that_another_step_reads() -> None:
    """Also when a string has the same text: of another container only the one changes."""
    plan = new_plan()
    own = plan.own("name", "a-name")
    assert plan.own("name", "a-name") is own
    plan.call("chdir", "a-name")
    plan.call("keyctl", 1, own)
    plan.call("keyctl", 1, own)
    for name in ("other", "shorter", ""):
        read = Read(encode(plan).of_another({own: name[:6]}))
        assert [read.string(read.steps[index][place]) for index, place in ((0, 8), (1, 9), (2, 9))] == [
            b"a-name",
            name[:6].encode(),
            name[:6].encode(),
        ]


@pytest.mark.parametrize("name", ["too-long", "nu\0l"])
def test_a_name_that_does_not_fit_is_refused(name: str) -> None:
    plan = new_plan()
    own = plan.own("name", "a-name")
    plan.call("keyctl", 1, own)
    with pytest.raises(PlanError):
        encode(plan).of_another({own: name})


def test_one_name_stands_for_one_string() -> None:
    plan = new_plan()
    plan.own("name", "a-name")
    with pytest.raises(PlanError):
        plan.own("name", "another")


def test_a_negative_number_is_the_kernels_two_complement() -> None:
    plan = new_plan()
    plan.call("openat", -100, "/", 0)
    assert Read(encode(plan)).steps[0][8] == MASK64 - 99


def test_jumps_and_errnos_are_numbers_of_steps_and_bytes() -> None:
    plan = new_plan()
    label = Label()
    plan.call("chdir", "/a", ignore=(2, 20), fail=label)
    plan.call("chdir", "/b")
    plan.place(label)
    plan.call("chdir", "/c")
    _, _, _, ok, fail, errnos, *_ = Read(encode(plan)).steps[0]
    assert (ok, fail, errnos) == (0, 2, b"\x02\x14\0\0")


def test_too_many_steps_are_refused() -> None:
    plan = new_plan()
    for _ in range(MAX_STEPS + 1):
        plan.call("setsid")
    with pytest.raises(PlanError, match="steps are more than"):
        encode(plan)


def test_too_much_data_is_refused() -> None:
    plan = new_plan()
    plan.call("getcwd", Buffer(17 << 20), 1)
    with pytest.raises(PlanError, match="is larger than"):
        encode(plan)


def test_an_argument_of_no_known_type_is_refused() -> None:
    plan = new_plan()
    plan.call("chdir", 1.5)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="float"):
        encode(plan)


def test_there_are_240_registers_and_closed_ones_are_used_again() -> None:
    plan = new_plan()
    registers = [plan.register(str(index)) for index in range(REGISTERS)]
    with pytest.raises(PlanError, match="registers"):
        plan.register("one too many")
    plan.close(registers[5])
    assert plan.register("again").number == 5
