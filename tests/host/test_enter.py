"""Going into a container: by its first process, and by no other that has its pid."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from ocirt.cgroups.manager import Cgroups
from ocirt.errors import KernelError
from ocirt.host.enter import Container, foreign_namespaces
from ocirt.plan.kernel import CLONE_NEWNS, CLONE_NEWUTS
from ocirt.state.process import start_time

pytestmark = pytest.mark.root
NO_CGROUPS = Cgroups.from_state({"places": [], "made": []})


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """In namespaces of its own; nobody waits for it."""
    own = os.readlink("/proc/self/ns/uts")
    with subprocess.Popen(["unshare", "--mount", "--uts", "sleep", "600"]) as process:
        while os.readlink(f"/proc/{process.pid}/ns/uts") == own:
            time.sleep(0.01)
        yield process
        process.kill()


def end(process: subprocess.Popen[bytes]) -> None:
    """So that it is a zombie."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_process_that_is_known(neighbour: subprocess.Popen[bytes]) -> None:
    container = Container(neighbour.pid, start_time(neighbour.pid), NO_CGROUPS)
    assert container.entrance.namespaces == CLONE_NEWNS | CLONE_NEWUTS
    container.close()


def test_another_process_with_its_pid(neighbour: subprocess.Popen[bytes]) -> None:
    before = opened()
    with pytest.raises(KernelError, match="open the container's first process: No such process"):
        Container(neighbour.pid, start_time(neighbour.pid) - 1, NO_CGROUPS)
    assert opened() == before


def test_one_that_has_ended(neighbour: subprocess.Popen[bytes]) -> None:
    started = start_time(neighbour.pid)
    end(neighbour)
    with pytest.raises(KernelError, match="open the container's first process"):
        Container(neighbour.pid, started, NO_CGROUPS)


def test_one_that_is_ending_is_not_taken_for_one_in_our_namespaces(neighbour: subprocess.Popen[bytes]) -> None:
    end(neighbour)
    with pytest.raises(OSError):
        foreign_namespaces(neighbour.pid)
