"""config-linux.md: "Cgroups Path"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def cgroups(container: Container) -> set[str]:
    """The paths of its process on the hierarchies that this host has mounted."""
    found = set()
    for line in Path(f"/proc/{container.state()['pid']}/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        pure_v2 = (root / "cgroup.controllers").exists()
        mounted = pure_v2 if number == "0" else (root / names.removeprefix("name=") / "cgroup.procs").exists()
        if mounted:
            found.add(path)
    return found


def test_an_absolute_path_counts_from_the_cgroups_mount_point(container: Container) -> None:
    """config-linux.md, Cgroups Path: an absolute path MUST be taken relative to the cgroups mount point."""
    container.linux["cgroupsPath"] = "/conformance/absolute"
    assert container.sleeping().create().code == 0
    assert cgroups(container) == {"/conformance/absolute"}


def test_a_relative_path_ends_with_what_is_configured(container: Container) -> None:
    """config-linux.md, Cgroups Path: a relative path MAY be taken relative to a location that the runtime chooses."""
    container.linux["cgroupsPath"] = "conformance/relative"
    assert container.sleeping().create().code == 0
    assert {path[-len("/conformance/relative") :] for path in cgroups(container)} == {"/conformance/relative"}


def test_one_path_always_leads_to_the_same_place(container: Container) -> None:
    """config-linux.md, Cgroups Path: a runtime MUST consistently attach to the same place."""
    container.linux["cgroupsPath"] = "conformance/again"
    places = []
    for _ in range(2):
        assert container.sleeping().create().code == 0
        places.append(cgroups(container))
        assert container.delete("--force").code == 0
    assert places[0] == places[1]


def test_without_a_path_there_is_one_of_the_runtimes_choice(container: Container) -> None:
    """config-linux.md, Cgroups Path: if not specified, runtimes MAY define the default."""
    container.linux.pop("cgroupsPath", None)
    assert container.sleeping().create().code == 0
    own = {line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    assert not cgroups(container) & own
