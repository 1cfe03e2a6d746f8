"""A kernel in small: runs a seccomp filter over one system call (seccomp(2), struct seccomp_data; the BPF of
Documentation/networking/filter.rst)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import iter_unpack, pack, unpack_from

LOAD, LOAD_IMMEDIATE, AND, JUMP, RETURN = 0x20, 0x00, 0x54, 0x05, 0x06
EQUAL, GREATER, GREATER_OR_EQUAL, ANY_BIT = 0x15, 0x25, 0x35, 0x45
DATA_SIZE = 64


class Refused(Exception):
    """What the kernel would not load, or what runs off its end."""


def run(program: bytes, arch: int, number: int, args: Sequence[int] = ()) -> int:
    """What the filter returns for a call; arguments are 64 bits wide."""
    data = pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(iter_unpack("<HBBI", program))
    at = accumulator = 0
    while at < len(code):
        operation, yes, no, value = code[at]
        at += 1
        if operation == LOAD:
            if value % 4 or value > DATA_SIZE - 4:
                raise Refused(f"a load of {value}")
            (accumulator,) = unpack_from("<I", data, value)
        elif operation == LOAD_IMMEDIATE:
            accumulator = value
        elif operation == AND:
            accumulator &= value
        elif operation == JUMP:
            at += value
        elif operation == RETURN:
            return value
        else:
            tests = {
                EQUAL: accumulator == value,
                GREATER: accumulator > value,
                GREATER_OR_EQUAL: accumulator >= value,
                ANY_BIT: accumulator & value != 0,
            }
            if operation not in tests:
                raise Refused(f"the instruction {operation:#x}")
            at += yes if tests[operation] else no
    raise Refused("it runs off its end")
