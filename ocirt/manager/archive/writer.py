"""A tar archive, written in one pass: ustar headers, and before those that say too little a PAX one (pax(1)).

What it says depends on the entries and on nothing else: the same entries in the same order are the same bytes. Names of
owners are left out, numbers say it all; what is in a PAX record stands in the order of its key. Of files on disk the
times are those of whole seconds, and the order is the caller's.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Protocol

from ocirt.manager.archive import reader
from ocirt.manager.archive.reader import BLOCK, CHUNK, FOLDER, HARD_LINK, REGULAR, SYMLINK, Entry, Stream, shown
from ocirt.manager.errors import ArchiveError

if TYPE_CHECKING:
    from ocirt.manager.snapshots.trees import Found

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SECOND = 1_000_000_000
_AT_ONCE = 256 << 10  # bytes that are written at once
_ZERO = bytes(BLOCK)
_WITHOUT_SUM = b" " * 8
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: reader.CHARACTER,
    stat.S_IFBLK: reader.BLOCK_DEVICE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: reader.FIFO,
}
# Attributes that an archive of files keeps: overlayfs's and the kernel's own are of this host.
_KEPT = ("user.", "security.capability")
_NOT_KEPT = ("user.overlay.",)


class Out(Protocol):
    """Where the archive goes."""

    def write(self, data: bytes, /) -> object:
        """Takes all of it."""


class Writer:
    """Takes entries, as the reader gives them, and files; `close` ends the archive, and not the output.

    Of a file on disk that has several names the first is written as such, the others as links to it.

    owner     (uid, gid) of everything, instead of its own
    written   bytes of the archive so far
    """

    def __init__(self, out: Out, owner: tuple[int, int] | None = None) -> None:
        self._out = out
        self._owner = owner
        self._linked: dict[tuple[int, int], bytes] = {}
        self._kept = bytearray()
        self.written = 0

    def add(self, entry: Entry, stream: Stream | None = None) -> int:
        """The next member; of a regular file `stream` has the data, of which exactly `entry.length` bytes are taken.

        A folder's name gets its slash. Sparse files are written with their holes as zeros. Returns how many bytes the
        stream had too few: they are zeros in the archive, as GNU tar has it of a file that shrinks meanwhile.
        Raises ArchiveError for names and attributes that no archive can say.
        """
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        size = entry.length if entry.kind == REGULAR else 0
        name = entry.name if entry.kind != FOLDER or entry.name.endswith(b"/") else entry.name + b"/"
        target = entry.target if entry.kind in (SYMLINK, HARD_LINK) else b""
        records = _records(entry, name, target, size)
        if records:
            self._put(_header(b"././@PaxHeader", b"x", len(records), 0o644))
            self._put(records + bytes(-len(records) % BLOCK))
        self._put(_header(name, entry.kind, size, entry.mode, entry.uid, entry.gid, entry.mtime, target, entry.device))
        if not size:
            return 0
        missing = self._copy(stream, size)
        self._put(bytes(-size % BLOCK))
        return missing

    def put(self, name: bytes, data: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """A regular file of root's whose bytes are at hand. mtime: nanoseconds since 1970."""
        entry = Entry()
        entry.name, entry.mode, entry.mtime = name, mode, mtime
        entry.size = entry.length = len(data)
        self._put(_header(name, REGULAR, len(data), mode, mtime=mtime))
        self._put(data + bytes(-len(data) % BLOCK))

    def member(self, found: Found, name: bytes | None = None) -> None:
        """Write what was found on disk, under its path or another name. A socket is left out, as tar(1) does; a file
        that changes meanwhile has the size that it had first.

        Raises OSError, FileNotFoundError where it is gone or something else by now, ArchiveError as `add`.
        """
        entry = _entry(found, found.path if name is None else name)
        if entry is None:
            return
        about = found.about
        if about.st_nlink > 1 and entry.kind != FOLDER:
            first = self._linked.setdefault((about.st_dev, about.st_ino), entry.name)
            if first != entry.name:
                entry.kind, entry.target = HARD_LINK, first
                self.add(entry)
                return
        if entry.kind == REGULAR:
            self._file(found, entry)
            return
        if entry.kind == SYMLINK:
            entry.target = os.readlink(found.name, dir_fd=found.folder)
        entry.xattrs = _attributes(f"/proc/self/fd/{found.folder}/".encode() + found.name)
        self.add(entry)

    def _file(self, found: Found, entry: Entry) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(found.name, flags, dir_fd=found.folder), "rb", buffering=0) as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise FileNotFoundError(shown(entry.name))  # something else is there now
            _describe(entry, about)
            entry.size = entry.length = about.st_size
            entry.xattrs = _attributes(stream.fileno())
            self.add(entry, stream)

    def empty(self, name: bytes, about: os.stat_result | None = None) -> None:
        """An empty file that only its name says something, such as a whiteout; owner of `about`, or zero."""
        entry = Entry()
        entry.name, entry.mode = name, 0o600
        if about is not None:
            entry.uid, entry.gid = about.st_uid, about.st_gid
        self.add(entry)

    def close(self) -> None:
        """Two empty blocks are the end."""
        self._put(_ZERO + _ZERO)
        self._flush()

    def _copy(self, stream: Stream | None, size: int) -> int:
        while size and stream is not None and (piece := stream.read(min(size, CHUNK))):
            size -= len(piece)
            self._put(piece)
        missing = size
        while size:
            self._put(bytes(min(size, CHUNK)))
            size -= min(size, CHUNK)
        return missing

    def _put(self, data: bytes) -> None:
        self.written += len(data)
        if len(data) >= _AT_ONCE:
            self._flush()
            self._out.write(data)
            return
        self._kept += data
        if len(self._kept) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._kept:
            self._out.write(bytes(self._kept))
            self._kept.clear()


def _header(
    name: bytes,
    kind: bytes,
    size: int,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """What does not fit is cut, or 0: then a PAX header said it."""
    block = _HEADER.pack(
        name[:100],
        b"%07o" % (mode & 0o7777),
        b"%07o" % uid if 0 <= uid < 1 << 21 else b"0000000",
        b"%07o" % gid if 0 <= gid < 1 << 21 else b"0000000",
        b"%011o" % size if size < 1 << 33 else b"00000000000",
        b"%011o" % (mtime // _SECOND) if 0 <= mtime < _SECOND << 33 else b"00000000000",
        _WITHOUT_SUM,
        kind,
        target[:100],
        b"ustar\x0000",
        b"",
        b"",
        b"%07o" % device[0],
        b"%07o" % device[1],
        b"",
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _records(entry: Entry, name: bytes, target: bytes, size: int) -> bytes:
    """What the ustar header cannot say, or b""."""
    if b"\0" in name or b"\0" in target or not name:
        raise ArchiveError(f"{shown(name)!r}: a name that no archive can have")
    said: dict[bytes, bytes] = {}
    # 99 bytes, not 100: some readers want the NUL.
    if len(name) >= 100:
        said[b"path"] = name
    if len(target) >= 100:
        said[b"linkpath"] = target
    if size >= 1 << 33:
        said[b"size"] = b"%d" % size
    if not 0 <= entry.uid < 1 << 21:
        said[b"uid"] = b"%d" % entry.uid
    if not 0 <= entry.gid < 1 << 21:
        said[b"gid"] = b"%d" % entry.gid
    if entry.mtime % _SECOND or not 0 <= entry.mtime < _SECOND << 33:
        said[b"mtime"] = _time(entry.mtime)
    for attribute, value in entry.xattrs.items():
        if b"=" in attribute or not attribute:
            raise ArchiveError(f"{shown(name)}: the attribute {shown(attribute)!r} has a name that no archive can have")
        said[b"SCHILY.xattr." + attribute] = value
    return b"".join(_record(key, said[key]) for key in sorted(said)) if said else b""


def _record(key: bytes, value: bytes) -> bytes:
    """Length, key and value in a line; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _time(mtime: int) -> bytes:
    """Seconds, with a fraction where there is one: "12", "12.5", "-0.25"."""
    whole, fraction = divmod(abs(mtime), _SECOND)
    text = b"%d.%09d" % (whole, fraction) if fraction else b"%d" % whole
    return (b"-" if mtime < 0 else b"") + (text.rstrip(b"0") if fraction else text)


def _entry(found: Found, name: bytes) -> Entry | None:
    """Without data, target and attributes; None for what no archive has."""
    kind = _KINDS.get(stat.S_IFMT(found.about.st_mode))
    if kind is None:
        return None
    entry = Entry()
    entry.kind, entry.name = kind, name
    _describe(entry, found.about)
    if kind in (reader.CHARACTER, reader.BLOCK_DEVICE):
        entry.device = os.major(found.about.st_rdev), os.minor(found.about.st_rdev)
    return entry


def _describe(entry: Entry, about: os.stat_result) -> None:
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
    entry.mtime = about.st_mtime_ns // _SECOND * _SECOND


def _attributes(where: int | bytes) -> dict[bytes, bytes]:
    """Of a descriptor, or of a path whose last component is not followed."""
    follow = isinstance(where, int)
    try:
        return {
            os.fsencode(name): os.getxattr(where, name, follow_symlinks=follow)
            for name in os.listxattr(where, follow_symlinks=follow)
            if name.startswith(_KEPT) and not name.startswith(_NOT_KEPT)
        }
    except OSError:
        return {}  # a file system without any, or a file that is gone
