"""load: the images of an archive into the store, all of them or none.

Everything lies in the staging area until every digest, size and name was checked; then one transaction makes blobs and
names of it. An archive that is both, a layout and what `docker save` writes, is read as a layout, and both have to
speak of the same images.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ocirt.manager import names
from ocirt.manager.archives.contents import Archive, Contents, Folder
from ocirt.manager.archives.docker import Docker
from ocirt.manager.archives.layout import Layout
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import ArchiveError
from ocirt.manager.site import Site
from ocirt.manager.store.batch import Batch
from ocirt.manager.store.leases import Lease
from ocirt.manager.store.staging import Staging


def load(site: Site, stream: BinaryIO) -> tuple[str, ...]:
    """The images of a tar: plain, or compressed with gzip or zstd. Returns their names as people write them,
    or the digest of one that has none.

    Raises ArchiveError, DocumentError, DigestError, LimitError, GrammarError.
    """
    with Staging(site.root) as staging:
        return _load(site, Archive(stream, staging), staging)


def load_folder(site: Site, path: Path) -> tuple[str, ...]:
    """The same of a folder: an OCI layout, or what a tar of docker's was unpacked to."""
    with Staging(site.root) as staging, Folder(path, staging) as folder:
        return _load(site, folder, staging)


def _load(site: Site, contents: Contents, staging: Staging) -> tuple[str, ...]:
    batch = Batch()
    with Lease(site.database) as lease:
        if (index := contents.document("index.json")) is not None:
            layout = Layout(contents, site.blobs, lease, batch)
            found = layout.images(index)
            if (manifest := contents.document("manifest.json")) is not None:
                _same_images(Docker(contents, staging, Batch()).configurations(manifest), layout.configurations)
        elif (manifest := contents.document("manifest.json")) is not None:
            found = Docker(contents, staging, batch).images(manifest)
        else:
            raise ArchiveError(
                "this is no image: neither index.json nor manifest.json is there",
                hint="ocim import takes a root file system",
            )
        batch.names = found
        _check_names(found)
        batch.commit(site.database, site.blobs, site.images)
    return tuple(names.parse(name).familiar if name else target.digest for name, target in found)


def _same_images(one: set[str], other: set[str]) -> None:
    """What other programs would take for the archive's images are these (CVE-2021-41190 is of the kind)."""
    if not one <= other:
        raise ArchiveError(
            "index.json and manifest.json of the archive speak of different images",
            hint=", ".join(sorted(one - other)[:3]),
        )


def _check_names(found: list[tuple[str, Descriptor]]) -> None:
    meant: dict[str, str] = {}
    for name, target in found:
        if name and meant.setdefault(name, target.digest) != target.digest:
            raise ArchiveError(f"the archive has the name {name} for two images")
