"""What linux.resources must say beyond its shape, whatever the host's cgroups are. Only read if there is anything."""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POINTER = "/linux/resources"
_UNLIMITED = -1
_MAX_NUMBER = 2**32 - 1
_HUGE_UNITS = ("KB", "MB", "GB")


def check_resources(resources: dict[str, Any]) -> None:
    """Raise ConfigError for the first rule that is broken."""
    _memory(resources.get("memory") or {})
    _cpu(resources.get("cpu") or {})
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None and limit < _UNLIMITED:
        raise _expected("-1 (no limit) or a number from 0", limit, "/pids/limit")
    _block_io(resources.get("blockIO") or {})
    _huge_pages(resources.get("hugepageLimits") or ())
    for index, one in enumerate((resources.get("network") or {}).get("priorities") or ()):
        if not one["name"] or one["name"].split() != [one["name"]]:
            raise _expected("an interface's name", f'"{one["name"]}"', f"/network/priorities/{index}/name")
    for name, limits in (resources.get("rdma") or {}).items():
        pointer = f"/rdma/{name.replace('~', '~0').replace('/', '~1')}"
        if limits is None or (limits.get("hcaHandles") is None and limits.get("hcaObjects") is None):
            raise _expected("hcaHandles or hcaObjects", "neither", pointer)
        if name.split() != [name]:
            raise _expected("a device's name", f'"{name}"', pointer)
    for key in resources.get("unified") or ():
        if "/" in key or key in (".", ".."):
            escaped = key.replace("~", "~0").replace("/", "~1")
            raise _expected("the name of a file of a cgroup", f'"{key}"', f"/unified/{escaped}")


def _expected(what: str, got: object, pointer: str, hint: str = "") -> ConfigError:
    return ConfigError(f"expected {what}, got {got}", pointer=POINTER + pointer, hint=hint)


def _memory(memory: dict[str, Any]) -> None:
    for name in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if (memory.get(name) or 0) < _UNLIMITED:
            raise _expected("-1 (no limit) or a number of bytes", memory[name], f"/memory/{name}")
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if 0 < swap < limit:
        raise _expected(
            f"at least the limit of {limit}", swap, "/memory/swap", "swap is the limit of memory and swap together"
        )
    if (memory.get("swappiness") or 0) > 100:
        raise _expected("a number from 0 to 100", memory["swappiness"], "/memory/swappiness")


def _cpu(cpu: dict[str, Any]) -> None:
    for name in ("cpus", "mems"):
        text = cpu.get(name) or ""
        if text and not all(map(_range, text.split(","))):
            raise _expected('a list such as "0-3,7"', f'"{text}"', f"/cpu/{name}")
    quota, burst = cpu.get("quota") or 0, cpu.get("burst") or 0
    if 0 < quota < burst:
        raise _expected(f"at most the quota of {quota}", burst, "/cpu/burst")
    if cpu.get("idle") not in (None, 0, 1):
        raise _expected("0 or 1", cpu["idle"], "/cpu/idle")
    if (cpu.get("realtimeRuntime") or 0) < _UNLIMITED:
        raise _expected("-1 (no limit) or a number of microseconds", cpu["realtimeRuntime"], "/cpu/realtimeRuntime")


def _range(text: str) -> bool:
    """ "3" or "0-3"."""
    first, dash, last = text.strip(" \n").partition("-")
    if not (first.isascii() and first.isdigit()):
        return False
    return not dash or (last.isascii() and last.isdigit() and int(first) <= int(last))


def _block_io(block_io: dict[str, Any]) -> None:
    _weights(block_io, "/blockIO")
    for name in (
        "weightDevice",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    ):
        seen: dict[tuple[int, int], int] = {}
        for index, device in enumerate(block_io.get(name) or ()):
            pointer = f"/blockIO/{name}/{index}"
            for number in ("major", "minor"):
                if not 0 <= device[number] <= _MAX_NUMBER:
                    raise _expected("a device's number", device[number], f"{pointer}/{number}")
            key = device["major"], device["minor"]
            if key in seen:
                raise ConfigError(
                    f"the device {key[0]}:{key[1]} stands twice, first at {POINTER}/blockIO/{name}/{seen[key]}",
                    pointer=POINTER + pointer,
                )
            seen[key] = index
            if name == "weightDevice":
                if device.get("weight") is None and device.get("leafWeight") is None:
                    raise _expected("weight or leafWeight", "neither", pointer)
                _weights(device, pointer)


def _weights(owner: dict[str, Any], pointer: str) -> None:
    for name in ("weight", "leafWeight"):
        if (owner.get(name) or 0) > 1000:
            raise _expected("a weight from 10 to 1000 (0: unset)", owner[name], f"{pointer}/{name}")


def _huge_pages(limits: list[dict[str, Any]] | tuple[()]) -> None:
    seen: dict[str, int] = {}
    for index, one in enumerate(limits):
        size, pointer = one["pageSize"], f"/hugepageLimits/{index}/pageSize"
        number = size[:-2]
        if size[-2:] not in _HUGE_UNITS or not (number.isascii() and number.isdigit()) or number.startswith("0"):
            raise _expected('a size such as "64KB", "2MB" or "1GB"', f'"{size}"', pointer)
        if size in seen:
            raise ConfigError(
                f"{size} pages stand twice, first at {POINTER}/hugepageLimits/{seen[size]}", pointer=POINTER + pointer
            )
        seen[size] = index
