"""What the tests of all engines share: which engines there are, the runtimes to compare, and an image made here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from runtime.criu_host import CRIU
from support import APPLETS, OCIRT, Done, command, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNTIMES = ("runc", "ocirt")
"""Each scenario runs with both, against one expectation: what runc does is what ocirt has to do."""
PLACES = {"ocirt": OCIRT}
"""Runtimes that are elsewhere than Debian has them. bench/engines.py puts others here."""
PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{CRIU.parent}"
"""Debian's engines, whatever else this machine has; and a CRIU that works on its kernel."""
IMAGE = "localhost/box:latest"
APPLETS_MORE = (
    "cmp cut dd df find getopt grep head ip ln mkfifo mknod nc printf readlink rm seq sort tar timeout tr unshare"
)


FIXED = ("/run", "/dev/shm", "/var/lib/containers", "/var/lib/cni", "/var/lib/containerd", "/var/lib/docker")
"""Folders that engines use whatever one tells them: sockets of shims, locks, names of network namespaces."""


def cover_fixed_places() -> Path:
    """An empty tmpfs over each of FIXED, and in one a folder for the rest, with a short path, for sockets.

    All of it is in the mount namespace that tests/isolate made and ends with that, not before: an engine's last
    process (`podman container cleanup`) may still write when a test has ended, and must not do so on the host.
    """
    for place in FIXED:
        if Path(place).is_dir():
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place], check=True)
    path = Path("/run/engines")
    path.mkdir()
    return path


def require(program: str, package: str) -> str:
    """The path of an engine's program. Skips without it; in CI fails instead."""
    found = shutil.which(program, path=PATH)
    if found:
        return found
    why = f"no {program}: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def executable(runtime: str) -> str:
    return PLACES.get(runtime) or require(runtime, runtime)


def has_all_capabilities() -> bool:
    """May this process do all that a root may? Machines in the cloud often take some away."""
    status = Path("/proc/self/status").read_text()
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(status.split("CapBnd:")[1].split()[0], 16) == (2 << last) - 1


def eventually(what: Callable[[], Any], patience: float = 60) -> Any:
    """The first truthy answer. The patience only bounds a failure."""
    until = time.monotonic() + patience
    while not (answer := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
    return answer


def end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon that we started, and wait for it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(30)


class Engine:
    """A command-line client with its own folder, and the environment that it runs in. `runtime`: a name of RUNTIMES."""

    as_whom: ClassVar[dict[str, Any]] = {}
    """Options of subprocess.run that say who runs it, if not root."""

    def __init__(self, client: list[str], folder: Path, runtime: str, environment: dict[str, str]) -> None:
        self.client = client
        self.folder = folder
        self.runtime = runtime
        self.environment = {"PATH": PATH, "HOME": str(folder), **environment}

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        """Run one command; a failure is an answer like others."""
        return self.command(*self.client, *args, **options)

    def ok(self, *args: str | Path, **options: Any) -> str:
        """Run a command that has to succeed. Returns what it prints, without blanks at the end."""
        return self.output(*self.client, *args, **options)

    def command(self, *argv: str | Path, **options: Any) -> Done:
        """Run another program with the client's environment."""
        return command(*argv, env=self.environment, timeout=120, **self.as_whom, **options)

    def output(self, *argv: str | Path, **options: Any) -> str:
        """The same, and it has to succeed."""
        done = self.command(*argv, **options)
        assert done.code == 0, f"{' '.join(map(str, argv))}: {done}"
        return done.out.rstrip()

    def prepare(self, folder: Path) -> dict[str, str]:
        """Make the folder. Returns what the environment needs besides."""
        folder.mkdir()
        return {}

    def end(self) -> None:
        """End the daemon, if it has one."""

    def clear(self) -> None:
        """Remove what a scenario has left."""


class DockerLike(Engine):
    """What docker's command line and podman's have in common, and what scenarios ask again and again."""

    not_found_by_exec: int
    """The exit code of `exec` of a program that is not there."""
    paused_for_exec: int
    """The exit code of `exec` in a container that is paused."""
    sees_out_of_memory: bool
    """Does it tell a kill for want of memory from others in all releases, on cgroup v1?"""
    needs_all_capabilities: bool
    """Does --privileged ask for those too that the engine itself has not?"""

    def inspect(self, name: str = "box") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("container", "inspect", name))[0]
        return found

    def state(self, name: str = "box") -> dict[str, Any]:
        """What `inspect` says under State."""
        found: dict[str, Any] = self.inspect(name)["State"]
        return found

    def run(self, *flags: str | Path, args: Sequence[str] = ("sleep", "1000"), network: str = "none") -> None:
        """Start a container named `box`."""
        self.ok("run", "-d", "--name", "box", "--net", network, *flags, IMAGE, *args)

    def shell(self, script: str, *flags: str | Path, network: str = "none") -> str:
        """What a script prints in a container of its own."""
        return self.ok("run", "--rm", "--net", network, *flags, IMAGE, "sh", "-c", script)

    def in_box(self, script: str) -> str:
        """What a script prints that `exec` runs in `box`."""
        return self.ok("exec", "box", "sh", "-c", script)

    def gone(self) -> bool:
        """Is there no container any more?"""
        return self.ok("ps", "--all", "--quiet") == ""


def rootfs(folder: Path) -> Path:
    """A root file system: busybox, /data/file, and /pause for pods."""
    path = make_rootfs(folder / "rootfs")
    for applet in f"{APPLETS} {APPLETS_MORE}".split():
        link = path / "bin" / applet
        if not link.is_symlink():
            link.symlink_to("busybox")
    (path / "tmp").chmod(0o1777)
    (path / "home/user").mkdir(parents=True)
    os.chown(path / "home/user", 1000, 1000)
    (path / "data").mkdir()
    (path / "data/file").write_text("of the image\n")
    (path / "pause").write_text("#!/bin/sh\ntrap exit TERM\nsleep 100000 &\nwait\n")
    (path / "pause").chmod(0o755)
    return path


def archive(folder: Path, name: str = IMAGE, command: str = "sh") -> Path:
    """An image as a tar that is an OCI image layout and a docker archive at once: every engine loads one of the two.

    Its one layer, the plain root file system, is left as layer.tar beside it.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs(folder), arcname=".", filter=_plain)
    (folder / "layer.tar").write_bytes(layer.getvalue())
    blobs: dict[str, bytes] = {}

    def blob(media_type: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    vendor = "application/vnd.oci.image"
    tarball = blob(f"{vendor}.layer.v1.tar", layer.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}", "OF_IMAGE=yes"], "Cmd": [command], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [tarball["digest"]]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "tests"}],
    }
    configuration = blob(f"{vendor}.config.v1+json", json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "config": configuration, "layers": [tarball]}
    entry = blob(f"{vendor}.manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": name}
    names = {side["digest"]: f"blobs/sha256/{side['digest'][7:]}" for side in (configuration, tarball)}
    docker = [{"Config": names[configuration["digest"]], "RepoTags": [name], "Layers": [names[tarball["digest"]]]}]
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        "manifest.json": json.dumps(docker).encode(),
        **blobs,
    }
    path = folder / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without times: the same image, whenever it is made."""
    member.mtime = 0
    return member
