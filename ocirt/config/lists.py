"""Lists of processors or memory nodes, such as "0-3,7" (cpuset(7), "List format")."""

from __future__ import annotations

from ocirt.errors import ConfigError

MOST_PROCESSORS = 8192
"""The highest CONFIG_NR_CPUS."""


def bits_of(text: str, pointer: str, what: str, most: int) -> int:
    """The set as bits. Raises ConfigError for what is no list, or has numbers that are not below `most`.

    what   "processors" or "memory nodes", for the message
    """
    bits = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers = [number.strip(" \t\n") for number in ((first, last) if dash else (first, first))]
        if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
            raise ConfigError(f'expected a list of {what} such as 0-3,7, got "{text}"', pointer=pointer)
        low, high = int(numbers[0]), int(numbers[1])
        if low > high:
            raise ConfigError(f'the range "{part.strip()}" ends before it begins', pointer=pointer)
        if high >= most:
            raise ConfigError(f"expected {what} below {most}, got {high}", pointer=pointer, hint="no kernel has more")
        bits |= (2 << high) - (1 << low)
    return bits
