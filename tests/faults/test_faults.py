"""Every system call of create, start, run, exec and delete fails in turn, on the host's side and in init: whatever it
is, the command says what failed in one line, and nothing is left; or it did not matter, and all is as it should be.

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
        if done.code == 127 and fault.role == "host":  # the dynamic linker's, before there is anything of ours
            assert re.search(r"error while loading shared libraries|cannot allocate", done.err), done
            return
        assert done.code in codes, done
        assert done.err.endswith("\n") and done.err[:-1].isprintable(), f"not one line: {done}"
        assert done.err.startswith("ocirt: ") and "a defect in ocirt" not in done.err, done
        if fault.role == "spawned" and "init ended with status 125 before it was ready" in done.err:
            return  # before it knows whom to tell
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


def kinds(calls: list[tuple[str, str]], role: str, actions: tuple[str, ...] = ()) -> list[Fault]:
    """The faults to try: not that the caller's execve fails, which is not ours."""
    return sample([fault for fault in faults_of(calls, role, actions) if (fault.role, fault.number) != ("host", 0)])


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_a_call_that_fails_in_create_or_start(host: Host, rich_bundle: Bundle, role: str) -> None:
    """init's calls: both verbs'; the host's: of `create`."""
    words = ("create", "--bundle", rich_bundle.path, "x")
    calls = last_execve(host.record(*words, then=lambda: (host.runtime("start", "x"), host.can_be_deleted())))
    for fault in kinds(calls, role):
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


def test_a_call_that_fails_in_start(host: Host, rich_bundle: Bundle) -> None:
    """Either the container is as it was, or it runs, or it is stopped; never a thing between."""
    create = ("create", "--bundle", rich_bundle.path, "x")
    assert host.runtime(*create).code == 0
    calls = host.record("start", "x")
    host.can_be_deleted()
    for fault in kinds(calls, "host"):
        with host.during(fault):
            assert host.runtime(*create).code == 0
            with host.injected(fault, "start", "x") as command:
                done = command.ended()
                command.all_ended()
            if done.code != 0:
                host.refused(done, fault)
            host.can_be_deleted({"running", "stopped"} if done.code == 0 else {"created", "running", "stopped"})
    host.finish()


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_a_call_that_fails_in_run(host: Host, rich_bundle: Bundle, role: str) -> None:
    """It undoes what it did, or has run the program, whose exit code it has."""
    rich_bundle.config["process"]["args"] = ["sh", "-c", "exit 7"]
    words = ("run", "--bundle", rich_bundle.write().path, "x")
    with host.injected(None, *words) as command:
        assert command.ended().code == 7
        command.all_ended()
    for fault in kinds(last_execve(command.calls), role):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            if done.code != 7:
                host.refused(done, fault)
            host.can_be_deleted()
            command.all_ended()
    host.finish()


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_a_call_that_fails_in_exec(host: Host, rich_bundle: Bundle, role: str) -> None:
    """The container goes on, with no process more than before, and another exec works."""
    rich_bundle.config["process"]["args"] = ["sleep", "1000"]
    assert host.runtime("run", "--detach", "--bundle", rich_bundle.write().path, "x").code == 0
    clean, host.before = host.before, traces(host.runtime.root)
    alone = host.runtime("ps", "--format", "json", "x").out
    words = ("exec", "x", "sh", "-c", "exit 7")
    with host.injected(None, *words) as command:
        assert command.ended().code == 7
        command.all_ended()
    for fault in kinds(last_execve(command.calls), role):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            command.all_ended()
            if done.code != 7:
                host.refused(done, fault, codes=(255,))
            host.same()
            assert host.runtime("ps", "--format", "json", "x").out == alone
    assert host.runtime(*words).code == 7
    host.before = clean
    host.can_be_deleted({"running"})
    host.finish()


@pytest.mark.parametrize("force", [False, True])
def test_a_call_that_fails_in_delete(host: Host, rich_bundle: Bundle, force: bool) -> None:
    """It can be done again, with --force at least, and then nothing is left."""
    if force:
        rich_bundle.config["process"]["args"] = ["sleep", "1000"]
        rich_bundle.write()
    make = ("run", *(["--detach"] if force else ["--keep"]), "--bundle", rich_bundle.path, "x")
    words = ("delete", *(["--force"] if force else []), "x")
    assert host.runtime(*make).code == 0
    calls = host.record(*words)
    host.same()
    for fault in kinds(calls, "host"):
        with host.during(fault):
            assert host.runtime(*make).code == 0
            with host.injected(fault, *words) as command:
                done = command.ended()
                command.all_ended()
            if done.code != 0:
                host.refused(done, fault)
                host.can_be_deleted({"running", "stopped"})
            else:
                host.same()
    host.finish()
