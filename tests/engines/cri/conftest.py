"""containerd with its CRI plugin, and pods of each handler."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines.cri.pods import PAUSE, Cri, Pod
from engines.engine import RUNTIMES, archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def cri(workplace: Path, image: Path) -> Iterator[Cri]:
    """containerd for pods, with a handler for each runtime."""
    folder = Path(tempfile.mkdtemp(prefix="cri-", dir=workplace))
    folder.chmod(0o755)  # for the roots of user namespaces
    pause = archive(folder, PAUSE, "/pause")
    cache = Path("/var/lib/cni")  # the library of the plugins knows no other
    made = not cache.exists()
    cache.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", cache], check=True)
    one = Cri(folder, [image, pause])
    yield one
    one.end()
    one.end_shims()
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
    pods: list[Pod] = []

    def make(**options: Any) -> Pod:
        logs = tmp_path / f"{handler}-{len(pods)}-{tmp_path.name}"
        logs.mkdir()
        pods.append(Pod(cri, handler, logs, **options))
        return pods[-1]

    yield make
    for one in pods:
        one.remove()
