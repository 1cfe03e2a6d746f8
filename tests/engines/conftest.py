"""Where the engines' tests run: private mounts over the fixed places of engines, and one folder for the rest."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines.engine import RUNTIMES, archive
from support import require_isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engines.pods import Cri, Pod

FIXED = ("/run", "/dev/shm", "/var/lib/containers", "/var/lib/cni", "/var/lib/containerd", "/var/lib/docker")
"""Folders that engines use whatever one tells them: sockets of shims, locks, names of network namespaces."""


@pytest.fixture(scope="session")
def workplace() -> Path:
    """A folder for the engines' data, with a short path, for sockets; and an empty tmpfs over each fixed place.

    All of it is in the mount namespace that tests/isolate made and ends with that, not before: an engine's last
    process (`podman container cleanup`) may still write when a test has ended, and must not do so on the host.
    """
    require_isolation("make engines")
    for place in FIXED:
        if Path(place).is_dir():
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place], check=True)
    path = Path("/run/engines")
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def image(workplace: Path) -> Path:
    """The archive to load."""
    return archive(workplace)


@pytest.fixture(scope="module")
def cri(workplace: Path, image: Path) -> Iterator[Cri]:
    """containerd for pods, with a handler for each runtime."""
    from engines.pods import PAUSE, Cri  # grpc is nothing that other engines need

    folder = Path(tempfile.mkdtemp(prefix="cri-", dir=workplace))
    pause = archive(folder, PAUSE, "/pause")
    cache = Path("/var/lib/cni")  # the library of the plugins knows no other
    made = not cache.exists()
    cache.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", cache], check=True)
    one = Cri(folder, [image, pause])
    yield one
    one.end()
    subprocess.run(["umount", cache], check=True)
    if made:
        cache.rmdir()


@pytest.fixture(scope="module", params=RUNTIMES)
def handler(request: pytest.FixtureRequest) -> str:
    """The handler of a pod is called as its runtime."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def shared(cri: Cri, handler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    from engines.pods import Pod

    one = Pod(cri, handler, tmp_path_factory.mktemp(handler))
    yield one
    one.remove()


@pytest.fixture
def pod(shared: Pod) -> Iterator[Pod]:
    """With the host's network; it is the same one for many tests, without containers when each begins."""
    yield shared
    shared.clear()


@pytest.fixture
def make_pod(cri: Cri, handler: str, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Makes pods of other kinds, and removes them. The options are Pod's."""
    from engines.pods import Pod

    pods: list[Pod] = []

    def make(**options: Any) -> Pod:
        logs = tmp_path / f"{handler}-{len(pods)}-{tmp_path.name}"
        logs.mkdir()
        pods.append(Pod(cri, handler, logs, **options))
        return pods[-1]

    yield make
    for one in pods:
        one.remove()
