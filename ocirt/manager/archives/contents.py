"""What is in an archive from outside, or in a folder: files by their names, copied to where nobody changes them.

An archive is read once, to its end, from whatever it comes: a pipe too. A name that is there twice, that leads out, or
a file with holes is an error. Links are followed inside of the archive only, by their names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from ocirt import _sys
from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.archive import reader
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.archive.reader import Entry, Reader, shown
from ocirt.manager.errors import ArchiveError, DigestError, LimitError
from ocirt.manager.store.staging import Piece, Staging

CHUNK = 1 << 20
MOST_MEMBERS = 100_000
MOST_BYTES = 1 << 40
MOST_LINKS = 16
DOCUMENTS = frozenset({"oci-layout", "index.json", "manifest.json"})
"""Read into memory; all others are files."""

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHERS = {b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4"}
# linux/openat2.h
_BENEATH, _NO_MAGICLINKS, _NO_SYMLINKS = 0x08, 0x02, 0x04


class Contents(Protocol):
    """Files by name, without `./`."""

    def document(self, name: str) -> bytes | None:
        """One of DOCUMENTS, or None where it is not there."""

    def piece(self, name: str) -> Piece | None:
        """Any other file; of a blob ("blobs/ALGORITHM/HEX") the digest has been checked."""


def compression(head: bytes) -> str:
    """ "gzip", "zstd" or "": how bytes that begin so are compressed. Raises ArchiveError for other compressions."""
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise ArchiveError(f"this is compressed with {name}", hint=f"{name} -dc FILE | ocim … takes it")
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


class Peeked:
    """A stream of which the beginning was looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < 8 and (piece := stream.read(8 - len(self.head))):
            self.head += piece
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        if self._left:
            piece, self._left = self._left[:size], self._left[size:]
            return piece
        return self._stream.read(size)


def unpacked(stream: BinaryIO, most: int = MOST_BYTES) -> Unpacking:
    """A stream without its compression, whichever it has."""
    peeked = Peeked(stream)
    return Unpacking(peeked, compression(peeked.head), most)


class Archive:
    """A tar, all of whose files are in the staging area afterwards. Raises ArchiveError, LimitError, DigestError."""

    def __init__(self, stream: BinaryIO, staging: Staging) -> None:
        self._staging = staging
        self._documents: dict[str, bytes] = {}
        self._pieces: dict[str, Piece] = {}
        self._links: dict[str, str] = {}
        count = 0
        reading = Reader(unpacked(stream))
        for entry in reading:
            count += 1
            if count > MOST_MEMBERS:
                raise LimitError(f"the archive has more than {MOST_MEMBERS} members")
            self._take(entry, reading)
        if not count:
            raise ArchiveError("the archive is empty")

    def _take(self, entry: Entry, reading: Reader) -> None:
        if entry.kind == reader.FOLDER:
            return
        name = _name(entry.name)
        if name in self._documents or name in self._pieces or name in self._links:
            raise ArchiveError(f"{shown(entry.name)} is in the archive twice")
        if entry.kind == reader.SYMLINK:
            self._links[name] = _joined(name.rpartition("/")[0], entry.target)
        elif entry.kind == reader.HARD_LINK:
            self._links[name] = _name(entry.target)
        elif entry.kind != reader.REGULAR or entry.extents is not None:
            raise ArchiveError(f"{shown(entry.name)} is no file that an image's archive has")
        elif name in DOCUMENTS:
            self._documents[name] = _bounded(reading.data(), name)
        else:
            self._pieces[name] = _checked(name, self._staging, reading.data())

    def document(self, name: str) -> bytes | None:
        return self._documents.get(name)

    def piece(self, name: str) -> Piece | None:
        for _ in range(MOST_LINKS):
            if name not in self._links:
                return self._pieces.get(name)
            name = self._links[name]
        raise ArchiveError(f"{name[:200]}: more than {MOST_LINKS} links, one behind the other")


class Folder:
    """A folder with the same: what is asked for is copied to the staging area. It is its owner's, who may change it
    meanwhile; symlinks in it are followed nowhere.
    """

    def __init__(self, path: Path, staging: Staging) -> None:
        self._path = path
        self._staging = staging
        self._pieces: dict[str, Piece] = {}
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._root)

    def document(self, name: str) -> bytes | None:
        stream = self._open(name)
        if stream is None:
            return None
        with stream:
            return _bounded(_pieces(stream), name)

    def piece(self, name: str) -> Piece | None:
        if name not in self._pieces:
            stream = self._open(name)
            if stream is None:
                return None
            with stream:
                self._pieces[name] = _checked(name, self._staging, _pieces(stream))
        return self._pieces[name]

    def _open(self, name: str) -> BinaryIO | None:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in the folder holds nobody up
        try:
            descriptor = _sys.openat2(self._root, name, flags, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArchiveError(f"open {name[:200]} in {self._path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ArchiveError(f"{name[:200]} in {self._path} is no file")
        return os.fdopen(descriptor, "rb", buffering=0)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(CHUNK):
        yield piece


def _bounded(pieces: Iterator[bytes], name: str) -> bytes:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > documents.LARGEST_DOCUMENT:
            raise LimitError(f"{name} has more than {documents.LARGEST_DOCUMENT} bytes")
    return data


def _checked(name: str, staging: Staging, pieces: Iterator[bytes]) -> Piece:
    """Blobs have the digest that they are called by."""
    parts = name.split("/")
    named = ""
    if len(parts) == 3 and parts[0] == "blobs" and digests.ALGORITHMS.get(parts[1]) == len(parts[2]):
        named = digests.parse(f"{parts[1]}:{parts[2]}")
    piece = staging.take(pieces, named.partition(":")[0] or "sha256")
    if named and piece.digest != named:
        raise DigestError(f"{name} in the archive has the digest {piece.digest}")
    return piece


def _name(name: bytes) -> str:
    if name.startswith(b"/"):
        raise ArchiveError(f"{shown(name)} is an absolute name, which no image's archive has")
    return _joined("", name)


def _joined(folder: str, name: bytes) -> str:
    """A name that is relative to a folder of the archive, as one of the archive itself."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise ArchiveError(f"{shown(name)}: a name that is no text") from None
    if text.startswith("/"):
        raise ArchiveError(f"{shown(name)} leads out of the archive")
    parts = folder.split("/") if folder else []
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise ArchiveError(f"{shown(name)} leads out of the archive")
    return "/".join(parts)
