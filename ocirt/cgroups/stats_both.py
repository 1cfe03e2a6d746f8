"""Statistics that v1 and v2 have alike, and runc's structures, in which zeros are left out."""

from __future__ import annotations

from ocirt.cgroups.folder import UNLIMITED, keyed, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.cgroups.folder import Folder


def memory_entry(limit: int, usage: int, peak: int, failcnt: int) -> dict[str, int]:
    """runc's MemoryEntry."""
    made = {"limit": limit}
    if usage:
        made["usage"] = usage
    if peak:
        made["max"] = peak
    made["failcnt"] = failcnt
    return made


def io_entry(major: int, minor: int, op: str, value: int) -> dict[str, Any]:
    """runc's BlkioEntry."""
    made: dict[str, Any] = {}
    if major:
        made["major"] = major
    if minor:
        made["minor"] = minor
    if op:
        made["op"] = op
    if value:
        made["value"] = value
    return made


def hugetlb_entry(usage: int, peak: int, failcnt: int) -> dict[str, int]:
    """runc's Hugetlb."""
    made = {}
    if usage:
        made["usage"] = usage
    if peak:
        made["max"] = peak
    made["failcnt"] = failcnt
    return made


def throttling(data: dict[str, Any], stat: dict[str, int], throttled: str, burst: str, unit: int) -> None:
    """From cpu.stat of v1 or v2. unit: nanoseconds of one of its times."""
    found = data["cpu"]["throttling"]
    for field, value in (
        ("periods", stat.get("nr_periods", 0)),
        ("throttledPeriods", stat.get("nr_throttled", 0)),
        ("throttledTime", stat.get(throttled, 0) * unit),
    ):
        if value:
            found[field] = value
    if stat.get("nr_bursts"):
        data["cpu"]["burst"] = {"periods": stat["nr_bursts"], "time": stat.get(burst, 0) * unit}


def pids(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/pids.rst. No limit is left out, which is runc's 0; 0 is the limit 0."""
    found = data["pids"]
    found["current"] = number(folder.needed("pids.current"))
    limit = folder.number("pids.max", UNLIMITED)
    if limit != UNLIMITED:
        found["limit"] = limit
    peak = folder.read("pids.peak")  # since Linux 6.1
    if peak is not None:
        found["peak"] = number(peak)


def rdma(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/rdma.rst: "mlx4_0 hca_handle=2 hca_object=max"; the field names are libcontainer's."""
    for name in ("current", "max"):
        for device, values in keyed(folder.read(f"rdma.{name}")).items():
            made: dict[str, Any] = {"device": device}
            for key, field in (("hca_handle", "hca_handles"), ("hca_object", "hca_objects")):
                if key in values:
                    made[field] = 2**32 - 1 if values[key] == "max" else int(values[key])
            data.setdefault("rdma", {}).setdefault("limit" if name == "max" else name, []).append(made)


def misc(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v2.rst, "Misc": per resource usage, limit, peak ("max"), how often the limit was met."""
    for file, field in (("current", "usage"), ("max", "limit"), ("peak", "max"), ("events", "events")):
        content = folder.read(f"misc.{file}")
        for line in (content or b"").decode().splitlines():
            key, _, value = line.partition(" ")
            values = data.setdefault("misc", {}).setdefault(key.removesuffix(".max"), {})
            values[field] = number(value.encode())
