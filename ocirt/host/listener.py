"""SCMP_ACT_NOTIFY: hand the filter's listener to the agent at listenerPath (config-linux.md, "The Container Process
State").

init cannot send it, since the filter may forbid that. It says by a word of shared memory which descriptor it is, and
waits, without a system call, for another word; we fetch the descriptor from it and pass it on in between.
"""

from __future__ import annotations

import posix
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from _struct import unpack
from select import POLLHUP, POLLIN, poll
from time import monotonic, sleep

from ocirt._sys import pidfd_getfd
from ocirt.errors import Error, from_os_error
from ocirt.plan.kernel import WORDS_SIZE
from ocirt.state.process import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

POINTER = "/linux/seccomp/listenerPath"
PATIENCE = 5.0
"""Seconds that init, or the agent's socket, may take."""
NAME = "anon_inode:seccomp notify"
"""What /proc/self/fd shows of a listener."""
MFD_CLOEXEC = 1
GO = (1).to_bytes(4, "little")


def make_words() -> int:
    """The memory to share: a page of zeros, as a descriptor."""
    fd = posix.memfd_create("ocirt-words", MFD_CLOEXEC)
    posix.ftruncate(fd, WORDS_SIZE)
    return fd


def check_path(path: str) -> None:
    """For `create`, which does not connect yet, as every connection has to carry a state. Raises Error if it is no
    socket."""
    try:
        mode = posix.stat(path).st_mode
    except OSError as error:
        raise _unusable(path, error.strerror or "", error.errno or 0) from None
    if mode & 0o170000 != 0o140000:
        raise _unusable(path, "not a socket", 0)


def connect(path: str) -> socket:
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise _unusable(path, error.strerror or str(error), error.errno or 0) from None
    return connection


def _unusable(path: str, why: str, errno: int) -> Error:
    return Error(
        f"{path}: {why}", pointer=POINTER, errno=errno, hint="the agent that answers SCMP_ACT_NOTIFY must listen there"
    )


def hand_over(connection: socket, pid: int, words: int, channels: Sequence[int], state: bytes) -> None:
    """Pass the listener of init, process `pid`, on to the agent and let init go on. Closes connection and words.

    channels: one is readable once init reports a failure, or is gone: then it is left to the caller.
    state: the container process state, JSON. Raises Error if the agent cannot be served.
    """
    try:
        listener = take(pid, words, channels)
        if listener is None:
            return
        try:
            sent = connection.sendmsg([state], [(SOL_SOCKET, SCM_RIGHTS, listener.to_bytes(4, "little"))])
            connection.sendall(state[sent:])
        except OSError as error:
            raise from_os_error(error, "send the seccomp listener to the agent", pointer=POINTER) from None
        finally:
            posix.close(listener)
        connection.close()
        let_go(words)
    finally:
        connection.close()
        posix.close(words)


def take(pid: int, words: int, channels: Sequence[int]) -> int | None:
    """The listener of init, process `pid`, which waits for `let_go` then; None if init has something else to say.

    channels: as `hand_over` has it. Raises Error.
    """
    number = _number(words, channels)
    if number is None:
        return None
    try:
        return _fetch(pid, number)
    except OSError as error:
        raise from_os_error(error, "fetch the seccomp listener from init", pointer=POINTER) from None


def let_go(words: int) -> None:
    posix.pwrite(words, GO, 4)


def _number(words: int, channels: Sequence[int]) -> int | None:
    """The listener's number in init, as soon as it says so; None if init has something else to say."""
    poller = poll()
    for channel in channels:
        poller.register(channel, POLLIN | POLLHUP)
    until = monotonic() + PATIENCE
    while monotonic() < until:
        (said,) = unpack("<I", posix.pread(words, 4, 0))
        if said:
            return int(said) - 1
        if poller.poll(0):
            return None
        sleep(0.0001)  # what is left to it takes less than a millisecond
    raise Error(f"init has not loaded the seccomp filter within {PATIENCE:.0f} s", pointer=POINTER)


def _fetch(pid: int, number: int) -> int:
    pidfd = open_process(pid)
    try:
        fd = pidfd_getfd(pidfd, number)
    finally:
        posix.close(pidfd)
    if posix.readlink(f"/proc/self/fd/{fd}") != NAME:
        posix.close(fd)
        raise OSError(9, "it is no listener")
    return fd
