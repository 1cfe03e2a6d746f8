"""Statistics of the v2 tree (admin-guide/cgroup-v2.rst): which file becomes which field of runc's, which are v1's.

On a hybrid host the tree has some of the controllers, or none; pressure it has in any case.
"""

from __future__ import annotations

from ocirt.cgroups.folder import UNLIMITED, keyed, number, pairs, ranges
from ocirt.cgroups.stats_both import hugetlb_entry, io_entry, memory_entry, misc, pids, rdma, throttling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.cgroups.folder import Folder

_MICROSECOND = 1000


def read(folder: Folder, data: dict[str, Any], elsewhere: Sequence[str]) -> None:
    """Add all that this cgroup has. elsewhere: the controllers that are on v1 hierarchies."""
    enabled = folder.needed("cgroup.controllers").decode().split()
    if "cpuacct" not in elsewhere:
        _cpu(folder, data)
    if "cpu" in enabled and folder.number("cpu.idle"):
        data["cpu"]["idle"] = 1
    for name, reader in (
        ("cpuset", _cpuset),
        ("memory", _memory),
        ("pids", pids),
        ("io", _io),
        ("hugetlb", _hugetlb),
        ("rdma", rdma),
        ("misc", misc),
    ):
        if name in enabled:
            reader(folder, data)
    for field, file in (("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")):
        pressure = folder.pressure(file + ".pressure")
        if pressure:
            data[field]["psi"] = pressure


def _cpu(folder: Folder, data: dict[str, Any]) -> None:
    """cpu.stat, whose times are microseconds; usage is there without the controller, too."""
    stat = pairs(folder.needed("cpu.stat"))
    usage: dict[str, Any] = {}
    if stat.get("usage_usec"):
        usage["total"] = stat["usage_usec"] * _MICROSECOND
    usage["kernel"] = stat.get("system_usec", 0) * _MICROSECOND
    usage["user"] = stat.get("user_usec", 0) * _MICROSECOND
    for field, key in (("nice", "nice_usec"), ("forceIdle", "core_sched.force_idle_usec")):
        if stat.get(key):
            usage[field] = stat[key] * _MICROSECOND
    data["cpu"]["usage"] = usage
    throttling(data, stat, "throttled_usec", "burst_usec", _MICROSECOND)


def _cpuset(folder: Folder, data: dict[str, Any]) -> None:
    """What is in force: cpuset.cpus is empty where nothing was asked for."""
    for field in ("cpus", "mems"):
        data["cpuset"][field] = ranges(folder.needed(f"cpuset.{field}.effective"))


def _memory(folder: Folder, data: dict[str, Any]) -> None:
    """swap is memory and swap together, as on v1, so it has no peak; swapOnly is what v2 counts."""
    raw = pairs(folder.needed("memory.stat"))
    events = folder.pairs("memory.events")
    found = data["memory"]
    if raw.get("file"):
        found["cache"] = raw["file"]
    usage, limit = number(folder.needed("memory.current")), number(folder.needed("memory.max"))
    # How often the limit was met is v1's failcnt; runc has 0. The peak is there since Linux 5.19.
    found["usage"] = memory_entry(limit, usage, folder.number("memory.peak"), events.get("max", 0))
    swap = folder.read("memory.swap.current")
    if swap is not None:  # not without swap accounting
        swap_limit = folder.number("memory.swap.max")
        failcnt = folder.pairs("memory.swap.events").get("max", 0)
        both = UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit
        found["swap"] = memory_entry(both, usage + number(swap), 0, failcnt)
        found["swapOnly"] = memory_entry(swap_limit, number(swap), folder.number("memory.swap.peak"), failcnt)
    found["raw"] = raw
    if events:
        found["events"] = events


_IO = (
    ("ioServiceBytesRecursive", (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard"))),
    ("ioServicedRecursive", (("rios", "Read"), ("wios", "Write"), ("dios", "Discard"))),
)


def _io(folder: Folder, data: dict[str, Any]) -> None:
    """io.stat, in v1's tables and with v1's names; runc has no discards."""
    for device, values in keyed(folder.read("io.stat")).items():
        major, _, minor = device.partition(":")
        if not major.isdigit() or not minor.isdigit():
            continue  # a device that is gone has no name
        for table, keys in _IO:
            for key, operation in keys:
                if key in values:
                    made = io_entry(int(major), int(minor), operation, int(values[key]))
                    data["blkio"].setdefault(table, []).append(made)


def _hugetlb(folder: Folder, data: dict[str, Any]) -> None:
    """Without a peak, and with the one count of failures that there is."""
    for prefix, size in folder.page_sizes("current"):
        data["hugetlb"][size] = hugetlb_entry(
            folder.number(prefix + ".current"), 0, folder.pairs(f"hugetlb.{size}.events").get("max", 0)
        )
