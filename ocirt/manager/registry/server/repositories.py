"""What each repository has: blobs, manifests, tags, referrers. Everything here blocks: it is called in threads.

Bytes are in the store once, whoever pushed them; a row of `registry_content` says that a repository has them, and keeps
them. A manifest stays until it is deleted. A blob stays while a manifest of its repository needs it, and else for as
long as it was promised: who has just uploaded it, or was told that it is there, is about to push a manifest, and that
they have done so ends one such claim.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index, Manifest
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database

LARGEST_REFERRERS = 2 << 20
"""Bytes of one page of referrers: clients take documents of 4 MiB."""
AT_ONCE = 500
"""Rows that are looked at in one transaction, so that others can write in between."""

_THERE = (
    "select size, media_type from blobs join registry_content using (digest)"
    " where repository = ? and digest = ? and not dead"
)
_SPARE = (
    "select repository, digest from registry_content as it where kind = 'blob' and (promised < ? or claims = 0)"
    " and not exists (select 1 from edges join registry_content as parent on parent.digest = edges.parent"
    " where child = it.digest and parent.repository = it.repository and parent.kind = 'manifest')"
)
_NEEDED = (
    "select 1 from edges join registry_content on digest = parent"
    " where child = ? and repository = ? and kind = 'manifest' limit 1"
)


@dataclass(frozen=True, slots=True)
class Content:
    """A blob or a manifest that a repository has."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. last: what the next page begins after, or "" where this is the last."""

    entries: list[str]
    last: str


class Repositories:
    """The tables `registry_content` and `registry_tags`. promise: seconds that a blob without a manifest stays."""

    def __init__(self, database: Database, blobs: Blobs, promise: float) -> None:
        self._database = database
        self._blobs = blobs
        self._promise = int(promise * 1e9)

    # Reading.

    def exists(self, repository: str) -> bool:
        """Whether there is anything in it."""
        return self._one("select 1 from registry_content where repository = ? limit 1", repository) is not None

    def blob(self, repository: str, digest: str) -> Content:
        """Raises Problem."""
        row = self._one(_THERE, repository, digest)
        if row is None:
            raise Problem("BLOB_UNKNOWN", f"{repository} has no blob {digest}")
        return Content(digest, row[0], "application/octet-stream")

    def manifest(self, repository: str, target: str) -> Content:
        """By a tag, or by a digest. Raises Problem."""
        digest = target
        if ":" not in target:
            row = self._one("select digest from registry_tags where repository = ? and tag = ?", repository, target)
            digest = row[0] if row is not None else ""
        row = self._one(_THERE + " and kind = 'manifest'", repository, digest)
        if row is None:
            if not self.exists(repository):
                raise Problem("NAME_UNKNOWN", f"there is no repository {repository}")
            raise Problem("MANIFEST_UNKNOWN", f"{repository} has no manifest {target}")
        return Content(digest, row[0], row[1])

    def tags(self, repository: str, most: int, after: str) -> Page:
        """In the order of their bytes. Raises Problem for a repository that is not there."""
        if not self.exists(repository):
            raise Problem("NAME_UNKNOWN", f"there is no repository {repository}")
        rows = self._database.read.execute(
            "select tag from registry_tags where repository = ? and tag > ? order by tag limit ?",
            (repository, after, most + 1),
        )
        return _page([tag for (tag,) in rows.fetchall()], most)

    def names(self, after: str) -> Iterator[str]:
        """The names of all repositories after one, in order, each looked up when it is asked for."""
        while True:
            row = self._one("select min(repository) from registry_content where repository > ?", after)
            if row is None or row[0] is None:
                return
            after = row[0]
            yield after

    def referrers(self, repository: str, subject: str, artifact_type: str, after: str) -> tuple[list[str], str]:
        """Descriptors, as JSON texts, of what refers to a digest; and what the next page begins after, or ""."""
        found: list[str] = []
        size = 0
        filtered, parameters = "", [repository, subject, after]
        if artifact_type:
            filtered = " and artifact_type = ?"
            parameters.append(artifact_type)
        rows = self._database.read.execute(
            "select digest, described from registry_content where repository = ? and subject = ? and subject != ''"
            f" and digest > ?{filtered} order by digest",
            parameters,
        )
        last = ""
        for digest, described in rows:
            if found and size + len(described) > LARGEST_REFERRERS:
                rows.close()
                return found, last
            found.append(described)
            size += len(described)
            last = digest
        return found, ""

    def holders(self, digest: str) -> list[str]:
        """The repositories that have a digest."""
        rows = self._database.read.execute("select repository from registry_content where digest = ?", (digest,))
        return [name for (name,) in rows.fetchall()]

    def _one(self, query: str, *parameters: str) -> Any:
        return self._database.read.execute(query, parameters).fetchone()

    # Writing.

    def promise(self, repository: str, digest: str) -> None:
        """Somebody who may push was told that the blob is there: it stays for the time that a push takes."""
        with self._database.write() as transaction:
            transaction.execute(
                "update registry_content set promised = ?, claims = claims + 1"
                " where repository = ? and digest = ? and kind = 'blob'",
                (time.time_ns() + self._promise, repository, digest),
            )

    def add_blob(self, repository: str, upload: str, path: Path, digest: str, size: int) -> None:
        """An upload's file, checked and on the disk, is this blob. Ends the upload."""
        with self._database.write() as transaction:
            self._blobs.adopt(transaction, path, digest, size, "application/octet-stream")
            self._link(transaction, repository, digest)
            transaction.execute("delete from registry_uploads where id = ?", (upload,))

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """Have a blob that another repository has. False where that has none."""
        with self._database.write() as transaction:
            if transaction.execute(_THERE, (source, digest)).fetchone() is None:
                return False
            self._link(transaction, repository, digest)
            return True

    def _link(self, transaction: sqlite3.Connection, repository: str, digest: str) -> None:
        transaction.execute(
            "insert into registry_content (repository, digest, kind, promised, claims) values (?, ?, 'blob', ?, 1)"
            " on conflict do update set promised = excluded.promised, claims = claims + 1",
            (repository, digest, time.time_ns() + self._promise),
        )

    def put_manifest(self, repository: str, tags: list[str], path: Path, put: Put) -> None:
        """A manifest's file, checked and on the disk, under its digest and these tags. All that it needs has to be in
        the repository: nobody can read another's blob by naming it. Raises Problem.
        """
        found, digest = put.document, put.digest
        with self._database.write() as transaction:
            missing = [
                one.digest
                for one in needs(found)
                if transaction.execute(_THERE, (repository, one.digest)).fetchone() is None and not _elsewhere(one)
            ]
            if missing:
                hint = f"and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise Problem("MANIFEST_BLOB_UNKNOWN", f"{repository} has no {missing[0]}", hint=hint)
            children = [one.digest for one in needs(found)]
            self._blobs.adopt(transaction, path, digest, put.size, found.media_type, children)
            query = "select 1 from registry_content where repository = ? and digest = ? and kind = 'manifest'"
            if transaction.execute(query, (repository, digest)).fetchone() is None:
                self._claimed(transaction, repository, set(children))
            transaction.execute(
                "insert or replace into registry_content"
                " (repository, digest, kind, subject, artifact_type, described)"
                " values (?, ?, 'manifest', ?, ?, ?)",
                (repository, digest, *_referring(put)),
            )
            for tag in tags:
                transaction.execute(
                    "insert or replace into registry_tags (repository, tag, digest) values (?, ?, ?)",
                    (repository, tag, digest),
                )

    def _claimed(self, transaction: sqlite3.Connection, repository: str, children: set[str]) -> None:
        """A manifest has come that its pusher was promised these for. Others' claims stay."""
        for child in children:
            transaction.execute(
                "update registry_content set claims = max(claims - 1, 0) where repository = ? and digest = ?",
                (repository, child),
            )

    # Deleting.

    def delete_tag(self, repository: str, tag: str) -> None:
        """The manifest stays. Raises Problem."""
        with self._database.write() as transaction:
            query = "delete from registry_tags where repository = ? and tag = ?"
            if not transaction.execute(query, (repository, tag)).rowcount:
                raise Problem("MANIFEST_UNKNOWN", f"{repository} has no tag {tag}")

    def delete_manifest(self, repository: str, digest: str) -> None:
        """With all tags that stand for it. What only it needed goes with the next collection. Raises Problem."""
        with self._database.write() as transaction:
            query = "delete from registry_content where repository = ? and digest = ? and kind = 'manifest'"
            if not transaction.execute(query, (repository, digest)).rowcount:
                raise Problem("MANIFEST_UNKNOWN", f"{repository} has no manifest {digest}")
            transaction.execute("delete from registry_tags where repository = ? and digest = ?", (repository, digest))

    def delete_blob(self, repository: str, digest: str) -> None:
        """Raises Problem, also for one that a manifest of the repository needs."""
        with self._database.write() as transaction:
            if transaction.execute(_NEEDED, (digest, repository)).fetchone() is not None:
                hint = "delete the manifest: its blobs go with it"
                raise Problem("DENIED", f"a manifest of {repository} needs {digest}", status=405, hint=hint)
            query = "delete from registry_content where repository = ? and digest = ? and kind = 'blob'"
            if not transaction.execute(query, (repository, digest)).rowcount:
                raise Problem("BLOB_UNKNOWN", f"{repository} has no blob {digest}")

    def expire(self) -> int:
        """Blobs that no manifest of their repository needs, and that nobody was promised, leave it. How many."""
        now = time.time_ns()
        rows = self._database.read.execute(_SPARE, (now,)).fetchall()
        gone = 0
        for start in range(0, len(rows), AT_ONCE):
            with self._database.write() as transaction:
                for repository, digest in rows[start : start + AT_ONCE]:
                    if transaction.execute(_NEEDED, (digest, repository)).fetchone() is None:
                        gone += transaction.execute(
                            "delete from registry_content"
                            " where repository = ? and digest = ? and kind = 'blob' and (promised < ? or claims = 0)",
                            (repository, digest, now),
                        ).rowcount
        return gone


@dataclass(frozen=True, slots=True)
class Put:
    """A manifest on its way in."""

    document: Manifest | Index
    digest: str
    size: int


def needs(found: Manifest | Index) -> list[Descriptor]:
    """What a document is nothing without; its subject is not part of that."""
    if isinstance(found, Index):
        return list(found.manifests)
    return [found.config, *found.layers]


def _elsewhere(one: Descriptor) -> bool:
    """A layer that is not to be had from registries (image-spec 1.1, layer.md "Non-Distributable Layers")."""
    return one.media_type == documents.DOCKER_FOREIGN_LAYER or ".nondistributable." in one.media_type


def _referring(put: Put) -> tuple[str, str, str]:
    """Subject, artifact type, and the descriptor that referrers list ("Listing Referrers")."""
    found = put.document
    if found.subject is None:
        return "", "", ""
    artifact_type = found.artifact_type
    if not artifact_type and isinstance(found, Manifest):
        artifact_type = found.config.media_type
    described = Descriptor(found.media_type, put.digest, put.size, None, found.annotations, artifact_type)
    return found.subject.digest, artifact_type, documents.encode(described.as_json()).decode()


def _page(entries: list[str], most: int) -> Page:
    """Of one more than were asked for."""
    if len(entries) <= most or not most:
        return Page(entries[:most], "")
    return Page(entries[:most], entries[most - 1])
