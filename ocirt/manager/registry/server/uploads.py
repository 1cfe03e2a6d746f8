"""Uploads under way: `uploads/ID`, a file whose digest nobody knows until its sender says it. Everything here blocks.

The bytes that came are there whatever happens to the connection, to the server, or to the machine's other programs: the
sender asks how many they are, and goes on. The hash grows with the file; after a restart it is computed anew.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections import OrderedDict
from pathlib import Path

from ocirt.manager import digest as digests
from ocirt.manager.errors import DigestError
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.store.database import Database

CHUNK = 1 << 20
MOST_HASHES = 256
"""Uploads whose hash is kept between requests."""


class Upload:
    """One upload that a request holds.

    size   bytes that are there
    gone   whether it is at its end
    """

    def __init__(self, id: str, path: Path, file: int, algorithm: str, hashing: _Hashing | None) -> None:
        self.id = id
        self.path = path
        self.algorithm = algorithm
        self._file = file
        self.size = os.fstat(file).st_size
        if hashing is None or (hashing.algorithm, hashing.seen) != (algorithm, self.size):
            hashing = self._hash(algorithm)
        self.hashing = hashing
        self.gone = False

    def _hash(self, algorithm: str) -> _Hashing:
        hashing = _Hashing(algorithm)
        while piece := os.pread(self._file, CHUNK, hashing.seen):
            hashing.update(piece)
        return hashing

    def write(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file, view, self.size)
            self.hashing.update(view[:done])
            self.size += done
            view = view[done:]

    def check(self, digest: str) -> None:
        """That these are the bytes of a digest; they are on the disk then. Raises DigestError."""
        algorithm = digest.partition(":")[0]
        if algorithm != self.algorithm:
            self.hashing, self.algorithm = self._hash(algorithm), algorithm
        found = f"{algorithm}:{self.hashing.value()}"
        if found != digest:
            raise DigestError(f"{digest} was promised, and what came has the digest {found}")
        os.fsync(self._file)

    def close(self) -> None:
        """Others may have it."""
        os.close(self._file)


class _Hashing:
    """A hash, and how many bytes it has seen."""

    def __init__(self, algorithm: str) -> None:
        self._hash = digests.start(algorithm)
        self.algorithm = algorithm
        self.seen = 0

    def update(self, data: bytes | memoryview) -> None:
        self._hash.update(data)  # type: ignore[arg-type]
        self.seen += len(data)

    def value(self) -> str:
        return self._hash.hexdigest()


class Uploads:
    """The folder and the table `registry_uploads`. most: how many there may be at once."""

    def __init__(self, folder: Path, database: Database, most: int) -> None:
        self.folder = folder
        self._database = database
        self._most = most
        self._hashes: OrderedDict[str, _Hashing] = OrderedDict()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin(self, repository: str, algorithm: str = "sha256") -> str:
        """Returns the id of a new upload. Raises Problem where there are too many, GrammarError (algorithm)."""
        digests.start(algorithm)
        upload = str(uuid.uuid4())
        os.close(os.open(self.folder / upload, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with self._database.write() as transaction:
                (count,) = transaction.execute("select count(*) from registry_uploads").fetchone()
                if count >= self._most:
                    message = f"{count} uploads are under way"
                    raise Problem("TOOMANYREQUESTS", message, headers=[("Retry-After", "60")])
                transaction.execute(
                    "insert into registry_uploads values (?, ?, ?, ?)", (upload, repository, algorithm, time.time_ns())
                )
        except BaseException:
            (self.folder / upload).unlink()
            raise
        return upload

    def size(self, repository: str, id: str) -> int:
        """How many bytes came. Raises Problem."""
        self._algorithm(repository, id)
        try:
            return (self.folder / id).stat().st_size
        except FileNotFoundError:
            raise _unknown(repository, id) from None

    def _algorithm(self, repository: str, id: str) -> str:
        query = "select algorithm from registry_uploads where id = ? and repository = ?"
        row = self._database.read.execute(query, (id, repository)).fetchone()
        if row is None:
            raise _unknown(repository, id)
        return str(row[0])

    def take(self, repository: str, id: str) -> Upload:
        """The upload, for one request, until `give_back`: another that comes meanwhile is refused. Raises Problem."""
        algorithm = self._algorithm(repository, id)
        path = self.folder / id
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise _unknown(repository, id) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._database.write() as transaction:
                transaction.execute("update registry_uploads set touched = ? where id = ?", (time.time_ns(), id))
            with self._lock:
                hashing = self._hashes.pop(id, None)
            return Upload(id, path, file, algorithm, hashing)
        except BlockingIOError:
            os.close(file)
            message = f"another request is sending to upload {id}"
            raise Problem("BLOB_UPLOAD_INVALID", message, status=409) from None
        except BaseException:
            os.close(file)
            raise

    def give_back(self, upload: Upload) -> None:
        """The end of a request's hold. An upload that is at its end is forgotten before."""
        with self._lock:
            if not upload.gone:
                self._hashes[upload.id] = upload.hashing
            while len(self._hashes) > MOST_HASHES:
                self._hashes.popitem(last=False)
        upload.close()

    def forget(self, upload: Upload) -> None:
        """Its bytes are a blob's, or not wanted."""
        with self._database.write() as transaction:
            transaction.execute("delete from registry_uploads where id = ?", (upload.id,))
        upload.path.unlink(missing_ok=True)
        upload.gone = True

    def remove(self, repository: str, id: str) -> None:
        """Its sender has given up. Raises Problem."""
        upload = self.take(repository, id)
        try:
            self.forget(upload)
        finally:
            self.give_back(upload)

    def expire(self, seconds: float) -> int:
        """Forget what nobody has sent to for so long, and files that a killed server has left. How many uploads."""
        oldest = time.time_ns() - int(seconds * 1e9)
        query = "select id, repository from registry_uploads where touched < ?"
        gone = 0
        for upload, repository in self._database.read.execute(query, (oldest,)).fetchall():
            try:
                self.remove(repository, upload)
                gone += 1
            except Problem as problem:
                if problem.status == 404:  # the file is gone
                    with self._database.write() as transaction:
                        transaction.execute("delete from registry_uploads where id = ?", (upload,))
        known = {upload for (upload,) in self._database.read.execute("select id from registry_uploads")}
        for path in self.folder.iterdir():
            if path.name not in known:
                _remove_old(path, oldest)
        return gone


def _remove_old(path: Path, oldest: int) -> None:
    """One that was just made has its row in a moment."""
    try:
        if path.stat().st_mtime_ns < oldest:
            path.unlink()
    except FileNotFoundError:
        pass


def _unknown(repository: str, id: str) -> Problem:
    return Problem("BLOB_UPLOAD_UNKNOWN", f"{repository} has no upload {id[:64]}")
