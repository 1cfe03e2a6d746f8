"""Content-addressed bytes: `blobs/ALGORITHM/HEX`, and `ingest/ALGORITHM-HEX` for what is not yet whole.

A blob is there when its row is: the file is renamed into place inside of the transaction that makes the row. So a
process that is killed leaves either no blob, and the part of it that can be gone on with, or all of it; at worst a file
without a row, which `sweep` removes.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ocirt.manager import digest as digests
from ocirt.manager.errors import DigestError, MissingError
from ocirt.manager.store.database import Database
from ocirt.manager.store.leases import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

CHUNK = 1 << 20


class Blobs:
    """The blobs below a folder."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        for name in ("ingest", *(f"blobs/{algorithm}" for algorithm in digests.ALGORITHMS)):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        algorithm, _, value = digests.parse(digest).partition(":")
        return self._folder / "blobs" / algorithm / value

    def size(self, digest: str) -> int | None:
        """Bytes, or None where there is no such blob."""
        row = self._database.read.execute("select size from blobs where digest = ? and not dead", (digest,)).fetchone()
        return None if row is None else int(row[0])

    def open(self, digest: str) -> BinaryIO:
        """To read. Raises MissingError."""
        if self.size(digest) is not None:
            try:
                return self.path(digest).open("rb", buffering=0)
            except FileNotFoundError:
                pass
        raise MissingError(f"there is no blob {digest}")

    def read(self, digest: str, most: int) -> bytes:
        """All of a small blob, its digest checked again. Raises MissingError, DigestError."""
        with self.open(digest) as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise DigestError(f"blob {digest} is larger than the {most} bytes that are read at once")
        if digests.of(data, digest.partition(":")[0]) != digest:
            raise DigestError(
                f"blob {digest} was changed on disk", hint="ocim system check --repair, and pull it again"
            )
        return data

    def put(self, data: bytes, media_type: str, lease: Lease | None = None, needs: Iterable[str] = ()) -> str:
        """Store bytes that are at hand. Returns their digest."""
        digest = digests.of(data)
        with self.ingest(digest, len(data), lease) as ingest:
            if not ingest.whole:
                ingest.restart()
                ingest.write(data)
            ingest.commit(media_type, lease, needs)
        return digest

    def ingest(self, digest: str, size: int = -1, lease: Lease | None = None) -> Ingest:
        """To bring a blob in, beginning where an earlier attempt ended. Waits for another process that brings in the
        same. With a lease, one that is whole already stays until `commit`, whoever collects meanwhile.
        """
        return Ingest(self._folder, self._database, self.path(digest), digest, size, lease)

    def adopt(
        self,
        transaction: sqlite3.Connection,
        path: Path,
        digest: str,
        size: int,
        media_type: str,
        needs: Iterable[str] = (),
    ) -> None:
        """A file below this store's folder whose digest and size its owner has checked, and which is on the disk
        (fsync), becomes the blob, as part of a transaction. Where the blob is there already the file stays.
        """
        if transaction.execute("select 1 from blobs where digest = ? and not dead", (digest,)).fetchone() is None:
            os.rename(path, self.path(digest))
            transaction.execute(
                "insert or replace into blobs (digest, size, media_type, added, dead) values (?, ?, ?, ?, 0)",
                (digest, size, media_type, time.time_ns()),
            )
        for child in needs:
            transaction.execute("insert or ignore into edges values (?, ?)", (digest, child))

    def hold(self, digest: str, lease: Lease) -> bool:
        """Protect a blob that is there already. False where there is none."""
        return _hold(self._database, digest, lease)

    def verify(self) -> Iterator[tuple[str, str]]:
        """Each blob that is not what its name says, and why."""
        for digest, size in self._database.read.execute("select digest, size from blobs where not dead").fetchall():
            checking = digests.Checking(digest, size)
            try:
                with self.path(digest).open("rb") as stream:
                    while piece := stream.read(CHUNK):
                        checking.update(piece)
                checking.finish()
            except (OSError, DigestError) as error:
                yield digest, str(error)


class Ingest:
    """One blob on its way in; a context manager. Left without `commit`, the part that came stays for the next attempt.

    offset   bytes that are there
    whole    whether the blob was there already, or another process has finished it meanwhile
    part     the file of what came; it is the blob's own, which `commit` gives another name
    """

    def __init__(
        self, folder: Path, database: Database, target: Path, digest: str, size: int, lease: Lease | None
    ) -> None:
        self._folder = folder
        self._database = database
        self._target = target
        self.part = folder / "ingest" / digest.replace(":", "-")
        self._digest = digest
        self._size = size
        self._file = self._lock()
        self.whole = self._there() and (lease is None or _hold(database, digest, lease))
        self._checking = digests.Checking(digest, size)
        self.offset = 0
        if not self.whole:
            self._hash_what_came()

    def _lock(self) -> int:
        """The part's file, made where it is missing, and ours alone."""
        while True:
            descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(descriptor), self.part.lstat()):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)  # another process has finished it, or thrown it away: look again

    def _there(self) -> bool:
        row = self._database.read.execute(
            "select size from blobs where digest = ? and not dead", (self._digest,)
        ).fetchone()
        return row is not None

    def _hash_what_came(self) -> None:
        """Parts that are longer than the blob are worth nothing."""
        if os.fstat(self._file).st_size > self._size >= 0:
            os.ftruncate(self._file, 0)
        while piece := os.pread(self._file, CHUNK, self.offset):
            self._checking.update(piece)
            self.offset += len(piece)

    def restart(self) -> None:
        """Forget what came: the source cannot go on in the middle, or it was wrong."""
        os.ftruncate(self._file, 0)
        self._checking = digests.Checking(self._digest, self._size)
        self.offset = 0

    def write(self, data: bytes) -> None:
        """The next bytes. Raises DigestError where they are too many."""
        self._checking.update(data)
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file, view, self.offset)
            self.offset += done
            view = view[done:]

    def commit(self, media_type: str, lease: Lease | None = None, needs: Iterable[str] = ()) -> None:
        """The blob is whole: it gets its name, and edges to what it needs. Forgets what came on a DigestError."""
        if not self.whole:
            try:
                self._checking.finish()
            except DigestError:
                self.restart()
                raise
            os.fsync(self._file)
        with self._database.write() as transaction:
            if not self._there():
                if self.whole:
                    raise MissingError(f"blob {self._digest} was removed meanwhile", hint="try again")
                os.rename(self.part, self._target)
                transaction.execute(
                    "insert or replace into blobs (digest, size, media_type, added, dead) values (?, ?, ?, ?, 0)",
                    (self._digest, self._checking.seen, media_type, time.time_ns()),
                )
            for child in needs:
                transaction.execute("insert or ignore into edges values (?, ?)", (self._digest, child))
            if lease is not None:
                lease.hold(transaction, "blob", self._digest)
        self.whole = True

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.whole or self.offset == 0:
            # Empty, or left over: the lock is ours, so nobody else writes to it.
            try:
                if os.path.samestat(os.fstat(self._file), self.part.lstat()):
                    self.part.unlink()
            except FileNotFoundError:
                pass
        os.close(self._file)


def _hold(database: Database, digest: str, lease: Lease) -> bool:
    with database.write() as transaction:
        row = transaction.execute("select 1 from blobs where digest = ? and not dead", (digest,)).fetchone()
        if row is not None:
            lease.hold(transaction, "blob", digest)
        return row is not None
