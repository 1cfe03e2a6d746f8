"""Sandboxes that are made before they are needed: a run then costs what the program itself does."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from ocirt.errors import Error, UsageError
from ocirt.sandbox import channel
from ocirt.sandbox.client import content_of, keeper
from ocirt.sandbox.options import options
from ocirt.sandbox.result import Result


class Pool:
    """`size` sandboxes wait with all done but the program's start; each runs once, and another one takes its place.

    argv and the keywords are those of `run`, but for stdin, which each run has of its own. May be used by any
    number of threads; in a child after fork(2) it is of no use, since its sandboxes are the parent's. Raises
    UsageError; Error if the first sandbox cannot be made.

    >>> with Pool(4, ["python3", "-"], memory="128M", timeout=5) as pool:
    ...     pool.run(stdin="print(6 * 7)").stdout
    b'42\\n'
    """

    def __init__(self, size: int, argv: Sequence[str], **keywords: Any) -> None:
        if size < 1:
            raise UsageError(f"size: expected at least 1, got {size}")
        try:
            chosen = options(argv, **keywords)
        except TypeError as error:
            raise UsageError(str(error)) from None
        self._request = {**chosen, "waits": True, "stdin": b""}
        self._size = size
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._ready: deque[socket.socket] = deque()
        self._ending: list[socket.socket] = []
        self._failed: Error | None = None
        self._wanted = 0  # runs that wait for a sandbox
        self._closed = False
        self._ready.append(self._make())
        self._thread = threading.Thread(target=self._refill, name="ocirt-sandbox-pool", daemon=True)
        self._thread.start()

    def run(self, stdin: bytes | str | int | None = None) -> Result:
        """Let the program run in the next sandbox, as `sandbox.run` does. When it returns, the sandbox's processes are
        gone; the rest of it is removed meanwhile, or by `close`. Raises Error."""
        content = content_of(stdin)
        for tries in range(self._size + 2):
            ours = self._next()
            try:
                try:
                    channel.send(ours, {"stdin": content})
                    reply = channel.receive(ours)[0]
                except (BrokenPipeError, ConnectionResetError):
                    reply = None
                gone = reply is None or "vanished" in reply
                if gone and not self._closed and tries <= self._size:  # it has ended while it waited: the next one
                    continue
                return Result.from_reply(channel.checked(reply))
            finally:
                with self._changed:
                    self._ending.append(ours)
                    self._changed.notify_all()
        raise AssertionError("the last try returns or raises")

    def wait(self) -> None:
        """Until all sandboxes are there. Raises Error if they cannot be made."""
        with self._changed:
            self._check()
            self._changed.wait_for(lambda: len(self._ready) >= self._size or self._failed or self._closed)
            if self._failed:
                raise self._failed

    def close(self) -> None:
        """End all that wait and remove them, and what is left of those that have run."""
        if os.getpid() != self._owner:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            ending = [*self._ready, *self._ending]
            self._ready.clear()
            self._ending.clear()
        for ours in ending:
            ours.shutdown(socket.SHUT_WR)
        for ours in ending:
            _await_end(ours)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if os.getpid() != self._owner:
            raise UsageError("this pool is another process's", hint="make one after fork, not before")
        if self._closed:
            raise UsageError("this pool is closed")

    def _next(self) -> socket.socket:
        """A sandbox that waits."""
        while True:
            with self._changed:
                self._check()
                self._wanted += 1
                self._changed.notify_all()
                try:
                    self._changed.wait_for(lambda: self._ready or self._failed or self._closed)
                finally:
                    self._wanted -= 1
                self._check()
                if self._ready:
                    ours = self._ready.popleft()
                    self._changed.notify_all()
                else:
                    assert self._failed
                    failed, self._failed = self._failed, None  # who comes next makes it try again
                    raise failed
            poller = select.poll()
            poller.register(ours, select.POLLIN)
            if not poller.poll(0):
                return ours
            ours.close()  # one that waits says nothing: it is gone

    def _make(self) -> socket.socket:
        ours = keeper.ask(self._request)
        try:
            channel.checked(channel.receive(ours)[0])
        except BaseException:
            ours.close()
            raise
        return ours

    def _refill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or bool(self._ending) or (not self._failed and len(self._ready) < self._size)
                )
                if self._closed:
                    return
                ending, self._ending = self._ending, []
                missing = not self._failed and len(self._ready) < self._size
            for ours in ending:
                _await_end(ours)
            if not missing:
                continue
            made, failed = None, None
            try:
                made = self._make()
            except Error as error:
                failed = error
            except OSError as error:
                failed = Error(f"cannot make a sandbox: {error}", errno=error.errno or 0)
            with self._changed:
                self._failed = failed
                if made:
                    self._ready.append(made)
                self._changed.notify_all()


def _await_end(ours: socket.socket) -> None:
    """Until the keeper has removed it all: end-of-file."""
    with ours:
        try:
            while ours.recv(65536):
                continue
        except OSError:
            pass
