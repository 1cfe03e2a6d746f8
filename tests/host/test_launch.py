"""What the host makes of init's messages, with a socket in init's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping

import pytest
from support import default_config

from ocirt.config.read import Config
from ocirt.errors import KernelError
from ocirt.host.launch import Init, failure_of
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.facts import Facts
from ocirt.plan.step import Slot
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_READY
from ocirt.plan.wire import MESSAGE, MSG_ERROR, MSG_FD, MSG_PID, MSG_SYNC, OP_CLONE


class Recorder:
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def started(self, pid: int) -> None:
        self.told.append(("started", pid))

    def received(self, tag: int, fd: int) -> None:
        os.close(fd)
        self.told.append(("received", tag))

    def meet(self, tag: int) -> Mapping[Slot, bytes]:
        self.told.append(("meet", tag))
        return {}


@pytest.fixture
def init() -> Iterator[Init]:
    """An Init whose other end the test holds, as `init._theirs`; the process that was spawned is any."""
    plan = compile_plan(Config(default_config(), "{}", "/bundle"), Facts()).plan
    made = Init(plan, encode(plan))
    made._spawned = os.posix_spawn("/bin/true", ["true"], {})
    yield made
    made.pid = 0  # no process of ours: nothing may be killed by it
    made._theirs.close()
    made.kill()


def send(init: Init, kind: int, *, step: int = 0, value: int = 0, fd: int | None = None) -> None:
    theirs = socket.socket(fileno=os.dup(init._theirs.fileno()))
    content = MESSAGE.pack(kind, step, value, 0)
    socket.send_fds(theirs, [content], [fd] if fd is not None else [])
    theirs.close()


def test_the_pid_comes_first_even_if_the_child_was_faster_than_its_parent(init: Init) -> None:
    with open("/dev/null", "rb") as null:
        send(init, MSG_FD, step=50, value=1, fd=null.fileno())
        send(init, MSG_SYNC, step=60, value=SYNC_ATTACHED)
    send(init, MSG_PID, step=init._clone, value=4711)
    send(init, MSG_SYNC, step=90, value=SYNC_READY)
    host = Recorder()
    init.follow(host, until=SYNC_READY)
    assert host.told == [("started", 4711), ("received", 1), ("meet", SYNC_ATTACHED)]


def test_a_childs_failure_is_told_only_after_its_pid_is_known(init: Init) -> None:
    send(init, MSG_ERROR, step=len(init.plan.steps) - 1, value=2)
    send(init, MSG_PID, step=init._clone, value=4711)
    host = Recorder()
    with pytest.raises(KernelError, match="exec"):
        init.follow(host, until=SYNC_READY)
    assert host.told == [("started", 4711)]


def test_a_failure_before_the_clone_is_told_at_once(init: Init) -> None:
    send(init, MSG_ERROR, step=init._clone, value=1)
    with pytest.raises(KernelError, match="make the namespaces") as caught:
        init.follow(Recorder(), until=SYNC_READY)
    assert caught.value.errno == 1
    assert caught.value.call == "clone3"


def test_the_clone_step_is_the_one_that_is_known(init: Init) -> None:
    assert init.plan.steps[init._clone].op == OP_CLONE


def test_the_kernels_log_is_part_of_the_message() -> None:
    error = failure_of("/mounts/1", "mount tmpfs on /x (size=9z)", "fsconfig", 22, b"e tmpfs: Bad value for 'size'\n")
    assert "[tmpfs: Bad value for 'size']" in str(error)
    assert str(error).startswith("/mounts/1: mount tmpfs on /x")
