"""config.md: "User", "POSIX-platform User"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_uid_and_gid_are_those_of_the_configuration(container: Container) -> None:
    """config.md, POSIX-platform User: uid and gid in the container's namespace."""
    container.process["user"] = {"uid": 1234, "gid": 4321}
    lines = container.run("grep -E '^(Uid|Gid)' /proc/self/status").out.splitlines()
    assert [line.split()[1:] for line in lines] == [["1234"] * 4, ["4321"] * 4]


def test_additional_gids_are_added(container: Container) -> None:
    """config.md, POSIX-platform User: additionalGids."""
    container.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 6]}
    groups = container.run("grep ^Groups /proc/self/status").out.split()[1:]
    assert {"5", "6"} <= set(groups)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_umask_is_set(container: Container, mask: int) -> None:
    """config.md, POSIX-platform User: umask."""
    container.process["user"]["umask"] = mask
    assert int(container.run("umask").out, 8) == mask
