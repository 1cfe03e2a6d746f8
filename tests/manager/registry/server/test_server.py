"""distribution-spec 1.1, section by section, request by request."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from running import Running

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.registry.server.server import route

NOWHERE = "sha256:" + "0" * 64


def test_it_says_that_it_is_a_registry(registry: Running) -> None:
    for method in ("GET", "HEAD"):
        reply = registry.ask(method, "/v2/")
        assert (reply.status, reply.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


def test_paths() -> None:
    assert route(["v2", "a", "b", "tags", "list"]) == ("tags", "a/b", "")
    assert route(["v2", "blobs", "uploads", "blobs", "uploads", ""]) == ("uploads", "blobs/uploads", "")
    assert route(["v2", "tags", "list", "manifests", "v1"]) == ("manifests", "tags/list", "v1")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "UNSUPPORTED"),
        ("GET", "/v2/a", 404, "UNSUPPORTED"),
        ("GET", "/v2/A/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a%2Fb/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/%ff/tags/list", 400, "UNSUPPORTED"),
        ("GET", f"/v2/{'a' * 300}/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/none/manifests/v1", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/manifests/v1", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/a/manifests/{NOWHERE}", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/sha256:no", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/manifests/.x", 400, "MANIFEST_INVALID"),
        ("GET", f"/v2/a/blobs/{NOWHERE}", 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/a/blobs/sha256:../../x", 404, "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/sha256:..", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/referrers/sha256:no", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/tags/list?n=-1", 400, "UNSUPPORTED"),
        ("GET", "/v2/a/tags/list?n=x", 400, "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", f"/v2/a/blobs/uploads/none?digest={NOWHERE}", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/a/blobs/uploads/none", 400, "DIGEST_INVALID"),
        ("DELETE", "/v2/a/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("DELETE", "/v2/a/manifests/v1", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/a/manifests/{NOWHERE}", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/a/blobs/{NOWHERE}", 404, "BLOB_UNKNOWN"),
        ("POST", "/v2/a/blobs/uploads/?digest=md5:00", 400, "DIGEST_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?mount=sha256:no&from=b", 400, "DIGEST_INVALID"),
        ("POST", f"/v2/a/blobs/uploads/?mount={NOWHERE}&from=B", 400, "NAME_INVALID"),
        ("PUT", "/v2/a/tags/list", 405, "UNSUPPORTED"),
        ("OPTIONS", "/v2/a/manifests/v1", 405, "UNSUPPORTED"),
    ],
)
def test_what_is_refused(registry: Running, method: str, path: str, status: int, code: str) -> None:
    registry.push_blob("a", b"x")
    reply = registry.ask(method, path)
    assert (reply.status, reply.code) == (status, code)
    assert status != 405 or reply.headers["Allow"]
    registry.ask("GET", "/v2/")


# Blobs.


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 3_000_001])
def test_a_blob_by_one_post(registry: Running, algorithm: str, size: int) -> None:
    data = os.urandom(size)
    digest = registry.push_blob("a/b", data, algorithm)
    for method in ("GET", "HEAD"):
        reply = registry.ask(method, f"/v2/a/b/blobs/{digest}")
        assert (reply.status, reply.headers["Docker-Content-Digest"]) == (200, digest)
        assert reply.headers["Content-Length"] == str(size)
        assert reply.body == (data if method == "GET" else b"")
    assert registry.ask("GET", f"/v2/b/blobs/{digest}").status == 404
    assert list((registry.site.root / "uploads").iterdir()) == []
    assert list(registry.site.blobs.verify()) == []


@pytest.mark.parametrize("query", ["", "?digest-algorithm=sha512"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_post_then_put(registry: Running, algorithm: str, query: str) -> None:
    data = os.urandom(100_000)
    digest = digests.of(data, algorithm)
    location = registry.begin("a", query)
    reply = registry.ask("PUT", f"{location}?digest={digest}", data)
    assert (reply.status, reply.headers["Location"]) == (201, f"/v2/a/blobs/{digest}")
    assert registry.ask("GET", reply.headers["Location"]).body == data
    assert registry.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"


def test_a_stream_without_a_length(registry: Running) -> None:
    data = os.urandom(2_500_000)
    location = registry.begin("a")
    pieces = iter([data[:10], data[10:2_000_000], data[2_000_000:]])
    reply = registry.ask("PATCH", location, pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert (reply.status, reply.headers["Range"]) == (202, f"0-{len(data) - 1}")
    assert registry.ask("PUT", f"{location}?digest={digests.of(data)}").status == 201


def test_chunks_come_in_order(registry: Running) -> None:
    data = os.urandom(1000)
    location = registry.begin("a")
    assert registry.ask("PATCH", location, data[:400], {"Content-Range": "0-399"}).status == 202
    for first, last in ((0, 399), (401, 900), (300, 500)):
        reply = registry.ask("PATCH", location, data[first : last + 1], {"Content-Range": f"{first}-{last}"})
        assert (reply.status, reply.headers["Range"], reply.headers["Location"]) == (416, "0-399", location)
    wrong = registry.ask("PUT", f"{location}?digest={digests.of(data)}", data[500:], {"Content-Range": "500-999"})
    assert wrong.status == 416
    status = registry.ask("GET", location)
    assert (status.status, status.headers["Range"], status.headers["Location"]) == (204, "0-399", location)
    done = registry.ask("PUT", f"{location}?digest={digests.of(data)}", data[400:], {"Content-Range": "400-999"})
    assert done.status == 201
    assert registry.ask("GET", done.headers["Location"]).body == data


@pytest.mark.parametrize("text", ["0-998", "0-1000", "bytes 0-999", "-999", "5-3", "a-b", "0-99999999999999999999"])
def test_a_range_that_is_none(registry: Running, text: str) -> None:
    location = registry.begin("a")
    reply = registry.ask("PATCH", location, bytes(1000), {"Content-Range": text})
    assert (reply.status, reply.code) in (
        (400, "BLOB_UPLOAD_INVALID"),
        (400, "SIZE_INVALID"),
        (416, "BLOB_UPLOAD_INVALID"),
    )
    assert registry.ask("GET", location).headers["Range"] == "0-0"


@pytest.mark.parametrize("size", [999, 1001])
def test_a_stream_is_as_long_as_its_range(registry: Running, size: int) -> None:
    location = registry.begin("a")
    headers = {"Content-Range": "0-999", "Transfer-Encoding": "chunked"}
    reply = registry.ask("PATCH", location, iter([bytes(size)]), headers, encode_chunked=True)
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")


def test_a_wrong_digest_leaves_nothing(registry: Running) -> None:
    location = registry.begin("a")
    reply = registry.ask("PUT", f"{location}?digest={NOWHERE}", b"data")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert registry.ask("POST", f"/v2/a/blobs/uploads/?digest={NOWHERE}", b"data").code == "DIGEST_INVALID"
    assert registry.ask("GET", location).status == 404
    assert registry.files() == set()
    assert list((registry.site.root / "uploads").iterdir()) == []


def test_an_upload_is_cancelled(registry: Running) -> None:
    location = registry.begin("a")
    registry.ask("PATCH", location, b"data")
    assert registry.ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert registry.ask(method, location).code == "BLOB_UPLOAD_UNKNOWN"


def test_an_upload_is_of_one_repository(registry: Running) -> None:
    location = registry.begin("a")
    assert registry.ask("PATCH", location.replace("/v2/a/", "/v2/b/"), b"data").code == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=100-199", 206, 100, 199),
        ("bytes=900-", 206, 900, 999),
        ("bytes=900-5000", 206, 900, 999),
        ("bytes=-10", 206, 990, 999),
        ("bytes=-5000", 200, 0, 999),
        ("bytes=0-", 200, 0, 999),
        ("bytes=5-2", 200, 0, 999),
        ("bytes=-", 200, 0, 999),
        ("bytes=0-1,5-6", 200, 0, 999),
        ("lines=0-1", 200, 0, 999),
        ("bytes=1000-", 416, 0, -1),
        ("bytes=-0", 416, 0, -1),
    ],
)
def test_ranges(registry: Running, asked: str, status: int, first: int, last: int) -> None:
    data = os.urandom(1000)
    digest = registry.push_blob("a", data)
    reply = registry.ask("GET", f"/v2/a/blobs/{digest}", headers={"Range": asked})
    assert reply.status == status
    if status == 416:
        assert reply.headers["Content-Range"] == "bytes */1000"
        return
    assert reply.body == data[first : last + 1]
    assert status == 200 or reply.headers["Content-Range"] == f"bytes {first}-{last}/1000"


def test_what_the_client_has_already(registry: Running) -> None:
    digest = registry.push_blob("a", b"data")
    path = f"/v2/a/blobs/{digest}"
    tag = registry.ask("GET", path).headers["ETag"]
    for condition in (tag, f'"x", W/{tag}', "*"):
        reply = registry.ask("GET", path, headers={"If-None-Match": condition})
        assert (reply.status, reply.body) == (304, b"")
    for condition, body in ((tag, b"at"), ('"other"', b"data")):
        assert registry.ask("GET", path, headers={"Range": "bytes=1-2", "If-Range": condition}).body == body


def test_one_connection_for_all(registry: Running) -> None:
    blob = f"/v2/a/blobs/{registry.push_blob('a', b'data' * 100_000)}"
    connection = registry.connect()
    ports = set()
    for method, path, status, size in (
        ("GET", blob, 200, 400_000),
        ("HEAD", blob, 200, 0),
        ("GET", "/v2/", 200, 2),
    ) * 3:
        connection.request(method, path)
        ports.add(connection.sock.getsockname()[1])
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (status, size)
    assert len(ports) == 1
    connection.close()


# Mounts.


def test_a_mount(registry: Running) -> None:
    digest = registry.push_blob("a", b"data")
    for query in ("&from=a", ""):
        reply = registry.ask("POST", f"/v2/b{len(query)}/blobs/uploads/?mount={digest}{query}")
        assert (reply.status, reply.headers["Location"]) == (201, f"/v2/b{len(query)}/blobs/{digest}")
        assert registry.ask("GET", reply.headers["Location"]).body == b"data"


@pytest.mark.parametrize(("digest", "source"), [(NOWHERE, "a"), (digests.of(b"data"), "b"), (NOWHERE, "")])
def test_a_mount_of_what_is_not_there_begins_an_upload(registry: Running, digest: str, source: str) -> None:
    registry.push_blob("a", b"data")
    query = f"?mount={digest}" + (f"&from={source}" if source else "")
    location = registry.begin("c", query)
    assert registry.ask("PUT", f"{location}?digest={digests.of(b'data')}", b"data").status == 201


def test_what_was_only_pulled_cannot_be_had(registry: Running) -> None:
    digest = registry.site.blobs.put(b"private", "application/octet-stream")
    assert registry.ask("GET", f"/v2/a/blobs/{digest}").status == 404
    registry.begin("a", f"?mount={digest}")
    content = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": digest, "size": 7},
        "layers": [],
    }
    reply = registry.put("a", "v1", json.dumps(content).encode())
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


# Manifests.


@pytest.mark.parametrize("target", ["v1", "digest"])
def test_a_manifest(registry: Running, target: str) -> None:
    data = registry.image("a", b"one", b"two") + b"\n "
    digest = digests.of(data)
    target = digest if target == "digest" else target
    reply = registry.put("a", target, data)
    assert (reply.status, reply.headers["Location"]) == (201, f"/v2/a/manifests/{digest}")
    for name in {target, digest}:
        for method in ("GET", "HEAD"):
            reply = registry.ask(method, f"/v2/a/manifests/{name}")
            assert (reply.status, reply.headers["Docker-Content-Digest"]) == (200, digest)
            assert reply.headers["Content-Type"] == documents.OCI_MANIFEST
            assert reply.headers["Content-Length"] == str(len(data))
            assert reply.body == (data if method == "GET" else b"")
    assert registry.ask("GET", f"/v2/b/manifests/{digest}").code == "NAME_UNKNOWN"


def test_a_manifest_by_sha512(registry: Running) -> None:
    data = registry.image("a")
    digest = digests.of(data, "sha512")
    assert registry.put("a", digest, data).status == 201
    assert registry.put("a", f"v1?digest={digest}", data).headers["Docker-Content-Digest"] == digest
    assert registry.ask("GET", "/v2/a/manifests/v1").headers["Docker-Content-Digest"] == digest
    assert registry.ask("GET", f"/v2/a/manifests/{digests.of(data)}").status == 404


def test_a_manifest_with_tags_beside(registry: Running) -> None:
    data = registry.image("a")
    reply = registry.put("a", f"{digests.of(data)}?tag=1.2.3&tag=1&tag=latest", data)
    assert reply.headers.get_all("OCI-Tag") == ["1.2.3", "1", "latest"]  # type: ignore[attr-defined]
    assert registry.ask("GET", "/v2/a/tags/list").json["tags"] == ["1", "1.2.3", "latest"]
    many = "&".join(f"tag=t{number}" for number in range(60))
    assert registry.put("a", f"{digests.of(data)}?{many}", data).status == 414
    assert registry.put("a", f"{digests.of(data)}?tag=.x", data).code == "MANIFEST_INVALID"


def manifests() -> list[tuple[str, bytes, str, str]]:
    config = {"mediaType": documents.OCI_CONFIG, "digest": digests.of(b"{}"), "size": 2}
    whole = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": config, "layers": []}
    both = whole | {"manifests": []}
    old = {"schemaVersion": 1, "fsLayers": [], "history": []}
    unknown = whole | {"layers": [config | {"digest": NOWHERE}]}
    oci, encode = documents.OCI_MANIFEST, documents.encode
    return [
        ("v1", b"no JSON", oci, "MANIFEST_INVALID"),
        ("v1", b"", oci, "MANIFEST_INVALID"),
        ("v1", b"[" * 100_000, oci, "MANIFEST_INVALID"),
        ("v1", encode(both), oci, "MANIFEST_INVALID"),
        ("v1", encode(old), "application/vnd.docker.distribution.manifest.v1+json", "MANIFEST_INVALID"),
        ("v1", encode(whole), documents.DOCKER_MANIFEST, "MANIFEST_INVALID"),
        ("v1", encode(whole), "text/plain", "MANIFEST_INVALID"),
        ("v1", encode(unknown), oci, "MANIFEST_BLOB_UNKNOWN"),
        (NOWHERE, encode(whole), oci, "DIGEST_INVALID"),
        ("v1?digest=" + NOWHERE, encode(whole), oci, "DIGEST_INVALID"),
        ("sha256:bad", encode(whole), oci, "DIGEST_INVALID"),
        ("-v", encode(whole), oci, "MANIFEST_INVALID"),
        ("v1", bytes(documents.LARGEST_DOCUMENT + 1), oci, "SIZE_INVALID"),
    ]


@pytest.mark.parametrize("number", range(len(manifests())))
def test_what_is_no_manifest(registry: Running, number: int) -> None:
    target, data, media_type, code = manifests()[number]
    registry.push_blob("a", b"{}")
    reply = registry.put("a", target, data, media_type)
    assert (reply.status, reply.code) == (413 if code == "SIZE_INVALID" else 400, code)
    assert registry.ask("GET", "/v2/a/tags/list").json["tags"] == []
    assert list((registry.site.root / "uploads").iterdir()) == []


def test_the_type_may_be_the_documents_own(registry: Running) -> None:
    data = registry.image("a")
    for media_type in ("", f"{documents.OCI_MANIFEST}; charset=utf-8"):
        assert registry.put("a", "v1", data, media_type).status == 201
        assert registry.ask("HEAD", "/v2/a/manifests/v1").headers["Content-Type"] == documents.OCI_MANIFEST


def test_layers_that_are_elsewhere_need_not_be_here(registry: Running) -> None:
    foreign = {"mediaType": documents.DOCKER_FOREIGN_LAYER, "digest": NOWHERE, "size": 5, "urls": ["https://x.invalid"]}
    content = json.loads(registry.image("a", b"own"))
    content["layers"].append(foreign)
    assert registry.put("a", "v1", documents.encode(content)).status == 201


def test_an_index_needs_its_manifests(registry: Running) -> None:
    one = registry.image("a", b"one")
    entry = {"mediaType": documents.OCI_MANIFEST, "digest": digests.of(one), "size": len(one)}
    index = documents.encode({"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [entry]})
    assert registry.put("a", "all", index, documents.OCI_INDEX).code == "MANIFEST_BLOB_UNKNOWN"
    registry.put("a", digests.of(one), one)
    assert registry.put("a", "all", index, documents.OCI_INDEX).status == 201
    assert registry.ask("GET", "/v2/a/manifests/all").headers["Content-Type"] == documents.OCI_INDEX


# Lists.


def test_tags_in_pages(registry: Running) -> None:
    data = registry.image("a")
    names = ["10", "9", "A", "_x", "b", "latest"]
    for name in reversed(names):
        registry.put("a", name, data)
    everything = registry.ask("GET", "/v2/a/tags/list")
    assert everything.json == {"name": "a", "tags": names}
    assert "Link" not in everything.headers
    seen, path, pages = [], "/v2/a/tags/list?n=2", 0
    while path:
        page = registry.ask("GET", path)
        seen += page.json["tags"]
        link = page.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.partition("<")[2].partition(">")[0]
        pages += 1
    assert (seen, pages) == (names, 3)
    assert registry.ask("GET", "/v2/a/tags/list?last=A").json["tags"] == ["_x", "b", "latest"]
    assert registry.ask("GET", "/v2/a/tags/list?n=1&last=AA").json["tags"] == ["_x"]
    nothing = registry.ask("GET", "/v2/a/tags/list?n=0")
    assert nothing.json["tags"] == []
    assert "Link" not in nothing.headers


def test_the_catalog_in_pages(registry: Running) -> None:
    for name in ("c", "a/b", "b"):
        registry.push_blob(name, b"x")
    assert registry.ask("GET", "/v2/_catalog").json == {"repositories": ["a/b", "b", "c"]}
    page = registry.ask("GET", "/v2/_catalog?n=2")
    assert page.json["repositories"] == ["a/b", "b"]
    rest = registry.ask("GET", page.headers["Link"].partition("<")[2].partition(">")[0])
    assert rest.json["repositories"] == ["c"]
    assert "Link" not in rest.headers


def test_referrers(registry: Running) -> None:
    subject = {"mediaType": documents.OCI_MANIFEST, "digest": NOWHERE, "size": 5}
    notes = {"org.example": "yes"}
    registry.push_blob("a", b"{}")
    registry.push_blob("b", b"{}")
    signature = registry.image("a", subject=subject, artifactType="application/signature", annotations=notes)
    bare = registry.image("a", subject=subject)
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [], "subject": subject}
    pushed = []
    for data, media_type in ((signature, documents.OCI_MANIFEST), (bare, documents.OCI_MANIFEST)):
        pushed.append(registry.put("a", digests.of(data), data, media_type))
    pushed.append(registry.put("a", "tagged", documents.encode(index), documents.OCI_INDEX))
    assert [one.headers["OCI-Subject"] for one in pushed] == [NOWHERE] * 3
    registry.put("b", "x", bare)

    reply = registry.ask("GET", f"/v2/a/referrers/{NOWHERE}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, documents.OCI_INDEX)
    assert (reply.json["mediaType"], reply.json["schemaVersion"]) == (documents.OCI_INDEX, 2)
    found = {one["digest"]: one for one in reply.json["manifests"]}
    assert found == {
        digests.of(signature): {
            "mediaType": documents.OCI_MANIFEST, "digest": digests.of(signature), "size": len(signature),
            "artifactType": "application/signature", "annotations": notes,
        },
        digests.of(bare): {
            "mediaType": documents.OCI_MANIFEST, "digest": digests.of(bare), "size": len(bare),
            "artifactType": documents.OCI_CONFIG,
        },
        digests.of(documents.encode(index)): {
            "mediaType": documents.OCI_INDEX, "digest": digests.of(documents.encode(index)),
            "size": len(documents.encode(index)),
        },
    }  # fmt: skip
    some = registry.ask("GET", f"/v2/a/referrers/{NOWHERE}?artifactType=application/signature")
    assert some.headers["OCI-Filters-Applied"] == "artifactType"
    assert [one["digest"] for one in some.json["manifests"]] == [digests.of(signature)]
    assert registry.ask("GET", f"/v2/none/referrers/{NOWHERE}").json["manifests"] == []
    registry.ask("DELETE", f"/v2/a/manifests/{digests.of(signature)}")
    assert len(registry.ask("GET", f"/v2/a/referrers/{NOWHERE}").json["manifests"]) == 2


def test_referrers_in_pages(registry: Running) -> None:
    subject = {"mediaType": documents.OCI_MANIFEST, "digest": NOWHERE, "size": 5}
    pushed = set()
    for number in range(3):
        data = registry.image("a", subject=subject, annotations={"much": str(number) * 1_500_000})
        assert registry.put("a", digests.of(data), data).status == 201
        pushed.add(digests.of(data))
    seen, path = [], f"/v2/a/referrers/{NOWHERE}?artifactType={documents.OCI_CONFIG.replace('+', '%2B')}"
    while path:
        page = registry.ask("GET", path)
        assert len(page.body) < documents.LARGEST_DOCUMENT
        seen += [one["digest"] for one in page.json["manifests"]]
        path = page.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert (set(seen), len(seen)) == (pushed, 3)


def test_the_log(registry: Running, tmp_path: Path) -> None:
    registry.ask("GET", '/v2/a/tags/list?x="\\', headers={"User-Agent": "curl/8\xe9"})
    registry.end()
    registry.log.close()
    (line,) = registry.said.getvalue().splitlines()
    when, peer, user, rest = line.split(" ", 3)
    assert (len(when), peer, user) == (20, "127.0.0.1", "-")
    assert rest.startswith('"GET /v2/a/tags/list?x=\\"\\\\" 404 ')
    assert rest.endswith('"curl/8é"')
