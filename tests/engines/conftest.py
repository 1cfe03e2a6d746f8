"""Where the engines' tests run: private mounts over the fixed places of engines, and one folder for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from engines.docker import Docker
from engines.engine import RUNTIMES, archive, cover_fixed_places
from engines.ocim import Ocim
from engines.podman import Podman
from support import require_isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engines.engine import DockerLike

KINDS: dict[str, type[Docker | Ocim | Podman]] = {"docker": Docker, "podman": Podman, "ocim": Ocim}


@pytest.fixture(scope="session")
def workplace() -> Path:
    """A folder for the engines' data, on a tmpfs of its own."""
    require_isolation("make engines")
    return cover_fixed_places()


@pytest.fixture(scope="session")
def image(workplace: Path) -> Path:
    """The archive to load."""
    return archive(workplace)


@pytest.fixture(scope="session")
def engines(workplace: Path, image: Path) -> Iterator[Callable[[str], DockerLike]]:
    """Gives the engine of a name such as "docker-runc": one for all tests, because daemons are slow to start."""
    made: dict[str, DockerLike] = {}

    def engine(name: str) -> DockerLike:
        if name not in made:
            kind, runtime = name.split("-")
            made[name] = KINDS[kind](workplace / name, runtime, image)
        return made[name]

    yield engine
    for one in made.values():
        one.end()


@pytest.fixture(params=[f"{kind}-{runtime}" for kind in KINDS for runtime in RUNTIMES])
def engine(request: pytest.FixtureRequest, engines: Callable[[str], DockerLike]) -> Iterator[DockerLike]:
    """docker, podman and ocim, each on each runtime."""
    one = engines(request.param)
    yield one
    one.clear()


@pytest.fixture(params=RUNTIMES)
def docker(request: pytest.FixtureRequest, engines: Callable[[str], DockerLike]) -> Iterator[Docker]:
    one = cast("Docker", engines(f"docker-{request.param}"))
    yield one
    one.clear()


@pytest.fixture(params=RUNTIMES)
def podman(request: pytest.FixtureRequest, engines: Callable[[str], DockerLike]) -> Iterator[Podman]:
    one = cast("Podman", engines(f"podman-{request.param}"))
    yield one
    one.clear()
