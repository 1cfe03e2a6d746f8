"""A store, and images for it."""

from __future__ import annotations

import gzip
import json

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.documents import Descriptor
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease


class Store(Site):
    """A site, and what tests do with it."""

    def image(self, *archives: bytes, diff_ids: list[str] | None = None, lease: Lease | None = None) -> Descriptor:
        """An image of these layers, tar archives; every second one compressed. Held by its name, its digest."""
        ids = diff_ids if diff_ids is not None else [digests.of(one) for one in archives]
        config = documents.encode({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
        if lease is None:
            with Lease(self.database) as lease:
                return self.image(*archives, diff_ids=diff_ids, lease=lease)
        layers = []
        for number, archive in enumerate(archives):
            kind = documents.OCI_LAYER if number % 2 else f"{documents.OCI_LAYER}+gzip"
            data = archive if number % 2 else gzip.compress(archive, 1, mtime=0)
            layers.append(Descriptor(kind, self.blobs.put(data, kind, lease), len(data)))
        configured = Descriptor(documents.OCI_CONFIG, self.blobs.put(config, documents.OCI_CONFIG, lease), len(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": configured.as_json(),
            "layers": [one.as_json() for one in layers],
        }
        data = documents.encode(manifest)
        needs = [configured.digest, *(one.digest for one in layers)]
        digest = self.blobs.put(data, documents.OCI_MANIFEST, lease, needs)
        target = Descriptor(documents.OCI_MANIFEST, digest, len(data))
        with self.database.write() as transaction:
            self.images.set(transaction, f"docker.io/library/x:{digest[7:19]}", target)
        return target

    def unpacked(self, *archives: bytes) -> tuple[str, ...]:
        """The names of the snapshots of an image of these layers."""
        with Lease(self.database) as lease:
            return self.snapshots.unpack(self.image(*archives, lease=lease), lease)

    def folders(self) -> set[str]:
        """Of snapshots, with a row or without."""
        return {path.name for path in (self.root / "snapshots").iterdir() if path.is_dir()}

    def rows(self) -> set[str]:
        """Of snapshots: their folders."""
        return {folder for (folder,) in self.database.read.execute("select folder from snapshots where not dead")}

    def kept(self, container_id: str) -> dict[str, object]:
        """What the manager keeps of a container's file system."""
        value: dict[str, object] = json.loads((self.container(container_id) / "snapshot.json").read_bytes())
        return value
