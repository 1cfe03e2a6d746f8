"""A tar archive, read strictly and once: ustar, GNU's long names and sparse files, PAX (pax(1), tar(5), GNU tar's
manual D.2).

What two readers could take for different things is an error here, not a guess: a checksum that is wrong, a number that
is none, a PAX record whose length does not fit. Where a PAX header gives a size it is the size, for the data too
(RUSTSEC-2026-0068, CVE-2025-62518: readers that disagree on that hide entries from each other). Names, link targets and
attributes are bytes, of bounded length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from ocirt.manager.errors import ArchiveError, LimitError

BLOCK = 512
CHUNK = 1 << 20
LONGEST_NAME = 4096  # PATH_MAX of Linux, without the NUL it counts
LONGEST_EXTENSION = 1 << 20  # bytes of one PAX header or long name
MOST_EXTENTS = 1 << 16
LARGEST = 1 << 62

REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_WITHOUT_DATA = frozenset((HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO))
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_XATTR = b"SCHILY.xattr."
_ZERO = bytes(BLOCK)


class Stream(Protocol):
    """Where the archive comes from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, and none only at the end."""


class Entry:
    """One member.

    kind      one of the constants above
    name      as written, bytes
    target    of a link: as written, bytes
    mode      permission bits, 0 to 0o7777; uid, gid; device: (major, minor)
    mtime     nanoseconds since 1970
    size      bytes of data that the archive has for it
    extents   for a sparse file [(offset, length), …] in order, whose lengths add up to `size`; else None
    length    of the file: `size`, or a sparse file's
    xattrs    {name: value}
    """

    __slots__ = (
        "device",
        "extents",
        "gid",
        "kind",
        "length",
        "mode",
        "mtime",
        "name",
        "size",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.kind = REGULAR
        self.name = self.target = b""
        self.mode = self.uid = self.gid = self.mtime = self.size = self.length = 0
        self.device = (0, 0)
        self.extents: list[tuple[int, int]] | None = None
        self.xattrs: dict[bytes, bytes] = {}


class Reader:
    """Iterates over the entries; between two of them `data` gives the bytes of the one before.

    Raises ArchiveError and LimitError, and whatever the stream raises.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._left = 0  # of the current entry's data
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        everywhere: dict[bytes, bytes] = {}  # of global PAX headers
        while True:
            entry = self._next(everywhere)
            if entry is None:
                break
            yield entry
            self._skip()
        self._drain()

    def data(self) -> Iterator[bytes]:
        """The current entry's bytes, in pieces of at most a MiB."""
        while self._left:
            piece = self._take(min(self._left, CHUNK))
            self._left -= len(piece)
            yield piece

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes of the current entry, or fewer where it ends."""
        size = min(size, self._left)
        self._left -= size
        return self._whole(size)

    # The bytes.

    def _take(self, most: int) -> bytes:
        """At least one byte, and at most `most`."""
        if self._at == len(self._buffer):
            self._buffer = self._stream.read(CHUNK)
            self._at = 0
            if not self._buffer:
                raise ArchiveError("the archive ends in the middle of an entry")
        piece = self._buffer[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _whole(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        pieces = []
        while size:
            piece = self._take(size)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _block(self) -> bytes:
        """The next header; b"" where the archive ends without the two empty blocks, as some do."""
        if self._at == len(self._buffer):
            self._buffer = self._stream.read(CHUNK)
            self._at = 0
            if not self._buffer:
                return b""
        return self._whole(BLOCK)

    def _skip(self) -> None:
        if self._left:
            for _ in self.data():
                pass
        if self._padding:
            self._whole(self._padding)
            self._padding = 0

    def _drain(self) -> None:
        """What follows the end is nobody's, but it is part of what the digest is of."""
        self._buffer = b""
        self._at = 0
        while self._stream.read(CHUNK):
            pass

    # The headers.

    def _next(self, everywhere: dict[bytes, bytes]) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        maps: list[tuple[bytes, bytes]] = []
        long_name = long_target = None
        while True:
            block = self._block()
            if not block or block == _ZERO:
                if pax or long_name is not None or long_target is not None:
                    raise ArchiveError("the archive ends after a header that describes the next entry")
                return None
            fields = _fields(block)
            kind = fields[7]
            if kind in (b"x", b"g", b"L", b"K"):
                extension = self._extension(_number(fields[4], "size"))
                if kind == b"x":
                    pax, maps = _records(extension)
                elif kind == b"g":
                    everywhere.update(_records(extension)[0])
                elif kind == b"L":
                    long_name = extension.split(b"\0", 1)[0]
                else:
                    long_target = extension.split(b"\0", 1)[0]
                continue
            return self._entry(block, fields, everywhere | pax if everywhere else pax, maps, long_name, long_target)

    def _extension(self, size: int) -> bytes:
        if size > LONGEST_EXTENSION:
            raise LimitError(f"a header of the archive has {size} bytes, more than {LONGEST_EXTENSION}")
        data = self._whole(size)
        self._whole(-size % BLOCK)
        return data

    def _entry(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        pax: dict[bytes, bytes],
        maps: list[tuple[bytes, bytes]],
        long_name: bytes | None,
        long_target: bytes | None,
    ) -> Entry:
        entry = Entry()
        name, mode, uid, gid, size, mtime, _, kind, target, magic, _, _, major, minor, prefix = fields
        entry.name = name.split(b"\0", 1)[0] if long_name is None else long_name
        if magic == b"ustar\x0000" and long_name is None and prefix[0]:
            entry.name = prefix.split(b"\0", 1)[0] + b"/" + entry.name
        entry.target = target.split(b"\0", 1)[0] if long_target is None else long_target
        entry.mode = _number(mode, "mode") & 0o7777
        entry.uid, entry.gid = _number(uid, "uid"), _number(gid, "gid")
        entry.mtime = _number(mtime, "mtime") * 1_000_000_000
        entry.size = _number(size, "size")
        entry.kind = _kind(kind, entry.name)
        if entry.kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = _number(major, "major"), _number(minor, "minor")
        if pax:
            _apply(entry, pax)
        if entry.kind in _WITHOUT_DATA:
            entry.size = 0
        if not 0 <= entry.size <= LARGEST:
            raise ArchiveError(f"{shown(entry.name)}: a size of {entry.size} bytes")
        entry.length = entry.size
        self._left, self._padding = entry.size, -entry.size % BLOCK
        if kind == b"S":
            self._old_sparse(entry, block)
        elif any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax, maps)
        for text in (entry.name, entry.target):
            if len(text) >= LONGEST_NAME:
                raise LimitError(f"{shown(text)}: a name of {len(text)} bytes, more than {LONGEST_NAME - 1}")
            if b"\0" in text:
                raise ArchiveError(f"{shown(text)}: a name with a NUL")
        return entry

    # Sparse files: GNU's three formats, one result.

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """Type "S": four extents in the header, and blocks of 21 more before the data (GNU tar, D.2)."""
        extents = _extents(block[386:482])
        more = block[482]
        while more:
            following = self._whole(BLOCK)
            extents += _extents(following[:504])
            more = following[504]
            if len(extents) > MOST_EXTENTS:
                raise LimitError(f"{shown(entry.name)}: more than {MOST_EXTENTS} extents")
        _sparse(entry, extents, _number(block[483:495], "real size"))

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], maps: list[tuple[bytes, bytes]]) -> None:
        if b"GNU.sparse.name" in pax:
            entry.name = pax[b"GNU.sparse.name"]
        length = _decimal(pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b"")), "GNU.sparse.realsize")
        if pax.get(b"GNU.sparse.major") == b"1":
            extents = self._map_in_data(entry)
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(number, "GNU.sparse.map") for number in pax[b"GNU.sparse.map"].split(b",")]
            extents = list(zip(numbers[::2], numbers[1::2], strict=False))
            if len(numbers) % 2:
                raise ArchiveError(f"{shown(entry.name)}: an odd GNU.sparse.map")
        else:
            offsets = [_decimal(value, "GNU.sparse.offset") for key, value in maps if key == b"GNU.sparse.offset"]
            lengths = [_decimal(value, "GNU.sparse.numbytes") for key, value in maps if key == b"GNU.sparse.numbytes"]
            if len(offsets) != len(lengths):
                raise ArchiveError(f"{shown(entry.name)}: extents without a length")
            extents = list(zip(offsets, lengths, strict=True))
        _sparse(entry, extents, length)

    def _map_in_data(self, entry: Entry) -> list[tuple[int, int]]:
        """Format 1.0: decimal lines before the data: how many, then offset and length of each; padded to a block."""
        lines: list[bytes] = []
        text = b""
        wanted = 1
        taken = 0
        while len(lines) < wanted:
            piece = self.exactly(BLOCK)
            taken += len(piece)
            if len(piece) < BLOCK:
                raise ArchiveError(f"{shown(entry.name)}: a sparse map that does not end")
            *whole, text = (text + piece).split(b"\n")
            lines += whole
            if wanted == 1 and lines:
                count = _decimal(lines[0], "sparse map")
                if count > MOST_EXTENTS:
                    raise LimitError(f"{shown(entry.name)}: {count} extents, more than {MOST_EXTENTS}")
                wanted = 1 + 2 * count
            if len(lines) < wanted and len(text) > 32:
                raise ArchiveError(f"{shown(entry.name)}: no number in a sparse map")
        numbers = [_decimal(line, "sparse map") for line in lines[1:wanted]]
        entry.size -= taken
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _fields(block: bytes) -> tuple[bytes, ...]:
    """The header's fields. Raises ArchiveError where the checksum, of the bytes as unsigned or (old) signed numbers,
    is not right.
    """
    fields: tuple[bytes, ...] = _HEADER.unpack(block)
    said = _number(fields[6], "checksum")
    total = sum(block) - sum(fields[6]) + 8 * 0x20
    if said != total:
        signed = total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if said != signed:
            raise ArchiveError("this is no tar archive, or it is damaged: a header has the wrong checksum")
    return fields


def _number(field: bytes, what: str) -> int:
    """Octal digits, or GNU's base 256 (first bit set; negative with the second)."""
    if field[-1] in b"\0 " and (digits := field[:-1]).isdigit() and not digits.strip(b"01234567"):
        return int(digits, 8)  # nearly all of them
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << 8 * (len(field) - 1))
        if first == 0xFF:
            value -= 0x80 << 8 * (len(field) - 1)
        return value
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    try:
        if not text.isdigit():
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise ArchiveError(f"the archive is damaged: {text[:20]!r} is no {what}") from None


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ArchiveError(f"the archive is damaged: {text[:30]!r} is no {what}")
    return int(text)


def _kind(kind: bytes, name: bytes) -> bytes:
    if kind in (b"\0", b"0"):
        return FOLDER if kind == b"\0" and name.endswith(b"/") else REGULAR
    if kind in (b"7", b"S"):
        return REGULAR
    if kind in _WITHOUT_DATA:
        return kind
    raise ArchiveError(f"{shown(name)}: an entry of the type {kind!r}, which no layer may have")


def _records(data: bytes) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    """PAX records, "LENGTH KEY=VALUE\\n": the last of each key, and all of GNU's sparse format 0.0, which repeats
    keys.
    """
    records: dict[bytes, bytes] = {}
    maps: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise ArchiveError("the archive is damaged: a PAX record without a length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise ArchiveError("the archive is damaged: a PAX record of the wrong length")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            maps.append((key, value))
            if len(maps) > 2 * MOST_EXTENTS:
                raise LimitError(f"a file with more than {MOST_EXTENTS} extents")
        records[key] = value
        at = end
    return records, maps


def _apply(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """What PAX says goes before what the header says; an empty value means that the header is right (pax(1))."""
    for key, value in pax.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.target = value
        elif key == b"size":
            entry.size = _decimal(value, "size")
        elif key == b"uid":
            entry.uid = _decimal(value, "uid")
        elif key == b"gid":
            entry.gid = _decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime = _time(value)


def _time(text: bytes) -> int:
    """Decimal seconds with a fraction, to nanoseconds, exactly."""
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    seconds = _decimal(whole[1:] if negative else whole, "mtime")
    nanoseconds = _decimal((fraction[:9] or b"0").ljust(9, b"0"), "mtime")
    total = seconds * 1_000_000_000 + nanoseconds
    return -total if negative else total


def _extents(data: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        found.append((_number(data[at : at + 12], "offset"), _number(data[at + 12 : at + 24], "length")))
    return found


def _sparse(entry: Entry, extents: list[tuple[int, int]], length: int) -> None:
    """Extents that are in order, apart, inside of the file, and as long together as the data."""
    end = 0
    for offset, size in extents:
        if offset < end or size < 0:
            raise ArchiveError(f"{shown(entry.name)}: extents that overlap")
        end = offset + size
    if end > length or length > LARGEST or sum(size for _, size in extents) != entry.size:
        raise ArchiveError(f"{shown(entry.name)}: extents that do not fit the file")
    entry.extents = extents
    entry.length = length


def shown(name: bytes) -> str:
    """For a message: what is no text is escaped, and what is long is cut."""
    return name[:200].decode("utf-8", "backslashreplace")
