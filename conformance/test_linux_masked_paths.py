"""config-linux.md: "Masked Paths"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_a_masked_file_cannot_be_read(container: Container) -> None:
    """config-linux.md, Masked Paths: the runtime will mask over the path so that it cannot be read."""
    (container.rootfs / "file").write_text("secret\n")
    container.linux["maskedPaths"] = ["/file"]
    assert container.run("cat /file").out == ""


def test_a_masked_folder_shows_nothing(container: Container) -> None:
    """config-linux.md, Masked Paths: the same for directories."""
    (container.rootfs / "folder").mkdir()
    (container.rootfs / "folder/file").write_text("secret\n")
    container.linux["maskedPaths"] = ["/folder"]
    assert container.run("ls -A /folder; cat /folder/file").out == ""


def test_a_path_that_does_not_exist_is_skipped(container: Container) -> None:
    """config-linux.md leaves it open; runc and engines rely on it."""
    container.linux["maskedPaths"] = ["/nowhere", "/etc/passwd/below"]
    assert container.run("exit 3").code == 3


def test_absent_or_empty_masks_nothing(container: Container) -> None:
    """config-linux.md, Masked Paths is optional."""
    container.linux["maskedPaths"] = []
    assert container.run("test -e /proc/timer_list || test -e /proc/version").code == 0
