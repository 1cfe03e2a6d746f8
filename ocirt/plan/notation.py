"""How single values are written: strings as in C, registers, numbers by the kernel's own names.

The names are those of `kernel`, looked up by their prefix, so that a new constant there is known here at once.
"""

from __future__ import annotations

from errno import errorcode

from ocirt.plan import kernel
from ocirt.plan.step import Buffer, Field, Own, Program, Reg, Slot, Vector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ocirt.plan.step import Argument

    # (the argument, all arguments of its step) → its text
    Decoder: TypeAlias = Callable[[Argument, tuple[Argument, ...]], str]


def constants(*prefixes: str, without: tuple[str, ...] = ()) -> dict[int, str]:
    """value → name of the kernel's integer constants that begin so."""
    found: dict[int, str] = {}
    for name, value in vars(kernel).items():
        if name.startswith(prefixes) and not (without and name.startswith(without)) and isinstance(value, int):
            found.setdefault(value, name)
    return found


def quoted(text: str) -> str:
    """A string as C writes it, control characters and what is not UTF-8 escaped."""
    shown = []
    for letter in text:
        code = ord(letter)
        if letter in '"\\':
            shown.append("\\" + letter)
        elif letter in "\n\t":
            shown.append("\\n" if letter == "\n" else "\\t")
        elif code < 32 or code == 127:
            shown.append(f"\\x{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape keeps it
            shown.append(f"\\x{code - 0xDC00:02x}")
        else:
            shown.append(letter if letter.isprintable() else f"\\u{code:04x}")
    return '"' + "".join(shown) + '"'


def register(reg: Reg) -> str:
    """A register's name as one word."""
    return "$" + reg.name.replace(" ", "-")


def plain(value: Argument, args: tuple[Argument, ...] = ()) -> str:
    """An argument of no special meaning."""
    if isinstance(value, Reg):
        return register(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Own):
        return quoted(value.content)
    if isinstance(value, Vector):
        return "[" + ", ".join(plain(item) for item in value.items) + "]"
    if isinstance(value, Slot):
        return f'{quoted(value.prefix)[:-1]}…" (the host fills it in)'
    if isinstance(value, Buffer):
        return f"buffer[{value.size}]"
    if isinstance(value, Field):
        return _field(value)
    if isinstance(value, Program):
        return f"program[{len(value.instructions) // 8} instructions]"
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value)


def pointer(value: Argument, args: tuple[Argument, ...]) -> str:
    return "NULL" if type(value) is int and value == 0 else plain(value)


def _field(field: Field) -> str:
    if field.buffer.size == kernel.STATX_SIZE:
        for name in ("mode", "rdev_major", "rdev_minor"):
            if field.at == getattr(kernel, f"STATX_{name.upper()}_AT"):
                return "stx_" + name
    return f"buffer[{field.at}]"


def errno_name(number: int) -> str:
    return errorcode.get(number, str(number))


def bits(value: int, names: dict[int, str], zero: str = "0") -> str:
    """A flag word: the names of its bits, and in hexadecimal what has none."""
    shown = []
    for bit, name in names.items():
        if bit > 0 and bit & bit - 1 == 0 and value & bit:
            shown.append(name)
            value &= ~bit
    if value:
        shown.append(hex(value))
    return "|".join(shown) or zero


def word(names: dict[int, str], zero: str = "0") -> Decoder:
    """For a flag word."""

    def decode(value: Argument, args: tuple[Argument, ...]) -> str:
        return bits(value, names, zero) if type(value) is int else plain(value)

    return decode


def one(names: dict[int, str]) -> Decoder:
    """For a number that has one of these names."""

    def decode(value: Argument, args: tuple[Argument, ...]) -> str:
        return names.get(value, str(value)) if type(value) is int else plain(value)

    return decode


def number(shown: Callable[[int], str]) -> Decoder:
    """For a number, in words of its own."""
    return lambda value, args: shown(value) if type(value) is int else plain(value)


def structure(shown: Callable[[bytes], str], size: int = 0) -> Decoder:
    """For bytes, of this size if one is given."""

    def decode(value: Argument, args: tuple[Argument, ...]) -> str:
        if isinstance(value, bytes) and size in (0, len(value)):
            return shown(value)
        return pointer(value, args)

    return decode
