"""What a container is doing: its last state, and whether there is still a monitor that keeps it.

A monitor has run/ID/lock locked (fcntl(2), open file description locks): the lock goes with the last descriptor of its
open file, however the monitor ends, and with the host.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ocirt.manager.errors import ConflictError
from ocirt.manager.monitor.document import dumps, timestamp, write_file
from ocirt.manager.site import Site
from ocirt.manager.store.leases import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Kept(Protocol):
        """What is needed of a record (records.py)."""

        @property
        def id(self) -> str: ...
        @property
        def document(self) -> Mapping[str, Any]: ...


F_OFD_GETLK, F_OFD_SETLK = 36, 37
_WHOLE_FILE = bytes((fcntl.F_WRLCK,)).ljust(32, b"\0")
ALIVE = ("running", "paused", "restarting")
LOST = 255
"""The exit code of a container whose end nobody has seen."""
PATIENCE = 60.0
"""Seconds to wait for another ocim that starts or removes a container."""


class State:
    """A container's state; `found`: its state.json, or what stands for it.

    status                   created, running, paused, restarting, exited, or dead
    pid                      of its first process, as the host sees it, or 0
    exit_code                of its last run
    started, finished        RFC 3339 in UTC, with nanoseconds; "0001-01-01T00:00:00Z" where it never was
    oom_killed               the kernel ended one of its processes for its memory limit
    error                    why it could not be started, or why its end is not known
    restarts                 by its policy, since it was last started
    stopped                  it was its user who stopped it
    health                   docker's State.Health, or None without a check
    """

    __slots__ = (
        *("error", "exit_code", "finished", "found", "health", "oom_killed", "pid", "restarts", "started"),
        *("status", "stopped"),
    )

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found
        self.status: str = found.get("status", "created")
        self.pid: int = found.get("pid", 0)
        self.exit_code: int = found.get("exit_code", 0)
        self.started: str = found.get("started", timestamp(0))
        self.finished: str = found.get("finished", timestamp(0))
        self.oom_killed: bool = found.get("oom_killed", False)
        self.error: str = found.get("error", "")
        self.restarts: int = found.get("restarts", 0)
        self.stopped: bool = found.get("stopped", False)
        self.health: dict[str, Any] | None = found.get("health")

    @property
    def alive(self) -> bool:
        """Is there somebody who looks after it?"""
        return self.status in ALIVE

    def __repr__(self) -> str:
        return f"State({self.status}, pid {self.pid}, exit code {self.exit_code})"


def folder_of(site: Site, container_id: str) -> Path:
    """The folder of what a reboot ends: the monitor's socket and lock."""
    return site.run / container_id


def read(site: Site, record: Kept) -> State:
    """Of a container that has a monitor what that has written last; of others how they ended. Raises nothing."""
    kept = is_locked(site, record.id)  # first: a monitor writes the end before it unlocks
    return _found(site, record.id, kept)


def _found(site: Site, container_id: str, kept: bool) -> State:
    path = site.container(container_id) / "state.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return State({})
    try:
        found = json.loads(content)
    except ValueError:
        found = {"status": "dead", "error": f"{path} is damaged"}
    if kept or found.get("status") not in ALIVE:
        return State(found)
    why = "its monitor was killed" if found.get("boot") == boot_id() else "the host was restarted while it ran"
    finished = timestamp(path.stat().st_mtime_ns)
    return State(found | {"status": "exited", "pid": 0, "exit_code": LOST, "error": why, "finished": finished})


def is_locked(site: Site, container_id: str) -> bool:
    """Has it a monitor, or somebody who is about to start or remove it?"""
    try:
        fd = os.open(folder_of(site, container_id) / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return fcntl.fcntl(fd, F_OFD_GETLK, _WHOLE_FILE)[0] != fcntl.F_UNLCK
    finally:
        os.close(fd)


def lock(site: Site, record: Kept) -> int | None:
    """The descriptor of the lock, or None if it is another's. Makes the run folder. Raises OSError."""
    folder = folder_of(site, record.id)
    for path in (site.run, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, _WHOLE_FILE)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    if not os.path.exists(folder / "lock") or os.stat(folder / "lock").st_ino != os.fstat(fd).st_ino:
        os.close(fd)  # whoever had it has removed the folder
        return lock(site, record)
    return fd


@contextmanager
def locked(site: Site, record: Kept) -> Iterator[None]:
    """While nobody starts it: for who removes a container that has stopped.

    Raises ConflictError if it has a monitor, or if another ocim is at it for longer than PATIENCE.
    """
    deadline = time.monotonic() + PATIENCE
    while (fd := lock(site, record)) is None:
        if _found(site, record.id, True).alive:
            raise ConflictError(f"container {record.id[:12]} is running", hint="stop it first")
        if time.monotonic() > deadline:
            raise ConflictError(f"container {record.id[:12]} is being started or removed by another ocim")
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(fd)


def settle(site: Site, record: Kept) -> State:
    """With the lock held: write down the end of a run whose monitor was killed. Returns the state."""
    state = _found(site, record.id, False)
    if state.exit_code == LOST:
        write_file(str(site.container(record.id) / "state.json"), dumps(state.found).encode("utf-8", "replace"))
    return state
