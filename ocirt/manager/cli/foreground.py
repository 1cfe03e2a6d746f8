"""A container in the foreground: its output to ours, our input to it, signals and the size of the terminal passed on.

Two threads beside the main one, made when there is something for them to do: one reads stdin, for the container may
not; one writes what our reader does not take at once, lest the container waits for it (Attachment: who is slow is
dropped).
"""

from __future__ import annotations

import _signal
import _thread
import posix
import select
import stat
import sys

from ocirt.manager.cli import terminal
from ocirt.manager.containers import lifecycle
from ocirt.manager.errors import ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirt.manager.containers.connection import Attachment
    from ocirt.manager.containers.records import Record
    from ocirt.manager.site import Site

_AT_ONCE = 4096
"""Bytes that a pipe which poll(2) calls writable takes without waiting (PIPE_BUF)."""
_CHUNK = 1 << 16
_HELD_MOST = 64 << 20
"""Bytes that wait for our reader; then the container waits too."""
_SIGWINCH = 28
# Not passed on: what cannot be caught; what is ours (CHLD, PIPE, WINCH, URG); what our own faults raise.
_NOT_PASSED = (4, 5, 7, 8, 9, 11, 13, 17, 19, 23, 28, 31)
_STREAMS = {"stdout": 1, "stderr": 2}


class Detached(Exception):
    """The container goes on."""


class Foreground:
    """stdin: pass ours on. tty: has the container a terminal? keys: what detaches (terminal.keys). proxy: pass signals
    on, where it has none."""

    def __init__(
        self, site: Site, record: Record, *, stdin: bool, tty: bool, keys: bytes = b"", proxy: bool = True
    ) -> None:
        self._site = site
        self._record = record
        self._stdin = stdin
        self._tty = tty
        self._keys = keys
        self._proxy = proxy and not tty
        self._waiting: list[int] | None = []
        self._wakes, self._wake = posix.pipe()
        self._outputs = {number: _Output(number) for number in (1, 2)}

    def begin(self) -> None:
        """From now on signals are the container's; those that come before it runs are sent when it does."""
        if self._proxy:
            for number in range(1, 32):
                if number not in _NOT_PASSED:
                    _signal.signal(number, self._pass_on)

    def run(self, attachment: Attachment) -> int:
        """Until it ends: its exit code. Raises Detached, Dropped."""
        pending, self._waiting = self._waiting or [], None
        for number in pending:
            self._send_signal(number)
        if self._tty and posix.isatty(0):
            with terminal.Raw(0):
                self._resized(0, None)
                _signal.signal(_SIGWINCH, self._resized)
                return self._until_end(attachment)
        return self._until_end(attachment)

    def _until_end(self, attachment: Attachment) -> int:
        if self._stdin:
            _thread.start_new_thread(self._read_stdin, (attachment,))
        poll = select.poll()
        poll.register(attachment.fileno(), select.POLLIN)
        poll.register(self._wakes, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wakes in ready:
                raise Detached
            kind, value = attachment.receive()
            if kind == "exit":
                for output in self._outputs.values():
                    output.finish()
                return int(value)
            if kind in _STREAMS:
                self._outputs[_STREAMS[kind]].write(value)

    def _read_stdin(self, attachment: Attachment) -> None:
        """A thread: ends with stdin, or with the process."""
        keys = terminal.Keys(self._keys if self._tty and posix.isatty(0) else b"")
        while True:
            try:
                data = posix.read(0, _CHUNK)
            except OSError:
                data = b""  # closed, or another's terminal
            if not data:
                break
            data, pressed = keys.feed(data)
            if data:
                attachment.send(data)
            if pressed:
                posix.write(self._wake, b"d")
                return
        attachment.end_input()

    def _pass_on(self, number: int, frame: object) -> None:
        if self._waiting is not None:
            self._waiting.append(number)
        else:
            self._send_signal(number)

    def _send_signal(self, number: int) -> None:
        try:
            lifecycle.kill(self._site, self._record, number)
        except ManagerError:
            pass  # it has ended meanwhile, which the attachment tells

    def _resized(self, number: int, frame: object) -> None:
        rows, columns = terminal.size(0)
        if rows and columns:
            try:
                lifecycle.resize(self._site, self._record, rows, columns)
            except ManagerError:
                pass


class _Output:
    """stdout or stderr: written to at once while our reader keeps up, by a thread when it does not."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held: list[bytes] = []
        self._size = 0
        self._lock = _thread.allocate_lock()
        self._idle = _thread.allocate_lock()
        self._threaded = False
        self._gone = False
        self._direct: bool | None = None
        self._poll = select.poll()

    def write(self, data: bytes) -> None:
        if self._direct is None:
            self._direct = _is_never_slow(self._fd)
            self._poll.register(self._fd, select.POLLOUT)
        if self._direct:
            self._write(data)
            return
        if not self._threaded:
            while data and self._poll.poll(0):
                self._write(data[:_AT_ONCE])
                data = data[_AT_ONCE:]
            if not data:
                return
        self._hold(data)

    def _hold(self, data: bytes) -> None:
        with self._lock:
            self._held.append(data)
            self._size += len(data)
            if not self._threaded:
                self._threaded = True
                self._idle.acquire()
                _thread.start_new_thread(self._drain, ())
            full = self._size > _HELD_MOST
        if full:
            self.finish()

    def _drain(self) -> None:
        """A thread: writes what is held, and ends when there is no more."""
        while True:
            with self._lock:
                held, self._held, self._size = self._held, [], 0
                if not held:
                    self._threaded = False
                    self._idle.release()
                    return
            self._write(b"".join(held))

    def finish(self) -> None:
        """Wait until everything is written."""
        with self._idle:
            pass

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._gone:
            try:
                view = view[posix.write(self._fd, view) :]
            except BlockingIOError:  # another process has made it so
                self._poll.poll()
            except OSError:
                self._gone = True  # nobody reads it: the container goes on


def _is_never_slow(fd: int) -> bool:
    """A file, or /dev/null."""
    try:
        found = posix.fstat(fd)
    except OSError:
        return True
    return stat.S_ISREG(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not posix.isatty(fd))


def refuse_no_terminal(*, stdin: bool, tty: bool) -> None:
    """Docker's rule: -i -t with a stdin that is no terminal is a mistake. Raises ManagerError."""
    if stdin and tty and not posix.isatty(0):
        raise ManagerError("--tty, but stdin is no terminal", hint="leave out --tty, or --interactive")


def finish(run: Callable[[], int]) -> int:
    """The exit code of a foreground; detaching is 0 (docker's)."""
    try:
        return run()
    except Detached:
        sys.stderr.write("\r\n")
        return 0
