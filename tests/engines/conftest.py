"""Where the engines' tests run: private mounts over the fixed places of engines, and one folder for the rest."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines.engine import archive
from support import require_isolation

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXED = ("/run", "/dev/shm", "/var/lib/containers", "/var/lib/cni", "/var/lib/containerd", "/var/lib/docker")
"""Folders that engines use whatever one tells them: sockets of shims, locks, names of network namespaces."""


def mount(*args: str | Path) -> None:
    subprocess.run(["mount", *args], check=True)


@pytest.fixture(scope="session")
def private_host() -> Iterator[None]:
    """An empty tmpfs over each fixed place, in the mount namespace that tests/isolate made; gone at the end."""
    require_isolation("make engines")
    covered = [path for path in FIXED if Path(path).is_dir()]
    for path in covered:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    yield
    for path in reversed(covered):
        subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


@pytest.fixture(scope="session")
def workplace(private_host: None) -> Iterator[Path]:
    """A folder for the engines' data. Its path is short, for sockets; what is mounted there goes with it."""
    path = Path(tempfile.mkdtemp(prefix="engines-"))
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    yield path
    subprocess.run(["umount", "--recursive", "--lazy", path], check=True)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def image(workplace: Path) -> Path:
    """The archive to load."""
    return archive(workplace)
