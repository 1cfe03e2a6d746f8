"""The server in a thread, and requests to it as plain as http.client makes them."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.registry.server.log import Log
from ocirt.manager.registry.server.options import Limits, Options
from ocirt.manager.registry.server.server import Server
from ocirt.manager.site import Site

PATIENCE = 60.0


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the first error in the body."""
        return str(self.json["errors"][0]["code"])


class Running:
    """options: of the server; a context manager."""

    def __init__(self, folder: Path, limits: Limits | None = None, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.options = Options(port=0, limits=limits or Limits(), **options)
        self.said = io.StringIO()
        self.tls: ssl.SSLContext | None = None

    def __enter__(self) -> Running:
        self.site = Site(self.folder / "root", self.folder / "run")
        self.log = Log(self.said)
        ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)))
        self._thread.start()
        assert ready.wait(PATIENCE)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    async def _main(self, ready: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        try:
            self.server = Server(self.site, self.options, self.log)
            async with self.server:
                self.port = self.server.port
                ready.set()
                await self.ended.wait()
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    def __exit__(self, *error: object) -> None:
        self.end()
        self.log.close()
        self.site.database.close()

    def end(self) -> None:
        """As SIGTERM does. Returns when requests have ended."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.ended.set)
            self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def do(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the server's loop do something."""
        asyncio.run_coroutine_threadsafe(what(), self.loop).result(PATIENCE)

    def wait_until_said(self, text: str) -> None:
        """Until the log has it."""
        until = time.monotonic() + PATIENCE
        while text not in self.said.getvalue():
            assert time.monotonic() < until, self.said.getvalue()
            time.sleep(0.02)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Reply:
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}), **more)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """All that comes back before the server closes the connection, or the sender is done."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as peer:
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                found = b""
                while piece := peer.recv(65536):
                    found += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
            return found

    # What a client does in several requests.

    def push_blob(self, repository: str, data: bytes, algorithm: str = "sha256", **headers: str) -> str:
        digest = digests.of(data, algorithm)
        reply = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data, headers)
        assert reply.status == 201, reply
        return digest

    def push_image(self, repository: str, *tags: str, layers: tuple[bytes, ...] = (b"layer",), **more: Any) -> str:
        """A manifest with these layers; returns its digest."""
        data = self.image(repository, *layers, **more)
        digest = digests.of(data)
        for target in tags or (digest,):
            reply = self.put(repository, target, data)
            assert reply.status == 201, reply
        return digest

    def image(self, repository: str, *layers: bytes, config: bytes = b"{}", **more: Any) -> bytes:
        """The bytes of a manifest; what it needs is pushed."""
        content = {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": self.describe(repository, documents.OCI_CONFIG, config),
            "layers": [self.describe(repository, documents.OCI_LAYER, layer) for layer in layers],
        } | more
        return json.dumps(content).encode()

    def describe(self, repository: str, media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.push_blob(repository, data), "size": len(data)}

    def put(self, repository: str, target: str, data: bytes, media_type: str = documents.OCI_MANIFEST) -> Reply:
        headers = {"Content-Type": media_type} if media_type else {}
        return self.ask("PUT", f"/v2/{repository}/manifests/{target}", data, headers)

    def begin(self, repository: str, query: str = "") -> str:
        """The location of a new upload."""
        reply = self.ask("POST", f"/v2/{repository}/blobs/uploads/{query}")
        assert reply.status == 202, reply
        return reply.headers["Location"]

    def wait_until_held(self, location: str) -> None:
        """Until a request holds an upload: its lock is seen from outside (proc(5), /proc/locks)."""
        path = self.folder / "root" / "uploads" / location.rpartition("/")[2]
        inode = f":{path.stat().st_ino} ".encode()
        until = time.monotonic() + PATIENCE
        while not any(b"FLOCK" in line and inode in line for line in Path("/proc/locks").read_bytes().splitlines()):
            assert time.monotonic() < until
            time.sleep(0.005)

    def files(self) -> set[str]:
        """Digests of the store's files."""
        return {f"{path.parent.name}:{path.name}" for path in (self.site.root / "blobs").glob("*/*")}
