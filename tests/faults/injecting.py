"""Commands in which one system call goes wrong."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from errnos import ERRNOS, NUMBERS, OTHERS, call_names
from support import CACHE, OCIRT, Done

PATIENCE = 60.0
"""Seconds that any command may take on a machine that is busy."""


@dataclass(frozen=True)
class Fault:
    """The `number`th call of a role's fails, or is where the process is killed or stopped: see injector.c."""

    role: str
    number: int
    call: str
    action: str
    early: bool = False
    """Is it the dynamic linker's, before there is anything of ours?"""

    @property
    def errno(self) -> int:
        return NUMBERS.get(self.action, 0)

    def __str__(self) -> str:
        return f"{self.role} {self.number} {self.call}: {self.action}"


@dataclass
class Injected:
    """A command under the injector: `ended` when it has; the injector goes on while any process of it is there.

    hit: the call that was. How many there are depends a little on who is faster, so it may be a neighbour of the one
    that was meant, or none: "".
    """

    injector: Path
    root: Path
    words: tuple[str | Path, ...]
    fault: Fault | None = None
    hit: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Injected:
        self._out = tempfile.TemporaryFile("w+")
        self._err = tempfile.TemporaryFile("w+")
        self._report, theirs = os.pipe()
        fault = self.fault
        what = (fault.role, fault.number, fault.errno or fault.action) if fault else ("host", 0, "record")
        self._process = subprocess.Popen(
            [str(word) for word in (self.injector, theirs, *what, OCIRT, "--root", self.root, *self.words)],
            env={"OCIRT_CACHE": CACHE},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            pass_fds=[theirs],
        )
        os.close(theirs)
        self._read = b""
        return self

    def _line(self, until: float) -> str:
        """The next line of the report; "" when the injector has ended. Raises TimeoutError."""
        while b"\n" not in self._read:
            if not select.select([self._report], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError
            chunk = os.read(self._report, 65536)
            if not chunk:
                return ""
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def ended(self) -> Done:
        """When the command itself has. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while line := self._line(until):
            name, _, value = line.partition(" ")
            if name == "exit":
                for file in (self._out, self._err):
                    file.seek(0)
                return Done(os.waitstatus_to_exitcode(int(value)), self._out.read(), self._err.read())
            self._note(name, int(value))
        raise AssertionError(f"the injector ended with {self._process.wait()}: {self._err.read()}")

    def _note(self, name: str, value: int) -> None:
        if name == "hit":
            self.hit = call_names()[value]
        else:
            self.calls.append((name, call_names()[value]))

    def look(self) -> None:
        """Take note of what has been reported so far, of a command that has ended."""
        while select.select([self._report], [], [], 0)[0]:
            chunk = os.read(self._report, 65536)
            if not chunk:
                break
            self._read += chunk
        *lines, self._read = self._read.split(b"\n")
        for line in lines:
            name, _, value = line.decode().partition(" ")
            self._note(name, int(value))

    def all_ended(self) -> None:
        """When every process that the command has started is gone, and what those have started. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while line := self._line(until):
            name, _, value = line.partition(" ")
            self._note(name, int(value))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:  # what is held up goes on with ENOSYS
            self._process.send_signal(signal.SIGKILL)
        code = self._process.wait(PATIENCE)
        for file in (self._out, self._err):
            file.close()
        os.close(self._report)
        assert error or code == 0, code


def faults_of(calls: list[tuple[str, str]], role: str, actions: tuple[str, ...] = ()) -> list[Fault]:
    """Every call of a role with each errno that it can fail with, or with these actions instead."""
    names = [name for whose, name in calls if whose == role]
    ours = names.index("readlinkat") if role == "host" else 0  # launcher/starting.h: where it is installed
    return [
        Fault(role, number, name, action, number < ours)
        for number, name in enumerate(names)
        for action in (actions or ERRNOS.get(name, OTHERS))
    ]
