"""What a container could leave on a host, counted."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

Counts = dict[str, int]
JUDGED = (
    "descriptors of this process",
    "threads of this process",
    "cgroups",
    "mounts",
    "processes",
    "children not waited for",
    "namespaces",
    "files below /run",
    "bytes below /run",
    "files of the bundles",
)
"""What may not grow."""
_KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_WALL = 0x40000000  # waitpid(2): also children that send no SIGCHLD


def count(bundles: str) -> Counts:
    """By name. bundles: the folder that they are in."""
    reaped = _reap()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    ours = [pid for pid in pids if _is_ours(pid)]
    files = [path for path in Path("/run").rglob("*") if not path.is_dir()]
    return {
        "descriptors of this process": len(os.listdir("/proc/self/fd")),
        "threads of this process": _threads(),
        "cgroups": sum(1 for _ in os.walk("/sys/fs/cgroup")),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "processes": len(ours),
        "children not waited for": reaped,
        "namespaces": len({namespace for pid in ours for namespace in _namespaces(pid)}),
        "files below /run": len(list(Path("/run").rglob("*"))),
        "bytes below /run": sum(path.lstat().st_size for path in files),
        "files of the bundles": len(list(Path(bundles).rglob("*"))),
        "memory of this process, kB": _field("/proc/self/status", "VmRSS:"),
        "compiled filters": len(list(Path("/run/ocirt-cache").glob("*"))),
        "open files of the host": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        "cgroups of the memory controller, dying ones too": _memory_cgroups(),
        "dying cgroups below the v2 root": _field("/sys/fs/cgroup/unified/cgroup.stat", "nr_dying_descendants"),
        "slab of the kernel, MB": _field("/proc/meminfo", "Slab:") // 1024,
    }


def _threads() -> int:
    """One that was joined is in /proc for a moment still."""
    until = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > threading.active_count() and time.monotonic() < until:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task"))


def _reap() -> int:
    """How many children had ended that nobody has waited for: adopted ones of containers that are deleted, too."""
    found = 0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG | _WALL)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found += 1


def _is_ours(pid: int) -> bool:
    """In our cgroups, or below: another test run's are "/../…". All "/" is also what v1 says of one that just ends."""
    try:
        os.readlink(f"/proc/{pid}/exe")  # of a thread of the kernel there is none
        paths = [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        if all(path == "/" for path in paths):
            return os.readlink(f"/proc/{pid}/ns/cgroup") == os.readlink("/proc/self/ns/cgroup")
        return not any(path.startswith("/..") for path in paths)
    except OSError:
        return False


def _namespaces(pid: int) -> list[str]:
    found = []
    for kind in _KINDS:
        try:
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found


def _field(file: str, name: str) -> int:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _memory_cgroups() -> int:
    lines = Path("/proc/cgroups").read_text().splitlines()
    return next((int(line.split()[2]) for line in lines if line.startswith("memory\t")), 0)
