"""linux.resources.unified → unit properties, for the files that systemd writes itself, and whose values it would undo.

The kernel says what is wrong with a value, when its file is written: here it is only left out.
"""

from __future__ import annotations

from ocirt.cgroups.systemd.properties import (
    ALLOWED_CPUS,
    IDLE,
    INFINITY,
    RESOURCES,
    ZSWAP_MAX,
    Property,
    disk,
    mask,
    quota_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = {
    # file → property and the version that brought it
    "memory.min": ("MemoryMin", 0),
    "memory.low": ("MemoryLow", 0),
    "memory.high": ("MemoryHigh", 0),
    "memory.max": ("MemoryMax", 0),
    "memory.swap.max": ("MemorySwapMax", 0),
    "memory.zswap.max": ("MemoryZSwapMax", ZSWAP_MAX),
}
_IO_KEYS = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}


def properties_of(unified: dict[str, str], version: int) -> list[Property]:
    """`version`: systemd's."""
    found: list[Property] = []
    for key, text in unified.items():
        pointer = f"{RESOURCES}/unified/{key.replace('~', '~0').replace('/', '~1')}"
        try:
            if key in _BYTES:
                name, since = _BYTES[key]
                if version >= since:
                    found.append(Property(name, "t", _number(text), pointer))
            elif convert := _FILES.get(key):
                found += convert(text.strip(), version, pointer)
        except ValueError:
            continue
    if (unified.get("cpu.idle") or "").strip() == "1":  # whose weight cannot be changed
        found = [one for one in found if one.name != "CPUWeight" or one.value == 0]
    return found


def _number(text: str) -> int:
    """Bytes, with the suffixes that the kernel takes (memparse)."""
    text = text.strip()
    if text == "max":
        return INFINITY
    if text and (power := "KMGTPE".find(text[-1].upper())) >= 0:
        return int(text[:-1], 0) << 10 * (power + 1)
    return int(text, 0)


def _tasks(text: str, version: int, pointer: str) -> list[Property]:
    return [Property("TasksMax", "t", INFINITY if text == "max" else max(int(text), 1), pointer)]


def _quota(text: str, version: int, pointer: str) -> list[Property]:
    quota, _, period = text.partition(" ")
    return quota_of(0 if quota == "max" else int(quota), int(period or 0), version, pointer)


def _weight(text: str, version: int, pointer: str) -> list[Property]:
    return [Property("CPUWeight", "t", int(text), pointer)]


def _idle(text: str, version: int, pointer: str) -> list[Property]:
    return [Property("CPUWeight", "t", 0, pointer)] if text == "1" and version >= IDLE else []


def _allowed(name: str) -> Callable[[str, int, str], list[Property]]:
    def convert(text: str, version: int, pointer: str) -> list[Property]:
        return [Property(name, "ay", mask(text), pointer)] if version >= ALLOWED_CPUS else []

    return convert


def _io_weight(text: str, version: int, pointer: str) -> list[Property]:
    """ "200", "default 200" and "8:0 300", a line each."""
    found, devices = [], []
    for line in text.splitlines():
        where, _, weight = line.strip().rpartition(" ")
        if where in ("", "default"):
            found.append(Property("IOWeight", "t", int(weight), pointer))
        elif path := _disk(where):
            devices.append((path, int(weight)))
    return found + ([Property("IODeviceWeight", "a(st)", devices, pointer)] if devices else [])


def _io_max(text: str, version: int, pointer: str) -> list[Property]:
    """ "8:0 rbps=1048576 wiops=max", a line for each device."""
    limits: dict[str, list[tuple[str, int]]] = {}
    for line in text.splitlines():
        where, *pairs = line.split() or [""]
        path = _disk(where) if where else ""
        for pair in pairs if path else ():
            key, _, value = pair.partition("=")
            limits.setdefault(_IO_KEYS[key], []).append((path, _number(value)))
    return [Property(name, "a(st)", devices, pointer) for name, devices in limits.items()]


def _disk(numbers: str) -> str:
    major, _, minor = numbers.partition(":")
    return disk(int(major), int(minor))


_FILES: dict[str, Callable[[str, int, str], list[Property]]] = {
    "pids.max": _tasks,
    "cpu.max": _quota,
    "cpu.weight": _weight,
    "cpu.idle": _idle,
    "cpuset.cpus": _allowed("AllowedCPUs"),
    "cpuset.mems": _allowed("AllowedMemoryNodes"),
    "io.weight": _io_weight,
    "io.max": _io_max,
}
