"""`ocim` with a store of its own."""

from __future__ import annotations

from pathlib import Path

from engines.engine import DockerLike, executable
from support import OCIRT

OCIM = str(Path(OCIRT).with_name("ocim"))


class Ocim(DockerLike):
    """The manager on a runtime."""

    not_found_by_exec = 127
    paused_for_exec = 1
    sees_out_of_memory = False
    needs_all_capabilities = False

    def __init__(self, folder: Path, runtime: str, archive: Path | None = None) -> None:
        folder.mkdir()
        environment = {
            "OCIM_ROOT": f"{folder}/root",
            "OCIM_RUN": f"{folder}/run",
            "OCIM_RUNTIME": executable(runtime),
        }
        super().__init__([OCIM], folder, runtime, environment)
        if archive is not None:
            self.ok("load", "--input", archive)

    def clear(self) -> None:
        """Remove what a scenario has left."""
        if left := self.ok("ps", "--all", "--quiet").split():
            self.ok("rm", "--force", "--volumes", *left)
