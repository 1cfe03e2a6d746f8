"""Where the engines' tests run: private mounts over the fixed places of engines, and one folder for the rest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from engines.engine import archive
from support import require_isolation

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
