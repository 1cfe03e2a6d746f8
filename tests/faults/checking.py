"""What is checked after every fault, and which faults are tried."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from injecting import Fault, Injected, faults_of
from support import CACHE, Done, Runtime, traces

ALL = os.environ.get("OCIRT_FAULTS") == "all"
SAMPLE = 5
"""Faults of each kind where not all are tried."""
STATUSES = {"creating", "created", "running", "paused", "stopped"}


LAUNCHER = "(pip install ocirt anew)"
"""What it says before there is Python: then the exit code of a failed `exec` is not yet another."""
OTHER_WORDS = {
    ("host", "readlinkat"): "cannot find out where it is installed",  # there is no Python yet
    ("host", "faccessat"): "cannot find its Python package",
    ("host", "readlink"): "it is running, not created",  # EACCES: the process is somebody else's
    ("spawned", "lseek"): "init ended with status 125 before it was ready",  # it does not know whom to tell
    ("spawned", "mmap"): "init ended with status 125 before it was ready",
    ("init", "faccessat2"): "executable file not found in $PATH",  # by each that cannot be looked at
    ("init", "read"): "it is stopped, not created",  # `create` has ended: there is nobody to tell
    ("init", "openat"): "it is stopped, not created",
}
"""(whose, call) → what is said if not what the kernel says."""


def sample(faults: list[Fault], most: int = SAMPLE) -> list[Fault]:
    """By a stride that is no divisor of the number of errnos that many calls have."""
    stride = 1 if ALL else len(faults) // most | 1
    return faults[::stride]


def last_execve(calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what the user's program did."""
    last = max(at for at, call in enumerate(calls) if call == ("init", "execve"))
    return [call for at, call in enumerate(calls) if call[0] != "init" or at <= last]


class Host:
    """What is there before a fault, and must be there after it."""

    def __init__(self, injector: Path, runtime: Runtime) -> None:
        self.injector = injector
        self.runtime = runtime
        self.before = traces(runtime.root)
        self.wrong: list[str] = []

    def injected(self, fault: Fault | None, *words: str | Path) -> Injected:
        return Injected(self.injector, self.runtime.root, words, fault)

    def record(self, *words: str | Path, then: Callable[[], object] = lambda: None) -> list[tuple[str, str]]:
        with self.injected(None, *words) as command:
            done = command.ended()
            assert done.code == 0, done
            then()
            command.all_ended()
        return command.calls

    @contextmanager
    def during(self, fault: Fault) -> Iterator[None]:
        """What goes wrong is noted with its fault, and the others still have their turn."""
        try:
            yield
        except (AssertionError, TimeoutError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            self.wrong.append(f"{fault}: {lines[0]}")
            self.runtime("delete", "--force", "x")

    def refused(self, done: Done, fault: Fault, hit: str, codes: tuple[int, ...] = (1,)) -> None:
        """One line, which says what failed, and why. hit: the call that did."""
        assert hit, f"without a fault: {done}"
        if fault.early:
            assert done.code in (127, -signal.SIGSEGV), done  # glibc's linker does not look at every mmap
            return
        assert done.code in codes or (done.code == 1 and LAUNCHER in done.err), done
        assert done.err.endswith("\n") and done.err[:-1].isprintable(), f"not one line: {done}"
        assert done.err.startswith("ocirt: ") and "a defect in ocirt" not in done.err, done
        if "before it was ready" in done.err and hit in ("lseek", "mmap", "sendmsg", "read"):
            return  # init does not know yet whom to tell: it has no plan
        if fault.errno and hit == fault.call and OTHER_WORDS.get((fault.role, hit), "\0") not in done.err:
            assert os.strerror(fault.errno).lower() in done.err.lower(), f"does not say why: {done}"

    def same(self) -> None:
        """Nothing is left, and no temporary file beside the filters. A process that just ends may be seen for a moment
        more: newer kernels take its filter from it, which is what we wait for, before its memory."""
        until = time.monotonic() + 10
        while (now := traces(self.runtime.root)) != self.before and time.monotonic() < until:
            time.sleep(0.01)
        for kind, was in vars(self.before).items():
            found = vars(now)[kind]
            assert found == was, f"left: {kind}: {[item for item in found if item not in was]}"
        assert not [name for name in os.listdir(CACHE) if name.startswith(".")], "a temporary file in the cache"

    def can_be_deleted(self, statuses: set[str] = STATUSES) -> None:
        """`list` and `state` work, `delete --force` works, and then nothing is left."""
        listed = self.runtime("list", "--format", "json")
        assert (listed.code, listed.err) == (0, ""), listed
        for entry in json.loads(listed.out):
            assert entry["status"] in statuses, entry
        done = self.runtime("delete", "--force", "x")
        assert (done.code, done.err) == (0, ""), done
        self.same()

    def finish(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} faults:\n" + "\n".join(self.wrong)


def kinds(calls: list[tuple[str, str]], role: str, actions: tuple[str, ...] = ()) -> list[Fault]:
    """The faults to try: not that the caller's execve fails, which is not ours."""
    return sample([fault for fault in faults_of(calls, role, actions) if (fault.role, fault.number) != ("host", 0)])
