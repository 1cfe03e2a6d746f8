"""podman with a store, locks and configuration of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engines.engine import DockerLike, executable, require

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """\
[containers]
default_capabilities = [{capabilities}]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["/usr/bin/conmon"]
events_logger = "file"
infra_image = "localhost/pause:latest"
runtime = "{runtime}"
runtime_supports_json = ["crun", "ocirt", "runc"]
runtime_supports_nocgroup = ["crun", "ocirt"]
[engine.runtimes]
{runtime} = ["{executable}"]
"""
"""The limits, because the usual ones of Debian take CAP_SYS_RESOURCE. The rest is docs/engines.md's stanza."""
CAPABILITIES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID"
    " SYS_CHROOT"
)
"""What podman 4 gives to containers. podman 5 has fewer."""


class Podman(DockerLike):
    """`podman`, and what scenarios ask it again and again."""

    not_found_by_exec = 127
    paused_for_exec = 255
    sees_out_of_memory = False
    needs_all_capabilities = False

    def __init__(self, folder: Path, runtime: str, archive: Path) -> None:
        environment = self.prepare(folder)
        (folder / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        capabilities = ", ".join(f'"{name}"' for name in CAPABILITIES.split())
        text = CONFIGURATION.format(runtime=runtime, executable=executable(runtime), capabilities=capabilities)
        (folder / "containers.conf").write_text(text)
        own = {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": "/dev/null",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "TMPDIR": str(folder),
            **environment,
        }
        client = [require("podman", "podman"), "--tmpdir", f"{folder}/tmp", "--network-config-dir", f"{folder}/net"]
        super().__init__(client, folder, runtime, own)
        self.ok("load", "--signature-policy", folder / "policy.json", "--input", archive)
        pause = 'ENTRYPOINT ["/pause"]'
        self.ok("import", "--change", pause, archive.parent / "layer.tar", "localhost/pause:latest")

    def clear(self) -> None:
        """Remove what a scenario has left."""
        if self.ok("ps", "--all", "--quiet", "--pod"):
            self.ok("pod", "rm", "--all", "--force", "--time", "0")
            self.ok("rm", "--all", "--force", "--time", "0")
