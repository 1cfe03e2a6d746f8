"""The decoder's hosted build and init itself, each compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from init.hosted import Hosted
from init.running import BUILDS, Host, build, need


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Hosted:
    return Hosted(tmp_path_factory.mktemp("hosted"))


@pytest.fixture(scope="session", params=BUILDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(machine, its ocirt-init)"""
    machine = request.param
    return machine, build(machine, tmp_path_factory.mktemp("init") / f"ocirt-init-{machine}")


@pytest.fixture
def host(built: tuple[str, Path]) -> Iterator[Host]:
    """A host for each machine: real ones for x86_64, emulated ones for the others."""
    machine, init = built
    _, runner, packages = BUILDS[machine]
    need(*runner, packages=packages)
    made = Host(machine, init)
    yield made
    made.close()


@pytest.fixture
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host whose init runs without an emulator, which does not know every call."""
    path = tmp_path_factory.getbasetemp() / "native-init"
    if not path.exists():
        build("x86_64", path)
    made = Host("x86_64", path)
    yield made
    made.close()
