"""Images between ocim and docker, podman, skopeo, by Debian's docker-registry: byte for byte the same, both ways."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from engines.docker import Docker
from engines.engine import IMAGE, PATH, require
from engines.ocim import Ocim
from engines.podman import Podman
from engines.test_registry import ADDRESS, THERE, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engines.engine import DockerLike

pytestmark = pytest.mark.root
BACK = f"{ADDRESS}/back:again"
PLAIN = {Docker: (), Podman: ("--tls-verify=false",), Ocim: ()}


class Place:
    """One engine, a registry where it is, an ocim that can reach it, and skopeo to look from outside."""

    def __init__(self, engine: DockerLike, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.plain = PLAIN[type(engine)]
        self.where = [] if not isinstance(engine, Docker) else engine_network(engine)
        self.ocim = Ocim(folder / "ocim", "ocirt")
        self.ocim.client[:0] = self.where

    def skopeo(self, *args: str | Path) -> bytes:
        argv = [*self.where, require("skopeo", "skopeo"), "--insecure-policy", *args]
        return subprocess.run(argv, env={"PATH": PATH}, capture_output=True, check=True).stdout

    def digest(self, name: str) -> str:
        """Of the manifest, as the registry has it."""
        raw = self.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        return "sha256:" + hashlib.sha256(raw).hexdigest()

    def config(self, name: str) -> bytes:
        return self.skopeo("inspect", "--raw", "--config", "--tls-verify=false", f"docker://{name}")


def engine_network(engine: Docker) -> list[str]:
    return ["/usr/bin/nsenter", f"--net=/proc/{engine.daemon.pid}/ns/net"]


@pytest.fixture
def place(engine: DockerLike, tmp_path: Path) -> Iterator[Place]:
    one = Place(engine, tmp_path)
    with registry(tmp_path, *one.where):
        yield one
        one.ocim.clear()


def test_what_another_pushed_is_pulled_and_pushed_on_unchanged(place: Place) -> None:
    engine, ocim = place.engine, place.ocim
    engine.ok("tag", IMAGE, THERE)
    engine.ok("push", *place.plain, THERE)
    engine.ok("rmi", THERE)
    ocim.ok("pull", THERE)
    assert json.loads(ocim.ok("image", "inspect", THERE))[0]["RepoDigests"] == [
        f"{THERE.rpartition(':')[0]}@{place.digest(THERE)}"
    ]
    assert ocim.ok("run", "--rm", "--network", "none", THERE, "cat", "/data/file") == "of the image"
    ocim.ok("tag", THERE, BACK)
    ocim.ok("push", BACK)
    assert place.digest(BACK) == place.digest(THERE)
    engine.ok("pull", *place.plain, BACK)
    assert engine.ok("run", "--rm", "--net", "none", BACK, "cat", "/data/file") == "of the image"
    engine.ok("rmi", BACK)


def test_what_is_committed_here_runs_there(place: Place) -> None:
    engine, ocim = place.engine, place.ocim
    engine.ok("tag", IMAGE, THERE)
    engine.ok("push", *place.plain, THERE)
    engine.ok("rmi", THERE)
    ocim.ok("pull", THERE)
    script = "rm /data/file; rm -r /home; mkdir /home; echo new > /home/new; ln /home/new /linked; chmod 4755 /linked"
    ocim.ok("run", "--name", "changed", "--network", "none", THERE, "sh", "-c", script)
    ocim.ok("commit", "--change", 'CMD ["cat", "/home/new"]', "--change", "ENV A=b", "changed", BACK)
    ocim.ok("push", BACK)
    engine.ok("pull", *place.plain, BACK)
    assert engine.ok("run", "--rm", "--net", "none", BACK) == "new"
    assert (
        engine.ok("run", "--rm", "--net", "none", BACK, "sh", "-c", "echo $A; ls /home /data")
        == "b\n/data:\n\n/home:\nnew"
    )
    engine.ok("rmi", BACK)


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Each file: mode, owner, size or target, time, content, attributes, number of names."""
    found: dict[str, tuple[object, ...]] = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files, "."):
            path = os.path.join(where, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    content = hashlib.sha256(stream.read()).digest()
            link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            names = {
                one: os.getxattr(path, one, follow_symlinks=False) for one in os.listxattr(path, follow_symlinks=False)
            }
            names = {
                one: value
                for one, value in names.items()
                if not one.startswith(("trusted.overlay", "user.rootlesscontainers"))
            }
            links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
            # Links' times umoci leaves; the top is in no layer.
            when = 0 if stat.S_ISLNK(status.st_mode) or path == f"{folder}/." else int(status.st_mtime)
            key = os.path.relpath(path, folder)
            found[key] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                links,
                when,
                link,
                content,
                sorted(names.items()),
            )
    return found


def test_an_image_is_unpacked_as_umoci_does(workplace: Path, image: Path, tmp_path: Path) -> None:
    """Of several layers, with what is taken away again."""
    ocim = Ocim(tmp_path / "ocim", "ocirt", image)
    for number, script in enumerate(
        ("echo a > /a; mkdir -p /d/e; echo b > /d/e/b; ln -s a /l", "rm -r /d/e; echo c > /d/c; rm /l; chown 7:8 /a")
    ):
        base = IMAGE if not number else "localhost/layered:0"
        ocim.ok("run", "--name", f"c{number}", "--network", "none", base, "sh", "-c", script)
        ocim.ok("commit", f"c{number}", f"localhost/layered:{number}")
    ocim.ok("save", "--output", tmp_path / "saved.tar", "localhost/layered:1")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "saved.tar", "-C", tmp_path / "layout"], check=True)
    skopeo, umoci = require("skopeo", "skopeo"), require("umoci", "umoci")
    source = f"oci-archive:{tmp_path}/saved.tar"
    subprocess.run([skopeo, "--insecure-policy", "copy", "-q", source, f"oci:{tmp_path}/oci:x"], check=True)
    subprocess.run([umoci, "unpack", "--image", f"{tmp_path}/oci:x", tmp_path / "bundle"], check=True)
    ocim.ok("create", "--name", "whole", "localhost/layered:1")
    ocim.ok("export", "--output", tmp_path / "whole.tar", "whole")
    (tmp_path / "ours").mkdir()
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "-xpf", tmp_path / "whole.tar", "-C", tmp_path / "ours"], check=True
    )
    ours, theirs = tree(tmp_path / "ours"), tree(tmp_path / "bundle/rootfs")
    assert ours.keys() == theirs.keys()
    assert {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]} == {}
    ocim.ok("rm", "whole", "c0", "c1")
    shutil.rmtree(tmp_path / "bundle")
