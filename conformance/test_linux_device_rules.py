"""config-linux.md: "Allowed Device list"."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


DENY = {"allow": False, "access": "rwm"}


def opens(container: Container, rules: list[dict[str, object]]) -> list[str]:
    """Can a node of /dev/kmsg be opened for reading and for writing?"""
    os.mknod(container.rootfs / "kmsg", stat.S_IFCHR | 0o666, os.makedev(1, 11))
    container.linux["resources"] = {"devices": rules}
    container.process["capabilities"] = {
        name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")
    }
    script = "(exec 3< /kmsg) && echo yes || echo no; (exec 3> /kmsg) && echo yes || echo no"
    return container.run(f"{{ {script}; }} 2>/dev/null").out.split()


def test_a_device_that_is_not_allowed_cannot_be_opened(container: Container) -> None:
    """config-linux.md, Allowed Device list: allow false."""
    assert opens(container, [DENY]) == ["no", "no"]


@pytest.mark.parametrize(("access", "expected"), [("r", ["yes", "no"]), ("w", ["no", "yes"]), ("rwm", ["yes", "yes"])])
def test_an_allowed_device_opens_for_its_access(container: Container, access: str, expected: list[str]) -> None:
    """config-linux.md, Allowed Device list: type, major, minor, access."""
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": access}
    assert opens(container, [DENY, rule]) == expected


def test_entries_are_applied_in_the_listed_order(container: Container) -> None:
    """config-linux.md, Allowed Device list: the runtime MUST apply entries in the listed order."""
    rule = {"type": "c", "major": 1, "minor": 11}
    allow = {**rule, "allow": True, "access": "rw"}
    deny = {**rule, "allow": False, "access": "w"}
    assert opens(container, [DENY, allow, deny]) == ["yes", "no"]


def test_a_rule_without_numbers_is_for_all_of_them(container: Container) -> None:
    """config-linux.md, Allowed Device list: major and minor default to all."""
    assert opens(container, [DENY, {"allow": True, "type": "c", "access": "rwm"}]) == ["yes", "yes"]
