"""A site with an image of busybox, and containers of it that are made from docker's flags."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from by_hand import collected
from support import APPLETS, BUSYBOX, OCIRT, command

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.containers import bundle, create, flags, lifecycle
from ocirt.manager.containers.records import Record, Records
from ocirt.manager.documents import Descriptor
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease

PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\nbad:x:+0:0::/:\n4294967297:x:0:0::/:\n"
GROUP = "root:x:0:root\nbin:x:1:root,ann\nann:x:1001:\nstaff:x:50:ann\n"


def layer(members: dict[str, bytes | str | None]) -> bytes:
    """A tar archive. Path → content of a file, "-> TARGET" of a symlink, None for a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in members.items():
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def busybox() -> dict[str, bytes | str | None]:
    """The members of a small root file system."""
    found: dict[str, bytes | str | None] = dict.fromkeys(("bin", "etc", "root", "tmp"))
    found["bin/busybox"] = BUSYBOX.read_bytes()
    found |= {f"bin/{applet}": "-> busybox" for applet in APPLETS.split()}
    return found | {"etc/passwd": PASSWD.encode(), "etc/group": GROUP.encode()}


@dataclass
class Ended:
    """What a container has said, and its exit code."""

    out: str
    err: str
    code: int


class Shop(Site):
    """The site, and what tests do with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "root", folder / "run")
        self.made: list[Record] = []

    def image(
        self, name: str = "box", config: dict[str, Any] | None = None, more: dict[str, bytes | str | None] | None = None
    ) -> str:
        """An image of busybox and what else is wanted; its name."""
        archives = [layer(busybox())] + ([layer(more)] if more else [])
        about = {
            "os": "linux",
            "architecture": documents.host_platform().architecture,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digests.of(one) for one in archives]},
        }
        with Lease(self.database) as lease:
            layers = [self._put(one, documents.OCI_LAYER, lease) for one in archives]
            configured = self._put(documents.encode(about), documents.OCI_CONFIG, lease)
            manifest = documents.encode(
                {
                    "schemaVersion": 2,
                    "mediaType": documents.OCI_MANIFEST,
                    "config": configured.as_json(),
                    "layers": [one.as_json() for one in layers],
                }
            )
            needs = [configured.digest, *(one.digest for one in layers)]
            digest = self.blobs.put(manifest, documents.OCI_MANIFEST, lease, needs)
            with self.database.write() as transaction:
                target = Descriptor(documents.OCI_MANIFEST, digest, len(manifest))
                self.images.set(transaction, f"docker.io/library/{name}:latest", target)
        return name

    def _put(self, data: bytes, kind: str, lease: Lease) -> Descriptor:
        return Descriptor(kind, self.blobs.put(data, kind, lease), len(data))

    def create(self, *args: str, image: str = "box", **values: Any) -> Record:
        """A container from the texts of flags."""
        record = create.create(self, image, flags.options(values, {"FROM_CALLER": "yes"}), args)
        self.made.append(record)
        return record

    def sh(self, script: str, **values: Any) -> Record:
        return self.create("sh", "-c", script, **values)

    def ran(self, record: Record) -> Ended:
        """Start it and wait for its end."""
        attachment = lifecycle.start(self, record, attach=True, prepare=bundle.prepare)
        assert attachment is not None
        out, err, code = collected(attachment)
        attachment.close()
        lifecycle.wait(self, record)
        return Ended(out.decode(), err.decode(), code)

    def config(self, record: Record, *, limits: bool = True) -> dict[str, Any]:
        """Its config.json, which has to satisfy the runtime; without `limits` that may want controllers."""
        folder = bundle.prepare(self, record)
        try:
            checked = command(OCIRT, "check", "--strict", "--json", folder)
            found_out = json.loads(checked.out)["problems"]
            self.warnings = [one for one in found_out if one["level"] == "warning"]
            problems = [one for one in found_out if one["level"] == "error"]
            if not limits:
                problems = [one for one in problems if not one["pointer"].startswith("/linux/resources")]
            assert not problems, problems
            explained = command(OCIRT, "explain", folder)
            assert explained.code == 0 or not limits, explained.err
            found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
            return found
        finally:
            self.snapshots.unmount(record.id)

    def close(self) -> None:
        """Remove all containers."""
        for record in list(Records(self.database)):
            create.remove(self, record, force=True, volumes=True)
        self.database.close()
