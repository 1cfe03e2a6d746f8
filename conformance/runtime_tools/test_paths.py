"""The suite's programs about masked and readonly paths: a test has its program's name.

The suite's further parts, relative paths and symbolic links that lead nowhere, end before they call the runtime.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from suite_container import SuiteContainer

pytestmark = pytest.mark.root

NODES = {"block device": stat.S_IFBLK, "character device": stat.S_IFCHR, "fifo": stat.S_IFIFO}
NO_DRIVER = os.makedev(0, 1)
"""The suite's own numbers, 0:0, are a deletion on an overlay."""


def tree(container: SuiteContainer) -> list[str]:
    """Folders and files, some below others, none of them empty."""
    below = container.bundle / "dir" / "subdir"
    below.mkdir(parents=True)
    for path in (below / "file", below.parent / "file", container.bundle / "file"):
        path.write_text("secrets")
    return ["/dir", "/file", "/dir/subdir", "/dir/file", "/dir/subdir/file"]


def test_linux_masked_paths(container: SuiteContainer) -> None:
    """maskedPaths cannot be read inside the container."""
    container.linux["maskedPaths"] = tree(container)
    container.is_as_configured()


@pytest.mark.parametrize("kind", NODES)
def test_linux_masked_paths_of_nodes(container: SuiteContainer, kind: str) -> None:
    """The same for devices and fifos."""
    os.mknod(container.bundle / "node", NODES[kind] | 0o666, NO_DRIVER)
    container.linux["maskedPaths"] = ["/node"]
    container.is_as_configured()


def test_linux_readonly_paths(container: SuiteContainer) -> None:
    """readonlyPaths can be read, but not written inside the container."""
    container.linux["readonlyPaths"] = tree(container)
    facts = container.is_as_configured()
    assert {facts[f"readable={path}"] for path in container.linux["readonlyPaths"]} == {"yes"}


@pytest.mark.parametrize("kind", NODES)
def test_linux_readonly_paths_of_nodes(container: SuiteContainer, kind: str) -> None:
    """The same for devices and fifos."""
    os.mknod(container.bundle / "node", NODES[kind] | 0o666, NO_DRIVER)
    container.linux["readonlyPaths"] = ["/node"]
    container.is_as_configured()
