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
from typing import TYPE_CHECKING, Any

import pytest
from runtime.criu_host import CRIU
from support import APPLETS, OCIRT, Done, command, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable

RUNTIMES = ("runc", "ocirt")
"""Each scenario runs with both, against one expectation: what runc does is what ocirt has to do."""
PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{CRIU.parent}"
"""Debian's engines, whatever else this machine has; and a CRIU that works on its kernel."""
IMAGE = "localhost/box:latest"
APPLETS_MORE = (
    "cmp cut dd df find getopt grep head ip ln mkfifo mknod nc printf readlink rm seq sort tar timeout tr unshare"
)


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
    return OCIRT if runtime == "ocirt" else require(runtime, runtime)


def has_all_capabilities() -> bool:
    """May this process do all that a root may? Machines in the cloud often take some away."""
    status = Path("/proc/self/status").read_text()
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(status.split("CapBnd:")[1].split()[0], 16) == (2 << last) - 1


def eventually(what: Callable[[], Any], patience: float = 30) -> Any:
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

    def __init__(self, client: list[str], folder: Path, runtime: str, environment: dict[str, str]) -> None:
        self.client = client
        self.folder = folder
        self.runtime = runtime
        self.environment = {"PATH": PATH, "HOME": str(folder), **environment}

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        """Run one command; a failure is an answer like others."""
        return command(*self.client, *args, env=self.environment, timeout=120, **options)

    def ok(self, *args: str | Path, **options: Any) -> str:
        """Run a command that has to succeed. Returns what it prints, without blanks at the end."""
        done = self(*args, **options)
        assert done.code == 0, f"{' '.join(map(str, args))}: {done}"
        return done.out.rstrip()


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
    (path / "pause").write_text("#!/bin/sh\nexec sleep 100000\n")
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
