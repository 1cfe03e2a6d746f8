"""bundle.md: "Filesystem Bundle"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_the_configuration_is_in_config_json_in_the_bundle(container: Container) -> None:
    """bundle.md: config.json MUST be in the bundle's root and have that name."""
    assert container.run("exit 3").code == 3
    (container.bundle / "config.json").rename(container.bundle / "configuration.json")
    done = container("run", "--bundle", container.bundle, container.id)
    assert done.code != 0
    assert "config.json" in done.err


def test_the_root_file_system_is_where_root_path_says(container: Container) -> None:
    """bundle.md: the directory of the root filesystem is the one that root.path names."""
    container.rootfs.rename(container.bundle / "elsewhere")
    container.config["root"]["path"] = "elsewhere"
    assert container.run("exit 4").code == 4


def test_the_bundle_is_the_working_directory_if_none_is_named(container: Container) -> None:
    """bundle.md leaves it open; runc's command line has it so, and engines use it."""
    container.process["args"] = ["/bin/sh", "-c", "exit 5"]
    container.write()
    assert container("run", container.id, cwd=container.bundle).code == 5
