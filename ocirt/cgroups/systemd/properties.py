"""linux.resources and annotations → a unit's properties (systemd.resource-control(5), org.freedesktop.systemd1(5)).

The cgroup's files have the values already, written by us. systemd is told too, so that `systemctl show` says the same,
and because it writes what it knows again at a daemon-reload. What it has no property for stays as we wrote it.
"""

from __future__ import annotations

from ocirt.cgroups import block_io, cpu
from ocirt.cgroups.layout import read
from ocirt.cgroups.memory import swap_max
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

RESOURCES = "/linux/resources"
ANNOTATION = "org.systemd.property."
INFINITY = 2**64 - 1
QUOTA_STEP = 10_000
"""Microseconds in a second: CPUQuota= is a whole percentage when it is read again."""
CPU_PERIOD = 100_000

# The versions of systemd that brought a property, or a value of one.
COLLECT_MODE = 236
QUOTA_PERIOD = 242
ALLOWED_CPUS = 244
IDLE = 252
OOM_POLICY = 253
ZSWAP_MAX = 253

_OURS = frozenset(("PIDs", "Slice", "Delegate", "DelegateSubgroup"))
"""Properties that decide what the unit is: the driver's own business."""


class Property:
    """One property, as StartTransientUnit and SetUnitProperties take it, and the pointer of what it is due to."""

    __slots__ = ("name", "pointer", "signature", "value")

    def __init__(self, name: str, signature: str, value: Any, pointer: str = "/linux/cgroupsPath") -> None:
        self.name = name
        self.signature = signature
        self.value = value
        self.pointer = pointer

    def __str__(self) -> str:
        value = self.value
        if value == INFINITY:
            value = "infinity"
        elif isinstance(value, bytes):
            value = _numbers(value)
        elif self.signature == "b":
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = " ".join(" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
        return f"{self.name}={value}"

    def message(self) -> tuple[str, tuple[str, Any]]:
        """As an element of a(sv)."""
        return self.name, (self.signature, self.value)


# Annotations


def annotated(annotations: dict[str, str]) -> list[Property]:
    """Those whose key begins with "org.systemd.property."; raises ConfigError for one that is not understood.

    A value in seconds, named …Sec as in unit files, becomes …USec in microseconds, as D-Bus has it and runc does it.
    """
    from ocirt.cgroups.systemd.gvariant import Malformed, parse

    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        pointer = f"/annotations/{key.replace('~', '~0').replace('/', '~1')}"
        name = key[len(ANNOTATION) :]
        if not (name.isascii() and name.isalnum()):
            raise ConfigError(f'"{name}" is not the name of a property', pointer=pointer, hint="letters and digits")
        if name in _OURS:
            raise ConfigError(f"{name} is set by ocirt itself", pointer=pointer, hint="see /linux/cgroupsPath")
        try:
            signature, value = parse(text)
        except Malformed as error:
            hint = "GVariant text, such as 'a word', uint64 5, true or ['a', 'b']"
            raise ConfigError(f"{text!r}: {error}", pointer=pointer, hint=hint) from None
        if name.endswith("Sec") and name[-4:-3].islower():
            name, signature, value = _in_microseconds(name, signature, value, pointer)
        found.append(Property(name, signature, value, pointer))
    return found


def _in_microseconds(name: str, signature: str, value: Any, pointer: str) -> tuple[str, str, int]:
    if signature not in ("y", "n", "q", "i", "u", "x", "t", "d"):
        raise ConfigError(f"expected a number of seconds, got {value!r}", pointer=pointer)
    if not 0 <= value <= INFINITY // 1_000_000:  # nor a NaN
        raise ConfigError(f"{value} seconds is out of range", pointer=pointer)
    return f"{name[:-3]}USec", "t", int(value * 1_000_000)


# Limits


def early(resources: dict[str, Any], *, v2: bool, version: int) -> list[Property]:
    """What counts from the unit's start. `v2`: is the host pure cgroup v2? On v1 systemd has no cpuset."""
    found: list[Property] = []
    times = resources.get("cpu") or {}
    if v2 and version >= ALLOWED_CPUS:
        for name, key in (("AllowedCPUs", "cpus"), ("AllowedMemoryNodes", "mems")):
            try:
                if times.get(key):
                    found.append(Property(name, "ay", mask(times[key]), f"{RESOURCES}/cpu/{key}"))
            except ValueError:
                continue  # the kernel says why, when we write it
    group = (resources.get("unified") or {}).get("memory.oom.group", "").strip()
    if v2 and version >= OOM_POLICY and group in ("0", "1"):
        policy = "kill" if group == "1" else "continue"
        found.append(Property("OOMPolicy", "s", policy, f"{RESOURCES}/unified/memory.oom.group"))
    return found


def late(resources: dict[str, Any], *, v2: bool, version: int) -> list[Property]:
    """What is put in force when init only waits, and is changed by `update`. Of two for one property the last
    counts."""
    found = [
        *_memory(resources.get("memory") or {}, v2),
        *_cpu(resources.get("cpu") or {}, v2, version),
        *_pids((resources.get("pids") or {}).get("limit"), f"{RESOURCES}/pids/limit"),
        *_block_io(resources.get("blockIO") or {}, v2),
    ]
    if v2:
        from ocirt.cgroups.systemd.unified import properties_of

        found += properties_of(resources.get("unified") or {}, version)
    return list({one.name: one for one in found}.values())


def _memory(memory: dict[str, Any], v2: bool) -> list[Property]:
    pointer = f"{RESOURCES}/memory"
    found = []
    if limit := memory.get("limit"):
        found.append(Property("MemoryMax" if v2 else "MemoryLimit", "t", bytes_of(limit), pointer + "/limit"))
    if not v2:
        return found
    if reservation := memory.get("reservation"):
        found.append(Property("MemoryLow", "t", bytes_of(reservation), pointer + "/reservation"))
    if (swap := swap_max(memory)) is not None:
        found.append(Property("MemorySwapMax", "t", bytes_of(swap), pointer + "/swap"))
    return found


def bytes_of(value: int | str) -> int:
    """-1 and "max" are infinity."""
    return INFINITY if value in (-1, "max") else int(value)


def _cpu(times: dict[str, Any], v2: bool, version: int) -> list[Property]:
    pointer = f"{RESOURCES}/cpu"
    found = []
    if v2 and times.get("idle") == 1:
        if version >= IDLE:
            found.append(Property("CPUWeight", "t", 0, pointer + "/idle"))
    elif shares := times.get("shares"):
        name, value = ("CPUWeight", cpu.weight(shares)) if v2 else ("CPUShares", shares)
        found.append(Property(name, "t", value, pointer + "/shares"))
    quota, period = times.get("quota") or 0, times.get("period") or 0
    if quota or period:
        found += quota_of(quota, period, version, f"{pointer}/{'quota' if quota else 'period'}")
    return found


def quota_of(quota: int, period: int, version: int, pointer: str) -> list[Property]:
    """Of each second so many microseconds, rounded up to what systemd keeps. A quota of 0 or less is none."""
    found = []
    if period and version >= QUOTA_PERIOD:
        found.append(Property("CPUQuotaPeriodUSec", "t", period, pointer))
    value = INFINITY
    if quota > 0:
        value = -(-quota * 1_000_000 // (period or CPU_PERIOD))
        value = -(-value // QUOTA_STEP) * QUOTA_STEP
    found.append(Property("CPUQuotaPerSecUSec", "t", value, pointer))
    return found


def _pids(limit: int | None, pointer: str) -> list[Property]:
    """systemd takes no 0; one process is what a container with 0 has anyway, its first."""
    if limit is None:
        return []
    return [Property("TasksMax", "t", INFINITY if limit < 0 else max(limit, 1), pointer)]


_THROTTLES = (
    # property of blockIO, unit property on v2, on v1: there systemd knows bytes only
    ("throttleReadBpsDevice", "IOReadBandwidthMax", "BlockIOReadBandwidth"),
    ("throttleWriteBpsDevice", "IOWriteBandwidthMax", "BlockIOWriteBandwidth"),
    ("throttleReadIOPSDevice", "IOReadIOPSMax", ""),
    ("throttleWriteIOPSDevice", "IOWriteIOPSMax", ""),
)


def _block_io(block: dict[str, Any], v2: bool) -> list[Property]:
    pointer = block_io.POINTER
    found = []
    if weight := block.get("weight"):
        value = block_io.io_weight(weight) if v2 else weight
        found.append(Property("IOWeight" if v2 else "BlockIOWeight", "t", value, pointer + "/weight"))
    weights = [
        (path, block_io.io_weight(weight) if v2 else weight)
        for device in block.get("weightDevice") or ()
        if (weight := device.get("weight")) and (path := disk(device["major"], device["minor"]))
    ]
    if weights:
        found.append(Property(f"{'' if v2 else 'Block'}IODeviceWeight", "a(st)", weights, pointer + "/weightDevice"))
    for key, on_v2, on_v1 in _THROTTLES:
        name = on_v2 if v2 else on_v1
        rates = [
            (path, device["rate"] or INFINITY)
            for device in block.get(key) or ()
            if name and (path := disk(device["major"], device["minor"]))
        ]
        if rates:
            found.append(Property(name, "a(st)", rates, f"{pointer}/{key}"))
    return found


def disk(major: int, minor: int) -> str:
    """The node of a block device, as systemd wants to have it named; "" if it has none here."""
    try:
        lines = read(f"/sys/dev/block/{major}:{minor}/uevent").splitlines()
    except OSError:
        return ""
    return next((f"/dev/{line[8:]}" for line in lines if line.startswith("DEVNAME=")), "")


def mask(ranges: str) -> bytes:
    """ "0-2,9" → b"\\x07\\x02", the least byte first. Raises ValueError for what is no such list."""
    bits = 0
    for part in ranges.replace("\n", ",").split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first and not dash:
            continue
        low = int(first)
        high = int(last) if dash else low
        if not 0 <= low <= high <= 8191:
            raise ValueError(f"{part} is no range")
        bits |= (1 << high + 1) - (1 << low)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _numbers(mask: bytes) -> str:
    """b"\\x07\\x02" → "0 1 2 9"."""
    bits = int.from_bytes(mask, "little")
    return " ".join(str(number) for number in range(bits.bit_length()) if bits >> number & 1)


def pointer_of(message: str, properties: Sequence[Property]) -> str:
    """The pointer of the property that an error of systemd's names, or that of the unit."""
    named = [one for one in properties if one.name in message]
    return max(named, key=lambda one: len(one.name)).pointer if named else "/linux/cgroupsPath"
