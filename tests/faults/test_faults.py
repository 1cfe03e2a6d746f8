"""Every system call of create, start, run, exec and delete fails in turn, on the host's side and in init: whatever it is,
the command says what failed in one line, and nothing is left; or it did not matter, and the container is as it should be.

A command is run once to see which calls it makes, and then again for each of them and each errno that errnos.py has for
it. $OCIRT_FAULTS=all does all of that (some thousands of commands, a few minutes); else a sample, the same each time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from injecting import Fault, Injected, faults_of
from support import CACHE, Bundle, Done, Runtime, traces

pytestmark = pytest.mark.root
ALL = os.environ.get("OCIRT_FAULTS") == "all"
SAMPLE = 24
"""Faults of each kind where not all are tried."""
STATUSES = {"creating", "created", "running", "paused", "stopped"}


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

    def refused(self, done: Done, fault: Fault, codes: tuple[int, ...] = (1,)) -> None:
        """One line, which says what failed."""
        if done.code == 127:  # the dynamic linker, before there is anything of ours
            assert re.fullmatch(r"\S*: error while loading shared libraries: .*\n", done.err), done
            return
        assert done.code in codes, done
        assert done.err.endswith("\n") and done.err[:-1].isprintable(), f"not one line: {done}"
        assert done.err.startswith("ocirt: ") and "a defect in ocirt" not in done.err, done
        if fault.errno:
            assert os.strerror(fault.errno).lower() in done.err.lower(), f"does not say why: {done}"

    def same(self) -> None:
        """Nothing is left, and no temporary file beside the filters."""
        for kind, was in vars(self.before).items():
            now = vars(traces(self.runtime.root))[kind]
            assert now == was, f"left: {kind}: {[item for item in now if item not in was]}"
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


@pytest.fixture
def host(injector: Path, runtime: Runtime, rich_bundle: Bundle) -> Host:
    """With the filter of the bundle in the cache: compiling it is another test's."""
    assert runtime("run", "--bundle", rich_bundle.path, "warm").code == 0
    return Host(injector, runtime)


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_a_call_that_fails_in_create_or_start(host: Host, rich_bundle: Bundle, role: str) -> None:
    """init's calls: both verbs'; the host's: of `create`."""
    words = ("create", "--bundle", rich_bundle.path, "x")
    calls = last_execve(host.record(*words, then=lambda: (host.runtime("start", "x"), host.can_be_deleted())))
    for fault in sample(faults_of(calls, role)):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            if done.code != 0:
                host.refused(done, fault)
                host.same()
            else:
                started = host.runtime("start", "x")
                if started.code != 0:
                    host.refused(started, fault)
                else:
                    assert command.hit or role == "init", "the call was not made"
                host.can_be_deleted({"stopped", "running"} if started.code == 0 else STATUSES)
            command.all_ended()
    host.finish()
