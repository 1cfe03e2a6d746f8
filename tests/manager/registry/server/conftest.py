"""A server in this process, on a free port of loopback, with a store of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import Running


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "registry") as running:
        yield running
