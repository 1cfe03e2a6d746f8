"""ocim, dockerd, podman and skopeo with umoci: each with a store of its own, asked for the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from measuring import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def eventually(argv: list[str], environment: dict[str, str]) -> None:
    """Until the command succeeds: a daemon has come up."""
    until = time.monotonic() + 60
    while subprocess.run(argv, env=environment, capture_output=True, check=False).returncode:
        if time.monotonic() > until:
            raise SystemExit(f"bench: {' '.join(argv)} does not succeed")
        time.sleep(0.1)


@contextmanager
def registry(folder: Path, port: int) -> Iterator[str]:
    """Debian's docker-registry. Yields its address."""
    folder.mkdir(parents=True)
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/usr/bin/docker-registry", "serve", f"{folder}/registry.yml"], env={"PATH": PATH}, stdout=log, stderr=log
        )
    try:
        address = f"127.0.0.1:{port}"
        eventually(["/usr/bin/python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"], {})
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


class Peer:
    """One that pulls, and perhaps runs. client: what its commands begin with."""

    name: str
    client: list[str]
    plain: tuple[str, ...] = ()  # for a registry without TLS
    environment: dict[str, str]
    network = ("--network", "none")

    def call(self, *args: str, expect: int | None = 0) -> float:
        """Milliseconds of one command."""
        return Measured([*self.client, *args], expect=expect, environment=self.environment).ms

    def output(self, *args: str) -> str:
        done = subprocess.run([*self.client, *args], env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench: {self.name} {' '.join(args)}: {done.stderr}")
        return done.stdout

    def pull(self, image: str) -> float:
        return self.call("pull", "--quiet", *self.plain, image)

    def forget(self, image: str) -> None:
        """Nothing of it is left, and the disk is at rest."""
        self.output("rmi", "--force", image)
        os.sync()

    def push(self, image: str, target: str) -> float:
        self.output("tag", image, target)
        ms = self.call("push", *self.plain, target)
        self.output("rmi", target)
        return ms

    def end(self) -> None:
        """Whatever runs."""


class Ocim(Peer):
    name = "ocim"

    def __init__(self, folder: Path, executable: str) -> None:
        self.client = [executable]
        self.environment = {"PATH": PATH, "HOME": str(folder)}
        self.environment |= {"OCIM_ROOT": f"{folder}/root", "OCIM_RUN": f"{folder}/run"}

    def forget(self, image: str) -> None:
        super().forget(image)
        self.output("system", "prune", "--all", "--force")
        os.sync()


class Docker(Peer):
    name = "docker"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.environment = {"PATH": PATH, "HOME": str(folder)}
        self.client = ["/usr/bin/docker", "--host", f"unix://{folder}/socket"]
        places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        quiet = ["--iptables=false", "--bridge=none", "--storage-driver=overlay2"]
        with (folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["/usr/sbin/dockerd", "--host", f"unix://{folder}/socket", *places, *quiet],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually([*self.client, "version"], self.environment)

    def end(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()


class Podman(Peer):
    name = "podman"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        self.environment = {
            "PATH": PATH,
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": "/dev/null",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        self.client = ["/usr/bin/podman"]
        self.plain = ("--tls-verify=false", "--signature-policy", f"{folder}/policy.json")
        version = self.output("version", "--format", "{{.Client.Version}}")
        if not version.startswith(("4.", "5.")):
            raise SystemExit(f"bench: podman {version}")


class Skopeo(Peer):
    """`skopeo copy` into a layout, and `umoci unpack`: both are part of a pull."""

    name = "skopeo+umoci"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.environment = {"PATH": PATH, "HOME": str(folder), "TMPDIR": str(folder)}

    def pull(self, image: str) -> float:
        self.client = ["/usr/bin/skopeo"]
        layout, tag = f"{self._folder}/layout", image.rpartition(":")[2]
        copy = ("--insecure-policy", "copy", "--quiet", "--src-tls-verify=false")
        ms = self.call(*copy, f"docker://{image}", f"oci:{layout}:{tag}")
        self.client = ["/usr/bin/umoci"]
        return ms + self.call("unpack", "--image", f"{layout}:{tag}", f"{self._folder}/bundle")

    def forget(self, image: str) -> None:
        shutil.rmtree(self._folder / "layout")
        shutil.rmtree(self._folder / "bundle")
        os.sync()
