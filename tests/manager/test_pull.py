"""pull and push: whole or not at all, going on where it ended, and byte for byte the same."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "registry"))
from fake import Answer, Fake, Seen

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.documents import Platform
from ocirt.manager.errors import ConflictError, DigestError, DocumentError, MissingError, RegistryError
from ocirt.manager.pull import Pull, Pulled
from ocirt.manager.push import Push
from ocirt.manager.registry.client import Client
from ocirt.manager.registry.credentials import Keychain
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.collect import collect
from ocirt.manager.store.database import Database
from ocirt.manager.store.images import Images

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
LAYER = f"{documents.OCI_LAYER}+gzip"


class Store:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database = Database(folder / "db.sqlite")
        self.blobs = Blobs(folder, self.database)
        self.images = Images(self.database, self.blobs)
        self.client = Client(keychain=Keychain({"HOME": str(folder)}), sleep=lambda seconds: None)
        self.events: list[tuple[str, str, int]] = []

    def pull(self, text: str, platform: Platform = AMD64) -> Pulled:
        reference = names.parse(text)
        repository = self.client.repository(reference)
        told = lambda what, event, size: self.events.append((what.digest, event, size))  # noqa: E731
        return Pull(self.database, self.blobs, repository, told).run(reference, platform)

    def push(self, name: str, text: str, *sources: str) -> int:
        reference = names.parse(text)
        target = self.images.find(name).target
        return Push(self.blobs, self.client.repository(reference), sources).run(target, reference).sent

    def close(self) -> None:
        self.client.close()
        self.database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path / "store")
    yield one
    one.close()


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


def image(fake: Fake, *layers: bytes, names: tuple[str, ...] = (), config: bytes = b'{"os":"linux"}') -> dict[str, Any]:
    described = [{"mediaType": LAYER, "digest": fake.add_blob(layer), "size": len(layer)} for layer in layers]
    content = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": fake.add_blob(config), "size": len(config)},
        "layers": described,
    }
    digest = fake.add_manifest(content, *names)
    return {"mediaType": documents.OCI_MANIFEST, "digest": digest, "size": len(fake.manifests[digest][1])}


def platforms(fake: Fake, name: str) -> dict[str, dict[str, Any]]:
    own = {
        one: image(fake, one.encode() * 1000, config=b'{"a":"%s"}' % one.encode())
        | {"platform": {"os": "linux", "architecture": one}}
        for one in ("amd64", "arm64")
    }
    fake.add_manifest({"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": list(own.values())}, name)
    return own


def test_an_image_is_pulled_and_once_more_costs_nothing(store: Store, fake: Fake) -> None:
    layers = [os.urandom(200_000), b"small", os.urandom(50_000)]
    described = image(fake, *layers, names=("v1",))
    pulled = store.pull(f"{fake.host}/a:v1")
    assert (pulled.target.digest, pulled.new) == (described["digest"], True)
    assert [store.blobs.read(digests.of(layer), 1 << 20) for layer in layers] == layers
    assert [one.name for one in store.images] == [f"{fake.host}/a:v1"]
    assert collect(store.blobs, store.database).blobs == 0
    before = len(fake.seen)
    assert not store.pull(f"{fake.host}/a:v1").new
    assert [(one.method, one.path) for one in fake.seen[before:]] == [("GET", "/v2/a/manifests/v1")]
    assert {event for digest, event, size in store.events} == {"waiting", "bytes", "whole", "there"}


def test_only_the_platforms_own_comes(store: Store, fake: Fake) -> None:
    own = platforms(fake, "v1")
    pulled = store.pull(f"{fake.host}/a:v1", ARM64)
    assert pulled.manifest.digest == own["arm64"]["digest"]
    assert store.blobs.size(own["amd64"]["digest"]) is None
    manifest, described = store.images.manifest(pulled.target, ARM64)
    assert described.digest == own["arm64"]["digest"]
    assert store.blobs.size(manifest.layers[0].digest) == 5000
    with pytest.raises(MissingError):
        store.images.manifest(pulled.target, AMD64)
    store.pull(f"{fake.host}/a:v1", AMD64)
    store.images.manifest(pulled.target, AMD64)
    collect(store.blobs, store.database)
    store.images.manifest(pulled.target, ARM64)


def test_a_layer_that_is_wrong_leaves_no_name(store: Store, fake: Fake) -> None:
    image(fake, b"a" * 1000, b"b" * 1000, names=("v1",))
    fake.blobs[digests.of(b"b" * 1000)] = b"c" * 1000
    with pytest.raises(DigestError):
        store.pull(f"{fake.host}/a:v1")
    assert list(store.images) == []
    collect(store.blobs, store.database)
    assert list((store.folder / "blobs").glob("*/*")) == []


def test_a_type_that_is_no_layer_is_refused_before_anything_comes(store: Store, fake: Fake) -> None:
    content = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": fake.add_blob(b"{}"), "size": 2},
        "layers": [{"mediaType": "application/x-helm", "digest": fake.add_blob(b"x"), "size": 1}],
    }
    fake.add_manifest(content, "v1")
    with pytest.raises(DocumentError, match="no file system"):
        store.pull(f"{fake.host}/a:v1")
    assert not fake.asked("GET", "/blobs/")


def test_an_index_in_itself_ends(store: Store, fake: Fake) -> None:
    inner: dict[str, Any] = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": []}
    for _ in range(8):
        digest = fake.add_manifest(inner, "v1")
        entry = {"mediaType": documents.OCI_INDEX, "digest": digest, "size": len(fake.manifests[digest][1])}
        inner = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [entry]}
    with pytest.raises(DocumentError):
        store.pull(f"{fake.host}/a:v1")


def test_a_pull_that_was_killed_is_gone_on_with(store: Store, fake: Fake) -> None:
    """Layers that were whole are there, the one that was not goes on; nothing has a name before."""
    big = os.urandom(6_000_000)
    image(fake, b"first" * 100, big, names=("v1",))
    digest = digests.of(big)
    child = os.fork()
    if not child:
        try:
            mine = Store(store.folder)
            repository = mine.client.repository(names.parse(f"{fake.host}/a:v1"))

            came = [0]

            def die(what: documents.Descriptor, event: str, size: int) -> None:
                came[0] += size if what.digest == digest and event == "bytes" else 0
                if came[0] > 2_000_000:
                    os.kill(os.getpid(), signal.SIGKILL)

            Pull(mine.database, mine.blobs, repository, die).run(names.parse(f"{fake.host}/a:v1"), AMD64)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list(store.images) == []
    before = len(fake.seen)
    assert store.pull(f"{fake.host}/a:v1").new
    (asked,) = [one for one in fake.seen[before:] if digest in one.path]
    assert int(asked.headers["range"].removeprefix("bytes=").rstrip("-")) > 2_000_000
    assert store.blobs.read(digest, 10_000_000) == big


def test_a_registry_that_fails_ends_the_other_layers_too(store: Store, fake: Fake) -> None:
    image(fake, *(os.urandom(100_000) for _ in range(12)), b"bad", names=("v1",))
    bad = digests.of(b"bad")
    fake.before = lambda seen: (403, {}, b"") if bad in seen.path else None
    with pytest.raises(RegistryError, match="403"):
        store.pull(f"{fake.host}/a:v1")
    assert list(store.images) == []


# Names.


def test_an_image_is_found_by_name_digest_and_id(store: Store, fake: Fake) -> None:
    described = image(fake, b"x", names=("v1", "v2"))
    store.pull(f"{fake.host}/a:v1")
    digest = described["digest"]
    config = json.loads(fake.manifests[digest][1])["config"]["digest"]
    for text in (f"{fake.host}/a:v1", f"{fake.host}/a@{digest}", digest[7:19], digest, config[7:15]):
        assert store.images.find(text).target.digest == digest, text
    for text in (f"{fake.host}/a:v2", "ffffffffffff", "zz", f"{fake.host}/b@{digest}"):
        with pytest.raises(MissingError):
            store.images.find(text)


def test_too_few_digits_are_told(store: Store, fake: Fake) -> None:
    found: dict[str, list[str]] = {}
    number = 0
    while not any(len(one) > 1 for one in found.values()):
        described = image(fake, b"%d" % number, names=(f"v{number}",), config=b'{"n":%d}' % number)
        found.setdefault(described["digest"][7:10], []).append(f"v{number}")
        number += 1
    digits, tags = next((digits, one) for digits, one in found.items() if len(one) > 1)
    for tag in tags:
        store.pull(f"{fake.host}/a:{tag}")
    with pytest.raises(ConflictError, match="several"):
        store.images.find(digits)


# Push.


def test_what_is_pushed_is_byte_for_byte_the_same(store: Store, fake: Fake) -> None:
    own = platforms(fake, "v1")
    name = f"{fake.host}/a:v1"
    for platform in (AMD64, ARM64):
        store.pull(name, platform)
    with Fake() as other:
        assert store.push(name, f"{other.host}/b/c:v9") == 4
        assert other.manifests["v9"] == fake.manifests["v1"]
        assert all(other.manifests[one["digest"]] == fake.manifests[one["digest"]] for one in own.values())
        assert other.blobs == fake.blobs
        assert store.push(name, f"{other.host}/b/c:v10") == 0


def test_what_the_registry_has_elsewhere_is_mounted(store: Store, fake: Fake) -> None:
    image(fake, b"x" * 1000, names=("v1",))
    name = f"{fake.host}/a:v1"
    store.pull(name)

    def elsewhere(seen: Seen) -> Answer | None:
        return (404, {}, b"") if seen.method == "HEAD" else None

    fake.before = elsewhere
    assert store.push(name, f"{fake.host}/b:v1", "a") == 0
    assert all("from=a" in one.path for one in fake.asked("POST", "/uploads/"))


def test_an_index_of_which_a_part_is_not_here_is_not_pushed(store: Store, fake: Fake) -> None:
    platforms(fake, "v1")
    store.pull(f"{fake.host}/a:v1")
    with Fake() as other, pytest.raises(MissingError, match="linux/arm64 is not here"):
        store.push(f"{fake.host}/a:v1", f"{other.host}/b:v1")
