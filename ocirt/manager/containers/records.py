"""The table of containers: what each was asked to be when it was made. What it does now is its monitor's to say.

A record's document is JSON, in the shapes of docker's API where there is one:

    config      what the program gets ("Config": Env, Cmd, Entrypoint, User, WorkingDir, Labels, Healthcheck …)
    host        what the host gives ("HostConfig": Memory, CapAdd, NetworkMode, SecurityOpt …)
    image       {"id": digest of the configuration, "name": as it was asked for}, or null
    snapshots   names of the unpacked layers, lowest first
    mounts      docker's "Mounts": each volume and bind mount, whole
    monitor     what the process beside the container is told (docs of monitor/)
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ocirt.manager import names
from ocirt.manager.errors import ConflictError, MissingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.store.database import Database

_ADJECTIVES = (
    "able brave calm clever eager fair fond gentle glad good grand happy honest jolly keen kind lively lucky merry"
    " modest neat nimble patient plain polite proud quick quiet ready sharp shiny silent simple smart steady sunny"
    " swift tidy warm wise witty young"
).split()
_ANIMALS = (
    "ant badger bear beaver bee bison crane crow deer dolphin dove duck eagle falcon finch fox frog goat goose hare"
    " hawk hedgehog heron horse ibex jay lark lynx magpie marten mole moose otter owl panda pigeon rabbit raven robin"
    " salmon seal sparrow squirrel stork swan tern tiger trout turtle walrus whale wolf wren yak zebra"
).split()
_COLUMNS = "id, name, image, created, document"


@dataclass(frozen=True, slots=True)
class Record:
    """A container.

    id         64 hexadecimal digits
    name       unique, without docker's leading slash
    image      digest of the manifest that it keeps, or ""
    created    nanoseconds since 1970
    document   see above; not to be changed in place
    """

    id: str
    name: str
    image: str
    created: int
    document: dict[str, Any]


class Records:
    """All containers. Reading sees the last whole transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __iter__(self) -> Iterator[Record]:
        """The newest first, as docker lists them."""
        rows = self._database.read.execute(f"select {_COLUMNS} from containers order by created desc, id")
        return map(_record, rows.fetchall())

    def find(self, text: str) -> Record:
        """By id, by name, or by the beginning of an id. Raises MissingError, ConflictError where several begin so."""
        text = text.removeprefix("/")
        read = self._database.read
        for column in ("id", "name"):
            row = read.execute(f"select {_COLUMNS} from containers where {column} = ?", (text,)).fetchone()
            if row is not None:
                return _record(row)
        rows = []
        if text and set(text) <= set("0123456789abcdef"):
            query = f"select {_COLUMNS} from containers where substr(id, 1, ?) = ? limit 2"
            rows = read.execute(query, (len(text), text)).fetchall()
        if len(rows) > 1:
            raise ConflictError(f"{text} is the beginning of several containers' ids", hint="give more of it")
        if not rows:
            raise MissingError(f"there is no container {text}", hint="ocim ps --all lists them")
        return _record(rows[0])

    def insert(self, transaction: sqlite3.Connection, record: Record) -> None:
        """Add one, as part of a transaction. Raises ConflictError (its name)."""
        self._free(transaction, record.name)
        transaction.execute(
            "insert into containers values (?, ?, ?, ?, ?)",
            (record.id, record.name, record.image, record.created, json.dumps(record.document)),
        )

    def rename(self, record: Record, name: str) -> Record:
        """Another name for it. Raises GrammarError, ConflictError, MissingError."""
        names.name(name.removeprefix("/"))
        name = name.removeprefix("/")
        with self._database.write() as transaction:
            self._free(transaction, name)
            if not transaction.execute("update containers set name = ? where id = ?", (name, record.id)).rowcount:
                raise MissingError(f"there is no container {record.name} any more")
        return replace(record, name=name)

    def update(self, record: Record, document: dict[str, Any]) -> Record:
        """Another document for it. Raises MissingError."""
        with self._database.write() as transaction:
            query = "update containers set document = ? where id = ?"
            if not transaction.execute(query, (json.dumps(document), record.id)).rowcount:
                raise MissingError(f"there is no container {record.name} any more")
        return replace(record, document=document)

    def remove(self, container_id: str) -> None:
        """Forget it; nothing happens where there is none."""
        with self._database.write() as transaction:
            transaction.execute("delete from containers where id = ?", (container_id,))

    def free_name(self) -> str:
        """A name that no container has, for one that was given none."""
        taken = {name for (name,) in self._database.read.execute("select name from containers")}
        for _ in range(100):
            name = f"{_any(_ADJECTIVES)}_{_any(_ANIMALS)}"
            if name not in taken:
                return name
        return f"{name}_{os.urandom(4).hex()}"

    @staticmethod
    def _free(transaction: sqlite3.Connection, name: str) -> None:
        row = transaction.execute("select id from containers where name = ?", (name,)).fetchone()
        if row is not None:
            raise ConflictError(
                f"the name {name} is taken by the container {row[0][:12]}", hint="ocim rm or ocim rename frees it"
            )


def _any(words: list[str]) -> str:
    return words[int.from_bytes(os.urandom(4), "little") % len(words)]


def new_id() -> str:
    """An id that nobody has."""
    return os.urandom(32).hex()


def _record(row: tuple[str, str, str, int, str]) -> Record:
    return Record(row[0], row[1], row[2], row[3], json.loads(row[4]))
