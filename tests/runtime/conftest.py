"""Fixtures of the tests that make containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from runtime.criu_host import Counter, require_criu
from runtime.life import Life
from runtime.systemd_host import unchanged
from support import Bundle, Runtime, cgroup_folders, inits

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def life(runtime: Runtime, bundle: Bundle) -> Iterator[Life]:
    one = Life(runtime, bundle)
    yield one
    runtime("delete", "--force", "c")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """At the end there is no cgroup and no init more than at the beginning. For `usefixtures`: that comes first, so
    all other fixtures have cleared up by then."""
    before = cgroup_folders()
    yield
    assert cgroup_folders() == before
    assert not inits()


@pytest.fixture
def no_unit_left() -> Iterator[None]:
    """At the end there is no unit of systemd's, and no cgroup, more than at the beginning."""
    with unchanged():
        yield


@pytest.fixture
def scoped(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle for the container c; deleted at the end."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    yield bundle
    assert runtime("delete", "--force", "c").code == 0


@pytest.fixture
def counter(runtime: Runtime, bundle: Bundle) -> Iterator[Counter]:
    """A container that CRIU can save and restore; gone at the end, also as `d`."""
    require_criu()
    yield Counter(runtime, bundle)
    for container_id in ("c", "d"):
        runtime("delete", "--force", container_id)
