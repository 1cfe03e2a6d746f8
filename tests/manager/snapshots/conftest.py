"""A store on a file system of its own, which overlayfs takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import _sys

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "archive")]
from stored import Store  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs, in the mount namespace of tests/isolate."""
    path = tmp_path / "store"
    path.mkdir()
    _sys.mount("tmpfs", str(path), 0, "tmpfs", "mode=700,size=512m")
    yield path
    _sys.umount2(str(path), 2)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    one = Store(folder / "root", folder / "run", "overlay")
    yield one
    one.database.close()
