"""The database: one sqlite file in WAL mode, one writer at a time over all processes (sqlite.org/wal.html).

A change is a transaction that takes the writer's lock at once (BEGIN IMMEDIATE), so that what it read is still so when
it writes. A process that is killed leaves the last whole transaction.
"""

from __future__ import annotations

import sqlite3
from _thread import _local
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocirt.manager.errors import ManagerError

VERSION = 1
PATIENCE = 60.0  # seconds to wait for another writer

_SCHEMA = """
-- Bytes in blobs/, by digest. dead: nothing needs it, its file is about to go or gone; all but the
-- collector take it for absent.
create table blobs (
    digest text primary key,
    size integer not null,
    media_type text not null,
    added integer not null,             -- nanoseconds since 1970
    dead integer not null default 0
) without rowid;

-- What a document needs: a manifest its configuration and layers, an index its manifests.
create table edges (
    parent text not null,
    child text not null,
    primary key (parent, child)
) without rowid;
create index edges_child on edges (child);

-- Names of images: "docker.io/library/busybox:1.36" or "…@sha256:…".
create table images (
    name text primary key,
    digest text not null,
    media_type text not null,
    updated integer not null
) without rowid;
create index images_digest on images (digest);

-- Unpacked layers. name: with overlay "diff:DIFFID", with vfs and btrfs "chain:CHAINID" (image-spec, config.md).
-- An edge leads to it from each configuration that has the layer, and with vfs from the chain above.
create table snapshots (
    name text primary key,
    driver text not null,
    folder text not null unique,
    size integer not null,              -- bytes of its regular files
    added integer not null,
    dead integer not null default 0
) without rowid;

-- Containers. document: all that create was told and found (containers/records.py), as JSON; image: the
-- digest of its manifest, which it keeps, or ''.
create table containers (
    id text primary key,
    name text not null unique,
    image text not null,
    created integer not null,
    document text not null
) without rowid;
create index containers_image on containers (image);

-- Named volumes. document: driver, labels, options, as JSON.
create table volumes (
    name text primary key,
    created integer not null,
    document text not null
) without rowid;

-- What repositories of the registry server (registry/server/) have: blobs and manifests. A row keeps its blob.
-- kind: "blob" or "manifest". claims: how many manifests are about to be pushed that need the blob, as far as known;
-- it stays until promised (nanoseconds since 1970) while there are some, and while a manifest of the repository needs
-- it. Manifests stay until they are deleted. subject: what a manifest refers to, or ''; described: its descriptor as
-- referrers list it, as JSON, where it has a subject.
create table registry_content (
    repository text not null,
    digest text not null,
    kind text not null,
    claims integer not null default 0,
    promised integer not null default 0,
    subject text not null default '',
    artifact_type text not null default '',
    described text not null default '',
    primary key (repository, digest)
) without rowid;
create index registry_content_digest on registry_content (digest);
create index registry_content_subject on registry_content (repository, subject, digest) where subject != '';
create table registry_tags (
    repository text not null,
    tag text not null,
    digest text not null,
    primary key (repository, tag)
) without rowid;
create index registry_tags_digest on registry_tags (repository, digest);

-- Uploads to the registry server that are not finished; their bytes are in uploads/ID. touched: of the last request.
create table registry_uploads (
    id text primary key,
    repository text not null,
    algorithm text not null,
    touched integer not null
) without rowid;

-- What a process that is at work needs, though nothing refers to it yet. It counts while the process lives.
create table leases (
    id integer primary key,
    pid integer not null,
    start integer not null,             -- of the process, in clock ticks since boot: pids are used again
    boot text not null
);
create table leased (
    lease integer not null references leases (id) on delete cascade,
    kind text not null,                 -- "blob" or "snapshot"
    name text not null,
    primary key (lease, kind, name)
) without rowid;
"""


class Database:
    """The file; each thread has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = _local()
        self._all: list[sqlite3.Connection] = []
        self._migrate()

    @property
    def read(self) -> sqlite3.Connection:
        """For queries. They see the last transaction that was whole when they began."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            self._all.append(connection)
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing where an exception leaves the block. Not to be nested."""
        connection = self.read
        _run(connection, "begin immediate", self.path)
        try:
            yield connection
        except BaseException:
            connection.execute("rollback")
            raise
        _run(connection, "commit", self.path)

    def close(self) -> None:
        """Close the connections of all threads, which must have ended their work."""
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._local = _local()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.execute("pragma foreign_keys = on")
        except sqlite3.Error as error:
            raise ManagerError(f"open {self.path}: {error}", hint="ocim system check says what is wrong") from error
        return connection

    def _migrate(self) -> None:
        """Make the tables where there are none. A database of a newer ocim is refused, not touched."""
        version = self._version()
        if version == VERSION:
            return
        with self.write() as transaction:
            version = self._version()
            if version > VERSION:
                raise ManagerError(
                    f"{self.path} was made by a newer ocim (version {version} of the store, ours is {VERSION})"
                )
            if version == 0:
                for statement in _statements(_SCHEMA):
                    transaction.execute(statement)
                transaction.execute(f"pragma user_version = {VERSION}")

    def _version(self) -> int:
        return int(_run(self.read, "pragma user_version", self.path).fetchone()[0])


def _statements(schema: str) -> Iterator[str]:
    """One by one: executescript() would commit the transaction."""
    statement = ""
    for line in schema.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _run(connection: sqlite3.Connection, statement: str, path: Path) -> sqlite3.Cursor:
    try:
        return connection.execute(statement)
    except sqlite3.OperationalError as error:
        hint = "another ocim is writing, or hangs" if "locked" in str(error) else "is the disk full?"
        raise ManagerError(f"{statement} of {path}: {error}", hint=hint) from error
    except sqlite3.DatabaseError as error:
        raise ManagerError(f"{path}: {error}", hint="ocim system check says what is wrong") from error
