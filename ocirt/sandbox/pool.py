"""Sandboxes that are made before they are needed: a run then costs what the program itself does."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ocirt.errors import Error, UsageError
from ocirt.sandbox import channel
from ocirt.sandbox.client import content_of, keeper
from ocirt.sandbox.options import environment_of, options, program_of, timeout_of
from ocirt.sandbox.result import Result

QUIET = 0.004
"""Seconds without a run's beginning or end after which sandboxes are made and removed: so that a run has the machine
for itself. A pool that is half empty does not wait for that, nor does a run that finds none."""


class Pool:
    """`size` sandboxes wait with all done but the program's start; each runs once, and another one takes its place.

    argv and the keywords are those of `run`, but for stdin, which each run has of its own. argv: what a run executes
    that is given no program. May be used by any number of threads; in a child after fork(2) it is of no use, since its
    sandboxes are the parent's. Raises UsageError; Error if the first sandbox cannot be made.

    >>> with Pool(4, memory="128M", timeout=5) as pool:
    ...     pool.run(["python3", "-"], stdin="print(6 * 7)").stdout
    b'42\\n'
    """

    def __init__(self, size: int, argv: Sequence[str] | None = None, **keywords: Any) -> None:
        if size < 1:
            raise UsageError(f"size: expected at least 1, got {size}")
        try:
            self._options = options(argv, **keywords)
        except TypeError as error:
            raise UsageError(str(error)) from None
        self._size = size
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._ready: deque[socket.socket] = deque()
        self._ending: list[socket.socket] = []
        self._failed: Error | None = None
        self._wanted = 0  # runs that wait for a sandbox
        self._last = 0.0  # when a run began or ended (time.monotonic())
        self._hurry = 0  # callers of `wait`
        self._closed = False
        self._ready.append(self._make())
        self._thread = threading.Thread(target=self._refill, name="ocirt-sandbox-pool", daemon=True)
        self._thread.start()

    def run(
        self,
        argv: Sequence[str] | None = None,
        *,
        stdin: bytes | str | int | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Let a program run in the next sandbox, as `sandbox.run` does.

        argv, timeout: None for the pool's. env: variables beside, and instead of, the pool's. When it returns, the
        sandbox's processes are gone; the rest of it is removed meanwhile, or by `close`. Raises UsageError, Error,
        KernelError if the program cannot be executed.
        """
        asked = self._asked(argv, stdin, env, timeout)
        for tries in range(self._size + 2):
            ours = self._next()
            try:
                try:
                    channel.send(ours, asked)
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
                    self._last = time.monotonic()
                    self._changed.notify_all()
        raise AssertionError("the last try returns or raises")

    def _asked(
        self,
        argv: Sequence[str] | None,
        stdin: bytes | str | int | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
    ) -> dict[str, Any]:
        ours = self._options
        program = ours["argv"] if argv is None else program_of(argv)
        if program is None:
            raise UsageError("argv: neither this run nor the pool has one")
        return {
            "argv": program,
            "env": environment_of(env or {}),
            "stdin": content_of(stdin),
            "timeout": timeout_of(timeout) or ours["timeout"],
            "max_output": ours["max_output"],
        }

    def wait(self) -> None:
        """Until all sandboxes are there. Raises Error if they cannot be made."""
        with self._changed:
            self._check()
            self._hurry += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: len(self._ready) >= self._size or self._failed or self._closed)
            finally:
                self._hurry -= 1
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
        _end(ending)
        _await_end(ending)

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
                    self._last = time.monotonic()
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
        ours, reply = keeper.exchange({**self._options, "waits": True})
        try:
            channel.checked(reply)
        except BaseException:
            ours.close()
            raise
        return ours

    def _await_work(self) -> None:
        """Until there is something to make or to remove, and it disturbs no run; or the pool is closed."""
        while not self._closed:
            missing = 0 if self._failed else self._size - len(self._ready)
            quiet = self._last + QUIET - time.monotonic()
            urgent = missing and (self._wanted or self._hurry or 2 * missing > self._size)
            if (missing or self._ending) and (urgent or quiet <= 0 or len(self._ending) > self._size):
                return
            self._changed.wait(quiet if missing or self._ending else None)

    def _refill(self) -> None:
        while True:
            with self._changed:
                self._await_work()
                if self._closed:
                    return
                ending, self._ending = self._ending, []
                missing = not self._failed and len(self._ready) < self._size
            _end(ending)
            if missing:
                self._add()
            _await_end(ending)

    def _add(self) -> None:
        """One more, or why there is none."""
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


def _end(sandboxes: Sequence[socket.socket]) -> None:
    """Tell the keeper to remove them."""
    for ours in sandboxes:
        ours.shutdown(socket.SHUT_WR)


def _await_end(sandboxes: Sequence[socket.socket]) -> None:
    """Until the keeper has removed all of them: end-of-file."""
    for ours in sandboxes:
        with ours:
            try:
                while ours.recv(65536):
                    continue
            except OSError:
                continue
