"""Images for the tests, made here: layers, manifests, and a store to have them in."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ocirt.manager import archives, documents
from ocirt.manager.documents import Descriptor
from ocirt.manager.site import Site

GZIP = f"{documents.OCI_LAYER}+gzip"
ZSTD = f"{documents.OCI_LAYER}+zstd"
CREATED = "2020-01-02T03:04:05.000000006Z"


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def site(folder: Path) -> Site:
    return Site(folder / "root", folder / "run")


def tar(files: dict[str, bytes]) -> bytes:
    """A layer's plain tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def compressed(plain: bytes, media_type: str) -> bytes:
    if media_type == GZIP or media_type == documents.DOCKER_LAYER:
        return gzip.compress(plain, mtime=0)
    if media_type == ZSTD:
        from backports import zstd

        return zstd.compress(plain)
    return plain


def image(
    where: Site,
    name: str = "docker.io/library/box:1",
    layers: tuple[bytes, ...] = (),
    *,
    layer_type: str = GZIP,
    family: str = "oci",
    config: dict[str, Any] | None = None,
    architecture: str = "",
) -> Descriptor:
    """An image in the store. name "": none, which is for parts of an index."""
    layers = layers or (tar({"etc/motd": b"hello\n"}), tar({"bin/sh": b"#!" * 3000}))
    document = {
        "created": CREATED,
        "architecture": architecture or documents.host_platform().architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"a": "b"}} if config is None else config,
        "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
        "history": [
            {"created": CREATED, "created_by": f"COPY {number}", "comment": "made"} for number in range(len(layers))
        ]
        + [{"created": CREATED, "created_by": "CMD sh", "empty_layer": True}],
    }
    data = json.dumps(document).encode()
    types = (documents.OCI_CONFIG, documents.OCI_MANIFEST)
    if family == "docker":
        types = (documents.DOCKER_CONFIG, documents.DOCKER_MANIFEST)
        layer_type = documents.DOCKER_LAYER
    blobs = [compressed(layer, layer_type) for layer in layers]
    described = [Descriptor(layer_type, sha(blob), len(blob)) for blob in blobs]
    for blob in blobs:
        where.blobs.put(blob, layer_type)
    described_config = Descriptor(types[0], where.blobs.put(data, types[0]), len(data))
    value = {
        "schemaVersion": 2,
        "mediaType": types[1],
        "config": described_config.as_json(),
        "layers": [one.as_json() for one in described],
    }
    manifest = documents.encode(value)
    digest = where.blobs.put(manifest, types[1], None, [one.digest for one in (described_config, *described)])
    target = Descriptor(types[1], digest, len(manifest))
    give(where, name, target)
    return target


def index(where: Site, name: str, *platforms: tuple[str, Descriptor]) -> Descriptor:
    """An index of (architecture, manifest)."""
    value = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_INDEX,
        "manifests": [
            one.as_json() | {"platform": {"os": "linux", "architecture": architecture}}
            for architecture, one in platforms
        ],
    }
    data = documents.encode(value)
    digest = where.blobs.put(data, documents.OCI_INDEX, None, [one.digest for _, one in platforms])
    target = Descriptor(documents.OCI_INDEX, digest, len(data))
    give(where, name, target)
    return target


def give(where: Site, name: str, target: Descriptor) -> None:
    if name:
        with where.database.write() as transaction:
            where.images.set(transaction, name, target)


def names(where: Site) -> dict[str, str]:
    return {one.name: one.target.digest for one in where.images}


def blobs(where: Site) -> set[str]:
    return {str(row[0]) for row in where.database.read.execute("select digest from blobs where not dead")}


def ingest(where: Site) -> list[Path]:
    return list((where.root / "ingest").iterdir())


@dataclass(frozen=True)
class Loaded:
    name: str
    target: Descriptor


def load(where: Site, stream: BinaryIO) -> tuple[Loaded, ...]:
    return _loaded(where, archives.load(where, stream))


def load_folder(where: Site, path: Path) -> tuple[Loaded, ...]:
    return _loaded(where, archives.load_folder(where, path))


def _loaded(where: Site, said: tuple[str, ...]) -> tuple[Loaded, ...]:
    """What the store has for the names, or digests, that load tells."""
    found = [where.images.find(name) for name in said]
    return tuple(Loaded(one.name if one.named else "", one.target) for one in found)
