"""Names of images, and the documents that they lead to."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index, Manifest, Platform
from ocirt.manager.errors import ConflictError, GrammarError, MissingError
from ocirt.manager.names import Reference, parse
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database

SHORTEST_ID = 3

_DOCUMENT_TYPES = (*documents.ACCEPTED, documents.OCI_CONFIG, documents.DOCKER_CONFIG)
_DOCUMENTS = f"""
with recursive found (digest) as (
    select ?
    union select blobs.digest from found join edges on edges.parent = found.digest
        join blobs on blobs.digest = edges.child
        where not blobs.dead and blobs.media_type in ({", ".join("?" * len(_DOCUMENT_TYPES))})
)
select digest from found
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What a name stands for.

    name        as it is stored, whole: "docker.io/library/busybox:1.36", or the target's digest, by which an image is
                kept that has no name
    target      what the registry's name stands for: a manifest or an index
    """

    name: str
    target: Descriptor

    @property
    def named(self) -> bool:
        """Whether people gave it a name."""
        return "/" in self.name


class Images:
    """The table of names. Reading sees the last whole transaction."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def __iter__(self) -> Iterator[Image]:
        rows = self._database.read.execute(
            "select name, images.digest, images.media_type, coalesce(size, 0) from images"
            " left join blobs on blobs.digest = images.digest order by name"
        )
        for name, digest, media_type, size in rows.fetchall():
            yield Image(name, Descriptor(media_type, digest, size))

    def find(self, text: str) -> Image:
        """By a name, or by three or more digits of a manifest's or configuration's digest. Raises MissingError,
        ConflictError where the digits are not enough."""
        try:
            reference = parse(text)
        except GrammarError:
            reference = None
        if reference is not None:
            for image in self:
                if image.name == str(reference) or (reference.digest and self._has(image, reference)):
                    return image
        return self._by_id(text)

    def _has(self, image: Image, reference: Reference) -> bool:
        """A name with a digest means any tag of that repository that stands for it."""
        return image.target.digest == reference.digest and image.name.startswith(reference.repository + ":")

    def _by_id(self, text: str) -> Image:
        digits = text.removeprefix("sha256:")
        if len(digits) < SHORTEST_ID or not set(digits) <= set("0123456789abcdef"):
            raise MissingError(
                f"there is no image {text}", hint=f"ocim pull {text}" if "/" in text or ":" in text else ""
            )
        fitting: dict[str, Image] = {}
        for image in self:
            for digest in self.ids(image.target):
                if digest.partition(":")[2].startswith(digits):
                    fitting.setdefault(image.target.digest, image)
        if not fitting:
            raise MissingError(f"there is no image {text}")
        if len(fitting) > 1:
            names = ", ".join(sorted(image.name for image in fitting.values()))
            raise ConflictError(f"{text} is the beginning of several images' ids", hint=names)
        return next(iter(fitting.values()))

    def ids(self, target: Descriptor) -> list[str]:
        """The digests of an image's documents: index, manifests, configurations; not those of layers."""
        rows = self._database.read.execute(_DOCUMENTS, (target.digest, *_DOCUMENT_TYPES))
        return [str(digest) for (digest,) in rows.fetchall()]

    def set(self, transaction: sqlite3.Connection, name: str, target: Descriptor) -> None:
        """Give a name, or have it mean something else, as part of a transaction."""
        transaction.execute(
            "insert or replace into images values (?, ?, ?, ?)",
            (name, digests.parse(target.digest), target.media_type, time.time_ns()),
        )

    def remove(self, name: str) -> None:
        """Take a name away; what it stood for goes with the next collection. Raises MissingError."""
        with self._database.write() as transaction:
            if not transaction.execute("delete from images where name = ?", (name,)).rowcount:
                raise MissingError(f"there is no image {name}")

    def manifest(self, target: Descriptor, platform: Platform) -> tuple[Manifest, Descriptor]:
        """The manifest for a platform, and its descriptor. Raises MissingError, DocumentError, DigestError."""
        data = self._blobs.read(target.digest, documents.LARGEST_DOCUMENT)
        found = documents.parse(data, target.media_type, what=f"manifest {target.digest}")
        if isinstance(found, Index):
            return self.manifest(documents.choose(found, platform), platform)
        return found, target
