"""Every system call of create, start, run, exec and delete fails in turn, on the host's side and in init: whatever it
is, the command says what failed in one line, and nothing is left; or it did not matter, and all is as it should be.

A command is run once to see which calls it makes, and then again for each of them and each errno that errnos.py has for
it. $OCIRT_FAULTS=all does all of that (some thousands of commands, a few minutes); else a sample, the same each time.
"""

from __future__ import annotations

import pytest
from checking import STATUSES, Host, kinds, last_execve
from support import Bundle, traces

pytestmark = pytest.mark.root


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_a_call_that_fails_in_create_or_start(host: Host, rich_bundle: Bundle, role: str) -> None:
    """init's calls: both verbs'; the host's: of `create`."""
    words = ("create", "--bundle", rich_bundle.path, "x")
    calls = last_execve(host.record(*words, then=lambda: (host.runtime("start", "x"), host.can_be_deleted())))
    for fault in kinds(calls, role):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            if done.code != 0:
                host.refused(done, fault, command.hit)
                command.all_ended()  # whose pid was never said, that ends a moment later
                host.same()
            else:
                started = host.runtime("start", "x")
                if started.code != 0:
                    command.look()
                    host.refused(started, fault, command.hit)
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
                host.refused(done, fault, command.hit)
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
            command.all_ended()
            if done.code != 7:
                host.refused(done, fault, command.hit)
            host.can_be_deleted()
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
                host.refused(done, fault, command.hit, codes=(255,))
            host.same()
            assert host.runtime("ps", "--format", "json", "x").out == alone
    host.finish()
    assert host.runtime(*words).code == 7
    host.before = clean
    host.can_be_deleted({"running"})


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
                host.refused(done, fault, command.hit)
                host.can_be_deleted({"running", "stopped"})
            else:
                host.same()
    host.finish()
