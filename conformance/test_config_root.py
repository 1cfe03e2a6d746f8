"""config.md: "Root"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_an_absolute_path_is_used_as_it_is(container: Container) -> None:
    """config.md, Root: path is absolute or relative to the bundle."""
    container.config["root"]["path"] = str(container.rootfs)
    assert container.run("exit 3").code == 3


def test_a_path_that_does_not_exist_is_an_error(container: Container) -> None:
    """config.md, Root: a directory MUST exist at the path."""
    container.config["root"]["path"] = "nowhere"
    assert container.run("true").code != 0


def test_the_root_is_writable_by_default(container: Container) -> None:
    """config.md, Root: readonly defaults to false."""
    del container.config["root"]["readonly"]
    assert container.run("echo text > /file && cat /file").out == "text\n"
    assert (container.rootfs / "file").read_text() == "text\n"


def test_a_readonly_root_cannot_be_written(container: Container) -> None:
    """config.md, Root: with readonly true the root filesystem MUST be read-only inside."""
    container.config["root"]["readonly"] = True
    done = container.run("touch /file || echo refused")
    assert done.out == "refused\n"
    assert not (container.rootfs / "file").exists()


def test_a_readonly_root_leaves_mounts_below_it_writable(container: Container) -> None:
    """config.md, Root and Mounts: readonly is of the root filesystem alone."""
    container.config["root"]["readonly"] = True
    assert container.run("touch /dev/shm/file").code == 0
