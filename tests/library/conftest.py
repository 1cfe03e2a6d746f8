"""Fixtures of the library's tests: a state root, and a look at everything that could be left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import cgroup_folders, inits

import ocirt


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def children() -> set[int]:
    """Our own, zombies among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except OSError:  # a thread that has just ended
            continue
    return found


@pytest.fixture
def traces() -> Iterator[None]:
    """At the end there is no descriptor, child, cgroup, init or thread more than at the beginning. First in
    `usefixtures`."""
    folders, open_before, ours, threads = cgroup_folders(), descriptors(), children(), set(threading.enumerate())
    yield
    # Not equal: what an earlier test has left may be gone by now.
    assert cgroup_folders() == folders
    assert not descriptors().items() - open_before.items()
    assert children() <= ours
    assert not inits()
    assert not set(threading.enumerate()) - threads


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    assert not (tmp_path / "state").exists() or not os.listdir(tmp_path / "state")


@pytest.fixture
def config(shared_rootfs: Path) -> dict[str, Any]:
    return ocirt.default_config(["/bin/true"], rootfs=shared_rootfs)
