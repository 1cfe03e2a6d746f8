"""cgroups.systemd.devices: device rules as an allow-list, exactly or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from ocirt.cgroups.systemd.devices import at_start, properties

KNOWN = """Character devices:
  1 mem
  4 /dev/vc/0
  4 tty
  4 ttyS
  5 /dev/tty
 10 misc
136 pts
137 pts

Block devices:
  8 sd
 65 sd
  9 md
"""
DEFAULTS = [
    ("char-*", "m"),
    ("block-*", "m"),
    *((f"/dev/char/1:{minor}", "rwm") for minor in (3, 5, 7, 8, 9)),
    ("/dev/char/5:0", "rwm"),
    ("/dev/char/5:2", "rwm"),
    ("char-pts", "rwm"),
]
DENY = {"allow": False, "access": "rwm"}
ALL = {"allow": True, "access": "rwm"}


def rule(access: str, major: int | None = None, minor: int | None = None, kind: str = "c", allow: bool = True) -> Any:
    numbers = {name: number for name, number in (("major", major), ("minor", minor)) if number is not None}
    return {"allow": allow, "type": kind, "access": access, **numbers}


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ([], []),
        ([DENY], []),
        ([rule("r", 10, 229)], [("/dev/char/10:229", "r")]),
        ([rule("r", 10, 229), rule("w", 10, 229)], [("/dev/char/10:229", "rw")]),
        ([rule("rw", 8, 0, "b")], [("/dev/block/8:0", "rw")]),
        ([rule("rw", 9, None, "b")], [("block-md", "rw")]),
        ([rule("rw", 4)], [("char-/dev/vc/0", "rw")]),
        ([rule("rw", 99)], []),  # no driver: there is nothing that it could mean
        ([rule("rw", 10, 1), rule("rwm", 10, 1, allow=False)], []),
        ([rule("rw", 10, 1), rule("rwm", 10, allow=False)], []),
        ([rule("rw", 10, 1), rule("rwm", 11, allow=False)], [("/dev/char/10:1", "rw")]),
        ([rule("rw", 10, 1), rule("rwm", 10, 1, "b", allow=False)], [("/dev/char/10:1", "rw")]),
        ([ALL, DENY, rule("r", 10, 229)], [("/dev/char/10:229", "r")]),
    ],
    ids=str,
)
def test_what_can_be_said_is_a_strict_list(config: list[dict[str, Any]], allowed: list[tuple[str, str]]) -> None:
    for v2 in (True, False):
        (policy, clear, allow), warning = properties(config, v2=v2, known=KNOWN)
        assert (policy.name, policy.value) == ("DevicePolicy", "strict")
        assert (clear.name, clear.value) == ("DeviceAllow", [])
        assert (allow.name, allow.signature) == ("DeviceAllow", "a(ss)")
        assert sorted(allow.value) == sorted([*allowed, *DEFAULTS])
        assert not warning


@pytest.mark.parametrize("config", [[ALL], [DENY, ALL], [rule("r", 10, 229), ALL], [ALL, rule("r", 10, 229)]], ids=str)
def test_everything_needs_no_list(config: list[dict[str, Any]]) -> None:
    (policy,), warning = properties(config, v2=True, known=KNOWN)
    assert policy.value == "auto" and not warning
    assert properties(config, v2=False, known=KNOWN) == ([], "")  # as it was at the start


@pytest.mark.parametrize(
    ("config", "rest"),
    [
        ([ALL, rule("w", 1, 11, allow=False)], []),
        ([rule("rw", 10, 1), rule("w", 10, 1, allow=False), rule("r", 1, 11)], [("/dev/char/1:11", "r")]),
        ([rule("rw", 10), rule("rwm", 10, 1, allow=False)], []),
        ([rule("rw", 8, None, "b")], []),  # sd is 65 too
        ([rule("rw", None, 3)], []),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_never_more_than_the_rules(config: list[dict[str, Any]], rest: list[Any]) -> None:
    """On v2 our own program stands beside systemd's; on v1 systemd's list replaces ours at a daemon-reload."""
    (policy,), warning = properties(config, v2=True, known=KNOWN)
    assert policy.value == "auto" and not warning
    (policy, _, allow), warning = properties(config, v2=False, known=KNOWN)
    assert policy.value == "strict"
    assert sorted(allow.value) == sorted([*rest, *DEFAULTS])
    assert warning.startswith("/linux/resources/devices: ")


def test_on_v1_a_scope_has_a_policy_from_its_start_on() -> None:
    """Without one systemd moves its processes out of their devices cgroup, and so out of our rules."""
    policy, allow = at_start(v2=False)
    assert (policy.value, allow.value) == ("strict", [("char-*", "rwm"), ("block-*", "rwm")])
    assert at_start(v2=True) == []
