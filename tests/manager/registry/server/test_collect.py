"""What is kept, what goes, and when: garbage collection while it serves, and deletions."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from running import PATIENCE, Running

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.registry.server.options import Limits
from ocirt.manager.store.collect import collect

NO_PROMISE = Limits(promise=0.0)


def content(registry: Running, digest: str) -> set[str]:
    """A manifest, and what it needs."""
    document = json.loads(registry.site.blobs.read(digest, 1 << 20))
    return {digest, document["config"]["digest"], *(layer["digest"] for layer in document["layers"])}


def test_what_manifests_need_stays(tmp_path: Path) -> None:
    with Running(tmp_path / "r", NO_PROMISE) as registry:
        tagged = registry.push_image("a", "v1", layers=(b"one", b"shared"))
        bare = registry.push_image("b", layers=(b"two", b"shared"))
        registry.push_blob("a", b"nobody's")
        registry.do(registry.server.collect)
        collect(registry.site.blobs, registry.site.database)  # as `ocim system prune` does, in another process
        assert registry.files() == content(registry, tagged) | content(registry, bare)
        assert registry.ask("GET", f"/v2/a/blobs/{digests.of(b'shared')}").status == 200


def test_a_promise_is_kept(registry: Running) -> None:
    digest = registry.push_blob("a", b"soon needed")
    registry.do(registry.server.collect)
    assert registry.ask("GET", f"/v2/a/blobs/{digest}").status == 200


def test_who_asks_whether_a_blob_is_there_is_promised_it(registry: Running) -> None:
    """The layer's manifest is deleted between the question and the push."""
    first = registry.push_image("a", "v1", layers=(b"shared",))
    kept, gone = digests.of(b"shared"), digests.of(b"{}")
    assert registry.ask("HEAD", f"/v2/a/blobs/{kept}").status == 200
    assert registry.ask("DELETE", f"/v2/a/manifests/{first}").status == 202
    registry.do(registry.server.collect)
    assert registry.ask("GET", f"/v2/a/blobs/{kept}").status == 200
    assert registry.ask("GET", f"/v2/a/blobs/{gone}").status == 404


def test_a_deletion_frees_space_soon(registry: Running) -> None:
    first = registry.push_image("a", "v1", "also", layers=(os.urandom(1000), b"shared"))
    second = registry.push_image("a", "v2", layers=(b"shared",))
    assert registry.ask("DELETE", f"/v2/a/manifests/{first}").status == 202
    for target in (first, "v1", "also"):
        assert registry.ask("GET", f"/v2/a/manifests/{target}").status == 404
    until = time.monotonic() + PATIENCE
    while registry.files() != content(registry, second):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert registry.ask("GET", "/v2/a/tags/list").json["tags"] == ["v2"]


def test_a_tag_goes_alone(registry: Running) -> None:
    digest = registry.push_image("a", "v1", "v2")
    assert registry.ask("DELETE", "/v2/a/manifests/v1").status == 202
    assert registry.ask("DELETE", "/v2/a/manifests/v1").status == 404
    registry.do(registry.server.collect)
    for target in ("v2", digest):
        assert registry.ask("GET", f"/v2/a/manifests/{target}").status == 200


def test_a_blob_in_use_is_not_deleted(registry: Running) -> None:
    manifest = registry.push_image("a", "v1", layers=(b"layer",))
    path = f"/v2/a/blobs/{digests.of(b'layer')}"
    reply = registry.ask("DELETE", path)
    assert (reply.status, reply.code) == (405, "DENIED")
    registry.push_blob("b", b"layer")
    assert registry.ask("DELETE", path.replace("/a/", "/b/")).status == 202
    assert registry.ask("GET", path.replace("/a/", "/b/")).status == 404
    registry.do(registry.server.collect)
    assert registry.ask("GET", path).body == b"layer"
    assert registry.ask("DELETE", f"/v2/a/manifests/{manifest}").status == 202
    assert registry.ask("DELETE", path).status in (202, 404)
    assert registry.ask("GET", path).status == 404


def test_an_index_keeps_what_its_manifests_need(tmp_path: Path) -> None:
    with Running(tmp_path / "r", NO_PROMISE) as registry:
        one = registry.push_image("a", layers=(b"one",))
        entry = {"mediaType": documents.OCI_MANIFEST, "digest": one, "size": 300}
        index = documents.encode({"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [entry]})
        registry.put("a", "all", index, documents.OCI_INDEX)
        registry.do(registry.server.collect)
        assert registry.files() == content(registry, one) | {digests.of(index)}


def test_the_last_deletion_leaves_nothing(tmp_path: Path) -> None:
    with Running(tmp_path / "r", NO_PROMISE) as registry:
        digest = registry.push_image("a", "v1")
        registry.ask("DELETE", f"/v2/a/manifests/{digest}")
        registry.do(registry.server.collect)
        assert registry.files() == set()
        assert registry.ask("GET", "/v2/_catalog").json["repositories"] == []
        assert registry.push_image("a", "v1") == digest


def test_what_ocim_has_pulled_is_its_own(tmp_path: Path) -> None:
    """The registry has the same blob, and gives it up."""
    with Running(tmp_path / "r", NO_PROMISE) as registry:
        digest = registry.push_image("a", "v1")
        with registry.site.database.write() as transaction:
            transaction.execute("insert into images values ('x/y:1', ?, ?, 0)", (digest, documents.OCI_MANIFEST))
        kept = content(registry, digest)
        registry.ask("DELETE", f"/v2/a/manifests/{digest}")
        registry.do(registry.server.collect)
        assert registry.files() == kept
        assert registry.ask("GET", f"/v2/a/manifests/{digest}").status == 404


def test_an_upload_that_nobody_goes_on_with_is_forgotten(tmp_path: Path) -> None:
    with Running(tmp_path / "r", Limits(upload_idle=0.0)) as registry:
        location = registry.begin("a")
        registry.ask("PATCH", location, b"data")
        (registry.site.root / "uploads" / "left").write_bytes(b"by a server that was killed")
        registry.do(registry.server.collect)
        assert registry.ask("GET", location).status == 404
        assert list((registry.site.root / "uploads").iterdir()) == []


def test_uploads_survive_a_restart(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with Running(tmp_path / "r") as registry:
        location = registry.begin("a")
        registry.ask("PATCH", location, data[:200_000])
    with Running(tmp_path / "r") as registry:
        registry.do(registry.server.collect)
        assert registry.ask("GET", location).headers["Range"] == "0-199999"
        assert registry.ask("PUT", f"{location}?digest={digests.of(data)}", data[200_000:]).status == 201


@pytest.mark.parametrize("seed", range(2))
def test_pushes_and_deletions_beside_collections(tmp_path: Path, seed: int) -> None:
    """Whatever comes between: what was answered with 201 can be pulled whole until it is deleted."""
    with Running(tmp_path / "r") as registry:
        failures: list[str] = []

        def work(number: int) -> None:
            for turn in range(12):
                layers = (b"shared", b"%d" % ((number + turn + seed) % 3), b"own %d %d" % (number, turn))
                data = registry.image("a", *layers)
                if registry.put("a", f"t{number}", data).status != 201:
                    failures.append("put")
                document = registry.ask("GET", f"/v2/a/manifests/{digests.of(data)}").json
                for one in (document["config"], *document["layers"]):
                    reply = registry.ask("GET", f"/v2/a/blobs/{one['digest']}")
                    if reply.status != 200 or digests.of(reply.body) != one["digest"]:
                        failures.append(str(reply))
                if registry.ask("DELETE", f"/v2/a/manifests/{digests.of(data)}").status != 202:
                    failures.append("delete")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            registry.do(registry.server.collect)
        for thread in threads:
            thread.join()
        assert failures == []
        assert list(registry.site.blobs.verify()) == []
