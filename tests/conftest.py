"""Fixtures, and the rule about tests that make containers: they need root and `tests/isolate`, and never skip in CI."""

from __future__ import annotations

import posix
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from support import BUSYBOX, CACHE, Bundle, Runtime, default_config, make_rootfs, require_isolation


def pytest_configure(config: pytest.Config) -> None:
    # What tests call in this process keeps its filters where the executables keep theirs, not in the host's /run.
    posix.environ[b"OCIRT_CACHE"] = CACHE.encode()
    try:
        from hypothesis import settings
    except ImportError:  # in the virtual machine, which runs none of the property tests
        pass
    else:
        settings.register_profile("ocirt", deadline=None)  # a slow machine is no finding
        settings.load_profile("ocirt")
    config.addinivalue_line("markers", "root: makes containers: needs root and runs under tests/isolate")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        require_isolation("make test")


@pytest.fixture(scope="session")
def shared_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root file system for tests that do not change it."""
    assert BUSYBOX.exists(), "apt-get install busybox-static"
    return make_rootfs(tmp_path_factory.mktemp("rootfs") / "rootfs")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """The executable, with an empty state root."""
    return Runtime(tmp_path / "state")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with a root file system of its own, that runs /bin/true."""
    path = tmp_path / "bundle"
    make_rootfs(path / "rootfs")
    return Bundle(path, default_config()).write()
