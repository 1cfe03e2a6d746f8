"""load: the images of an archive into the store, all of them or none.

Everything lies in the staging area until every digest, size and name was checked; then one transaction makes blobs and
names of it. An archive that is both, a layout and what `docker save` writes, is read as a layout, and both have to
speak of the same images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ocirt.manager.archives.contents import Archive, Contents, Folder
from ocirt.manager.archives.docker import Docker
from ocirt.manager.archives.layout import Layout
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import ArchiveError
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease
from ocirt.manager.store.staging import Piece, Staging


@dataclass(frozen=True, slots=True)
class Loaded:
    """name: whole, "docker.io/library/busybox:1.36", or "" where the archive has none; target: what it stands for."""

    name: str
    target: Descriptor


@dataclass(frozen=True, slots=True)
class Coming:
    """A blob that is to come: its file, its type, and the digests of what it needs."""

    piece: Piece
    media_type: str
    needs: tuple[str, ...] = ()


@dataclass(slots=True)
class Batch:
    """What comes in together.

    blobs    by digest
    names    (name or "", target)
    """

    blobs: dict[str, Coming] = field(default_factory=dict)
    names: list[Loaded] = field(default_factory=list)

    def add(self, piece: Piece, media_type: str, needs: tuple[str, ...] = ()) -> None:
        """A blob that comes."""
        self.blobs[piece.digest] = Coming(piece, media_type, needs)


def load(site: Site, stream: BinaryIO) -> tuple[Loaded, ...]:
    """The images of a tar: plain, or compressed with gzip or zstd. Raises ArchiveError, DocumentError, DigestError,
    LimitError, GrammarError.
    """
    with Staging(site.root) as staging:
        return _load(site, Archive(stream, staging), staging)


def load_folder(site: Site, path: Path) -> tuple[Loaded, ...]:
    """The same of a folder: an OCI layout, or what a tar of docker's was unpacked to."""
    with Staging(site.root) as staging, Folder(path, staging) as folder:
        return _load(site, folder, staging)


def commit(site: Site, batch: Batch) -> None:
    """All of a batch, in one transaction. An image without a name is kept by its digest."""
    with site.database.write() as transaction:
        for coming in batch.blobs.values():
            piece = coming.piece
            site.blobs.adopt(transaction, piece.path, piece.digest, piece.size, coming.media_type, coming.needs)
        for one in batch.names:
            site.images.set(transaction, one.name or one.target.digest, one.target)


def _load(site: Site, contents: Contents, staging: Staging) -> tuple[Loaded, ...]:
    batch = Batch()
    with Lease(site.database) as lease:
        if (index := contents.document("index.json")) is not None:
            layout = Layout(contents, site.blobs, lease)
            found = layout.images(index)
            for blob in layout.blobs.values():
                batch.add(*blob)
            if (manifest := contents.document("manifest.json")) is not None:
                _same_images(Docker(contents, staging).configurations(manifest), layout.configurations)
        elif (manifest := contents.document("manifest.json")) is not None:
            docker = Docker(contents, staging)
            found = docker.images(manifest)
            for blob in docker.blobs.values():
                batch.add(*blob)
        else:
            raise ArchiveError(
                "this is no image: neither index.json nor manifest.json is there",
                hint="ocim import takes a root file system",
            )
        batch.names = [Loaded(name, target) for name, target in found]
        _check_names(batch.names)
        commit(site, batch)
    return tuple(batch.names)


def _same_images(one: set[str], other: set[str]) -> None:
    """What other programs would take for the archive's images are these (CVE-2021-41190 is of the kind)."""
    if not one <= other:
        raise ArchiveError(
            "index.json and manifest.json of the archive speak of different images",
            hint=", ".join(sorted(one - other)[:3]),
        )


def _check_names(found: list[Loaded]) -> None:
    meant: dict[str, str] = {}
    for one in found:
        if one.name and meant.setdefault(one.name, one.target.digest) != one.target.digest:
            raise ArchiveError(f"the archive has the name {one.name} for two images")
