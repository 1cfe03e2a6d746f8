"""Writes a tar archive: ustar, and a PAX header where that cannot say it (pax(1)). The same tree gives the same bytes.

What is written depends on names, modes, owners, times to the second, devices, links, content and attributes, and on
nothing else: no names of users, no order of folders, no inode numbers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Protocol

from ocirt.manager.archive.reader import BLOCK, shown
from ocirt.manager.errors import ManagerError
from ocirt.manager.snapshots.trees import Found

CHUNK = 1 << 20
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
# Attributes that an archive keeps: overlayfs's and the kernel's own are of this host.
_KEPT = ("user.", "security.capability")
_NOT_KEPT = ("user.overlay.",)


class Out(Protocol):
    """Where the archive goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class Writer:
    """One archive. `close` ends it.

    owner    (uid, gid) of everything, instead of its own
    linked   files that have several names: the first of them is written as such, the others as links to it
    """

    def __init__(self, out: Out, owner: tuple[int, int] | None = None) -> None:
        self._out = out
        self._owner = owner
        self._linked: dict[tuple[int, int], bytes] = {}

    def member(self, found: Found, name: bytes | None = None) -> None:
        """Write what was found, under its path or another name. A socket is left out, as tar(1) does; a file that
        changes meanwhile has the size that it had first. Raises OSError, FileNotFoundError where it is gone.
        """
        name = found.path if name is None else name
        about = found.about
        kind = _KINDS.get(stat.S_IFMT(about.st_mode))
        if kind is None:
            return
        if about.st_nlink > 1 and kind != b"5":
            first = self._linked.setdefault((about.st_dev, about.st_ino), name)
            if first != name:
                self._header(name, b"1", about, target=first)
                return
        if kind == b"0":
            self._file(found, name)
            return
        target = os.readlink(found.name, dir_fd=found.folder) if kind == b"2" else b""
        attributes = _attributes(f"/proc/self/fd/{found.folder}/".encode() + found.name)
        self._header(name + b"/" if kind == b"5" else name, kind, about, target=target, attributes=attributes)

    def _file(self, found: Found, name: bytes) -> None:
        descriptor = os.open(
            found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.folder
        )
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise FileNotFoundError(shown(name))  # something else is there now
            self._header(name, b"0", about, size=about.st_size, attributes=_attributes(descriptor))
            left = about.st_size
            while left:
                piece = os.read(descriptor, min(CHUNK, left)) or bytes(min(CHUNK, left))
                self._out.write(piece)
                left -= len(piece)
            self._out.write(bytes(-about.st_size % BLOCK))
        finally:
            os.close(descriptor)

    def empty(self, name: bytes, about: os.stat_result | None = None) -> None:
        """An empty file that only its name says something, such as a whiteout; owner and time of `about`, or zero."""
        self._write(
            name, b"0", 0o600, self._owner or ((about.st_uid, about.st_gid) if about else (0, 0)), 0, 0, b"", (0, 0), {}
        )

    def close(self) -> None:
        """The archive's end."""
        self._out.write(bytes(2 * BLOCK))

    def _header(
        self,
        name: bytes,
        kind: bytes,
        about: os.stat_result,
        *,
        size: int = 0,
        target: bytes = b"",
        attributes: Mapping[bytes, bytes] | None = None,
    ) -> None:
        device = (os.major(about.st_rdev), os.minor(about.st_rdev)) if kind in b"34" else (0, 0)
        mtime = about.st_mtime_ns // 1_000_000_000
        owner = self._owner or (about.st_uid, about.st_gid)
        mode = stat.S_IMODE(about.st_mode)
        self._write(name, kind, mode, owner, size, mtime, target, device, attributes or {})

    def _write(
        self,
        name: bytes,
        kind: bytes,
        mode: int,
        owner: tuple[int, int],
        size: int,
        mtime: int,
        target: bytes,
        device: tuple[int, int],
        attributes: Mapping[bytes, bytes],
    ) -> None:
        records: list[tuple[bytes, bytes]] = []
        fields = [
            _text(name, 100, b"path", records),
            _octal(mode, 8, b"", records),
            _octal(owner[0], 8, b"uid", records),
            _octal(owner[1], 8, b"gid", records),
            _octal(size, 12, b"size", records),
            _octal(mtime, 12, b"mtime", records),
            b" " * 8,
            kind,
            _text(target, 100, b"linkpath", records),
            b"ustar\x0000",
            bytes(64),
            _octal(device[0], 8, b"", records),
            _octal(device[1], 8, b"", records),
        ]
        records += [(b"SCHILY.xattr." + key, attributes[key]) for key in sorted(attributes)]
        if records:
            data = b"".join(_record(key, value) for key, value in records)
            self._write(b"PaxHeaders/0", b"x", 0o644, (0, 0), len(data), 0, b"", (0, 0), {})
            self._out.write(data + bytes(-len(data) % BLOCK))
        block = b"".join(fields).ljust(BLOCK, b"\0")
        self._out.write(block[:148] + b"%06o\0 " % sum(block) + block[156:])


def _text(value: bytes, width: int, key: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    if len(value) > width:
        records.append((key, value))
    return value[:width].ljust(width, b"\0")


def _octal(value: int, width: int, key: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """Digits and a NUL; a number that they cannot say goes to the PAX header."""
    if not 0 <= value < 8 ** (width - 1):
        if not key:
            raise ManagerError(f"the number {value} cannot be written to an archive")
        records.append((key, b"%d" % value))
        value = 0
    return b"%0*o\0" % (width - 1, value)


def _record(key: bytes, value: bytes) -> bytes:
    """Its length counts itself."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _attributes(where: int | bytes) -> dict[bytes, bytes]:
    """Of a descriptor, or of a path whose last component is not followed."""
    try:
        names: Iterable[str] = os.listxattr(where) if isinstance(where, int) else _listed(where)
        return {
            os.fsencode(name): _value(where, name)
            for name in names
            if name.startswith(_KEPT) and not name.startswith(_NOT_KEPT)
        }
    except OSError:
        return {}  # a file system without any, or a file that is gone


def _listed(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def _value(where: int | bytes, name: str) -> bytes:
    return os.getxattr(where, name) if isinstance(where, int) else os.getxattr(where, name, follow_symlinks=False)
