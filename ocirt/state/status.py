"""A container's status (runtime.md, "State"), derived from the kernel and never from a file that could be stale."""

from __future__ import annotations

import posix

from ocirt.state.process import has_threads, is_alive, is_waiting_init
from ocirt.state.store import START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
STOPPED = "stopped"


def status_of(state: dict[str, Any], folder: str) -> str:
    """creating: `create` is at work. created: init waits at the FIFO. running: the program is executed. stopped: the
    first process is gone, or `create` died before there was one."""
    pid = state["pid"]
    if pid == 0:
        return CREATING if is_alive(*state["creator"]) else STOPPED
    if not is_alive(pid, state["pidStart"]):
        return STOPPED
    try:
        if not is_waiting_init(pid):
            return RUNNING
    except FileNotFoundError:
        return RUNNING if has_threads(pid) else STOPPED
    try:
        posix.stat(f"{folder}/{START}")
    except FileNotFoundError:
        return CREATING
    return CREATED
