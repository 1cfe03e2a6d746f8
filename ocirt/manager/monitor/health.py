"""Health checks: now and then a program in the container, whose exit code says how it is (docker's HEALTHCHECK)."""

from __future__ import annotations

import posix
import time

from ocirt.manager.monitor.container import exit_code, here, spawn
from ocirt.manager.monitor.document import SECOND, timestamp
from ocirt.manager.monitor.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.monitor.monitor import Monitor

INTERVAL, TIMEOUT, START_INTERVAL, RETRIES = 30 * SECOND, 30 * SECOND, 5 * SECOND, 3
"""Docker's, where a check does not say otherwise."""
MOST_OUTPUT = 4096
MOST_RESULTS = 5
SIGKILL = 9


class Health:
    """The checks of one container. What it finds is in the state's "health", in the shape of docker's State.Health.

    The process that a check runs is in the file "health" of the run folder, as `ocirt exec --process` takes it.
    """

    def __init__(self, monitor: Monitor, values: dict[str, Any]) -> None:
        self.monitor = monitor
        self.loop = monitor.loop
        self.interval = values.get("interval") or INTERVAL
        self.timeout = values.get("timeout") or TIMEOUT
        self.start_period = values.get("start_period") or 0
        self.start_interval = values.get("start_interval") or START_INTERVAL
        self.retries = values.get("retries") or RETRIES
        self.found: dict[str, Any] = {}
        self._timers: list[int] = []
        self._run = 0
        self._began = 0.0
        self._check: _Check | None = None

    def begin(self) -> dict[str, Any]:
        """The container runs. Returns what is known so far."""
        self._run += 1
        self._began = time.monotonic()
        self.found = {"Status": "starting", "FailingStreak": 0, "Log": []}
        self._later()
        return self.found

    def end(self) -> None:
        """It does not run any more."""
        for number in self._timers:
            self.loop.cancel(number)
        self._timers = []
        check, self._check = self._check, None
        if check:
            check.abandon()

    def _starting(self) -> bool:
        ran = (time.monotonic() - self._began) * SECOND
        return bool(self.found["Status"] == "starting" and ran < self.start_period)

    def _later(self) -> None:
        wait = min(self.start_interval, self.interval) if self._starting() else self.interval
        self._timers = [self.loop.after(wait / SECOND, self._begin_check)]

    def _begin_check(self) -> None:
        if self.monitor.state["status"] != "running":  # paused
            self._later()
            return
        self._check = _Check(self)
        self._timers = [self.loop.after(self.timeout / SECOND, self._check.late)]
        self._check.begin()

    def checked(self, check: _Check, code: int, output: bytes) -> None:
        """A check is over."""
        if check is not self._check:
            return
        self._check = None
        for number in self._timers:
            self.loop.cancel(number)
        text = output.decode("utf-8", "replace")
        entry = {"Start": timestamp(check.start), "End": timestamp(time.time_ns()), "ExitCode": code, "Output": text}
        self.found["Log"] = [*self.found["Log"][1 - MOST_RESULTS :], entry]
        if code == 0:
            self.found.update(Status="healthy", FailingStreak=0)
        elif not self._starting():
            self.found["FailingStreak"] += 1
            if self.found["FailingStreak"] >= self.retries:
                self.found["Status"] = "unhealthy"
        self.monitor.write_state()
        self._later()


class _Check:
    """One of them. Its process is our child when the runtime has begun it."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self.loop = health.loop
        self.start = time.time_ns()
        self._pid = 0
        self._output = b""
        self._cut = False
        self._late = False
        self._pipe, self._theirs = posix.pipe2(posix.O_CLOEXEC)
        posix.set_blocking(self._pipe, False)

    def begin(self) -> None:
        container = self.health.monitor.container
        self.loop.watch(self._pipe, IN, lambda _events: self._read())
        self.loop.keep_unclaimed = True
        files = ["--pid-file", here("health.pid"), "--process", here("health")]
        args = [*container.runtime, "exec", "--detach", *files, container.id]
        try:
            self._pid = spawn(args, 0, self._theirs, self._theirs)
        except OSError as error:
            self._over(-1, f"cannot execute {args[0]}: {error.strerror}".encode())
            return
        finally:
            posix.close(self._theirs)
        self.loop.child(self._pid, self._begun)

    def _begun(self, status: int) -> None:
        if status or self._late:
            self.loop.claimed()
            self._read()
            self._over(-1, self._output)
            return
        try:
            fd = posix.open("health.pid", posix.O_RDONLY | posix.O_CLOEXEC)
            self._pid = int(posix.read(fd, 64))
            posix.close(fd)
        except (OSError, ValueError) as error:
            self.loop.claimed()
            self._over(-1, f"no pid of the health check: {error}".encode())
            return
        self.loop.child(self._pid, lambda status: self._ended(exit_code(status)))
        self.loop.claimed()

    def _ended(self, code: int) -> None:
        self._pid = 0
        self._read()
        self._over(-1 if self._late else code, self._output)

    def late(self) -> None:
        """It has had its time. It is our child, so its pid is still its own."""
        self._late = True
        self._cut = False
        seconds = f"{self.health.timeout / SECOND:g}s"
        self._output = f"Health check exceeded timeout ({seconds})".encode()
        if self._pid:
            posix.kill(self._pid, SIGKILL)

    def abandon(self) -> None:
        """The container is gone, and it with it."""
        self._over(-1, b"")

    def _read(self) -> None:
        try:
            while self._pipe >= 0:
                data = posix.read(self._pipe, 1 << 14)
                if not data:
                    self.loop.forget(self._pipe)
                    return
                if not self._late:
                    room = MOST_OUTPUT - len(self._output)
                    self._cut = self._cut or len(data) > room
                    self._output += data[:room]
        except BlockingIOError:
            pass

    def _over(self, code: int, output: bytes) -> None:
        if self._pipe >= 0:
            self.loop.forget(self._pipe)
            posix.close(self._pipe)
            self._pipe = -1
        self.health.checked(self, code, output + b"..." * self._cut)
