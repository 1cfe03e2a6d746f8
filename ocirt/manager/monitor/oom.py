"""Whether the kernel has ended a process of a container because its memory limit was reached."""

from __future__ import annotations

import posix

_ROOT = "/sys/fs/cgroup"
_PLACES = (
    ("memory", f"{_ROOT}/memory", "memory.oom_control"),
    ("", f"{_ROOT}/unified", "memory.events"),
    ("", _ROOT, "memory.events"),
)


def memory_folder(cgroup: str, pid: int) -> str:
    """The file that counts, of a container's cgroup; "" where there is none. cgroup: its path if its configuration says
    it, else the process is asked (cgroups(7), /proc/PID/cgroup)."""
    found = _file_of({"memory": cgroup, "": cgroup})
    if found:
        return found
    paths = {"memory": "", "": ""}  # an ordinary user's may be elsewhere than asked for
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    return _file_of(paths)


def _file_of(paths: dict[str, str]) -> str:
    """paths: of the cgroup, by controller, "" for version 2."""
    for name, root, file in _PLACES:
        path = f"{root}{paths[name]}/{file}"
        if paths[name] not in ("", "/") and _read(path):
            return path
    return ""


def killed_for_memory(path: str) -> bool:
    """oom_kill of memory.oom_control (cgroup v1, memory.rst) or memory.events (cgroup-v2.rst)."""
    for line in _read(path).splitlines() if path else ():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return value.strip() != "0"
    return False


def _read(path: str) -> str:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 1 << 14).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        posix.close(fd)
