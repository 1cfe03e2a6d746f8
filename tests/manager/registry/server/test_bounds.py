"""What senders cannot do: smuggle requests, fill memory, hold connections; and bytes that mean nothing."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import PATIENCE, Running

from ocirt.manager import digest as digests
from ocirt.manager.registry.server.options import Limits

HOST = b"Host: localhost\r\n"
HIDDEN = b"DELETE /v2/a/manifests/v1 HTTP/1.1\r\n" + HOST + b"\r\n"


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b" Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: y\x00z\r\n",
        b"X\x00: y\r\n",
        b"Host: other\r\n",
    ],
)
def test_requests_that_two_readers_may_understand_in_two_ways(registry: Running, framing: bytes) -> None:
    registry.push_image("a", "v1")
    head = b"PUT /v2/a/manifests/v2 HTTP/1.1\r\n" + HOST + framing + b"\r\n"
    found = statuses(registry.raw(head + b"0\r\n\r\n" + HIDDEN + HIDDEN))
    # A folded line is the Host's, and so a wrong name.
    assert found in ([400], [501], [403, 400])
    assert registry.ask("GET", "/v2/a/manifests/v1").status == 200


def test_a_coding_from_an_old_client(registry: Running) -> None:
    registry.push_image("a", "v1")
    head = b"PUT /v2/a/manifests/v2 HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(registry.raw(head + b"0\r\n\r\n" + HIDDEN)) == [400]


@pytest.mark.parametrize("size", [b"z", b"-1", b"0x5", b"5 ;", b"fffffffffffffffffffff", b""])
def test_chunks_of_no_size(registry: Running, size: bytes) -> None:
    registry.push_image("a", "v1")
    head = b"PUT /v2/a/manifests/v2 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(registry.raw(head + size + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN)) in ([400], [])
    assert registry.ask("GET", "/v2/a/manifests/v1").status == 200


def test_requests_one_behind_the_other(registry: Running) -> None:
    digest = registry.push_blob("a", b"data")
    get = b"GET /v2/a/blobs/%s HTTP/1.1\r\n%s\r\n" % (digest.encode(), HOST)
    put = b"PUT /v2/a/manifests/v1 HTTP/1.1\r\n%sContent-Length: 2\r\n\r\n{}" % HOST
    assert statuses(registry.raw(get + put + get)) == [200, 400, 200]


def test_a_whole_address_as_target(registry: Running) -> None:
    assert statuses(registry.raw(b"GET http://localhost/v2/ HTTP/1.1\r\n" + HOST + b"\r\n")) == [200]


def test_continue_is_said_to_who_waits_for_it(registry: Running) -> None:
    data, path = b"x" * 10, registry.begin("a")
    with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
        peer.sendall(
            b"PATCH %s HTTP/1.1\r\n%sContent-Length: 10\r\nExpect: 100-continue\r\n\r\n" % (path.encode(), HOST)
        )
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.sendall(data)
        assert peer.recv(1000).startswith(b"HTTP/1.1 202 ")


def test_who_is_refused_sends_nothing(registry: Running) -> None:
    head = b"PUT /v2/a/manifests/v1 HTTP/1.1\r\n%sContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n" % HOST
    with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
        peer.sendall(head)
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_an_answer_arrives_though_much_is_still_sent(registry: Running) -> None:
    """It is not lost to the reset of a connection with unread bytes."""
    for _ in range(3):
        assert (
            registry.ask("PUT", "/v2/a/blobs/uploads/none?digest=" + digests.of(b""), bytes(20_000_000)).status == 404
        )


# Bounds.


@pytest.mark.parametrize(
    "head", [b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b"A: b\r\n" * 9000]
)
def test_long_headers(registry: Running, head: bytes) -> None:
    assert statuses(registry.raw(head)) in ([400], [431])


def test_too_many_parameters(registry: Running) -> None:
    assert registry.ask("GET", "/v2/?" + "a=b&" * 200).status == 400


def test_a_blob_that_is_too_large(tmp_path: Path) -> None:
    with Running(tmp_path / "r", Limits(blob=1000)) as registry:
        location = registry.begin("a")
        assert registry.ask("PATCH", location, bytes(600)).status == 202
        reply = registry.ask("PATCH", location, bytes(600))
        assert (reply.status, reply.code) == (413, "SIZE_INVALID")
        pieces = iter([bytes(300), bytes(300)])
        headers = {"Transfer-Encoding": "chunked"}
        assert registry.ask("PATCH", location, pieces, headers, encode_chunked=True).status == 413


def test_too_many_uploads(tmp_path: Path) -> None:
    with Running(tmp_path / "r", Limits(uploads=2)) as registry:
        first = registry.begin("a")
        registry.begin("b")
        reply = registry.ask("POST", "/v2/c/blobs/uploads/")
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, "TOOMANYREQUESTS", "60")
        assert len(list((registry.site.root / "uploads").iterdir())) == 2
        registry.ask("DELETE", first)
        registry.begin("c")


def test_too_many_connections(tmp_path: Path) -> None:
    with Running(tmp_path / "r", Limits(connections=3)) as registry, ExitStack() as stack:
        for _ in range(3):
            connection = registry.connect()
            stack.callback(connection.close)
            connection.request("GET", "/v2/")
            assert connection.getresponse().read() == b"{}"
        reply = registry.ask("GET", "/v2/")
        assert (reply.status, reply.headers["Retry-After"], reply.headers["Connection"]) == (503, "5", "close")
        stack.close()
        until = time.monotonic() + PATIENCE
        while registry.ask("GET", "/v2/").status != 200:
            assert time.monotonic() < until


@pytest.mark.parametrize(
    ("sent", "limits", "status"),
    [
        (b"", Limits(idle=0.2), []),
        (b"GET /v2/ HT", Limits(header_wait=0.2), [408]),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n", Limits(idle=3), [200]),  # time enough to be sent
        (b"PUT /v2/a/manifests/v1 HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n{", Limits(body_wait=0.2), []),
    ],
)
def test_who_says_nothing_more_is_left(tmp_path: Path, sent: bytes, limits: Limits, status: list[int]) -> None:
    with Running(tmp_path / "r", limits) as registry:
        with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
            peer.sendall(sent)
            found = b""
            while piece := peer.recv(65536):
                found += piece
        assert statuses(found) == status


def test_who_takes_nothing_is_left(tmp_path: Path) -> None:
    with Running(tmp_path / "r") as registry:
        digest = registry.push_blob("a", bytes(30_000_000))
    with Running(tmp_path / "r", Limits(body_wait=0.2)) as registry, ExitStack() as stack:
        peer = stack.enter_context(socket.create_connection(("127.0.0.1", registry.port), PATIENCE))
        peer.sendall(b"GET /v2/a/blobs/%s HTTP/1.1\r\n%s\r\n" % (digest.encode(), HOST))
        registry.wait_until_said(digest)  # when it has ended
        until = time.monotonic() + PATIENCE
        while registry.server._connections:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_two_requests_do_not_send_to_one_upload(registry: Running) -> None:
    location = registry.begin("a")
    with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
        peer.sendall(b"PATCH %s HTTP/1.1\r\n%sContent-Length: 10\r\n\r\nhello" % (location.encode(), HOST))
        registry.wait_until_held(location)
        reply = registry.ask("PATCH", location)
        assert (reply.status, reply.code) == (409, "BLOB_UPLOAD_INVALID")
        assert registry.ask("DELETE", location).status == 409
        peer.sendall(b"world")
        assert peer.recv(1000).startswith(b"HTTP/1.1 202 ")
    assert registry.ask("PUT", f"{location}?digest={digests.of(b'helloworld')}").status == 201


def test_what_came_before_a_connection_broke_is_kept(registry: Running) -> None:
    data = os.urandom(3_000_000)
    location = registry.begin("a")
    with socket.create_connection(("127.0.0.1", registry.port), PATIENCE) as peer:
        peer.sendall(b"PATCH %s HTTP/1.1\r\n%sContent-Length: 3000000\r\n\r\n" % (location.encode(), HOST))
        peer.sendall(data[:2_000_000])
    until = time.monotonic() + PATIENCE
    while registry.ask("GET", location).headers["Range"] != "0-1999999":
        assert time.monotonic() < until
    until = time.monotonic() + PATIENCE
    rest = {"Content-Range": "2000000-2999999"}
    while (reply := registry.ask("PUT", f"{location}?digest={digests.of(data)}", data[2_000_000:], rest)).status == 409:
        assert time.monotonic() < until
    assert reply.status == 201


def test_many_at_once(registry: Running) -> None:
    """More requests than threads, the same blob and others."""
    failures = []

    def work(number: int) -> None:
        data = b"same" * 50_000 if number % 2 else os.urandom(200_000)
        digest = registry.push_blob(f"r{number % 3}", data)
        if registry.ask("GET", f"/v2/r{number % 3}/blobs/{digest}").body != data:
            failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(registry.site.blobs.verify()) == []


def test_a_store_that_was_changed_is_not_served(registry: Running) -> None:
    digest = registry.push_image("a", "v1")
    registry.site.blobs.path(digest).write_bytes(b"{}")
    reply = registry.ask("GET", "/v2/a/manifests/v1")
    assert reply.status == 500
    assert str(registry.site.root) not in reply.body.decode()
    registry.wait_until_said("was changed on disk")


# Anything.

KNOWN = rb"""
GET /v2/ HTTP/1.1|POST /v2/a/blobs/uploads/ HTTP/1.1|PUT /v2/a/manifests/v1?x=%ff HTTP/1.1|GET //[ HTTP/1.1
GET http://[/ HTTP/1.1|Host: localhost|Host: x|Content-Length: 5|Content-Length: 0|Transfer-Encoding: chunked
Content-Range: 0-4|Expect: 100-continue|Connection: close|Upgrade: h2c|Range: bytes=0-0|Authorization: Basic eA==
0|5|hello|
"""
LINES = st.one_of(st.binary(max_size=60), st.sampled_from(KNOWN.strip().replace(b"\n", b"|").split(b"|")))
SEGMENTS = "v2 a blobs uploads manifests tags list referrers _catalog .. v1 %2e%2e %00 %2f sha512:x %c3%a9".split()
SEGMENTS += ["", "sha256:" + "0" * 64]
QUERIES = " ?n=5 ?n=99999999999999999999 ?last=%00 ?mount=x ?digest=sha256:x ?from=.. ?%".split(" ")


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("victim")) as running:
        yield running
        running.end()
        assert "the registry failed" not in running.said.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=12), end=st.sampled_from([b"\r\n", b"\n"]))
def test_bytes_that_mean_nothing(victim: Running, lines: list[bytes], end: bytes) -> None:
    """Each answer is an HTTP answer, none is the server's own failure, and it goes on."""
    answer = victim.raw(end.join(lines) + end)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert 500 not in statuses(answer)
    assert victim.ask("GET", "/v2/").status == 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]),
    parts=st.lists(st.sampled_from(SEGMENTS), max_size=7),
    query=st.sampled_from(QUERIES),
    body=st.binary(max_size=50),
)
def test_paths_that_mean_nothing(victim: Running, method: str, parts: list[str], query: str, body: bytes) -> None:
    reply = victim.ask(method, "/" + "/".join(["v2", *parts]) + query, body)
    assert reply.status < 500
    if reply.status >= 400 and method != "HEAD":
        assert set(reply.json["errors"][0]) == {"code", "message"}
