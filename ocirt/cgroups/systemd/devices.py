"""The device rules as DevicePolicy= and DeviceAllow= (systemd.resource-control(5)).

systemd knows a list of what is allowed, we a sequence of rules in which a later one may forbid. On v2 our own program
stays beside systemd's, and both must allow: what cannot be said is left to ours alone. On v1 there is one list, which
systemd writes anew at a daemon-reload, and without a policy that would allow everything: so there, what cannot be said
is left out, and becomes forbidden then. And there a unit without a policy needs no devices cgroup for systemd, which
moves its processes to the one above whenever it looks: so a scope has a policy from its start on.
"""

from __future__ import annotations

from ocirt.cgroups.layout import read
from ocirt.cgroups.rules import ANY, container_rules
from ocirt.cgroups.systemd.properties import Property

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.cgroups.rules import Rule

POINTER = "/linux/resources/devices"
_KINDS = {"c": "char", "b": "block"}


def at_start(*, v2: bool) -> list[Property]:
    """What holds until init has made its nodes: everything is allowed."""
    if v2:
        return []
    everything = [("char-*", "rwm"), ("block-*", "rwm")]
    return [Property("DevicePolicy", "s", "strict", POINTER), Property("DeviceAllow", "a(ss)", everything, POINTER)]


def properties(config: Sequence[dict[str, Any]], *, v2: bool, known: str | None = None) -> tuple[list[Property], str]:
    """(the properties, a warning or ""), for a unit that has those of `at_start`.

    known: /proc/devices, made up in tests only.
    """
    allowed, everything, exact = allow_list(container_rules(config))
    if everything and exact:
        return ([Property("DevicePolicy", "s", "auto", POINTER)] if v2 else []), ""
    lines: dict[str, str] = {}  # of two for one path systemd takes the last
    majors = _majors(read("/proc/devices") if known is None else known)
    for rule in allowed:
        path = _path(rule, majors)
        if path:
            lines[path] = "".join(letter for letter in "rwm" if letter in lines.get(path, "") + rule.access)
        elif not _meets_nothing(rule, majors):
            exact = False
    if v2 and not exact:
        return [Property("DevicePolicy", "s", "auto", POINTER)], ""
    warning = "" if exact else f"{POINTER}: systemd can allow less than these rules do, from its next daemon-reload on"
    # A list is added to the one that is there; an empty one clears that.
    allow = [Property("DeviceAllow", "a(ss)", one, POINTER) for one in ([], list(lines.items()))]
    return [Property("DevicePolicy", "s", "strict", POINTER), *allow], warning


def allow_list(rules: Sequence[Rule]) -> tuple[list[Rule], bool, bool]:
    """(rules that allow, is everything allowed?, do they mean the same as all the rules?).

    What a later rule forbids in part is not in the list.
    """
    allowed: list[Rule] = []
    everything, exact = False, True
    for rule in rules:
        if rule.everything:
            allowed, everything, exact = [], rule.allow, True
        elif rule.allow:
            allowed.append(rule)
        else:
            exact = exact and not everything
            kept = []
            for one in allowed:
                if not _overlap(one, rule):
                    kept.append(one)
                elif not _covers(rule, one):
                    exact = False
            allowed = kept
    return allowed, everything, exact


def _overlap(one: Rule, other: Rule) -> bool:
    return (
        one.type == other.type
        and _meet(one.major, other.major)
        and _meet(one.minor, other.minor)
        and bool(set(one.access) & set(other.access))
    )


def _meet(one: int, other: int) -> bool:
    return one == other or ANY in (one, other)


def _covers(outer: Rule, inner: Rule) -> bool:
    return (
        outer.type == inner.type
        and outer.major in (ANY, inner.major)
        and outer.minor in (ANY, inner.minor)
        and set(inner.access) <= set(outer.access)
    )


def _path(rule: Rule, majors: dict[tuple[str, int], str]) -> str:
    """What DeviceAllow= calls these devices; "" if it has no name for exactly them."""
    kind = _KINDS[rule.type]
    if rule.major == ANY:
        return f"{kind}-*" if rule.minor == ANY else ""
    if rule.minor == ANY:
        name = majors.get((rule.type, rule.major), "")
        return f"{kind}-{name}" if name else ""
    return f"/dev/{kind}/{rule.major}:{rule.minor}"


def _meets_nothing(rule: Rule, majors: dict[tuple[str, int], str]) -> bool:
    """Is it for a major number that no driver has? Then there is nothing that it could allow."""
    return rule.major != ANY and (rule.type, rule.major) not in majors


def _majors(known: str) -> dict[tuple[str, int], str]:
    """(type, major) → its driver's name, or "" if each of its names is others' too. Terminals' masters and slaves have
    eight majors of one name, of which the kernel uses the first."""
    kind = "c"
    names: dict[tuple[str, int], list[str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for line in known.splitlines():
        number, _, name = line.strip().partition(" ")
        if line.startswith("Block"):
            kind = "b"
        elif number.isdecimal():
            names.setdefault((kind, int(number)), []).append(name)
            counts[kind, name] = counts.get((kind, name), 0) + 1
    return {
        (of, major): next((name for name in found if counts[of, name] == 1 or name in ("pts", "ptm")), "")
        for (of, major), found in names.items()
    }
