"""A registry for the tests: honest unless it is told otherwise, request by request. On loopback, in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ocirt.manager import digest as digests


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Fake:
    """before: may answer any request in the registry's place; None leaves it to the registry.
    cut: how many bytes of a blob are sent before the connection is closed, for each answer in turn; None: all.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    before: Callable[[Seen], Answer | None] | None = None
    cut: list[int | None] = field(default_factory=list)
    ranges: bool = True
    uploads: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> Fake:
        handler = type("Handler", (_Handler,), {"fake": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def add_blob(self, data: bytes) -> str:
        digest = digests.of(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(self, content: dict[str, Any], *names: str) -> str:
        data = json.dumps(content).encode()
        for name in (digests.of(data), *names):
            self.manifests[name] = (content["mediaType"], data)
        return digests.of(data)

    def asked(self, method: str, part: str = "") -> list[Seen]:
        return [one for one in self.seen if one.method == method and part in one.path]

    def answer(self, seen: Seen) -> Answer:
        path, _, query = seen.path.partition("?")
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return 200, {}, b"{}"
        kind, name = parts[-2], parts[-1]
        if kind == "manifests":
            return self._manifest(seen, name)
        if kind == "tags":
            tags = [tag for tag in self.manifests if ":" not in tag]
            after = query.partition("last=")[2]
            page = [tag for tag in tags if not after or tags.index(tag) > tags.index(after)][:2]
            more = {"Link": f'<{path}?n=2&last={page[-1]}>; rel="next"'} if page and page[-1] != tags[-1] else {}
            return 200, more, json.dumps({"name": "a", "tags": page}).encode()
        if "uploads" in parts:
            return self._upload(seen, path, query)
        if kind == "blobs" and name in self.blobs:
            return self._blob(seen, self.blobs[name])
        return 404, {}, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no such thing"}]}'

    def _manifest(self, seen: Seen, name: str) -> Answer:
        if seen.method == "PUT":
            media_type = seen.headers["content-type"]
            self.manifests[name] = self.manifests[digests.of(seen.body)] = (media_type, seen.body)
            return 201, {}, b""
        if name not in self.manifests:
            return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}'
        if seen.method == "DELETE":
            del self.manifests[name]
            return 202, {}, b""
        media_type, data = self.manifests[name]
        return 200, {"Content-Type": media_type, "Docker-Content-Digest": digests.of(data)}, data

    def _blob(self, seen: Seen, data: bytes) -> Answer:
        asked = seen.headers.get("range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return 416, {}, b""
            return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
        return 200, {}, data

    def _upload(self, seen: Seen, path: str, query: str) -> Answer:
        if seen.method == "POST":
            mounted = query.partition("mount=")[2].partition("&")[0].replace("%3A", ":")
            if mounted in self.blobs:
                return 201, {}, b""
            place = f"{path.rstrip('/')}/{len(self.uploads)}"
            self.uploads[place] = b""
            return 202, {"Location": f"{place}?state=x"}, b""
        if seen.method == "DELETE":
            del self.uploads[path]
            return 204, {}, b""
        if seen.method == "GET":
            have = len(self.uploads[path])
            return 204, {"Location": f"{path}?state=y", "Range": f"0-{have - 1}" if have else "0-0"}, b""
        self.uploads[path] += seen.body
        if seen.method == "PATCH":
            return 202, {"Location": f"{path}?state=z"}, b""
        digest = query.partition("digest=")[2].replace("%3A", ":")
        if digests.of(self.uploads[path]) != digest:
            return 400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}'
        self.blobs[digest] = self.uploads.pop(path)
        return 201, {}, b""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.fake.seen.append(seen)
        answer = self.fake.before(seen) if self.fake.before else None
        status, headers, content = answer or self.fake.answer(seen)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.fake.cut.pop(0) if self.fake.cut and "/blobs/sha" in seen.path and status in (200, 206) else None
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815
