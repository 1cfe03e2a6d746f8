"""Start, stop and what else changes a container, or waits for it: what its monitor is asked for."""

from __future__ import annotations

import _socket
import os
import time
from collections.abc import Callable

from ocirt.manager.containers import state as states
from ocirt.manager.containers.connection import Attachment, ask, heard, reply
from ocirt.manager.containers.launch import Launch, monitor_of, runtime, words
from ocirt.manager.errors import ConflictError, ManagerError
from ocirt.manager.monitor.wire import EXIT
from ocirt.manager.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.state import Kept


SIGKILL = 9
_WHILE = 0.02
"""Seconds between two looks at what only the file system tells."""


class StartError(ManagerError):
    """The runtime could not start the container; the message is the runtime's own. Nothing of the attempt is left.

    container_code: docker's State.ExitCode then: 127 for a program that is not there, 126 for one that may not be
    executed, 128 otherwise.
    """

    code = "start"

    def __init__(self, message: str, container_code: int) -> None:
        super().__init__(message)
        self.container_code = container_code


def start(
    site: Site,
    record: Kept,
    *,
    attach: bool = False,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    removes: bool = False,
    prepare: Callable[[Site, Any], object] | None = None,
) -> Attachment | None:
    """Start a container, and with `attach` see and feed it from its first byte on. One that runs is left alone: None
    comes back then too.

    removes: with auto_remove, the caller removes it when it has ended, and closes the attachment after that. If the
    caller does not live so long, the monitor does it. prepare: makes what the bundle needs and a reboot or the last end
    took away, such as mounts. Raises StartError, ManagerError.
    """
    lock = _lock(site, record)
    if lock is None:
        return None
    try:
        launch = Launch(site, record)
        try:
            states.settle(site, record)
            clean(site, record)
            if prepare:
                prepare(site, record)
            wishes = {"attach": attach, "stdin": stdin, "stdout": stdout, "stderr": stderr, "removes": removes}
            launch.go(lock, wishes)
        except BaseException:
            launch.abandon()
            raise
    finally:
        os.close(lock)
    connection = launch.connection
    answer = reply(connection)
    launch.begun()
    if answer and answer[0] and attach:
        return Attachment(connection)
    connection.close()
    if answer is None:
        said = words(states.folder_of(site, record.id))
        raise ManagerError(f"the monitor of {_name(record)} has ended: {said}")
    if not answer[0]:
        raise StartError(answer[1][1], answer[1][0])
    return None


def clean(site: Site, record: Kept) -> None:
    """With the lock held: remove what a run left whose monitor was killed, processes included."""
    command = runtime(site)
    if (site.run / "runtime" / record.id).exists():
        done = _run([*command, "delete", "--force", record.id])
        if done:
            raise ManagerError(f"{_name(record)} is left from before, and the runtime cannot remove it: {done}")


def stop(site: Site, record: Kept, timeout: float | None = None, signal: int | None = None) -> None:
    """Ask it to end, kill it after `timeout` seconds (-1: never), and wait for that. It is not started again by its
    policy. One that does not run is no error. Raises ManagerError."""
    monitor = monitor_of(record)
    timeout = monitor["stop_timeout"] if timeout is None else timeout
    _asked(site, record, "stop", timeout=float(timeout), signal=int(signal or monitor["stop_signal"]))


def kill(site: Site, record: Kept, signal: int = SIGKILL) -> None:
    """Send its first process a signal. Raises ConflictError if it does not run."""
    if not _asked(site, record, "kill", signal=int(signal)):
        raise ConflictError(f"{_name(record)} is not running")


def restart(
    site: Site, record: Kept, timeout: float | None = None, *, prepare: Callable[[Site, Any], object] | None = None
) -> None:
    """Stop and start. Raises as those."""
    stop(site, record, timeout)
    start(site, record, prepare=prepare)


def pause(site: Site, record: Kept) -> None:
    """Freeze all of its processes. Raises ConflictError if it does not run or is paused already."""
    if not _asked(site, record, "pause"):
        raise ConflictError(f"{_name(record)} is not running")


def unpause(site: Site, record: Kept) -> None:
    """Let them go on. Raises ConflictError if it is not paused."""
    if not _asked(site, record, "unpause"):
        raise ConflictError(f"{_name(record)} is not running")


def resize(site: Site, record: Kept, rows: int, columns: int) -> None:
    """The size of its terminal. Raises ConflictError if it does not run."""
    if not _asked(site, record, "resize", rows=int(rows), columns=int(columns)):
        raise ConflictError(f"{_name(record)} is not running")


def attach(
    site: Site, record: Kept, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, removes: bool = False
) -> Attachment:
    """See what it writes from now on, and feed it. Raises ConflictError if it does not run."""
    connection = ask(site, record.id, "attach", stdin=stdin, stdout=stdout, stderr=stderr, removes=removes)
    if connection and reply(connection) is None:
        connection.close()
        connection = None
    if connection is None:
        raise ConflictError(f"{_name(record)} is not running", hint="start it first")
    return Attachment(connection)


def wait(site: Site, record: Kept, condition: str = "not-running") -> int:
    """Its exit code, when it has ended. condition (docker's): "not-running": at once if it does not run; "next-exit":
    the end of this run or of the next; "removed": also until its folder is gone."""
    while True:
        connection = ask(site, record.id, "wait", removed=condition == "removed")
        code = _exit(connection) if connection else None
        if connection:
            connection.close()
        state = states.read(site, record)
        next_one = condition == "next-exit" and site.container(record.id).exists()
        if code is not None or not (next_one or state.alive):  # alive: a monitor began between two looks
            break
        time.sleep(_WHILE)
    while condition == "removed" and site.container(record.id).exists():
        time.sleep(_WHILE)
    return state.exit_code if code is None else code


def due_after_boot(site: Site, record: Kept) -> bool:
    """Does its policy say that it runs again, now that the host does? (docker: always, and unless-stopped if it was not
    stopped by its user.)"""
    state = states.read(site, record)
    policy = monitor_of(record)["restart"]["policy"]
    if state.alive or state.status == "created":
        return False
    return policy == "always" or (policy == "unless-stopped" and not state.stopped)


def _lock(site: Site, record: Kept) -> int | None:
    """None if it runs already."""
    deadline = time.monotonic() + states.PATIENCE
    while (lock := states.lock(site, record)) is None:
        if states.read(site, record).alive:
            return None
        if time.monotonic() > deadline:
            raise ConflictError(f"{_name(record)} is being started or removed by another ocim")
        time.sleep(_WHILE)
    return lock


def _asked(site: Site, record: Kept, verb: str, **values: Any) -> bool:
    """Did its monitor do it? False where there is none. Raises ConflictError with what it said if it could not."""
    connection = ask(site, record.id, verb, **values)
    answer = reply(connection) if connection else None
    if connection:
        connection.close()
    if answer and not answer[0]:
        raise ConflictError(f"{_name(record)}: {answer[1]}")
    return answer is not None


def _exit(connection: _socket.socket) -> int | None:
    """The exit code that a monitor sends to one who waits; None if it ended without."""
    said: tuple[int, ...] | None = heard(connection, EXIT)
    return said[0] if said else None


def _run(command: list[str]) -> str:
    """ "", or what a command that failed wrote."""
    import subprocess

    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def _name(record: Kept) -> str:
    return f"container {record.id[:12]}"
