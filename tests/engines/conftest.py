"""Where the engines' tests run: private mounts over the fixed places of engines, and one folder for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engines.engine import archive, cover_fixed_places
from support import require_isolation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def workplace() -> Path:
    """A folder for the engines' data, on a tmpfs of its own."""
    require_isolation("make engines")
    return cover_fixed_places()


@pytest.fixture(scope="session")
def image(workplace: Path) -> Path:
    """The archive to load."""
    return archive(workplace)
