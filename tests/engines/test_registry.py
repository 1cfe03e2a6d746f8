"""Images go to a registry on loopback and come back, and their containers run: docker, podman, buildah, containerd."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from engines.containerd import Containerd
from engines.docker import Docker
from engines.engine import IMAGE, PATH, RUNTIMES, DockerLike, end, eventually, executable, require
from engines.ocim import Ocim
from engines.test_buildah import Buildah
from support import command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

ADDRESS = "127.0.0.1:5055"
THERE = f"{ADDRESS}/box:pushed"
CONFIGURATION = f"""\
version: 0.1
storage:
  filesystem:
    rootdirectory: {{folder}}
http:
  addr: {ADDRESS}
"""


@contextmanager
def registry(folder: Path, *where: str) -> Iterator[None]:
    """Debian's docker-registry, empty; where: a command that enters the engine's network namespace, if it has one."""
    (folder / "registry.yml").write_text(CONFIGURATION.format(folder=folder / "registry"))
    serve = [*where, require("docker-registry", "docker-registry"), "serve", folder / "registry.yml"]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(serve, env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        connect = f"import socket; socket.create_connection({tuple(ADDRESS.split(':'))}, 5)"
        eventually(lambda: command(*where, "/usr/bin/python3", "-c", connect).code == 0)
        yield
    finally:
        end(process)


def test_docker_and_podman(engine: DockerLike, tmp_path: Path) -> None:
    where: list[str] = []
    plain = ["--tls-verify=false"]
    if isinstance(engine, Docker):
        where, plain = ["/usr/bin/nsenter", f"--net=/proc/{engine.daemon.pid}/ns/net"], []  # it trusts loopback
    elif isinstance(engine, Ocim):
        plain = []  # it does so too
    with registry(tmp_path, *where):
        engine.ok("tag", IMAGE, THERE)
        engine.ok("push", *plain, THERE)
        engine.ok("rmi", THERE)
        assert engine("image", "inspect", THERE).code
        ran = engine.ok("run", "--rm", "--net", "none", *plain, THERE, "cat", "/data/file")
        assert ran == "of the image"
        engine.ok("rmi", THERE)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_containerd(runtime: str, workplace: Path, image: Path, tmp_path: Path) -> None:
    ctr = Containerd(workplace / f"containerd-registry-{runtime}", runtime, image)
    try:
        with registry(tmp_path):
            ctr.ok("image", "push", "--plain-http", THERE, IMAGE)
            ctr.ok("image", "rm", IMAGE)
            ctr.ok("image", "pull", "--plain-http", THERE)
            assert ctr.ok("run", "--rm", *ctr.run_flags, THERE, "a", "cat", "/data/file") == "of the image"
    finally:
        ctr.end()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_buildah(runtime: str, workplace: Path, image: Path, tmp_path: Path) -> None:
    buildah = Buildah(workplace / f"buildah-registry-{runtime}", runtime, image)
    with registry(tmp_path):
        buildah.ok("push", "--tls-verify=false", IMAGE, f"docker://{THERE}")
        (tmp_path / "Containerfile").write_text(f"FROM {THERE}\nRUN cat /data/file > /copied && cat /copied\n")
        built = buildah.ok(
            *("bud", "--tls-verify=false", "--pull-always", "--runtime", executable(runtime)),
            *("--file", tmp_path / "Containerfile", "--tag", "localhost/built", tmp_path),
        )
        assert "of the image" in built
