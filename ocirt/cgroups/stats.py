"""What the kernel counts for one container, in the shape of runc's events (its types/events.go), which engines decode.

Each controller is read where it is: on its v1 hierarchy (admin-guide/cgroup-v1) or in the v2 tree
(admin-guide/cgroup-v2.rst), on a hybrid host some here and some there. Times are in nanoseconds, pressure as the kernel
has it (averages in per cent, totals in microseconds), everything else in bytes or counts. As in runc, a value that is
left out is 0.

Beyond runc: memory.events, memory.swapOnly, cpu.burst, cpu.idle, usage.nice, usage.forceIdle, pids.peak, rdma, misc;
on v2 also memory.usage.failcnt, cpuset, and discards.
"""

from __future__ import annotations

from ocirt.cgroups import stats_v1, stats_v2
from ocirt.cgroups.folder import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CPUSET = (
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab memory_pressure"
    " sched_load_balance sched_relax_domain_level"
).split(" ")


def cgroup_stats(places: Sequence[tuple[str, tuple[str, ...], bool, str, str]]) -> dict[str, Any]:
    """The statistics of the cgroups at `places` (those of manager.Cgroups), all below them included.

    Raises FileNotFoundError, whose filename is the cgroup, if one that has statistics is gone; OSError.
    """
    data: dict[str, Any] = {
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": dict.fromkeys(_CPUSET, 0),  # runc has them all on v2, too, which has none
        "memory": {},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
    }
    v1 = [controller for _, controllers, is_v2, _, _ in places if not is_v2 for controller in controllers]
    for _, controllers, is_v2, _, path in places:
        if not is_v2 and not any(controller in stats_v1.READERS for controller in controllers):
            continue
        with Folder(path) as folder:
            if is_v2:
                stats_v2.read(folder, data, v1)
            else:
                for controller in controllers:
                    if controller in stats_v1.READERS:
                        stats_v1.READERS[controller](folder, data)
    if places and "current" not in data["pids"]:  # no pids controller: those that are there, as in runc
        from ocirt.cgroups.files import processes

        data["pids"]["current"] = len(processes(places[-1][4]))
    return data
