"""An OCI image layout, read: index.json, what it leads to, and the names that its annotations give."""

from __future__ import annotations

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.archives.contents import Contents
from ocirt.manager.documents import Descriptor, Index, Manifest
from ocirt.manager.errors import ArchiveError, DigestError, DocumentError, GrammarError
from ocirt.manager.images import configuration
from ocirt.manager.store.batch import Batch
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.leases import Lease

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""Where containerd and docker put the whole name; they leave the tag alone for the other."""
DEEPEST_INDEX = 4


def blob_name(digest: str) -> str:
    """Where a layout has a blob."""
    return "blobs/" + digests.parse(digest).replace(":", "/")


class Layout:
    """What has to come goes to the batch. What the store has already need not be in the layout; the lease holds it.

    configurations   digests of all images' that were met
    """

    def __init__(self, contents: Contents, store: Blobs, lease: Lease, batch: Batch) -> None:
        self._contents = contents
        self._store = store
        self._lease = lease
        self._batch = batch
        self.configurations: set[str] = set()

    def images(self, data: bytes) -> list[tuple[str, Descriptor]]:
        """Those of index.json: (name or "", target). Raises ArchiveError, DocumentError, DigestError, LimitError."""
        self._check_version()
        index = documents.parse(data, documents.OCI_INDEX, what="index.json")
        assert isinstance(index, Index)
        found = []
        for one in index.manifests:
            if one.media_type not in documents.MANIFESTS | documents.INDEXES:
                raise DocumentError(f"index.json: {one.digest} is of the type {one.media_type[:100]!r}, no image's")
            self._document(one, DEEPEST_INDEX)
            target = Descriptor(one.media_type, one.digest, one.size)
            found.append((_name(one), target))
        if not found:
            raise ArchiveError("index.json names no image")
        return found

    def _check_version(self) -> None:
        data = self._contents.document("oci-layout")
        value = documents.load(data, "oci-layout") if data is not None else {}
        if not isinstance(value, dict) or value.get("imageLayoutVersion") != "1.0.0":
            raise ArchiveError("this is no OCI layout of version 1.0.0", hint="oci-layout says which it is")

    def _document(self, one: Descriptor, deepest: int, unknown: bool = False) -> None:
        if not deepest:
            raise DocumentError(f"{one.digest}: an index in an index in an index …")
        data = self._data(one)
        found = documents.parse(data, one.media_type, what=f"manifest {one.digest}")
        if isinstance(found, Index):
            self._platforms(found, one, deepest)
            needs = tuple(child.digest for child in found.manifests)
        else:
            self._manifest(found, unknown)
            needs = tuple(child.digest for child in (found.config, *found.layers))
        self._come(one, needs)

    def _platforms(self, index: Index, parent: Descriptor, deepest: int) -> None:
        """Those that are there: a layout may have some of an index's (image-layout.md, "Blobs")."""
        there = 0
        for child in index.manifests:
            if self._contents.piece(blob_name(child.digest)) is None:
                continue
            if child.media_type in documents.MANIFESTS | documents.INDEXES:
                unknown = child.platform is not None and child.platform.os == "unknown"
                self._document(child, deepest - 1, unknown)
                there += not unknown
            else:
                self._come(child)
        if not there:
            raise ArchiveError(f"of the images of {parent.digest} none is in the archive")

    def _manifest(self, manifest: Manifest, unknown: bool) -> None:
        """unknown: it is an attestation, whose platform calls itself so, and its layers are no file systems."""
        for one in (manifest.config, *manifest.layers):
            self._come(one)
        if unknown:
            return
        for layer in manifest.layers:
            documents.compression(layer)
        parsed = configuration.parse(self._data(manifest.config), f"configuration {manifest.config.digest}")
        if len(parsed.diff_ids) != len(manifest.layers):
            raise DocumentError(
                f"configuration {manifest.config.digest} has {len(parsed.diff_ids)} layers, and its manifest"
                f" {len(manifest.layers)}"
            )
        self.configurations.add(manifest.config.digest)

    def _come(self, one: Descriptor, needs: tuple[str, ...] = ()) -> None:
        """It is brought in, or here already. Raises ArchiveError where it is neither, DigestError for a wrong size."""
        piece = self._contents.piece(blob_name(one.digest))
        if piece is None:
            if not self._store.hold(one.digest, self._lease):
                raise ArchiveError(f"{one.digest} ({one.media_type[:100]}) is missing in the archive")
            size = self._store.size(one.digest)
        else:
            size = piece.size
            self._batch.add(piece, one.media_type, needs)
        if size != one.size:
            raise DigestError(f"{one.digest} has {size} bytes instead of {one.size}")

    def _data(self, one: Descriptor) -> bytes:
        piece = self._contents.piece(blob_name(one.digest))
        if piece is None:
            return self._store.read(one.digest, documents.LARGEST_DOCUMENT)
        if piece.size > documents.LARGEST_DOCUMENT:
            raise DocumentError(f"{one.digest} is a document of {piece.size} bytes")
        return piece.path.read_bytes()


def _name(one: Descriptor) -> str:
    """The whole name that annotations give, or "".

    Where both are there and the one is neither the other nor its tag, somebody has renamed the image in the layout who
    knows OCI's annotation only, such as umoci.
    """
    text = one.annotations.get(REF_NAME) or ""
    whole = one.annotations.get(IMAGE_NAME) or ""
    try:
        if whole and text in ("", whole, names.parse(whole).tag):
            text = whole
        if not text:
            return ""
        reference = names.parse(text)
    except GrammarError as error:
        raise DocumentError(f"index.json: {error.message}", hint=error.hint) from error
    if reference.digest and reference.digest != one.digest:
        raise DigestError(f"index.json: {text[:200]} is the name of {one.digest}")
    return str(reference)
