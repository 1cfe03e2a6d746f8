"""linux.resources that ask something of every controller of this host; also for bench/, so without pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20


def folder_of(controller: str) -> Path | None:
    """The root cgroup of the hierarchy that has a controller: a v1 one's first."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, names, _ in lines:
        if controller in names.split(",") and (ROOT / names / "cgroup.procs").exists():
            return ROOT / names
    name = {"blkio": "io"}.get(controller, controller)
    for folder in (ROOT, ROOT / "unified"):
        controllers = folder / "cgroup.controllers"
        if controllers.exists() and name in controllers.read_text().split():
            return folder
    return None


def limits() -> dict[str, Any]:
    """What a /bin/true or a sleep lives with."""
    wanted = {
        "cpu": {"cpu": {"shares": 512, "quota": 150000, "period": 100000}},
        "memory": {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}},
        "pids": {"pids": {"limit": 64}},
        "blkio": {"blockIO": _block_io()},
        "hugetlb": {"hugepageLimits": [{"pageSize": size, "limit": 0} for size in _page_sizes()]},
        "net_cls": {"network": {"classID": 0x100001}},
    }
    resources: dict[str, Any] = {}
    for controller, part in wanted.items():
        if folder_of(controller):
            resources |= part
    cpuset = folder_of("cpuset")
    if cpuset:
        names = {name: cpuset / f"cpuset.{name}" for name in ("cpus", "mems")}
        if not names["cpus"].exists():  # the root of v2
            names = {name: cpuset / f"cpuset.{name}.effective" for name in names}
        resources.setdefault("cpu", {}).update({name: file.read_text().strip() for name, file in names.items()})
    if folder_of("net_prio"):
        resources.setdefault("network", {})["priorities"] = [{"name": "lo", "priority": 1}]
    return resources


def _block_io() -> dict[str, Any]:
    for device in sorted(Path("/sys/block").iterdir()):
        if (device / "size").read_text().strip() != "0":
            major, minor = map(int, (device / "dev").read_text().split(":"))
            rate = {"major": major, "minor": minor, "rate": 100 * MIB}
            return {"throttleReadBpsDevice": [rate], "throttleWriteBpsDevice": [rate]}
    return {}


def _page_sizes() -> list[str]:
    """Of the kernel's huge pages as cgroup files name them: 2MB, 1GB."""
    sizes = []
    for folder in sorted(Path("/sys/kernel/mm/hugepages").iterdir()):
        kib = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        sizes.append(f"{kib >> 20}GB" if kib >= 1 << 20 else f"{kib >> 10}MB" if kib >= 1 << 10 else f"{kib}KB")
    return sizes
