"""The container of one program, in a folder that mapped users can reach."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from suite_container import SuiteContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_container(tmp_path: Path) -> Iterator[Callable[[], SuiteContainer]]:
    """For the programs that make several, one after the other: a fresh bundle each, the same id."""
    made: list[SuiteContainer] = []

    def make() -> SuiteContainer:
        while made:
            made.pop().remove()
        bundle = Path(tempfile.mkdtemp(prefix="ocirt-conformance-"))
        bundle.chmod(0o755)
        made.append(SuiteContainer(bundle, tmp_path / "state"))
        return made[-1]

    yield make
    while made:
        made.pop().remove()


@pytest.fixture
def container(make_container: Callable[[], SuiteContainer]) -> SuiteContainer:
    return make_container()
