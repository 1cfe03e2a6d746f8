"""The decoder's hosted build, compiled once."""

from __future__ import annotations

import pytest
from init.hosted import Hosted


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Hosted:
    return Hosted(tmp_path_factory.mktemp("hosted"))
