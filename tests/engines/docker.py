"""dockerd with its own folders, its own containerd and its own network namespace."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from engines.engine import PATH, DockerLike, end, eventually, executable, require

if TYPE_CHECKING:
    from pathlib import Path

IN_A_NETWORK_OF_ITS_OWN = ["/usr/bin/unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""A daemon takes docker0 and the packet filter for itself."""


class Docker(DockerLike):
    """`docker`, with the daemon that it talks to. `end` ends it, and the containerd that it has started."""

    paused_for_exec = 1
    sees_out_of_memory = True
    needs_all_capabilities = True

    def __init__(self, folder: Path, runtime: str, archive: Path, *flags: str) -> None:
        folder.mkdir()
        self.socket = f"unix://{folder}/socket"
        client = [require("docker", "docker.io"), "--host", self.socket]
        super().__init__(client, folder, runtime, {"DOCKER_BUILDKIT": "0"})
        self.flags = flags
        (folder / "bin").mkdir()
        # BuildKit takes whatever is called runc.
        (folder / "bin" / "runc").symlink_to(executable(runtime))
        self.start()
        self.ok("load", "--input", archive)
        release = int(self.ok("version", "--format", "{{.Server.Version}}").split(".")[0])
        self.not_found_by_exec = 127 if release >= 28 else 126  # with runc as well

    def start(self) -> None:
        folder = self.folder
        places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
        runtimes = ["--add-runtime", f"other={executable(self.runtime)}", "--default-runtime", "other"]
        dockerd = [require("dockerd", "docker.io"), "--host", self.socket, "--storage-driver", "vfs"]
        require("iptables", "iptables")
        with (folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [*IN_A_NETWORK_OF_ITS_OWN, *dockerd, *places, *runtimes, *self.flags],
                env={"PATH": f"{folder}/bin:{PATH}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self("version").code == 0)

    def in_network(self, *args: str | Path) -> str:
        """Run a program of this machine where the daemon's ports are published. Returns what it prints."""
        return self.output("/usr/bin/nsenter", f"--net=/proc/{self.daemon.pid}/ns/net", *args)

    def clear(self) -> None:
        """Remove what a scenario has left."""
        if left := self.ok("ps", "--all", "--quiet").split():
            self.ok("rm", "--force", "--volumes", *left)

    def end(self) -> None:
        end(self.daemon)
