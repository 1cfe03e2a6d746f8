"""USER: who the program is, by the container's own passwd(5) and group(5).

`NAME|UID[:GROUP|GID]`. What is written as a number is one and never looked up as a name (CVE-2026-46680,
CVE-2024-40635), ids are from 0 to 2³¹-1, and the primary group is one of the groups (CVE-2023-25173).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ocirt.errors import printable
from ocirt.manager.containers import within
from ocirt.manager.errors import GrammarError, ManagerError

HIGHEST = (1 << 31) - 1
_NAME = re.compile(r"[^\s:,/\x00-\x1f\x7f+-][^\s:,/\x00-\x1f\x7f]{0,254}")
MOST_GROUPS = 65536  # NGROUPS_MAX: limits.h


@dataclass(frozen=True, slots=True)
class User:
    """Numbers for config.json, and where home is."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = field(default=())
    home: str = "/"


def number(text: str, what: str) -> int | None:
    """An id that is written as a number, or None for a name. Raises GrammarError (out of range, or neither)."""
    if text.isascii() and text.isdecimal():
        value = int(text) if len(text) < 20 else HIGHEST + 1
        if value > HIGHEST:
            raise GrammarError(f"{what}: {text[:40]} is no id", hint=f"from 0 to {HIGHEST}")
        return value
    if not _NAME.fullmatch(text) or text.isnumeric() or re.fullmatch(r"[0-9.xXeE_]+", text):
        raise GrammarError(f"{what}: {printable(text[:80])!r} is neither a name nor an id")
    return None


def check(text: str, what: str) -> str:
    """A USER as far as it can be checked without a container. Raises GrammarError."""
    name, colon, group = text.partition(":")
    for part in ([name] if name else []) + ([group] if colon else []):
        number(part, what)
    return text


def resolve(root: int, text: str, extra: Sequence[str] = (), what: str = "USER") -> User:
    """The numbers of a user of the container whose root file system `root` is, and of the groups of --group-add.

    Raises GrammarError, ManagerError (no such user or group), LimitError.
    """
    name, colon, group = text.partition(":")
    uid = number(name, what) if name else 0
    gid = number(group, what) if colon else None
    account = next(_accounts(root, name, uid), None)
    if uid is None:
        if account is None:
            raise ManagerError(f"{what}: the container's /etc/passwd has no user {name}")
        uid = account[1]
    own, own_gid, home = (account[0], account[2], account[3]) if account else ("", 0, "/")
    groups = list(_groups(root)) if (colon and gid is None) or not colon or extra else []
    by_name = {each: one for each, one, _ in reversed(groups)}
    members = []
    if colon and gid is None:
        if group not in by_name:
            raise ManagerError(f"{what}: the container's /etc/group has no group {group}")
        gid = by_name[group]
    elif not colon:
        gid = own_gid
        members = [one for _, one, names in groups if own and own in names]
    for each in extra:
        added = number(each, "--group-add")
        if added is None:
            if each not in by_name:
                raise ManagerError(f"--group-add: the container's /etc/group has no group {each}")
            added = by_name[each]
        members.append(added)
    assert gid is not None
    return User(uid, gid, tuple(dict.fromkeys((gid, *members)))[:MOST_GROUPS], home)


def _accounts(root: int, name: str, uid: int | None) -> Iterator[tuple[str, int, int, str]]:
    """The lines of passwd that are this user's. Those that are not as passwd(5) has them are nobody's."""
    for line in _lines(root, "etc/passwd"):
        fields = line.split(":")
        if len(fields) < 6:
            continue
        own, group = _id(fields[2]), _id(fields[3])
        if own is None or group is None or (own != uid if uid is not None else fields[0] != name):
            continue
        home = fields[5] if fields[5].startswith("/") and fields[5].isprintable() else "/"
        yield fields[0], own, group, home


def _groups(root: int) -> Iterator[tuple[str, int, list[str]]]:
    for line in _lines(root, "etc/group"):
        fields = line.split(":")
        gid = _id(fields[2]) if len(fields) >= 4 else None
        if gid is not None and fields[0]:
            yield fields[0], gid, fields[3].split(",")


def _lines(root: int, path: str) -> list[str]:
    content = within.read(root, path)
    return content.decode("utf-8", "surrogateescape").split("\n") if content else []


def _id(text: str) -> int | None:
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else HIGHEST + 1
    return value if value <= HIGHEST else None
