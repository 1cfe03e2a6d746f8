"""ocirt-init that goes ahead of its plan: into new namespaces, where it waits. In a user namespace, so without root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from errno import EPROTO
from pathlib import Path

import pytest
from init.running import TIMEOUT, Host, Message
from support import BUSYBOX

from ocirt.plan.encode import encode
from ocirt.plan.kernel import CLONE_NEWUSER, CLONE_PARENT
from ocirt.plan.step import Plan, Vector
from ocirt.plan.wire import MSG_ERROR, MSG_GO, MSG_PID, MSG_SYNC, REPLY

FLAGS = CLONE_PARENT | CLONE_NEWUSER
NO_FLAGS = FLAGS | 0x00000200  # CLONE_FS, which clone(2) refuses together with a user namespace


class Waiting:
    """init, which waits for a plan."""

    def __init__(self, host: Host, flags: int) -> None:
        self.host = host
        self.plan = os.memfd_create("plan")
        command = [*host.command, str(self.plan), str(host.theirs.fileno()), str(flags)]
        fds = (self.plan, host.theirs.fileno())
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        host.theirs.close()

    def give(self, plan: Plan) -> None:
        os.write(self.plan, encode(plan).content)
        self.host.ours.send(REPLY.pack(MSG_GO, 0))

    def message(self) -> Message:
        message = self.host.receive()
        assert message is not None, "init ended without a word"
        return message

    def close(self) -> None:
        os.close(self.plan)
        self.host.ours.close()
        self.process.kill()
        self.process.wait(TIMEOUT)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def waiting(host: Host) -> Iterator[Waiting]:
    if host.command[0] != host.command[-1]:
        pytest.skip("qemu-user passes no clone3 on")
    one = Waiting(host, FLAGS)
    yield one
    one.close()


def whole(host: Host, flags: int) -> Plan:
    """A plan that makes the same namespaces, meets the host and becomes a program."""
    host.plan.clone(flags)
    host.plan.sync(7)
    host.plan.call("execve", str(BUSYBOX), Vector(["echo", "inside"]), Vector([]))
    return host.plan


def test_it_is_in_its_namespace_before_there_is_a_plan(host: Host, waiting: Waiting) -> None:
    said = waiting.message()
    assert said.kind == MSG_PID
    assert os.readlink(f"/proc/{said.value}/ns/user") != os.readlink("/proc/self/ns/user")
    assert waiting.process.wait(TIMEOUT) == 0  # the first process has nothing more to do
    waiting.give(whole(host, FLAGS))
    met = waiting.message()
    assert (met.kind, met.value) == (MSG_SYNC, 7)
    host.ours.send(REPLY.pack(MSG_GO, 0))
    assert waiting.process.stdout
    assert waiting.process.stdout.read() == b"inside\n"
    assert os.waitstatus_to_exitcode(os.waitpid(said.value, 0)[1]) == 0


def test_a_plan_with_another_clone_is_refused(host: Host, waiting: Waiting) -> None:
    pid = waiting.message().value
    waiting.give(whole(host, CLONE_PARENT))
    said = waiting.message()
    assert (said.kind, said.step, said.value) == (MSG_ERROR, 0, EPROTO)
    os.waitpid(pid, 0)


def test_it_ends_when_the_host_is_gone(host: Host, waiting: Waiting) -> None:
    pid = waiting.message().value
    host.ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_it_ends_when_it_is_told_anything_else(host: Host, waiting: Waiting) -> None:
    pid = waiting.message().value
    host.ours.send(REPLY.pack(MSG_SYNC, 0))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_an_empty_plan_is_none(host: Host, waiting: Waiting) -> None:
    pid = waiting.message().value
    host.ours.send(REPLY.pack(MSG_GO, 0))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125


def test_where_it_cannot_go_ahead_the_plan_has_the_last_word(host: Host) -> None:
    if host.command[0] != host.command[-1]:
        pytest.skip("qemu-user passes no clone3 on")
    waiting = Waiting(host, NO_FLAGS)
    try:
        said = waiting.message()
        assert (said.kind, said.value) == (MSG_PID, 0)
        waiting.give(whole(host, FLAGS))
        said = {one.kind: one.value for one in (waiting.message(), waiting.message())}  # either may be faster
        assert said.keys() == {MSG_PID, MSG_SYNC}
        assert said[MSG_PID] > 0
        host.ours.send(REPLY.pack(MSG_GO, 0))
        os.waitpid(said[MSG_PID], 0)
    finally:
        waiting.close()


def test_what_the_caller_leaked_is_closed_first(host: Host, tmp_path: Path) -> None:
    if host.command[0] != host.command[-1]:
        pytest.skip("qemu-user passes no clone3 on")
    leaked = os.open(tmp_path, os.O_RDONLY)
    high = os.dup2(leaked, 100, inheritable=True)
    try:
        plan = os.memfd_create("plan")
        command = [*host.command, str(plan), str(host.theirs.fileno()), str(FLAGS)]
        process = subprocess.Popen(command, pass_fds=(plan, host.theirs.fileno(), high), stdin=subprocess.DEVNULL)
        said = host.receive()
        assert said is not None
        assert sorted(map(int, os.listdir(f"/proc/{said.value}/fd"))) == sorted((0, 1, 2, plan, host.theirs.fileno()))
        host.theirs.close()
        host.ours.close()
        os.waitpid(said.value, 0)
        process.wait(TIMEOUT)
    finally:
        for fd in (leaked, high, plan):
            os.close(fd)
