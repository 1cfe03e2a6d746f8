"""The device rules of a container, whatever the kernel wants them written as.

A container starts from "nothing is allowed", also if its configuration does not say so: a list of allow rules never
becomes allow-all (GHSA-g54h-m393-cpwq).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ANY = -1


class Rule:
    """type "b" or "c" (or "a": both), major and minor (ANY: every), access letters of "rwm"."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, type: str, major: int, minor: int, access: str) -> None:
        self.allow = allow
        self.type = type
        self.major = major
        self.minor = minor
        self.access = access

    @property
    def everything(self) -> bool:
        return self.type == "a" and self.major == ANY and self.minor == ANY and self.access == "rwm"


# What the default devices and terminals need, and mknod of anything, which opens nothing.
DEFAULTS = (
    Rule(True, "c", ANY, ANY, "m"),
    Rule(True, "b", ANY, ANY, "m"),
    Rule(True, "c", 1, 3, "rwm"),
    Rule(True, "c", 1, 5, "rwm"),
    Rule(True, "c", 1, 7, "rwm"),
    Rule(True, "c", 1, 8, "rwm"),
    Rule(True, "c", 1, 9, "rwm"),
    Rule(True, "c", 5, 0, "rwm"),
    Rule(True, "c", 5, 2, "rwm"),
    Rule(True, "c", 136, ANY, "rwm"),
)


def container_rules(config: Sequence[dict[str, Any]]) -> list[Rule]:
    """The rules after the initial deny-all: the configuration's in its order, then the defaults.

    A rule of both types that does not cover everything becomes one of each, because the kernel's v1 files would
    take it for everything.
    """
    rules: list[Rule] = []
    for entry in config:
        allow = entry["allow"]
        kind = {"": "a", "u": "c"}.get(entry.get("type", "a"), entry.get("type", "a"))
        access = "".join(letter for letter in "rwm" if letter in entry.get("access", ""))
        if not access:
            if allow:
                continue
            access = "rwm"
        rule = Rule(allow, kind, entry.get("major", ANY), entry.get("minor", ANY), access)
        if kind == "a" and not rule.everything:
            rules += [Rule(allow, one, rule.major, rule.minor, access) for one in "bc"]
        else:
            rules.append(rule)
    return rules + list(DEFAULTS)
