"""start: let a created container run its program (runtime.md, "Start")."""

from __future__ import annotations

import posix
import select
from _signal import pidfd_send_signal

from ocirt.errors import ContainerError, Error, from_os_error
from ocirt.host.launch import BEFORE_PROGRAM, ended_early, failure_of
from ocirt.plan.wire import MAX_LOG, MESSAGE, MSG_ERROR
from ocirt.state.process import has_executed, open_process, start_time
from ocirt.state.status import CREATED, status_of
from ocirt.state.store import CONFIG, START, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.state.store import Entry


def start(root: str, container_id: str) -> list[str]:
    """Returns when the program has been executed, with warnings. Raises Error if it could not be, or the container is
    not created; if a hook fails, the container is gone then (runtime.md, "Lifecycle")."""
    store = Store(root)
    with store.lock(container_id) as entry:
        state = store.read(container_id)
        status = status_of(state, entry.folder)
        if status != CREATED:
            raise ContainerError(f'cannot start "{container_id}": it is {status}, not created', pointer=None)
        if not set(state["hooks"]) - {"poststop"}:
            _execute(state, entry)
            return []
        from ocirt.runtime.hooks import Started

        started = Started(state, entry)
        started.before_program()
        _execute(state, entry)
        return started.after_program()


def _execute(state: dict[str, Any], entry: Entry) -> None:
    """Let init go. Raises Error, as init reports it, if the program cannot be executed."""
    try:
        pidfd = open_process(state["pid"])
    except OSError as error:
        raise from_os_error(error, "open the container's first process") from None
    try:
        record = _let_go(state, entry, pidfd) if start_time(state["pid"]) == state["pidStart"] else None
    except Error as error:
        raise place(error, state, entry) from None
    finally:
        posix.close(pidfd)
    if record is None:
        raise ContainerError(f'the first process of "{state["id"]}" ended before it was started')
    entry.unlink(START)
    if not record and not _was_executed(state):
        early = ended_early("ended", BEFORE_PROGRAM, filtered="seccomp" in state)
        raise place(early, state, entry)
    if record:
        kind, index, errno, length = MESSAGE.unpack_from(record)
        if kind == MSG_ERROR:
            for step, pointer, doing, call in state["last"]:
                if step == index:
                    failed = failure_of(pointer, doing, call, errno, record[MESSAGE.size : MESSAGE.size + length])
                    raise place(failed, state, entry)
        raise ContainerError(f'the first process of "{state["id"]}" sent something unknown')


def place(error: Error, known: dict[str, Any], entry: Entry) -> Error:
    """With the line in the container's configuration, as the copy in our folder has it."""
    from ocirt.config.read import placed, read_json

    try:
        text = read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd)
    except Error:
        text = ""
    return placed(error, known.get("config") or f"{known['bundle']}/config.json", text)


def _was_executed(state: dict[str, Any]) -> bool:
    """After end-of-file. Who has ended and is reaped since was the program, unless a filter may have forbidden it."""
    executed = has_executed(state["pid"])
    return executed if executed is not None else not (state.get("seccomp") or {}).get("blocks")


def _let_go(state: dict[str, Any], entry: Entry, pidfd: int) -> bytes | None:
    """Open the FIFO, which init is opening for writing; then its end-of-file is the execve, and bytes are its failure.

    None if init ended before it came so far.
    """
    agent = None
    if (state.get("seccomp") or {}).get("listenerPath"):
        from ocirt.runtime.agent import started

        agent = started(state, pidfd)  # before init goes on: what fails here can be tried again
    reader = -1
    try:
        reader = entry.open_fifo(START)
        if agent:
            try:
                agent.serve(state, (reader, pidfd))
            except BaseException:
                pidfd_send_signal(pidfd, 9)  # it waits for what will not come
                raise
        poller = select.poll()
        poller.register(reader, select.POLLIN | select.POLLHUP)
        poller.register(pidfd, select.POLLIN)
        ready = dict(poller.poll())
        if reader not in ready:
            return None
        posix.set_blocking(reader, True)
        return posix.read(reader, MESSAGE.size + MAX_LOG)
    finally:
        if agent:
            agent.close()
        if reader >= 0:
            posix.close(reader)
