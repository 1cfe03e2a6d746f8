"""Statistics of the v1 controllers: which file becomes which field. Each reader adds to the whole (see stats.py)."""

from __future__ import annotations

from ocirt.cgroups.folder import number, pairs, ranges
from ocirt.cgroups.stats_both import hugetlb_entry, io_entry, memory_entry, misc, pids, rdma, throttling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.cgroups.folder import Folder

_TICK = 10_000_000
"""Nanoseconds of USER_HZ, in which cpuacct.stat counts: 100 a second on every architecture that is supported."""


def _cpu(folder: Folder, data: dict[str, Any]) -> None:
    """scheduler/sched-bwc.rst; times of cpu.stat are nanoseconds here."""
    stat = folder.pairs("cpu.stat")  # only with bandwidth control
    throttling(data, stat, "throttled_time", "burst_time", 1)
    if folder.number("cpu.idle"):
        data["cpu"]["idle"] = 1


def _cpuacct(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/cpuacct.rst."""
    usage: dict[str, Any] = {}
    total = number(folder.needed("cpuacct.usage"))
    if total:
        usage["total"] = total
    percpu = folder.read("cpuacct.usage_percpu")
    if percpu:
        usage["percpu"] = [int(value) for value in percpu.split()]
    by_mode = folder.read("cpuacct.usage_all")  # "cpu user system", and a line for each CPU
    if by_mode:
        words = by_mode.split()
        usage["percpu_kernel"] = [int(value) for value in words[5::3]]
        usage["percpu_user"] = [int(value) for value in words[4::3]]
    stat = folder.pairs("cpuacct.stat")
    usage["kernel"] = stat.get("system", 0) * _TICK
    usage["user"] = stat.get("user", 0) * _TICK
    data["cpu"]["usage"] = usage


def _cpuset(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/cpusets.rst."""
    found = data["cpuset"]
    found["cpus"] = ranges(folder.needed("cpuset.cpus"))
    found["mems"] = ranges(folder.needed("cpuset.mems"))
    for name in found:
        if name not in ("cpus", "mems"):
            found[name] = int(folder.read(f"cpuset.{name}") or 0)  # sched_relax_domain_level may be -1


def _memory(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/memory.rst."""
    raw = pairs(folder.needed("memory.stat"))
    found = data["memory"]
    if raw.get("cache"):
        found["cache"] = raw["cache"]
    for field, prefix in (
        ("usage", "memory"),
        ("swap", "memory.memsw"),
        ("kernel", "memory.kmem"),
        ("kernelTCP", "memory.kmem.tcp"),
    ):
        usage = folder.read(prefix + ".usage_in_bytes")
        if usage is not None:  # memsw and kmem depend on how the kernel was built and started
            found[field] = memory_entry(
                folder.number(prefix + ".limit_in_bytes"),
                number(usage),
                folder.number(prefix + ".max_usage_in_bytes"),
                folder.number(prefix + ".failcnt"),
            )
    found["raw"] = raw
    events = folder.pairs("memory.oom_control")
    if events:
        found["events"] = events


_THROTTLE_FILES = (("ioServicedRecursive", "io_serviced"), ("ioServiceBytesRecursive", "io_service_bytes"))
_SCHEDULER_FILES = (
    ("sectorsRecursive", "sectors_recursive"),
    ("ioServiceTimeRecursive", "io_service_time_recursive"),
    ("ioWaitTimeRecursive", "io_wait_time_recursive"),
    ("ioMergedRecursive", "io_merged_recursive"),
    ("ioQueueRecursive", "io_queued_recursive"),
    ("ioTimeRecursive", "time_recursive"),
    *((field, name + "_recursive") for field, name in _THROTTLE_FILES),
)
_BLKIO = (
    ("blkio.bfq.", _SCHEDULER_FILES),
    ("blkio.bfq.", _SCHEDULER_FILES[-2:]),
    ("blkio.", _SCHEDULER_FILES),
    ("blkio.throttle.", _SCHEDULER_FILES[-2:]),
    ("blkio.throttle.", _THROTTLE_FILES),
)
"""In runc's order: BFQ with its debugging counts, BFQ, CFQ, and what counts whatever the scheduler is."""


def _blkio(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/blkio-controller.rst. The first group whose first file has something is taken."""
    for prefix, files in _BLKIO:
        for field, name in files:
            found = _operations(folder.read(prefix + name))
            if not found and field == files[0][0]:
                break
            if found:
                data["blkio"][field] = found
        else:
            return


def _operations(content: bytes | None) -> list[dict[str, Any]]:
    """Lines "8:0 Read 4096", "8:0 4096"; the sum at the end, "Total 4096", is left out."""
    found = []
    for line in (content or b"").decode().splitlines():
        device, *operation, value = line.split(" ")
        major, _, minor = device.partition(":")
        if minor:
            found.append(io_entry(int(major), int(minor), "".join(operation), int(value)))
    return found


def _hugetlb(folder: Folder, data: dict[str, Any]) -> None:
    """admin-guide/cgroup-v1/hugetlb.rst."""
    for prefix, size in folder.page_sizes("usage_in_bytes"):
        data["hugetlb"][size] = hugetlb_entry(
            folder.number(prefix + ".usage_in_bytes"),
            folder.number(prefix + ".max_usage_in_bytes"),
            folder.number(prefix + ".failcnt"),
        )


READERS: dict[str, Callable[[Folder, dict[str, Any]], None]] = {
    "cpu": _cpu,
    "cpuacct": _cpuacct,
    "cpuset": _cpuset,
    "memory": _memory,
    "pids": pids,
    "blkio": _blkio,
    "hugetlb": _hugetlb,
    "rdma": rdma,
    "misc": misc,
}
"""Controller → what reads it. The others, such as freezer and devices, count nothing."""
