"""init's decoder under ASan and UBSan: it takes every real plan, refuses what is wrong, and survives everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from struct import pack_into, unpack_from

import pytest
from init.hosted import (
    NO_PATCHES,
    NOT_RELOCATABLE,
    REFUSED,
    REPLY_APPLIED,
    VALID,
    X86_64,
    Hosted,
    reply,
)
from plan.cases import CASES, compile_case

from ocirt.plan.encode import encode
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.wire import (
    HEADER,
    KIND_DATA,
    KIND_REG,
    MAX_PLAN,
    MSG_GO,
    MSG_PID,
    OP_EXPECT,
    PATCH,
    REPLY,
    SLOT,
    STEP,
)

# Where the fields are that the tests damage (wire.h).
SIZE_AT, STEPS_AT, RELOCS_AT, RELOCS, SLOTS_AT, SLOTS, DATA_AT, DATA_SIZE = 16, 20, 24, 28, 32, 36, 40, 44
OP, RESULT, ON_OK, ON_FAIL, ERRNOS, KINDS, FLAGS, RESERVED, ARGS = 0, 1, 4, 6, 8, 12, 14, 15, 16


def encoded(name: str = "default") -> bytearray:
    return bytearray(encode(compile_case(name).plan).content)


def u32(plan: bytearray, at: int) -> int:
    return int.from_bytes(plan[at : at + 4], "little")


def put(plan: bytearray, at: int, value: int, size: int = 4) -> None:
    plan[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def step_at(plan: bytearray, want: Callable[[tuple[int, ...]], bool] = lambda step: True, first: int = 0) -> int:
    """Where the first step is that is as wanted."""
    for index in range(first, u32(plan, STEPS_AT)):
        at = HEADER.size + STEP.size * index
        if want(STEP.unpack_from(plan, at)):
            return at
    raise AssertionError("no such step")


def has_kind(kind: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda step: step[6] & 3 == kind and step[0] != OP_EXPECT


def in_memory(step: tuple[int, ...]) -> bool:
    return step[0] == OP_EXPECT and step[6] == KIND_DATA


@pytest.mark.parametrize("name", CASES)
def test_every_real_plan_is_valid(hosted: Hosted, name: str) -> None:
    plan = compile_case(name).plan
    assert hosted.is_valid(encode(plan).content, MACHINES[plan.machine][0])


def test_a_plan_of_another_machine_is_refused(hosted: Hosted) -> None:
    assert hosted.judge([(bytes(encoded()), NO_PATCHES)], MACHINES["aarch64"][0]) == REFUSED


Damage = Callable[[bytearray], None]
WRONG: dict[str, Damage] = {
    "bad magic": lambda plan: put(plan, 0, 1),
    "another version": lambda plan: put(plan, 8, 2),
    "another machine": lambda plan: put(plan, 12, 3),
    "a size that is not its own": lambda plan: put(plan, SIZE_AT, len(plan) + 1),
    "no steps": lambda plan: put(plan, STEPS_AT, 0),
    "more steps than bytes": lambda plan: put(plan, STEPS_AT, 16000),
    "more steps than there may be": lambda plan: put(plan, STEPS_AT, 16385),
    "a number of steps that wraps around": lambda plan: put(plan, STEPS_AT, 0x4000001),
    "relocs at an odd place": lambda plan: put(plan, RELOCS_AT, u32(plan, RELOCS_AT) + 1),
    "relocs behind the end": lambda plan: put(plan, RELOCS_AT, len(plan)),
    "more relocs than bytes": lambda plan: put(plan, RELOCS, 0xFFFFFFFF),
    "relocs among the steps": lambda plan: put(plan, RELOCS_AT, HEADER.size),
    "relocs in the header": lambda plan: put(plan, RELOCS_AT, 0),
    "slots at an odd place": lambda plan: put(plan, SLOTS_AT, u32(plan, SLOTS_AT) + 2),
    "slots behind the end": lambda plan: put(plan, SLOTS_AT, 0xFFFFFFFC),
    "more slots than bytes": lambda plan: put(plan, SLOTS, 0x20000000),
    "slots among the relocs": lambda plan: put(plan, SLOTS_AT, u32(plan, RELOCS_AT)),
    "data at a place that is no multiple of 8": lambda plan: put(plan, DATA_AT, u32(plan, DATA_AT) + 4),
    "data behind the end": lambda plan: put(plan, DATA_AT, len(plan) + 8),
    "data that is longer than the plan": lambda plan: put(plan, DATA_SIZE, u32(plan, DATA_SIZE) + 1),
    "data that overlaps the slots": lambda plan: put(plan, DATA_AT, u32(plan, SLOTS_AT) // 8 * 8),
    "data that overlaps the steps": lambda plan: put(plan, DATA_AT, HEADER.size),
    "data that overlaps the header": lambda plan: put(plan, DATA_AT, 0),
    "no data": lambda plan: put(plan, DATA_SIZE, 0),
    "no NUL at the end": lambda plan: put(plan, len(plan) - 1, 1, 1),
    "a slot behind the data": lambda plan: put(plan, u32(plan, SLOTS_AT), u32(plan, DATA_SIZE) - 4000),
    "a slot with the last NUL in it": lambda plan: put(
        plan, u32(plan, SLOTS_AT) + 4, u32(plan, DATA_SIZE) - u32(plan, u32(plan, SLOTS_AT))
    ),
    "a slot whose end wraps around": lambda plan: put(plan, u32(plan, SLOTS_AT) + 4, 0xFFFFFFFF),
    "operation 0": lambda plan: put(plan, step_at(plan) + OP, 0, 1),
    "operation 9": lambda plan: put(plan, step_at(plan) + OP, 9, 1),
    "a wait at an address that the plan says": lambda plan: put(plan, step_at(plan) + OP, 8, 1),
    "a register 240": lambda plan: put(plan, step_at(plan) + RESULT, 240, 1),
    "a register 254": lambda plan: put(plan, step_at(plan) + RESULT, 254, 1),
    "a jump backwards": lambda plan: put(plan, HEADER.size + 5 * STEP.size + ON_OK, 3, 2),
    "a step that jumps to itself": lambda plan: put(plan, HEADER.size + 5 * STEP.size + ON_FAIL, 5, 2),
    "a jump behind the end": lambda plan: put(plan, step_at(plan) + ON_OK, u32(plan, STEPS_AT), 2),
    "a failure that jumps behind the end": lambda plan: put(plan, step_at(plan) + ON_FAIL, 0xFFFF, 2),
    "an unknown flag": lambda plan: put(plan, step_at(plan) + FLAGS, 2, 1),
    "something reserved": lambda plan: put(plan, step_at(plan) + RESERVED, 1, 1),
    "an argument of kind 3": lambda plan: put(plan, step_at(plan) + KINDS, 3, 2),
    "a seventh argument": lambda plan: put(plan, step_at(plan) + KINDS, 1 << 12, 2),
    "an argument behind the data": lambda plan: put(
        plan, step_at(plan, has_kind(KIND_DATA)) + ARGS, u32(plan, DATA_SIZE), 8
    ),
    "an argument far behind the data": lambda plan: put(plan, step_at(plan, has_kind(KIND_DATA)) + ARGS, -8, 8),
    "an argument from register 240": lambda plan: put(plan, step_at(plan, has_kind(KIND_REG)) + ARGS, 240, 8),
    "an argument from a register far away": lambda plan: put(
        plan, step_at(plan, has_kind(KIND_REG)) + ARGS, 1 << 32, 8
    ),
    "an expectation of 3 bytes": lambda plan: put(plan, step_at(plan, in_memory) + ARGS + 24, 3, 8),
    "an expectation that reads over the end": lambda plan: put(
        plan, step_at(plan, in_memory) + ARGS, u32(plan, DATA_SIZE) - 1, 8
    ),
    "an expectation with errno 0": lambda plan: put(plan, step_at(plan, in_memory) + ARGS + 32, 0, 8),
    "an expectation with errno 256": lambda plan: put(plan, step_at(plan, in_memory) + ARGS + 32, 256, 8),
    "an expectation of what lies at a pointer": lambda plan: put(plan, step_at(plan, in_memory) + KINDS, 5, 2),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_plan_is_refused(hosted: Hosted, what: str) -> None:
    plan = encoded()
    before = bytes(plan)
    WRONG[what](plan)
    assert bytes(plan) != before
    assert hosted.judge([(bytes(plan), NO_PATCHES)]) == REFUSED


def test_a_plan_that_is_cut_off_or_goes_on_is_refused(hosted: Hosted) -> None:
    whole = bytes(encoded("least"))
    cut = [(whole[:size], NO_PATCHES) for size in range(0, len(whole), 7)]
    assert set(hosted.judge([*cut, (whole + b"\0", NO_PATCHES)])) == {REFUSED}


def test_a_plan_that_is_too_large_is_refused(hosted: Hosted) -> None:
    plan = encoded("least") + bytearray(MAX_PLAN)
    put(plan, SIZE_AT, len(plan))
    assert hosted.judge([(bytes(plan), NO_PATCHES)]) == REFUSED


@pytest.mark.parametrize("where", ["odd", "behind", "to behind"])
def test_a_pointer_that_is_out_of_bounds_is_not_made(hosted: Hosted, where: str) -> None:
    plan = encoded()
    reloc = u32(plan, RELOCS_AT)
    if where == "odd":
        put(plan, reloc, u32(plan, reloc) + 4)
    elif where == "behind":
        put(plan, reloc, (u32(plan, DATA_SIZE) + 7) // 8 * 8)
    else:
        put(plan, u32(plan, DATA_AT) + u32(plan, reloc), u32(plan, DATA_SIZE), 8)
    assert hosted.judge([(bytes(plan), NO_PATCHES)]) == NOT_RELOCATABLE


# Replies.


def slot_of(plan: bytearray) -> tuple[int, int]:
    at, size = SLOT.unpack_from(plan, u32(plan, SLOTS_AT))
    return at, size


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 4095, 4096])
def test_a_reply_may_fill_its_slot(hosted: Hosted, length: int) -> None:
    plan = encoded()
    at, _ = slot_of(plan)
    assert hosted.judge([(bytes(plan), reply((at, b"x" * length)))]) == REPLY_APPLIED


def test_a_reply_may_fill_parts_of_a_slot(hosted: Hosted) -> None:
    plan = encoded()
    at, size = slot_of(plan)
    assert (
        hosted.judge([(bytes(plan), reply((at + 8, b"ab"), (at + size - 1, b"c"), (at + size, b"")))]) == REPLY_APPLIED
    )


def wrong_replies(at: int, size: int) -> dict[str, bytes]:
    good = reply((at, b"/home"))
    return {
        "nothing": b"",
        "half a head": good[:4],
        "another kind": REPLY.pack(MSG_PID, 0),
        "a byte before the slot": reply((at - 1, b"xx")),
        "a byte behind the slot": reply((at + size, b"x")),
        "over the end of the slot": reply((at + size - 3, b"abcdef")),
        "longer than the slot": reply((at, b"x" * (size + 1))),
        "at the start of the data": reply((0, b"x")),
        "far away": reply((0xFFFFFFFF, b"x")),
        "cut off in its content": good[:-4],
        "cut off in a patch's head": good[: REPLY.size + 3],
        "bytes at the end": good + bytes(4),
        "a patch too few": REPLY.pack(MSG_GO, 2) + good[REPLY.size :],
        "a length that wraps around": REPLY.pack(MSG_GO, 1) + PATCH.pack(at, 0xFFFFFFFF) + bytes(8),
        "very many patches": REPLY.pack(MSG_GO, 0xFFFFFFFF),
    }


@pytest.mark.parametrize("what", wrong_replies(64, 64))
def test_a_wrong_reply_is_refused(hosted: Hosted, what: str) -> None:
    plan = encoded()
    assert hosted.judge([(bytes(plan), wrong_replies(*slot_of(plan))[what])]) == VALID


# Everything else: it need not be refused, but it must do no harm.


def mutated(plan: bytearray, random_: random.Random) -> bytearray:
    """Some fields replaced by numbers that hurt."""
    plan = bytearray(plan)
    interesting = [0, 1, 2, 7, 8, 63, 64, 65, 0x7F, 0x80, 0xFF, 0xFFFF, len(plan) - 1, len(plan), len(plan) + 1]
    interesting += [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    areas = [(0, HEADER.size), (HEADER.size, u32(plan, RELOCS_AT)), (u32(plan, RELOCS_AT), u32(plan, DATA_AT))]
    for _ in range(random_.randint(1, 4)):
        start, end = random_.choice([*areas, (0, len(plan))])
        size = random_.choice([1, 2, 4, 8])
        at = random_.randrange(start, max(start + 1, end - size)) // size * size
        value = random_.choice([*interesting, random_.getrandbits(64), *unpack_from("<Q", plan, at // 8 * 8)])
        if size == 8:
            pack_into("<Q", plan, at, value & (1 << 64) - 1)
        else:
            put(plan, at, value + random_.choice([0, 0, 1, -1]), size)
    return plan[: random_.randrange(len(plan))] if random_.random() < 0.05 else plan


def mutated_reply(good: bytes, random_: random.Random) -> bytes:
    content = bytearray(good)
    for _ in range(random_.randint(0, 3)):
        content[random_.randrange(len(content))] = random_.choice([0, 1, 0x7F, 0xFF, random_.getrandbits(8)])
    return bytes(content[: random_.randrange(len(content))] if random_.random() < 0.2 else content)


@pytest.mark.parametrize("name", ["least", "limits", "user"])
def test_no_mutation_of_a_plan_or_a_reply_trips_a_sanitizer(hosted: Hosted, name: str) -> None:
    random_ = random.Random(name)
    plan = encoded(name)
    good = reply((slot_of(plan)[0], b"/root"))
    records = [(bytes(mutated(plan, random_)), mutated_reply(good, random_)) for _ in range(1500)]
    verdicts = hosted.judge(records)
    assert len(verdicts) == len(records)
    # The mutations are worth something only if they reach every part of the decoder.
    assert set(verdicts) >= {REFUSED, VALID, REPLY_APPLIED}


def test_the_verdict_depends_on_nothing_but_the_plan(hosted: Hosted) -> None:
    plan = bytes(encoded("least"))
    assert hosted.judge([(plan, NO_PATCHES)] * 3, X86_64) == REPLY_APPLIED * 3
