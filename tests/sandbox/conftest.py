"""After each test of sandboxes there is nothing left of them."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import sandbox
from ocirt.sandbox.client import PLACE, keeper
from tests.support import cgroup_folders


def eventually(look: object, expected: object, patience: float = 60) -> None:
    """Until look() is what is expected: the keeper lets go of a descriptor after it has answered."""
    assert callable(look)
    until = time.monotonic() + patience
    while (found := look()) != expected:
        assert time.monotonic() < until, difference(found, expected)
        time.sleep(0.01)


def difference(found: object, expected: object) -> object:
    """What differs, of two tuples; else both."""
    if isinstance(found, tuple) and isinstance(expected, tuple):
        return [(one, other) for one, other in zip(found, expected, strict=True) if one != other]
    return found, expected


def open_files(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def has(controller: str) -> bool:
    """Is there this controller here, on any hierarchy?"""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    shown = os.listdir("/sys/fs/cgroup")
    v1 = any(controller in line.split(":")[1].split(",") for line in lines) and controller in shown
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    return v1 or (unified.exists() and controller in unified.read_text().split())


def talking() -> int:
    """The keeper's threads: one, and one for each sandbox."""
    return len(os.listdir(f"/proc/{keeper.pid}/task"))


def waiting() -> list[int]:
    """The first processes of the keeper's sandboxes."""
    tasks = Path(f"/proc/{keeper.pid}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def left() -> tuple[object, ...]:
    """What sandboxes could leave: cgroups, mounts (here and in the keeper), processes, state, descriptors."""
    gc.collect()  # what earlier tests have left open is closed now, and not in between
    pid = keeper.pid
    children = {
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }
    return (
        cgroup_folders(),
        Path("/proc/self/mountinfo").read_text().count(PLACE),  # others on this host may mount what they like
        Path(f"/proc/{pid}/mountinfo").read_text().count(PLACE),
        children,
        {name for name in os.listdir(f"{PLACE}/state") if name.startswith(f"{pid}-")},
        open_files(pid),
        open_files("self"),
    )


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("root") is None:
        yield
        return
    if not (has("memory") and has("pids")):
        pytest.skip("sandboxes need the controllers memory and pids")
    sandbox.run(["true"])  # what is made once: the keeper, the compiled filter
    sandbox.run(["chroot", "/"])  # and what names refused calls
    eventually(talking, 1)
    before = left()
    yield
    sandbox.run(["true"])  # starts a keeper if the test has ended it
    eventually(talking, 1)
    eventually(left, before)


@pytest.fixture(scope="session", autouse=True)
def no_keeper_stays() -> Iterator[None]:
    yield
    sandbox.close()
