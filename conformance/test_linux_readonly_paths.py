"""config-linux.md: "Readonly Paths"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_a_readonly_path_can_be_read_and_not_written(container: Container) -> None:
    """config-linux.md, Readonly Paths: the runtime will set the provided paths as readonly."""
    (container.rootfs / "folder").mkdir()
    (container.rootfs / "folder/file").write_text("text\n")
    container.linux["readonlyPaths"] = ["/folder"]
    assert container.run("cat /folder/file; echo x > /folder/file || echo refused").out == "text\nrefused\n"
    assert (container.rootfs / "folder/file").read_text() == "text\n"


def test_a_single_file_can_be_readonly(container: Container) -> None:
    """config-linux.md, Readonly Paths: absolute paths inside the container, of any kind."""
    (container.rootfs / "file").write_text("text\n")
    container.linux["readonlyPaths"] = ["/file"]
    assert container.run("echo x > /file || echo refused; touch /other").out == "refused\n"


def test_a_path_that_does_not_exist_is_skipped(container: Container) -> None:
    """config-linux.md leaves it open; runc and engines rely on it."""
    container.linux["readonlyPaths"] = ["/nowhere"]
    assert container.run("exit 3").code == 3
