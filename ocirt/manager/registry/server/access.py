"""Who may do what: `htpasswd` says who may log in, a file of rules what they may do.

    [users.alice]
    write = ["team/**", "base"]     # to push and delete; whoever may write may read

    [users.ci]
    read = ["**"]
    write = ["ci/*"]

    [everybody]                     # who has logged in
    read = ["base/**"]

    [anonymous]                     # who has not
    read = ["public/**"]

`*` stands for a part of a name without "/", or some of it, `**` for anything. What no line gives is refused. Without
the file everybody who has logged in may do everything, and nobody else anything. Both files are read again when they
change. docker asks for a login before all else where there are passwords; podman, skopeo and ocim read without one what
`anonymous` may read.

Passwords are bcrypt's ("htpasswd -B"), as with other registries; the `bcrypt` package checks them, because crypt(3) is
not everywhere what it is on Debian, and Python 3.13 has no module for it. htpasswd's other kinds (MD5, SHA-1, crypt)
are refused: a file of them can be guessed at within hours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import threading
import tomllib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from ocirt.manager.errors import ManagerError

LARGEST_FILE = 4 << 20
MOST_REMEMBERED = 1000
"""Passwords that were right, so that one login does not cost 50 ms or more with each request."""
_BCRYPT = re.compile(r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
_USED = 72
"""Bytes of a password that bcrypt looks at; htpasswd cuts off the rest without a word."""
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do: patterns of repositories."""

    read: tuple[re.Pattern[str], ...] = ()
    write: tuple[re.Pattern[str], ...] = ()


_ALL = (re.compile(".*"),)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. name: "" for who has not logged in."""

    name: str = ""
    grants: tuple[Grant, ...] = ()

    @property
    def may_anything(self) -> bool:
        """Whether there is a name that they may read."""
        return any(grant.read or grant.write for grant in self.grants)

    def may_read(self, repository: str) -> bool:
        """Whether they may pull from it, and know what it has."""
        return any(_fits(grant.read, repository) or _fits(grant.write, repository) for grant in self.grants)

    def may_write(self, repository: str) -> bool:
        """Whether they may push to it and delete what it has."""
        return any(_fits(grant.write, repository) for grant in self.grants)


def _fits(patterns: Iterable[re.Pattern[str]], repository: str) -> bool:
    return any(pattern.fullmatch(repository) for pattern in patterns)


EVERYTHING = Grant(write=_ALL)


class Rules:
    """The file's content. Raises ManagerError for a word that it does not know: misspelt, it would give nothing."""

    def __init__(self, path: Path | None, text: str = "") -> None:
        self._users: dict[str, Grant] = {}
        self._everybody = EVERYTHING if path is None else Grant()
        self._anonymous = Grant()
        if path is None:
            return
        try:
            content = tomllib.loads(text)
        except ValueError as error:
            raise ManagerError(f"{path}: {error}") from error
        users = content.pop("users", {})
        if not isinstance(users, dict):
            raise ManagerError(f"{path}: 'users' is no table", hint="[users.NAME]")
        self._users = {name: _grant(path, f"users.{name}", own) for name, own in users.items()}
        self._everybody = _grant(path, "everybody", content.pop("everybody", {}))
        self._anonymous = _grant(path, "anonymous", content.pop("anonymous", {}))
        for name in content:
            raise ManagerError(f"{path}: {name!r} is not known", hint="[users.NAME], [everybody], [anonymous]")

    def caller(self, name: str) -> Caller:
        """With what they may do; "" is nobody who has logged in."""
        if not name:
            return Caller("", (self._anonymous,))
        return Caller(name, (self._users.get(name, Grant()), self._everybody, self._anonymous))


def _grant(path: Path, where: str, own: object) -> Grant:
    if not isinstance(own, dict):
        raise ManagerError(f"{path}: {where!r} is no table")
    found: dict[str, tuple[re.Pattern[str], ...]] = {}
    for key, value in own.items():
        if key not in ("read", "write"):
            raise ManagerError(f"{path}: {key!r} of {where!r} is not known", hint="read, write")
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ManagerError(f"{path}: {key!r} of {where!r} is no list of repositories")
        found[key] = tuple(pattern(one) for one in value)
    return Grant(**found)


def pattern(text: str) -> re.Pattern[str]:
    """Of repositories' names: `*` within a part, `**` anything."""
    pieces = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(pieces.get(one, re.escape(one)) for one in re.split(r"(\*\*|\*)", text)))


def passwords(path: Path, text: str) -> dict[str, bytes]:
    """htpasswd's lines. Raises ManagerError for one that is not bcrypt's."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.strip().partition(":")
        if not (name and colon and _BCRYPT.fullmatch(value)):
            hint = "htpasswd -B makes what is taken"
            raise ManagerError(f"{path}:{number} is no NAME:HASH with a hash of bcrypt", hint=hint)
        found[name] = value.encode()
    return found


@dataclass
class _File:
    """A file that is read again when it has changed."""

    path: Path
    seen: tuple[int, int, int] = (0, 0, 0)
    text: str = field(default="", repr=False)

    def changed(self) -> bool:
        """Reads it if so. Raises ManagerError."""
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self.seen:
                return False
            if status.st_size > LARGEST_FILE:
                raise ManagerError(f"{self.path} is larger than {LARGEST_FILE} bytes")
            self.text = self.path.read_text()
        except (OSError, ValueError) as error:
            raise ManagerError(f"{self.path}: {error}") from error
        self.seen = seen
        return True


class Access:
    """Checks passwords; its methods block, and may be called in several threads.

    Without an htpasswd file everybody may do everything. Raises ManagerError for files that cannot be used at first;
    later the last ones that could be used count.
    """

    def __init__(self, htpasswd: Path | None, rules: Path | None) -> None:
        self._lock = threading.Lock()
        self._htpasswd = _File(htpasswd) if htpasswd else None
        self._rules_file = _File(rules) if rules else None
        self._passwords: Mapping[str, bytes] = {}
        self._rules = Rules(None)
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self._secret = os.urandom(32)
        self._nobody = bcrypt.hashpw(os.urandom(16), bcrypt.gensalt(4 if htpasswd is None else 10))
        self._load()

    @property
    def open(self) -> bool:
        """Whether nobody has to log in for anything."""
        return self._htpasswd is None

    def _load(self) -> None:
        """Both files, where they have changed."""
        if self._htpasswd is not None and self._htpasswd.changed():
            self._passwords = passwords(self._htpasswd.path, self._htpasswd.text)
            self._remembered.clear()
        if self._rules_file is not None and self._rules_file.changed():
            self._rules = Rules(self._rules_file.path, self._rules_file.text)

    def refresh(self) -> str:
        """Look whether the files have changed. Returns what is wrong with them, which changes nothing, or ""."""
        with self._lock:
            try:
                self._load()
            except ManagerError as error:
                return str(error)
        return ""

    def anonymous(self) -> Caller:
        """Who sends no credentials."""
        return Caller("", (EVERYTHING,)) if self.open else self._rules.caller("")

    def remembered(self, authorization: str) -> Caller | None:
        """Who sends these, if they were right before: this is quick."""
        if self.open:
            return self.anonymous()
        with self._lock:
            key = self._key(authorization)
            if key not in self._remembered:
                return None
            self._remembered.move_to_end(key)
        parsed = basic(authorization)
        return self._rules.caller(parsed[0]) if parsed else None

    def check(self, authorization: str) -> Caller | None:
        """Who sends these; None where they are wrong, which takes the same time for names that are not known."""
        parsed = basic(authorization)
        if parsed is None:
            return None
        name, password = parsed
        known = self._passwords
        stored = known.get(name)
        right = _right(password, stored if stored is not None else self._nobody)
        if stored is None or not right:
            return None
        with self._lock:
            if known is self._passwords:
                self._remembered[self._key(authorization)] = None
                while len(self._remembered) > MOST_REMEMBERED:
                    self._remembered.popitem(last=False)
        return self._rules.caller(name)

    def _key(self, authorization: str) -> bytes:
        """What is remembered is of no use to who reads this process's memory."""
        return hmac.digest(self._secret, authorization.encode("utf-8", "surrogateescape"), hashlib.sha256)


def _right(password: bytes, stored: bytes) -> bool:
    if b"\0" in password:
        return False
    try:
        return bcrypt.checkpw(password[:_USED], stored)
    except ValueError:
        return False


def basic(authorization: str) -> tuple[str, bytes] | None:
    """Name and password of an Authorization header (RFC 7617); None for what is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic" or len(value) > _LONGEST * 2:
        return None
    try:
        name, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon and name else None
    except (binascii.Error, UnicodeDecodeError):
        return None
