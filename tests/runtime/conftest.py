"""Fixtures of the tests that make containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from runtime.life import Life
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def life(runtime: Runtime, bundle: Bundle) -> Iterator[Life]:
    one = Life(runtime, bundle)
    yield one
    runtime("delete", "--force", "c")
