"""ocim's own client against the server, and the server as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import PATIENCE, Running

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.documents import Descriptor, Platform
from ocirt.manager.pull import Pull
from ocirt.manager.push import Push
from ocirt.manager.registry.client import Client, Repository
from ocirt.manager.registry.credentials import Keychain
from ocirt.manager.registry.server.options import Limits
from ocirt.manager.site import Site

AMD64 = Platform("linux", "amd64")


class Here:
    """A site that is not the server's, and the client."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder / "root", folder / "run")
        self.client = Client(keychain=Keychain({"HOME": str(folder)}), sleep=lambda seconds: time.sleep(0.01))

    def image(self, *layers: bytes) -> Descriptor:
        blobs = self.site.blobs
        described = [
            Descriptor(documents.OCI_LAYER, blobs.put(layer, documents.OCI_LAYER), len(layer)).as_json()
            for layer in layers
        ]
        config = Descriptor(documents.OCI_CONFIG, blobs.put(b"{}", documents.OCI_CONFIG), 2).as_json()
        content = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": config, "layers": described}
        data = documents.encode(content)
        return Descriptor(documents.OCI_MANIFEST, blobs.put(data, documents.OCI_MANIFEST), len(data))

    def repository(self, registry: Running, path: str) -> Repository:
        return self.client.repository(names.parse(f"{registry.host}/{path}"))

    def push(self, registry: Running, target: Descriptor, text: str, *sources: str) -> int:
        reference = names.parse(f"{registry.host}/{text}")
        return Push(self.site.blobs, self.client.repository(reference), sources).run(target, reference).sent

    def pull(self, registry: Running, text: str) -> str:
        reference = names.parse(f"{registry.host}/{text}")
        pull = Pull(self.site.database, self.site.blobs, self.client.repository(reference))
        return pull.run(reference, AMD64).target.digest

    def close(self) -> None:
        self.client.close()
        self.site.database.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    one = Here(tmp_path / "here")
    yield one
    one.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Here]:
    one = Here(tmp_path / "there")
    yield one
    one.close()


def test_push_and_pull(registry: Running, here: Here, there: Here) -> None:
    layers = [os.urandom(3_000_000), b"small", b""]
    target = here.image(*layers)
    assert here.push(registry, target, "a/b:v1") == 4
    assert here.push(registry, target, "a/b:v2") == 0
    assert there.pull(registry, "a/b:v2") == target.digest
    assert [there.site.blobs.read(digests.of(layer), 4_000_000) for layer in layers] == layers
    assert list(here.repository(registry, "a/b").tags()) == ["v1", "v2"]
    resolved = here.repository(registry, "a/b").resolve("v1")
    assert resolved is not None
    assert (resolved.digest, resolved.size) == (target.digest, target.size)


def test_a_layer_of_another_repository_is_not_sent(registry: Running, here: Here) -> None:
    target = here.image(b"base" * 1000)
    here.push(registry, target, "a:v1")
    assert here.push(registry, target, "b:v1", "a") == 0
    assert here.repository(registry, "b").has(digests.of(b"base" * 1000))


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 5500])
def test_in_chunks(registry: Running, here: Here, size: int) -> None:
    data = os.urandom(size)
    opened: Callable[[], object] = lambda: (here.site.root / "data").open("rb")  # noqa: E731
    here.site.blobs.put(b"", "x")
    (here.site.root / "data").write_bytes(data)
    repository = here.repository(registry, "a")
    repository.upload(digests.of(data), size, opened, chunk=1000)  # type: ignore[arg-type]
    assert registry.ask("GET", f"/v2/a/blobs/{digests.of(data)}").body == data


def test_referrers_and_deletion(registry: Running, here: Here) -> None:
    target = here.image(b"x")
    here.push(registry, target, "a:v1")
    content = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [], "artifactType": "application/x"}
    data = documents.encode(content | {"subject": target.as_json()})
    repository = here.repository(registry, "a")
    repository.put_manifest(data, documents.OCI_INDEX, digests.of(data))
    for artifact_type, count in (("", 1), ("application/x", 1), ("application/y", 0)):
        assert len(repository.referrers(target.digest, artifact_type).manifests) == count
    repository.delete("v1")
    assert list(repository.tags()) == []
    repository.delete(digests.of(data))
    assert repository.referrers(target.digest).manifests == ()


# A process of its own, as `ocim registry serve` is one.

SERVE = """
import sys
from pathlib import Path
from ocirt.manager.registry.server.options import Limits, Options
from ocirt.manager.registry.server.server import serve
from ocirt.manager.site import Site
folder = Path(sys.argv[1])
sys.exit(serve(Site(folder / "root", folder / "run"), Options(port=0, limits=Limits(finish=float(sys.argv[2])))))
"""


class Process(Running):
    """The same requests, to a process."""

    def __init__(self, folder: Path, finish: float = 600.0) -> None:
        super().__init__(folder, Limits(finish=finish))

    def __enter__(self) -> Process:
        command = [sys.executable, "-c", SERVE, str(self.folder), str(self.options.limits.finish)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert " listening on http://127.0.0.1:" in line, line + self.process.stderr.read()
        self.port = int(line.partition(",")[0].rpartition(":")[2])
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stderr is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def test_sigterm_finishes_requests(tmp_path: Path) -> None:
    with Process(tmp_path / "r") as registry:
        idle = registry.connect()
        idle.request("GET", "/v2/")
        idle.getresponse().read()
        location = registry.begin("a")
        digest = digests.of(b"helloworld")
        with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
            head = f"PUT {location}?digest={digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello"
            peer.sendall(head.encode())
            registry.wait_until_held(location)
            registry.process.send_signal(signal.SIGTERM)
            assert registry.process.stderr is not None
            while "ending" not in registry.process.stderr.readline():
                pass
            assert idle.sock.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                while True:
                    socket.create_connection(("127.0.0.1", registry.port), PATIENCE).close()
            peer.sendall(b"world")
            answer = peer.recv(1000)
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert b"\r\nConnection: close\r\n" in answer
        idle.close()
        assert registry.process.wait(PATIENCE) == 0
    with Running(tmp_path / "r") as again:
        assert again.ask("GET", f"/v2/a/blobs/{digest}").body == b"helloworld"


@pytest.mark.parametrize("second", [True, False])
def test_a_request_that_does_not_end_is_ended(tmp_path: Path, second: bool) -> None:
    with Process(tmp_path / "r", 600.0 if second else 0.1) as registry:
        location = registry.begin("a")
        with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
            peer.sendall(f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello".encode())
            registry.wait_until_held(location)
            registry.process.send_signal(signal.SIGTERM)
            assert registry.process.stderr is not None
            while "ending" not in registry.process.stderr.readline():
                pass
            if second:
                registry.process.send_signal(signal.SIGINT)
            assert registry.process.wait(PATIENCE) == 0


def test_killed_at_any_point(tmp_path: Path) -> None:
    """What was answered with 201 is there; the store is whole."""
    pushed: list[str] = []
    for turn in range(6):
        with Process(tmp_path / "r") as registry:
            for digest in pushed:
                assert registry.ask("HEAD", f"/v2/a/manifests/{digest}").status == 200
            deadline = time.monotonic() + 0.03 * turn
            number = 0
            while time.monotonic() < deadline or not number:
                pushed.append(registry.push_image("a", layers=(os.urandom(50_000), b"shared %d" % (number % 3))))
                number += 1
            registry.begin("a")
            registry.process.kill()
    with Running(tmp_path / "r") as again:
        again.do(again.server.collect)
        assert list(again.site.blobs.verify()) == []
        for digest in pushed:
            assert again.ask("GET", f"/v2/a/manifests/{digest}").status == 200
