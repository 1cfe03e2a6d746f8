"""A process that the library has started: known by a pidfd, so that no other is ever waited for or signalled."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from _signal import pidfd_send_signal
from typing import IO

from ocirt.errors import ContainerError, from_os_error
from ocirt.library.stdio import Streams, exchange
from ocirt.runtime.kill import signal_number


class Child:
    """pid as the host has it; stdin, stdout, stderr are the files of those that were PIPE, unbuffered.

    ours: is it a child of this process? Of another's only the end can be seen, and not its status.
    """

    def __init__(self, pid: int, pidfd: int, streams: Streams | None = None, *, ours: bool = True) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None
        self.stdout: IO[bytes] | None
        self.stderr: IO[bytes] | None
        self.stdin, self.stdout, self.stderr = streams.ours if streams else (None, None, None)
        self._pidfd = pidfd
        self._ours = ours
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The pidfd: readable once the process has ended. -1 after `close`."""
        return self._pidfd

    def poll(self) -> int | None:
        """The return code if the process has ended, else None."""
        return self._reap()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, up to `timeout` seconds (then TimeoutError). Returns the return code: what the program
        returned, or minus the number of the signal that ended it, as subprocess has it; None if that cannot be known,
        because the process is not a child of ours, or someone else has waited for it."""
        if self.returncode is None and self._pidfd >= 0:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            if not poller.poll(None if timeout is None else max(0.0, timeout) * 1000):
                raise TimeoutError(f"process {self.pid} has not ended after {timeout} s")
        return self._reap()

    async def wait_async(self) -> int | None:
        """`wait` for asyncio: the loop watches the pidfd."""
        if self.returncode is None and self._pidfd >= 0 and not self._has_ended():
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            # A descriptor of its own, because a loop has one reader for each.
            watched = os.dup(self._pidfd)
            try:
                loop.add_reader(watched, ended.cancel)
                await asyncio.wait([ended])
            finally:
                loop.remove_reader(watched)
                os.close(watched)
        return self._reap()

    def _has_ended(self) -> bool:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def _reap(self) -> int | None:
        with self._lock:
            if self.returncode is None and self._ours and self.pid:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # the program around us waits for whatever there is
                    self._ours = False
                else:
                    if pid:
                        self.returncode = os.waitstatus_to_exitcode(status)
                        self._ours = False
            return self.returncode

    def send_signal(self, signal: int | str) -> None:
        """Raises ContainerError if it has ended."""
        number = signal_number(str(int(signal)) if isinstance(signal, int) else signal)
        try:
            if self._pidfd < 0:
                raise ProcessLookupError
            pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            raise ContainerError(f"process {self.pid} has ended") from None
        except OSError as error:
            raise from_os_error(error, f"send signal {number}") from None

    def communicate(self, content: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Write `content` to stdin, read stdout and stderr to their ends (those that are PIPE), and wait.

        Raises TimeoutError after `timeout` seconds; the process goes on then.
        """
        found = exchange(self.stdin, {1: self.stdout, 2: self.stderr}, content, timeout)
        self.wait(timeout)
        return found.get(1, b""), found.get(2, b"")

    def close(self) -> None:
        """Close the pipes and the pidfd; a zombie is reaped."""
        self._reap()
        for file in (self.stdin, self.stdout, self.stderr):
            if file:
                file.close()
        if self._pidfd >= 0:
            fd, self._pidfd = self._pidfd, -1
            os.close(fd)
