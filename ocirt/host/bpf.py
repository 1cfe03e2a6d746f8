"""Classic BPF for what libseccomp does not do, or not right: newer calls, and conditions on arguments; and its machine.

Written out here because libseccomp (2.5.4) forgets rules: where a system call has several with conditions, the first
condition of one that holds keeps it from trying the others, and some are lost altogether. tests/host/
test_seccomp_meaning.py, which found that, compares 200 random profiles with their meaning.

What is made here stands before libseccomp's program: it returns, or falls through to it.
"""

from __future__ import annotations

from struct import iter_unpack, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Alternative = tuple[Sequence[dict[str, Any]], int]  # the conditions that all have to hold, and what is returned

# include/uapi/linux/filter.h, bpf_common.h
LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x05, 0x06
EQUAL, GREATER, GREATER_OR_EQUAL, ANY_BIT = 0x15, 0x25, 0x35, 0x45
# struct seccomp_data (seccomp(2)), little endian
NR_AT, ARCH_AT, ARGS_AT = 0, 4, 16
FARTHEST = 255
"""How many instructions a condition can jump over."""
LOW = 0xFFFFFFFF


def instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """struct sock_filter; `yes` and `no`: how many instructions a test passes over."""
    return pack("<HBBI", code, yes, no, value)


def returning(value: int) -> bytes:
    return instruction(RETURN, value)


def when(code: int, value: int, body: bytes) -> bytes:
    """`body`, if the test holds; else what follows it."""
    count = len(body) // 8
    if count <= FARTHEST:
        return instruction(code, value, no=count) + body
    return instruction(code, value, yes=1) + instruction(JUMP, count) + body


def unless(code: int, value: int, body: bytes) -> bytes:
    count = len(body) // 8
    if count <= FARTHEST:
        return instruction(code, value, yes=count) + body
    return instruction(code, value, no=1) + instruction(JUMP, count) + body


def for_architecture(audit: int, body: bytes, *, x32: bool | None = None) -> bytes:
    """`body`, which finds the call's number loaded, for one architecture. x32: is bit 30 of it set? None: any."""
    if x32 is not None:
        body = (when if x32 else unless)(ANY_BIT, 1 << 30, body)
    return instruction(LOAD, ARCH_AT) + when(EQUAL, audit, instruction(LOAD, NR_AT) + body)


def calls(rules: Mapping[int, Sequence[Alternative]], default: int, *, width: int) -> bytes:
    """What is returned for these numbers: of the first alternative that holds, else the default.

    width: an argument's bits, 32 or 64.
    """
    code = b""
    for number, alternatives in rules.items():
        body = b""
        for conditions, value in alternatives:
            body += _alternative(conditions, value, width)
        code += when(EQUAL, number, body + returning(default))
    return code


def _alternative(conditions: Sequence[dict[str, Any]], value: int, width: int) -> bytes:
    code = returning(value)
    for condition in reversed(conditions):
        code = _condition(condition, len(code) // 8, width) + code
    return code


_COMPARISONS = {
    "SCMP_CMP_EQ": (False, False, EQUAL, True),
    "SCMP_CMP_NE": (True, True, EQUAL, False),
    "SCMP_CMP_GT": (True, False, GREATER, True),
    "SCMP_CMP_GE": (True, False, GREATER_OR_EQUAL, True),
    "SCMP_CMP_LE": (False, True, GREATER, False),
    "SCMP_CMP_LT": (False, True, GREATER_OR_EQUAL, False),
}
"""Operator → does it hold if the argument's high word is greater, or less, than the value's? If they are equal: a test
of the low words, and what it has to say."""


def _condition(condition: dict[str, Any], after: int, width: int) -> bytes:
    """Falls through if the condition holds, else passes over the `after` instructions that follow.

    Of an argument of 32 bits the high word counts as 0, whatever is in the register.
    """
    low_at = ARGS_AT + 8 * condition["index"]
    value = condition["value"]
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        wanted = condition.get("valueTwo", 0)
        tests = [(low_at, value & LOW, wanted & LOW)]
        if width == 64:
            tests.insert(0, (low_at + 4, value >> 32, wanted >> 32))
        elif wanted >> 32:
            return instruction(JUMP, after)
        code = b""
        for at, mask, want in reversed(tests):
            check = instruction(EQUAL, want, no=after + len(code) // 8)
            code = instruction(LOAD, at) + instruction(AND, mask) + check + code
        return code
    greater, less, test, answer = _COMPARISONS[condition["op"]]
    high, low = value >> 32, value & LOW
    yes, no = (0, after) if answer else (after, 0)
    code = instruction(LOAD, low_at) + instruction(test, low, yes=yes, no=no)
    if width == 32:
        return code if not high else b"" if less else instruction(JUMP, after)

    def to(holds: bool, ahead: int) -> int:
        """How far to jump from where `ahead` instructions of this condition still follow."""
        return ahead + (0 if holds else after)

    if greater == less:
        return instruction(LOAD, low_at + 4) + instruction(EQUAL, high, no=to(greater, 2)) + code
    return (
        instruction(LOAD, low_at + 4)
        + instruction(GREATER, high, yes=to(greater, 3))
        + instruction(EQUAL, high, no=to(less, 2))
        + code
    )


class Machine:
    """Runs a filter in place of the kernel. Raises ValueError for an instruction that no filter of ours has."""

    def __init__(self, program: bytes) -> None:
        self._program = list(iter_unpack("<HBBI", program))
        if any(code not in _KNOWN for code, _, _, _ in self._program):
            raise ValueError("not a filter that is made here")

    def run(self, data: bytes) -> int:
        """What the filter returns for a call; data: struct seccomp_data (seccomp(2))."""
        program, at, value = self._program, 0, 0
        while True:
            code, yes, no, operand = program[at]
            at += 1
            if code == LOAD:
                (value,) = unpack_from("<I", data, operand)
            elif code == AND:
                value &= operand
            elif code == JUMP:
                at += operand
            elif code == RETURN:
                return int(operand)
            elif code == EQUAL:
                at += yes if value == operand else no
            elif code == GREATER:
                at += yes if value > operand else no
            elif code == GREATER_OR_EQUAL:
                at += yes if value >= operand else no
            else:
                at += yes if value & operand else no


_KNOWN = frozenset((LOAD, AND, JUMP, RETURN, EQUAL, GREATER, GREATER_OR_EQUAL, ANY_BIT))
