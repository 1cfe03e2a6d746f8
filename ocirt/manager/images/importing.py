"""import, and what it shares with commit: a new layer, and an image with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.archive.reader import Reader
from ocirt.manager.archives.contents import MOST_BYTES, Peeked, compression
from ocirt.manager.documents import Descriptor, Platform
from ocirt.manager.errors import GrammarError
from ocirt.manager.images.changes import applied
from ocirt.manager.site import Site
from ocirt.manager.store.batch import Batch
from ocirt.manager.store.staging import Piece, Sink, Staging

LEVEL = 1
"""isal's: ten times as fast as gzip -6, for a tenth more bytes."""
ZSTD = f"{documents.OCI_LAYER}+zstd"
GZIP = f"{documents.OCI_LAYER}+gzip"


class Layer:
    """A plain tar on its way to a gzip blob. The same bytes become the same blob: gzip's header has no time."""

    def __init__(self, staging: Staging) -> None:
        from isal import isal_zlib

        self._sink = staging.sink()
        self._compressor = isal_zlib.compressobj(level=LEVEL, wbits=31)
        self._hash = digests.start("sha256")

    def write(self, data: bytes) -> int:
        """Takes all of them."""
        self._hash.update(data)
        self._sink.write(self._compressor.compress(data))
        return len(data)

    def finish(self) -> tuple[Piece, str]:
        """The blob, and the digest of the tar."""
        self._sink.write(self._compressor.flush())
        return self._sink.finish(), f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        """Give up, or the end."""
        self._sink.close()


class Copied:
    """A stream whose bytes go to a sink, or become a layer, as they pass."""

    def __init__(self, stream: Peeked, to: Sink | Layer) -> None:
        self._stream = stream
        self._to = to

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = self._stream.read(size)
        self._to.write(data)
        return data


def import_tar(
    site: Site,
    stream: BinaryIO,
    name: str = "",
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
) -> str:
    """An image of one layer from a root file system's tar: plain (then it is compressed), gzip or zstd (then its bytes
    stay). Returns the image's id.

    Raises ArchiveError, LimitError, GrammarError; nothing is left behind then.
    """
    full = reference(name)
    config = applied({}, changes)
    with Staging(site.root) as staging:
        piece, diff_id, media_type = _layer(stream, staging)
        batch = Batch()
        described = batch.add(piece, media_type)
        chosen = platform or documents.host_platform()
        document: dict[str, Any] = {"architecture": chosen.architecture, "os": chosen.os}
        if chosen.variant:
            document["variant"] = chosen.variant
        document["config"] = config
        comment = message or "Imported from -"
        return finish(site, staging, batch, document, [described], [diff_id], full, {"comment": comment})


def _layer(stream: BinaryIO, staging: Staging) -> tuple[Piece, str, str]:
    """The blob, its tar's digest, its media type. The tar is read to its end, so that what is none comes to nothing."""
    peeked = Peeked(stream)
    kind = compression(peeked.head)
    if not kind:
        layer = Layer(staging)
        try:
            _read(Reader(Copied(peeked, layer)))
            return *layer.finish(), GZIP
        finally:
            layer.close()
    sink = staging.sink()
    try:
        unpacking = Unpacking(Copied(peeked, sink), kind, MOST_BYTES)
        _read(Reader(unpacking))
        return sink.finish(), unpacking.diff_id, GZIP if kind == "gzip" else ZSTD
    finally:
        sink.close()


def _read(reading: Reader) -> None:
    for _ in reading:
        pass


def finish(
    site: Site,
    staging: Staging,
    batch: Batch,
    document: dict[str, Any],
    layers: Sequence[Descriptor],
    diff_ids: Sequence[str],
    name: str,
    step: dict[str, Any],
    *,
    family: str = documents.OCI_MANIFEST,
) -> str:
    """Make an image of a configuration and layers; the batch has those that are new. Returns its id.

    document   without created, rootfs and the last step of its history, which is `step`
    family     the manifest's media type, OCI's or Docker's
    """
    created = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    docker = family == documents.DOCKER_MANIFEST
    whole = {
        **document,
        "created": created,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [*(document.get("history") or []), {"created": created, **step}],
    }
    config_type = documents.DOCKER_CONFIG if docker else documents.OCI_CONFIG
    config = batch.add(staging.take([documents.encode(whole)]), config_type)
    manifest = {
        "schemaVersion": 2,
        "mediaType": family,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
    }
    needs = tuple(one.digest for one in (config, *layers))
    target = batch.add(staging.take([documents.encode(manifest)]), family, needs)
    batch.names.append((name, target))
    batch.commit(site.database, site.blobs, site.images)
    return config.digest


def reference(name: str) -> str:
    """A name for a new image, whole, or "". Raises GrammarError."""
    if not name:
        return ""
    found = names.parse(name)
    if found.digest:
        raise GrammarError(f"{name}: an image that is made here has no digest yet", hint="NAME[:TAG]")
    return str(found)
