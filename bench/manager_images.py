"""Synthetic images, as an OCI image layout that skopeo puts into a registry: the same bytes each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVEL = 4  # of zlib: what most images were made with is 6, which gives some percent less
SHAPES = {
    "big": [(200, 1 << 20)],  # one layer: files, bytes of each
    "eight": [(2000, 20 << 10)] * 8,
    "small": [(40_000, 1 << 10)],
}
"""Image → its layers, each as how many files and their middle size in bytes."""


class Content:
    """Bytes that compress about as well as programs do, drawn from a pool in pieces."""

    def __init__(self) -> None:
        self._chance = random.Random(9)
        words = [self._chance.randbytes(self._chance.randrange(2, 12)) for _ in range(20_000)]
        self._pool = b"".join(self._chance.choices(words, k=1 << 20))

    def take(self, size: int) -> bytes:
        """More than the pool's pieces are never equal: gzip looks back 32 KiB."""
        pieces = []
        while size > 0:
            start = self._chance.randrange(len(self._pool) - 65536)
            pieces.append(self._pool[start : start + min(size, 65536)])
            size -= len(pieces[-1])
        return b"".join(pieces)

    def sizes(self, count: int, middle: int) -> Iterator[int]:
        """Between a half and one and a half of the middle."""
        for _ in range(count):
            yield self._chance.randrange(middle // 2, middle * 3 // 2)


def layer(content: Content, number: int, count: int, middle: int) -> bytes:
    """An uncompressed tar: a hundred files a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for index, size in enumerate(content.sizes(count, middle)):
            if index % 100 == 0:
                folder = tarfile.TarInfo(f"layer{number}/{index // 100:03}")
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                archive.addfile(folder)
            member = tarfile.TarInfo(f"layer{number}/{index // 100:03}/{index % 100:02}")
            member.size, member.mode, member.mtime = size, 0o644, 1_700_000_000
            archive.addfile(member, io.BytesIO(content.take(size)))
    return out.getvalue()


def busybox() -> bytes:
    """A layer with a shell, for the containers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", "etc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        archive.add("/bin/busybox", "bin/busybox")
        for applet in ("sh", "true", "sleep", "yes", "head", "cat"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        member = tarfile.TarInfo("etc/passwd")
        member.size = len(passwd)
        archive.addfile(member, io.BytesIO(passwd))
    return out.getvalue()


class Layout:
    """An image layout (image-spec, image-layout.md) below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._manifests: list[dict[str, Any]] = []

    def _blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def image(self, name: str, layers: Iterator[bytes]) -> int:
        """Add an image. Returns the bytes of its files as tars."""
        described, diffs, size = [], [], 0
        for tar in layers:
            diffs.append("sha256:" + hashlib.sha256(tar).hexdigest())
            packed = gzip.compress(tar, LEVEL, mtime=0)
            described.append(self._blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip"))
            size += len(tar)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created_by": "bench"} for _ in diffs],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": described,
        }
        entry = self._blob(json.dumps(manifest).encode(), manifest["mediaType"])
        self._manifests.append(entry | {"annotations": {"org.opencontainers.image.ref.name": name}})
        index = {"schemaVersion": 2, "manifests": self._manifests}
        (self.folder / "index.json").write_text(json.dumps(index))
        return size


def make(folder: Path, shapes: dict[str, list[tuple[int, int]]]) -> Layout:
    """All images, and "box" with busybox."""
    layout, content = Layout(folder), Content()
    for name, layers in shapes.items():
        layout.image(name, (layer(content, number, *each) for number, each in enumerate(layers)))
    layout.image("box", iter([busybox()]))
    return layout
