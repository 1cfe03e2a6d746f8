"""dockerd with its own folders and its own containerd."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from engines.engine import PATH, Engine, end, eventually, executable, require

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = "--experimental --bridge=none --iptables=false --ip6tables=false --ip-forward=false --storage-driver=vfs"
"""Checkpoints are an experiment of docker's."""


class Docker(Engine):
    """`docker`, with the daemon that it talks to. `end` ends it, and the containerd that it has started."""

    def __init__(self, folder: Path, runtime: str, archive: Path) -> None:
        folder.mkdir()
        socket = f"unix://{folder}/socket"
        super().__init__([require("docker", "docker.io"), "--host", socket], folder, runtime, {"DOCKER_BUILDKIT": "0"})
        (folder / "bin").mkdir()
        # BuildKit takes whatever is called runc.
        (folder / "bin" / "runc").symlink_to(executable(runtime))
        places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
        runtimes = ["--add-runtime", f"other={executable(runtime)}", "--default-runtime", "other"]
        with (folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [require("dockerd", "docker.io"), "--host", socket, *places, *runtimes, *FLAGS.split()],
                env={"PATH": f"{folder}/bin:{PATH}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self("version").code == 0)
        self.ok("load", "--input", archive)

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("container", "inspect", name))[0]
        return found

    def clear(self) -> None:
        """Remove what a scenario has left."""
        if left := self.ok("ps", "--all", "--quiet").split():
            self.ok("rm", "--force", "--volumes", *left)

    def end(self) -> None:
        end(self.daemon)
