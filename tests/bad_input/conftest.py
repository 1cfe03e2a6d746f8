"""Fixtures for bad input: nothing that a failing test leaves behind may disturb the next one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Bundle, Runtime, default_config

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The executable with a state root of its own; whatever is left in it is removed."""
    runtime = Runtime(tmp_path / "state")
    yield runtime
    for entry in runtime.root.iterdir() if runtime.root.is_dir() else ():
        runtime("delete", "--force", entry.name)


@pytest.fixture
def light_bundle(tmp_path: Path, shared_rootfs: Path) -> Bundle:
    """A bundle for tests that do not change its root file system, which all of them share."""
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "rootfs").symlink_to(shared_rootfs)
    return Bundle(path, default_config()).write()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host that no container may touch."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("the host's\n")
    return path
