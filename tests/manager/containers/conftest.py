"""A place for containers made by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import _sys

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from by_hand import Workshop  # noqa: E402
from shop import Shop  # noqa: E402


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """On a tmpfs, which overlayfs takes."""
    folder = tmp_path / "shop"
    folder.mkdir()
    _sys.mount("tmpfs", str(folder), 0, "tmpfs", "mode=700,size=512m")
    made = Shop(folder)
    made.image()
    yield made
    made.close()
    _sys.umount2(str(folder), 2)
