"""What an image's layers are called once they are unpacked (image-spec 1.1, config.md: DiffID, ChainID)."""

from __future__ import annotations

from collections.abc import Sequence

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.documents import Manifest
from ocirt.manager.errors import DocumentError, GrammarError
from ocirt.manager.store.blobs import Blobs


def diff_ids(blobs: Blobs, manifest: Manifest) -> tuple[str, ...]:
    """The digests of the layers' content, lowest first, as the configuration says them.

    Raises MissingError, DigestError, DocumentError (also where they are not as many as the layers).
    """
    what = f"configuration {manifest.config.digest}"
    value = documents.load(blobs.read(manifest.config.digest, documents.LARGEST_DOCUMENT), what)
    rootfs = value.get("rootfs") if isinstance(value, dict) else None
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(rootfs, dict) or not isinstance(found, list) or rootfs.get("type") != "layers":
        raise DocumentError(f"{what} has no rootfs of the type 'layers' with diff_ids")
    if len(found) != len(manifest.layers):
        raise DocumentError(f"{what} has {len(found)} diff_ids, and the manifest {len(manifest.layers)} layers")
    try:
        return tuple(digests.parse(one) for one in found)
    except GrammarError as error:
        raise DocumentError(f"{what}: rootfs.diff_ids: {error.message}", hint=error.hint) from error


def names(ids: Sequence[str], chained: bool) -> tuple[str, ...]:
    """Of the snapshots, lowest first: each layer's own, or with `chained` one for it and all below it."""
    if not chained:
        return tuple(f"diff:{one}" for one in ids)
    chain: list[str] = []
    for one in ids:
        chain.append(digests.of(f"{chain[-1]} {one}".encode()) if chain else one)
    return tuple(f"chain:{one}" for one in chain)
