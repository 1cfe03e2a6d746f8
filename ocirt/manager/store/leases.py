"""Leases: what a process needs while it works, such as the first layers of an image that is being pulled.

A lease counts while its process lives, which is asked of the kernel: one that was killed protects nothing.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import TracebackType

from ocirt.manager.store.database import Database


class Lease:
    """Holds what it was told to until it is closed; a context manager."""

    def __init__(self, database: Database) -> None:
        self._database = database
        pid = os.getpid()
        with database.write() as transaction:
            cursor = transaction.execute(
                "insert into leases (pid, start, boot) values (?, ?, ?)", (pid, start_time(pid), boot_id())
            )
            self.id = cursor.lastrowid

    def hold(self, transaction: sqlite3.Connection, kind: str, name: str) -> None:
        """Protect a "blob" or a "snapshot" from now on, as part of a transaction."""
        transaction.execute("insert or ignore into leased values (?, ?, ?)", (self.id, kind, name))

    def close(self) -> None:
        """Nothing is protected any more."""
        with self._database.write() as transaction:
            transaction.execute("delete from leases where id = ?", (self.id,))

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def drop_dead(transaction: sqlite3.Connection) -> None:
    """Delete the leases of processes that are no more."""
    boot = boot_id()
    for lease, pid, start, of in transaction.execute("select id, pid, start, boot from leases").fetchall():
        if of != boot or start_time(pid) != start:
            transaction.execute("delete from leases where id = ?", (lease,))


def start_time(pid: int) -> int:
    """When a process began (proc(5), stat's 22nd field), or 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat[stat.rindex(b")") :].split()[20])


def boot_id() -> str:
    """Of the running kernel: another after each boot (proc(5))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
