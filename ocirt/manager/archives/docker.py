"""What `docker save` writes, read: manifest.json, configurations, and layers as plain tars.

It has no manifests, so one is made: Docker's schema 2, whose bytes depend on the configuration and the layers only.
Layers stay as they are. A layer that several images share may be there once, and be a symlink elsewhere.
"""

from __future__ import annotations

from typing import Any

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.archives.contents import MOST_BYTES, Contents, compression
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import ArchiveError, DigestError, DocumentError, LimitError
from ocirt.manager.images import configuration
from ocirt.manager.store.batch import Batch
from ocirt.manager.store.staging import Piece, Staging

MOST_IMAGES = 10_000
CHUNK = 1 << 20
_LAYERS = {
    "": "application/vnd.docker.image.rootfs.diff.tar",
    "gzip": documents.DOCKER_LAYER,
    "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}


class Docker:
    """What has to come goes to the batch."""

    def __init__(self, contents: Contents, staging: Staging, batch: Batch) -> None:
        self._contents = contents
        self._staging = staging
        self._batch = batch
        self._layers: dict[tuple[str, str], Descriptor] = {}

    def images(self, data: bytes) -> list[tuple[str, Descriptor]]:
        """Those of manifest.json: (name or "", target), an image with two names twice.

        Raises ArchiveError, DocumentError, DigestError, LimitError, GrammarError.
        """
        found = []
        for image in _images(data):
            target = self._image(image)
            tags = _list(image, "RepoTags")
            found += [(_name(tag), target) for tag in tags] or [("", target)]
        return found

    def configurations(self, data: bytes) -> set[str]:
        """The digests of all images' configurations."""
        return {self._configuration(image).digest for image in _images(data)}

    def _configuration(self, image: dict[str, Any]) -> Piece:
        name = image.get("Config")
        if not isinstance(name, str):
            raise DocumentError("manifest.json: an image without a Config")
        piece = self._piece(name)
        said = name.rpartition("/")[2].removesuffix(".json")
        if len(said) == digests.ALGORITHMS["sha256"] and f"sha256:{said}" != piece.digest:
            raise DigestError(f"the configuration {name[:200]} has the digest {piece.digest}")
        if piece.size > documents.LARGEST_DOCUMENT:
            raise LimitError(f"{name[:200]} has {piece.size} bytes, more than {documents.LARGEST_DOCUMENT}")
        return piece

    def _image(self, image: dict[str, Any]) -> Descriptor:
        piece = self._configuration(image)
        parsed = configuration.parse(piece.path.read_bytes(), f"configuration {piece.digest}")
        layers = _list(image, "Layers")
        if len(layers) != len(parsed.diff_ids):
            raise DocumentError(
                f"configuration {piece.digest} has {len(parsed.diff_ids)} layers, and manifest.json {len(layers)}"
            )
        described = [self._layer(name, diff_id) for name, diff_id in zip(layers, parsed.diff_ids, strict=True)]
        config = self._batch.add(piece, documents.DOCKER_CONFIG)
        manifest = documents.encode(
            {
                "schemaVersion": 2,
                "mediaType": documents.DOCKER_MANIFEST,
                "config": config.as_json(),
                "layers": [layer.as_json() for layer in described],
            }
        )
        made = self._staging.take([manifest])
        needs = tuple(one.digest for one in (config, *described))
        return self._batch.add(made, documents.DOCKER_MANIFEST, needs)

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        """Its content has the digest that the configuration gives it."""
        piece = self._piece(name)
        known = self._layers.get((piece.digest, diff_id))
        if known is not None:
            return known
        kind = ""
        if piece.digest != diff_id:
            with piece.path.open("rb", buffering=0) as stream:
                kind = compression(stream.read(8))
                stream.seek(0)
                unpacking = Unpacking(stream, kind, MOST_BYTES)
                while unpacking.read(CHUNK):
                    pass
            if unpacking.diff_id != diff_id:
                raise DigestError(f"the layer {name[:200]} has the digest {unpacking.diff_id} instead of {diff_id}")
        described = self._layers[piece.digest, diff_id] = self._batch.add(piece, _LAYERS[kind])
        return described

    def _piece(self, name: str) -> Piece:
        piece = self._contents.piece(name.removeprefix("./"))
        if piece is None:
            raise ArchiveError(f"manifest.json speaks of {name[:200]}, which is not in the archive")
        return piece


def _images(data: bytes) -> list[dict[str, Any]]:
    value = documents.load(data, "manifest.json")
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise DocumentError("manifest.json is no list of images")
    if len(value) > MOST_IMAGES:
        raise LimitError(f"manifest.json has {len(value)} images, more than {MOST_IMAGES}")
    return value


def _list(image: dict[str, Any], name: str) -> list[str]:
    value = image.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DocumentError(f"manifest.json: {name} is no list of strings")
    if len(value) > documents.MOST_LAYERS:
        raise LimitError(f"manifest.json: {len(value)} {name}, more than {documents.MOST_LAYERS}")
    return value


def _name(tag: str) -> str:
    reference = names.parse(tag)
    if reference.digest:
        raise DocumentError(f"manifest.json: {tag[:200]} is no tag")
    return str(reference)
