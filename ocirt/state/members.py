"""The processes of a container that has no cgroup which would list them: by its pid namespace, and by who made whom.

In a pid namespace of its own all descend from its first process (pid_namespaces(7): orphans become its children), but
for what `exec` put there, which the namespace tells. Without one, a process whose parent has ended is lost to us.
"""

from __future__ import annotations

import posix

from ocirt.state.process import is_alive, parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def members(known: dict[str, Any]) -> list[int]:
    """Their pids, children before their parents. None if the first process has ended.

    known: the container's state.
    """
    first: int = known["pid"]
    children: dict[int, list[int]] = {}
    pids = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    for pid in pids:
        children.setdefault(parent(pid), []).append(pid)
    found = [first]
    namespace = _namespace(first) if known["privatePids"] else ""
    if namespace:
        found += [pid for pid in pids if pid != first and _namespace(pid) == namespace]
    seen = set(found)
    for pid in found:  # which grows
        new = [child for child in children.get(pid, ()) if child not in seen]
        seen.update(new)
        found += new
    # Looked at last: what was found is of the process that was recorded, not of another with its pid.
    return _leaves_first(found, children) if is_alive(first, known["pidStart"]) else []


def _namespace(pid: int) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""  # it has ended, or is none of ours


def _leaves_first(pids: list[int], children: dict[int, list[int]]) -> list[int]:
    depth = dict.fromkeys(pids, 0)
    for pid in pids:
        for child in children.get(pid, ()):
            depth[child] = max(depth.get(child, 0), depth[pid] + 1)
    return sorted(pids, key=lambda pid: (-depth[pid], pid == pids[0]))  # the first process last of all
