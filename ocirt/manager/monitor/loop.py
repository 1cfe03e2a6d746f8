"""One thread that waits for descriptors, children and times."""

from __future__ import annotations

import _signal
import posix
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGCHLD = 17
IN, OUT, GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR


class Loop:
    """Calls what was registered, until `stop`."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._children: dict[int, Callable[[int], None]] = {}
        self._unclaimed: dict[int, int] = {}
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next = 0
        self.keep_unclaimed = False
        self._running = True
        wake, self._wakeup = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._wake = wake
        _signal.signal(SIGCHLD, _nothing)
        _signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self.watch(wake, IN, self._reap)

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """handler(events) whenever one of `events` is there, or GONE. Called again: other events."""
        self._poll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Before it is closed, or for a while."""
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def watches(self, fd: int) -> bool:
        return fd in self._handlers

    def child(self, pid: int, ended: Callable[[int], None]) -> None:
        """ended(status), as waitpid(2) gives it: also if it has ended already, if keep_unclaimed was set before."""
        if pid in self._unclaimed:
            ended(self._unclaimed.pop(pid))
        else:
            self._children[pid] = ended

    def claimed(self) -> None:
        """No child that is not known yet is waited for."""
        self.keep_unclaimed = False
        self._unclaimed.clear()

    def after(self, seconds: float, call: Callable[[], None]) -> int:
        """Once. Returns a number for `cancel`."""
        self._next += 1
        self._timers[self._next] = (time.monotonic() + seconds, call)
        return self._next

    def cancel(self, number: int) -> None:
        """0, and one that was called, are no error."""
        self._timers.pop(number, None)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            timeout = None
            if self._timers:
                first = min(when for when, _ in self._timers.values())
                timeout = max(0.0, first - time.monotonic()) * 1000 + 1
            for fd, events in self._poll.poll(timeout):
                handler = self._handlers.get(fd)  # another handler may have ended it
                if handler:
                    handler(events)
            if self._timers:
                now = time.monotonic()
                for number, (when, call) in list(self._timers.items()):
                    if when <= now and number in self._timers:
                        del self._timers[number]
                        call()

    def _reap(self, _events: int) -> None:
        """Of children and of whoever lost its parent below us: we are its subreaper."""
        try:
            posix.read(self._wake, 512)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            ended = self._children.pop(pid, None)
            if ended:
                ended(status)
            elif self.keep_unclaimed:
                self._unclaimed[pid] = status


def _nothing(_number: int, _frame: object) -> None:
    """A signal without a handler does not wake the loop."""
