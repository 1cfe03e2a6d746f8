"""What the flags of `update` mean: a table, and the numbers in it."""

from __future__ import annotations

from ocirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NUMBER, SIZE, TEXT = "number", "size", "text"
PLACES = {
    "blkio-weight": ("blockIO", "weight", NUMBER),
    "cpu-burst": ("cpu", "burst", NUMBER),
    "cpu-idle": ("cpu", "idle", NUMBER),
    "cpu-period": ("cpu", "period", NUMBER),
    "cpu-quota": ("cpu", "quota", NUMBER),
    "cpu-rt-period": ("cpu", "realtimePeriod", NUMBER),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", NUMBER),
    "cpu-share": ("cpu", "shares", NUMBER),
    "cpuset-cpus": ("cpu", "cpus", TEXT),
    "cpuset-mems": ("cpu", "mems", TEXT),
    "kernel-memory": ("memory", "kernel", SIZE),
    "kernel-memory-tcp": ("memory", "kernelTCP", SIZE),
    "memory": ("memory", "limit", SIZE),
    "memory-reservation": ("memory", "reservation", SIZE),
    "memory-swap": ("memory", "swap", SIZE),
    "pids-limit": ("pids", "limit", NUMBER),
}
"""Flag → where in linux.resources its value belongs, and how it is written."""
SCHEMATA = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema"}
"""Flag → property of linux.intelRdt."""
_UNITS = "bkmgtp"


def resources_of(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(the linux.resources object that the flags of `update` make, pointer in it → flag). Raises UsageError."""
    resources: dict[str, Any] = {}
    names: dict[str, str] = {}
    for flag, (section, name, kind) in PLACES.items():
        text = options[flag.replace("-", "_")]
        if text is None or text == "":
            continue
        value: str | int = text
        if kind != TEXT:
            value = (size_of if kind == SIZE else number_of)(text, f"--{flag}")
        resources.setdefault(section, {})[name] = value
        names[f"/{section}/{name}"] = f"--{flag}"
    return resources, names


def number_of(text: str, flag: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise UsageError(f'{flag}: expected a whole number, got "{text}"')
    return int(text)


def size_of(text: str, flag: str) -> int:
    """Bytes: "67108864", "64m", "1.5GiB", "-1" (no limit); units are powers of 1024, as runc has them."""
    if text == "-1":
        return -1
    word = text.strip().lower()
    number = word.rstrip(_UNITS + "i ")
    unit = word[len(number) :].strip()
    power = _UNITS.find(unit[:1]) if unit else 0
    whole, point, part = number.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and whole) or (point and not part):
        raise UsageError(f'{flag}: expected a size such as 64m, got "{text}"', hint="bytes, or with k, m, g or t")
    if unit not in ("", *(letter + end for letter in _UNITS for end in ("", "b", "ib")[: 1 if letter == "b" else 3])):
        raise UsageError(f'{flag}: unknown unit in "{text}"', hint="k, m, g or t: powers of 1024")
    factor: int = 1024**power
    return int(digits) * factor // int("1" + "0" * len(part))
