"""A container's status (runtime.md, "State"), derived from the kernel and never from a file that could be stale."""

from __future__ import annotations

import posix

from ocirt.state.process import PF_EXITING, PF_FORKNOEXEC, flags_of, has_threads, is_alive, is_waiting_init
from ocirt.state.store import START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"


def status_of(state: dict[str, Any], folder: str) -> str:
    """creating: `create` is at work. created: init waits at the FIFO. running: the program is executed. paused: it, or
    init, is frozen. stopped: the first process is gone, or `create` died before there was one."""
    pid = state["pid"]
    if pid == 0:
        return CREATING if is_alive(*state["creator"]) else STOPPED
    flags = flags_of(pid, state["pidStart"])
    if flags < 0:
        return STOPPED
    try:
        # init is a clone of the one that was started: who has executed something since is the program.
        if not flags & (PF_EXITING | PF_FORKNOEXEC) or not is_waiting_init(pid):
            return PAUSED if is_paused(state) else RUNNING
    except FileNotFoundError:
        return RUNNING if has_threads(pid) else STOPPED
    try:
        posix.stat(f"{folder}/{START}")
    except FileNotFoundError:
        return CREATING
    return PAUSED if is_paused(state) else CREATED


def is_paused(state: dict[str, Any]) -> bool:
    """Is the container's own cgroup to be frozen? Then `resume` makes it run again; one above it would not count."""
    path = state["cgroups"].get("paused")
    if not path:
        return False
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return False  # it is gone
    try:
        return posix.read(fd, 2) == b"1\n"
    except OSError:
        return False
    finally:
        posix.close(fd)
