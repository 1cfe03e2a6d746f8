"""Garbage collection: bytes and unpacked layers that no image, container or process at work needs. It can run while
others pull.

In one transaction everything that cannot be reached is marked dead, which all others take for absent. Then each dead
thing is removed in a transaction of its own, if it is still dead: who brings the same bytes in meanwhile makes them
alive again. A collector that is killed leaves dead rows, with or without a file, and the next one goes on.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ocirt.manager import digest as digests
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database
from ocirt.manager.store.leases import drop_dead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.snapshots.snapshots import Snapshots

# A snapshot is reached by the same edges as a blob; its name is never that of one.
_REACHED = """
with recursive reached (name) as (
    select digest from images
    union select image from containers
    union select digest from registry_content
    union select name from leased
    union select edges.child from reached join edges on edges.parent = reached.name
)
"""
_DEAD_BLOBS = _REACHED + "update blobs set dead = 1 where not dead and digest not in reached"
_DEAD_SNAPSHOTS = _REACHED + "update snapshots set dead = 1 where not dead and name not in reached"


@dataclass(frozen=True, slots=True)
class Collected:
    """How many blobs were removed, and their bytes; how many snapshots, and the bytes of their files."""

    blobs: int
    size: int
    snapshots: int = 0
    unpacked: int = 0


def collect(blobs: Blobs, database: Database, snapshots: Snapshots | None = None) -> Collected:
    """Remove what nothing needs. Without `snapshots` those stay, for they need their driver to go."""
    with database.write() as transaction:
        drop_dead(transaction)
        transaction.execute(_DEAD_BLOBS)
        if snapshots is not None:
            transaction.execute(_DEAD_SNAPSHOTS)
    count, size = _blobs(blobs, database)
    if snapshots is None:
        return Collected(count, size)
    return Collected(count, size, *_snapshots(snapshots, database))


def _blobs(blobs: Blobs, database: Database) -> tuple[int, int]:
    count = size = 0
    for digest, length in database.read.execute("select digest, size from blobs where dead").fetchall():
        with database.write() as transaction:
            if transaction.execute("select 1 from blobs where digest = ? and dead", (digest,)).fetchone() is None:
                continue
            blobs.path(digest).unlink(missing_ok=True)
            transaction.execute("delete from blobs where digest = ?", (digest,))
            transaction.execute("delete from edges where parent = ?", (digest,))
        count += 1
        size += int(length)
    return count, size


def _snapshots(snapshots: Snapshots, database: Database) -> tuple[int, int]:
    """The row goes first: a folder without one is nobody's, and its removal takes long."""
    count = size = 0
    dead = database.read.execute("select name, folder, size from snapshots where dead").fetchall()
    for name, folder, length in dead:
        with database.write() as transaction:
            gone = transaction.execute(
                "delete from snapshots where name = ? and folder = ? and dead", (name, folder)
            ).rowcount
            if not gone:
                continue
            transaction.execute("delete from edges where parent = ?", (name,))
        snapshots.drop(folder)
        count += 1
        size += int(length)
    return count, size


def sweep(folder: Path, database: Database) -> list[Path]:
    """Remove files of blobs that have no row: a process was killed after the rename and before the end of its
    transaction. Of snapshots: `Snapshots.sweep`.
    """
    with database.write() as transaction:
        gone = _unknown(folder, transaction)
        for path in gone:
            path.unlink()
        return gone


def unknown_files(folder: Path, database: Database) -> list[Path]:
    """What `sweep` would remove. In a transaction: others rename files in theirs."""
    with database.write() as transaction:
        return _unknown(folder, transaction)


def _unknown(folder: Path, transaction: sqlite3.Connection) -> list[Path]:
    query = "select 1 from blobs where digest = ?"
    return [
        path
        for path in _files(folder)
        if transaction.execute(query, (f"{path.parent.name}:{path.name}",)).fetchone() is None
    ]


def _files(folder: Path) -> Iterator[Path]:
    for algorithm in digests.ALGORITHMS:
        for name in os.listdir(folder / "blobs" / algorithm):
            yield folder / "blobs" / algorithm / name
