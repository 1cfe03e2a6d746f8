"""buildah with a store and configuration of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.engine import Engine, executable, require

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""
"""The usual ones of newer releases take CAP_SYS_RESOURCE."""


class Buildah(Engine):
    """`buildah` with a store of its own."""

    def __init__(self, folder: Path, runtime: str, archive: Path) -> None:
        environment = self.prepare(folder)
        (folder / "containers.conf").write_text(LIMITS)
        own = {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": "/dev/null",
            "TMPDIR": str(folder),
            **environment,
        }
        places = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "overlay"]
        own["BUILDAH_ISOLATION"] = "oci"
        super().__init__([require("buildah", "buildah"), *places], folder, runtime, own)
        self.run_flags = ["--runtime", executable(runtime)]
        self.ok("pull", f"docker-archive:{archive}")
