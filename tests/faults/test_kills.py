"""Whoever makes a container is killed or stopped, at every system call: ocirt itself, or init.

After a SIGKILL of ocirt nobody has cleaned up: `list` works, `state` says something possible, and `delete --force`, or
`gc --force` where it was never finished, leaves nothing. After one of init ocirt says so and leaves nothing itself.
Who was only stopped goes on.
"""

from __future__ import annotations

import json
import signal
import time
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from checking import Host, kinds, last_execve
from injecting import Fault
from support import Bundle, Runtime

pytestmark = pytest.mark.root
KILL, STOP, TERM = ("kill",), ("stop",), ("term",)


def words_of(verb: str, bundle: Bundle) -> tuple[str | Path, ...]:
    """A command line that makes a container, with a program that does not end."""
    bundle.config["process"]["args"] = ["sleep", "1000"]
    return (*verb.split(), "--bundle", bundle.write().path, "x")


def left_by(host: Host, fault: Fault) -> None:
    """gc's or, every other time, `delete --force`'s to remove."""
    if fault.number % 2:
        until = time.monotonic() + 30
        while "creating" in host.runtime("list").out:  # init has yet to find out that its host is gone
            assert time.monotonic() < until, "init goes on without its host"
        done = host.runtime("gc", "--force", "--format", "json")
        assert (done.code, done.err) == (0, ""), done
        assert all(one["removed"] for one in json.loads(done.out)), done
    host.can_be_deleted()


@pytest.mark.parametrize("verb", ["create", "run --detach"])
def test_ocirt_is_killed_while_it_makes_a_container(host: Host, rich_bundle: Bundle, verb: str) -> None:
    words = words_of(verb, rich_bundle)
    calls = host.record(*words, then=host.can_be_deleted)
    for fault in kinds(calls, "host", KILL):
        with host.during(fault), host.injected(fault, *words) as command:
            code = command.ended().code
            assert code == (-signal.SIGKILL if command.hit else 0)
            left_by(host, fault)
            command.all_ended()
    host.finish()


@pytest.mark.parametrize("role", ["spawned", "init"])
def test_init_is_killed_while_a_container_is_made(host: Host, rich_bundle: Bundle, role: str) -> None:
    words = words_of("run --detach", rich_bundle)
    calls = last_execve(host.record(*words, then=host.can_be_deleted))
    for fault in kinds(calls, role, KILL):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            if command.hit:
                host.refused(done, fault, command.hit)
                command.all_ended()  # whose pid was never said, that ends a moment later
                host.same()
            host.can_be_deleted()
            command.all_ended()
    host.finish()


@pytest.mark.parametrize("verb", ["start", "exec"])
def test_ocirt_is_killed_while_it_starts_a_process(host: Host, rich_bundle: Bundle, verb: str) -> None:
    create = words_of("create", rich_bundle)
    words = ("start", "x") if verb == "start" else ("exec", "x", "true")
    assert host.runtime(*create).code == 0
    for fault in kinds(host.record(*words), "host", KILL):
        with host.during(fault):
            host.runtime(*create)
            with host.injected(fault, *words) as command:
                code = command.ended().code
                assert code == (-signal.SIGKILL if command.hit else 0)
                command.all_ended()
            assert host.runtime("gc", "--force").code == 0
            host.can_be_deleted({"created", "running"})
    host.finish()


def test_ocirt_is_killed_while_it_deletes_a_container(host: Host, rich_bundle: Bundle) -> None:
    make = words_of("run --detach", rich_bundle)
    assert host.runtime(*make).code == 0
    for fault in kinds(host.record("delete", "--force", "x"), "host", KILL):
        with host.during(fault):
            assert host.runtime(*make).code == 0
            with host.injected(fault, "delete", "--force", "x") as command:
                code = command.ended().code
                assert code == (-signal.SIGKILL if command.hit else 0)
                command.all_ended()
            host.can_be_deleted({"running", "stopped"})
    host.finish()


@pytest.mark.parametrize("role", ["host", "spawned", "init"])
def test_who_is_stopped_for_a_while_goes_on(host: Host, rich_bundle: Bundle, role: str) -> None:
    words = words_of("run --detach", rich_bundle)
    calls = last_execve(host.record(*words, then=host.can_be_deleted))
    for fault in kinds(calls, role, STOP):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            assert (done.code, done.out, done.err) == (0, "", ""), done
            assert host.runtime.state("x")["status"] == "running"
            host.can_be_deleted()
            command.all_ended()
    host.finish()


def test_an_init_that_is_stopped_for_good_is_undone_when_ocirt_is_told_to_end(host: Host, rich_bundle: Bundle) -> None:
    """SIGSTOP of init at every call, and SIGTERM for ocirt, which waits for it. Not of what it is cloned from: until
    that has said init's pid, ocirt has its signals blocked, and only SIGCONT or SIGKILL help."""
    words = words_of("create", rich_bundle)
    calls = host.record(*words, then=host.can_be_deleted)
    for fault in kinds(calls, "init", TERM):
        with host.during(fault), host.injected(fault, *words) as command:
            done = command.ended()
            assert (done.code, done.err) in ((128 + signal.SIGTERM, ""), (0, "")), done
            if done.code:
                host.same()
            host.can_be_deleted()
            command.all_ended()
    host.finish()


def test_what_is_injected_is_what_the_plan_says(host: Host, runtime: Runtime, rich_bundle: Bundle) -> None:
    """The calls that are held up are the plan's steps in their order, but for branches that were not taken."""
    rich_bundle.config["process"]["args"] = ["sh"]
    calls = host.record("create", "--bundle", rich_bundle.write().path, "x", then=host.can_be_deleted)
    made = [name for role, name in calls if role in ("spawned", "init")]
    steps = json.loads(runtime("explain", "--json", rich_bundle.path).out)["steps"]
    planned = [step["call"] for step in steps if step["call"]]
    common = sum(block.size for block in SequenceMatcher(None, made, planned, autojunk=False).get_matching_blocks())
    assert len(made) > 250 and common > 0.8 * len(made), (len(made), len(planned), common)
