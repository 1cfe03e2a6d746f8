"""`ocim registry serve` with others' clients: docker, podman and skopeo push to it and pull from it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from engines.docker import Docker
from engines.engine import IMAGE, PATH, DockerLike, end, require
from support import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("h11", reason="make engines brings the extra manager")
bcrypt = pytest.importorskip("bcrypt", reason="make engines brings the extra manager")

pytestmark = pytest.mark.root

SERVE = """
import sys
from pathlib import Path
from ocirt.manager.registry.server.options import Options
from ocirt.manager.registry.server.server import serve
from ocirt.manager.site import Site
folder, htpasswd = Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None
sys.exit(serve(Site(folder / "root", folder / "run"), Options(port=0, htpasswd=htpasswd)))
"""


@contextmanager
def registry(folder: Path, *where: str, htpasswd: str = "") -> Iterator[str]:
    """A registry, empty: its address; where: a command that enters the engine's network namespace, if it has one."""
    process = subprocess.Popen(
        [*where, sys.executable, "-c", SERVE, folder / "registry", htpasswd], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " listening on http://127.0.0.1:" in line, line
        with (folder / "registry.log").open("wb") as log:
            # Nobody reads here: a program that does, so that the pipe stays empty.
            reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
        try:
            yield line.partition(",")[0].rpartition("/")[2]
        finally:
            end(process)  # type: ignore[arg-type]
            reader.wait(30)
        assert process.returncode == 0
        text = (folder / "registry.log").read_text()
        assert "failed" not in text, text
    finally:
        assert process.stderr is not None
        process.stderr.close()


class Skopeo:
    def __init__(self, folder: Path) -> None:
        (folder / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.words = [require("skopeo", "skopeo"), "--policy", str(folder / "policy.json"), "--tmpdir", str(folder)]

    def __call__(self, *args: str) -> str:
        result = command(*self.words, *args, env={"PATH": PATH, "HOME": "/nonexistent"})
        assert result.code == 0, result.err
        return str(result.out)


@pytest.fixture(params=["docker-ocirt", "podman-ocirt"])
def client(request: pytest.FixtureRequest, engines: Callable[[str], DockerLike]) -> Iterator[DockerLike]:
    one = engines(request.param)
    yield one
    one.clear()


def place(client: DockerLike) -> tuple[list[str], list[str]]:
    """Where the registry has to be, and what makes the client speak plain HTTP."""
    if isinstance(client, Docker):  # it trusts loopback
        return ["/usr/bin/nsenter", f"--net=/proc/{client.daemon.pid}/ns/net"], []
    return [], ["--tls-verify=false"]


def test_push_and_pull(client: DockerLike, tmp_path: Path) -> None:
    where, plain = place(client)
    with registry(tmp_path, *where) as address:
        there = f"{address}/team/box:pushed"
        for name in (there, f"{address}/other/box:1"):  # the second is mounted from the first
            client.ok("tag", IMAGE, name)
            client.ok("push", *plain, name)
            client.ok("rmi", name)
        assert client("image", "inspect", there).code
        ran = client.ok("run", "--rm", "--net", "none", *plain, there, "cat", "/data/file")
        assert ran == "of the image"
        client.ok("rmi", there)


def test_with_a_password(client: DockerLike, tmp_path: Path) -> None:
    where, plain = place(client)
    (tmp_path / "htpasswd").write_text(f"me:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    with registry(tmp_path, *where, htpasswd=str(tmp_path / "htpasswd")) as address:
        there = f"{address}/box:1"
        client.ok("tag", IMAGE, there)
        assert client("push", *plain, there).code
        assert client("login", *plain, "-u", "me", "-p", "wrong", address).code
        client.ok("login", *plain, "-u", "me", "-p", "secret", address)
        client.ok("push", *plain, there)
        client.ok("rmi", there)
        client.ok("pull", *plain, there)
        client.ok("logout", address)
        client.ok("rmi", there)
        assert client("pull", *plain, there).code


def test_skopeo(image: Path, tmp_path: Path) -> None:
    """All of an index comes and goes, digests kept; tags are listed and deleted."""
    skopeo = Skopeo(tmp_path)
    with registry(tmp_path) as address:
        there, again = f"docker://{address}/a/b:v1", f"docker://{address}/c:v1"
        skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{image}", there)
        digest = json.loads(skopeo("inspect", "--tls-verify=false", there))["Digest"]
        both = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests", "--all"]
        skopeo("copy", *both, there, again)
        assert json.loads(skopeo("inspect", "--tls-verify=false", again))["Digest"] == digest
        skopeo("copy", "--dest-tls-verify=false", "--format", "v2s2", f"oci-archive:{image}", there.replace("v1", "v2"))
        listed = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{address}/a/b"))
        assert listed["Tags"] == ["v1", "v2"]
        skopeo("copy", "--src-tls-verify=false", there, f"dir:{tmp_path}/copy")
        copied = (tmp_path / "copy/manifest.json").read_bytes()
        assert f"sha256:{hashlib.sha256(copied).hexdigest()}" == digest
        skopeo("delete", "--tls-verify=false", there)
        assert json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{address}/a/b"))["Tags"] == ["v2"]
        skopeo("inspect", "--tls-verify=false", again)


def test_skopeo_with_a_password(image: Path, tmp_path: Path) -> None:
    skopeo = Skopeo(tmp_path)
    (tmp_path / "htpasswd").write_text(f"me:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    auth = base64.b64encode(b"me:secret").decode()
    with registry(tmp_path, htpasswd=str(tmp_path / "htpasswd")) as address:
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
        known = ["--authfile", str(tmp_path / "auth.json")]
        there = f"docker://{address}/a:v1"
        skopeo("copy", *known, "--dest-tls-verify=false", f"oci-archive:{image}", there)
        assert json.loads(skopeo("inspect", *known, "--tls-verify=false", there))["Name"] == f"{address}/a"
