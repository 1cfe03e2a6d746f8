"""Bytes that are not yet the store's: a folder of a process's own in `ingest/`, on the file system of the blobs.

What is brought in as a whole or not at all lies here until all of it is known to be right. Then one transaction makes
blobs of it. The folder goes away with the block that made it; who is killed leaves one that nobody holds a lock on,
which `clear` removes.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ocirt.manager import digest as digests

_PREFIX = "staging-"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes, where they are, and what they are."""

    path: Path
    digest: str
    size: int


class Sink:
    """A new file of the staging area; `write` takes bytes, `finish` gives what came of them."""

    def __init__(self, path: Path, algorithm: str) -> None:
        self._path = path
        self._algorithm = algorithm
        self._hash = digests.start(algorithm)
        self._size = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> int:
        """Takes all of them."""
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)
        return len(data)

    def finish(self) -> Piece:
        """No more comes; the bytes are on the disk."""
        os.fsync(self._file)
        self.close()
        return Piece(self._path, f"{self._algorithm}:{self._hash.hexdigest()}", self._size)

    def close(self) -> None:
        """Give up, or the end; may be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Staging:
    """A context manager: the folder, and files in it.

    folder   the store's root, in which `ingest/` is
    """

    def __init__(self, folder: Path) -> None:
        self._ingest = folder / "ingest"
        self._ingest.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path, self._lock = self._make()
        self._count = 0

    def _make(self) -> tuple[Path, int]:
        """A folder that is ours: who clears may have taken it before we had the lock."""
        while True:
            path = self._ingest / f"{_PREFIX}{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            os.close(descriptor)

    def sink(self, algorithm: str = "sha256") -> Sink:
        """A file to write to."""
        self._count += 1
        return Sink(self.path / str(self._count), algorithm)

    def take(self, pieces: Iterable[bytes], algorithm: str = "sha256") -> Piece:
        """All of these bytes as a file."""
        sink = self.sink(algorithm)
        try:
            for piece in pieces:
                sink.write(piece)
            return sink.finish()
        finally:
            sink.close()

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def left_over(folder: Path) -> Iterator[tuple[Path, int]]:
    """What nobody works on any more in `ingest/`: folders like this one, and parts of blobs that a pull could go on
    with. Each is locked while the caller looks at it. Gives (path, bytes).
    """
    for name in sorted(os.listdir(folder / "ingest")):
        path = folder / "ingest" / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                yield path, _size(path)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def clear(folder: Path) -> tuple[int, int]:
    """Remove what is left over. Returns how many, and their bytes. Others may be at work."""
    count = size = 0
    for path, length in left_over(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        count += 1
        size += length
    return count, size


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.iterdir())
