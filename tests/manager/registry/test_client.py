"""The registry client, against an honest registry and against ones that are not."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake import Answer, Fake, Seen

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import DigestError, DocumentError, LimitError, MissingError, RegistryError
from ocirt.manager.registry.client import Client, Repository
from ocirt.manager.registry.credentials import Keychain
from ocirt.manager.registry.settings import Settings
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database

TYPE = f"{documents.OCI_LAYER}+gzip"
DATA = os.urandom(3_000_000)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


class World:
    """A client with its settings, credentials and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slept: list[float] = []
        self.now = 0.0
        (folder / "home/.docker").mkdir(parents=True)
        self.database = Database(folder / "db.sqlite")
        self.blobs = Blobs(folder, self.database)
        self.auths: dict[str, Any] = {}
        self.settings = ""

    def repository(self, host: str, path: str = "team/app") -> Repository:
        (self.folder / "home/.docker/config.json").write_text(json.dumps({"auths": self.auths}))
        (self.folder / "registries.toml").write_text(self.settings)
        self.client = Client(
            Settings(self.folder / "registries.toml"),
            Keychain({"HOME": str(self.folder / "home"), "PATH": os.environ["PATH"]}),
            sleep=self.slept.append,
            clock=lambda: self.now,
        )
        return self.client.repository(names.parse(f"{host}/{path}"))

    def knows(self, host: str, name: str = "me", password: str = "secret") -> None:
        import base64

        self.auths[host] = {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.client.close()
    one.database.close()


def manifest(*layers: str) -> dict[str, Any]:
    described = [{"mediaType": TYPE, "digest": layer, "size": 1} for layer in layers]
    config = {"mediaType": documents.OCI_CONFIG, "digest": digests.of(b"{}"), "size": 2}
    return {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": config, "layers": described}


def pull(world: World, repository: Repository, digest: str, size: int) -> bytes:
    with world.blobs.ingest(digest, size) as ingest:
        repository.blob(Descriptor(TYPE, digest, size), ingest)
        ingest.commit(TYPE)
    return world.blobs.read(digest, size)


# Manifests.


def test_a_manifest_by_tag_and_by_digest(world: World, fake: Fake) -> None:
    digest = fake.add_manifest(manifest(), "v1")
    repository = world.repository(fake.host)
    for target in ("v1", digest):
        data, descriptor = repository.manifest(target)
        assert (digests.of(data), descriptor.digest, descriptor.media_type) == (digest, digest, documents.OCI_MANIFEST)
    assert repository.resolve("v1") == Descriptor(documents.OCI_MANIFEST, digest, len(data))
    assert documents.OCI_INDEX in fake.seen[0].headers["accept"]


def test_a_manifest_with_another_digest_is_refused(world: World, fake: Fake) -> None:
    digest = fake.add_manifest(manifest(), "v1")
    fake.manifests[digest] = (documents.OCI_MANIFEST, b'{"schemaVersion":2,"layers":[]}')
    with pytest.raises(DigestError, match="instead of"):
        world.repository(fake.host).manifest(digest)


def test_a_manifest_without_end_is_refused(world: World, fake: Fake) -> None:
    fake.manifests["v1"] = (documents.OCI_MANIFEST, b" " * (documents.LARGEST_DOCUMENT + 5))
    with pytest.raises(LimitError):
        world.repository(fake.host).manifest("v1")


def test_what_is_not_there_is_missing_and_is_asked_for_once(world: World, fake: Fake) -> None:
    with pytest.raises(MissingError, match="MANIFEST_UNKNOWN: no such manifest"):
        world.repository(fake.host).manifest("v1")
    assert len(fake.seen) == 1


def test_a_registry_that_is_busy_is_asked_again(world: World, fake: Fake) -> None:
    fake.add_manifest(manifest(), "v1")
    answers: list[Answer] = [(503, {}, b""), (429, {"Retry-After": "7"}, b"")]
    fake.before = lambda seen: answers.pop(0) if answers else None
    world.repository(fake.host).manifest("v1")
    assert len(world.slept) == 2
    assert world.slept[1] == 7.0


def test_a_registry_that_is_gone_is_said_to_be(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(RegistryError, match=r"is the registry there\?"):
        world.repository(f"127.0.0.1:{port}").manifest("v1")
    assert len(world.slept) == 1  # nobody waits half a minute for a name that is misspelt


# Blobs.


def test_a_blob_is_brought_in(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    assert pull(world, world.repository(fake.host), digest, len(DATA)) == DATA


def test_an_empty_blob_too(world: World, fake: Fake) -> None:
    digest = fake.add_blob(b"")
    assert pull(world, world.repository(fake.host), digest, 0) == b""


def test_a_failing_network_costs_only_what_did_not_come(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.cut = [1_000_000, 0, 900_000, 10]
    assert pull(world, world.repository(fake.host), digest, len(DATA)) == DATA
    asked = [one.headers.get("range") for one in fake.asked("GET", "/blobs/")]
    assert asked == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1900000-", "bytes=1900010-"]


def test_it_goes_on_where_a_process_that_was_killed_ended(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    with world.blobs.ingest(digest, len(DATA)) as ingest:
        ingest.write(DATA[:2_500_000])
    assert pull(world, world.repository(fake.host), digest, len(DATA)) == DATA
    assert fake.asked("GET", "/blobs/")[0].headers["range"] == "bytes=2500000-"


def test_a_source_without_ranges_begins_anew(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.cut, fake.ranges = [1_000_000], False
    told: list[int] = []
    with world.blobs.ingest(digest, len(DATA)) as ingest:
        world.repository(fake.host).blob(Descriptor(TYPE, digest, len(DATA)), ingest, told.append)
        ingest.commit(TYPE)
    assert sum(told) == len(DATA)
    assert -1_000_000 in told


def test_a_range_that_is_another_is_not_believed(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.cut = [1_000_000]

    def lie(seen: Seen) -> Answer | None:
        if "range" in seen.headers:
            return 206, {"Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}, DATA[5:]
        return None

    fake.before = lie
    assert pull(world, world.repository(fake.host), digest, len(DATA)) == DATA


def test_a_source_that_never_brings_anything_is_given_up_and_what_came_is_kept(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.cut = [1_000_000] + [0] * 100
    with (
        world.blobs.ingest(digest, len(DATA)) as ingest,
        pytest.raises(RegistryError, match="after 1000000"),
    ):
        world.repository(fake.host).blob(Descriptor(TYPE, digest, len(DATA)), ingest)
    with world.blobs.ingest(digest, len(DATA)) as ingest:
        assert ingest.offset == 1_000_000


def test_an_endless_body_is_not_read_to_its_end(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.before = lambda seen: (200, {"Content-Length": str(1 << 60)}, DATA + b"x" * 5_000_000)
    with pytest.raises(DigestError, match="longer than the 3000000"):
        pull(world, world.repository(fake.host), digest, len(DATA))


def test_other_bytes_are_refused_and_forgotten(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    fake.before = lambda seen: (200, {}, bytes(len(DATA)))
    with pytest.raises(DigestError, match="has the digest"):
        pull(world, world.repository(fake.host), digest, len(DATA))
    with world.blobs.ingest(digest, len(DATA)) as ingest:
        assert ingest.offset == 0


def test_a_body_that_trickles_is_given_up(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    repository = world.repository(fake.host)

    def later(size: int) -> None:
        world.now += 2000

    with world.blobs.ingest(digest, len(DATA)) as ingest:
        with pytest.raises(RegistryError, match="less than 1024 bytes a second"):
            repository.blob(Descriptor(TYPE, digest, len(DATA)), ingest, later)
        assert 0 < ingest.offset < len(DATA)


# Who sees the credentials.


def bearer(realm: str, service: str = "registry") -> Answer:
    return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="{service}"'}, b""


def test_a_token_is_asked_for_with_the_credentials_and_used_again(world: World, fake: Fake) -> None:
    fake.add_manifest(manifest(), "v1", "v2")
    world.knows(fake.host)

    def guard(seen: Seen) -> Answer | None:
        if seen.path.startswith("/token"):
            assert seen.headers["authorization"].startswith("Basic ")
            assert "scope=repository%3Ateam%2Fapp%3Apull&" in seen.path + "&"
            return 200, {}, b'{"token":"t0k3n"}'
        return None if seen.headers.get("authorization") == "Bearer t0k3n" else bearer(f"http://{fake.host}/token")

    fake.before = guard
    repository = world.repository(fake.host)
    repository.manifest("v1")
    repository.manifest("v2")
    assert len(fake.asked("GET", "/token")) == 1


def test_basic_is_answered_with_the_credentials_of_that_host(world: World, fake: Fake) -> None:
    fake.add_manifest(manifest(), "v1")
    world.knows(fake.host)
    world.knows("elsewhere.example", password="other")
    challenge: Answer = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    fake.before = lambda seen: None if "authorization" in seen.headers else challenge
    world.repository(fake.host).manifest("v1")
    import base64

    assert base64.b64decode(fake.seen[-1].headers["authorization"][6:]) == b"me:secret"


def test_without_credentials_a_refusal_says_login(world: World, fake: Fake) -> None:
    fake.before = lambda seen: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(RegistryError, match="ocim login"):
        world.repository(fake.host).manifest("v1")


def test_a_realm_elsewhere_gets_nothing(world: World, fake: Fake) -> None:
    """CVE-2019-10214, CVE-2020-15157, CVE-2026-33540: the token server that a registry names may be anybody's."""
    world.knows(fake.host)
    with Fake() as thief:
        fake.before = lambda seen: bearer(f"http://{thief.host}/token")
        with pytest.raises(RegistryError, match="another site"):
            world.repository(fake.host).manifest("v1")
        assert thief.seen == []


def test_a_realm_that_the_settings_allow_is_asked(world: World, fake: Fake) -> None:
    fake.add_manifest(manifest(), "v1")
    with Fake() as other:
        other.before = lambda seen: (200, {}, b'{"access_token":"t"}')
        fake.before = lambda seen: None if "authorization" in seen.headers else bearer(f"http://{other.host}/token")
        world.settings = f'[registry."{fake.host}"]\nrealms = ["{other.host}"]\n'
        world.repository(fake.host).manifest("v1")
        assert len(other.seen) == 1


def test_a_redirect_elsewhere_carries_no_credentials(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    world.knows(fake.host)
    with Fake() as other:
        other.blobs = fake.blobs

        def send_on(seen: Seen) -> Answer | None:
            if "authorization" not in seen.headers:
                return 401, {"WWW-Authenticate": "Basic realm=x"}, b""
            return 307, {"Location": f"http://{other.host}{seen.path}"}, b""

        fake.before = send_on
        assert pull(world, world.repository(fake.host), digest, len(DATA)) == DATA
        assert other.seen
        assert all("authorization" not in one.headers for one in other.seen)


def test_a_redirect_that_asks_for_credentials_gets_none(world: World, fake: Fake) -> None:
    digest = fake.add_blob(DATA)
    world.knows(fake.host)
    with Fake() as other:
        fake.before = lambda seen: (307, {"Location": f"http://{other.host}/x"}, b"")
        other.before = lambda seen: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        with pytest.raises(RegistryError, match="401"):
            pull(world, world.repository(fake.host), digest, len(DATA))
        assert all("authorization" not in one.headers for one in other.seen + fake.seen)


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "ftp://x/"])
def test_a_redirect_to_what_is_no_registry_is_refused(world: World, fake: Fake, location: str) -> None:
    fake.before = lambda seen: (302, {"Location": location}, b"")
    with pytest.raises(RegistryError, match="no URL"):
        world.repository(fake.host).manifest("v1")


def test_redirects_end(world: World, fake: Fake) -> None:
    fake.before = lambda seen: (302, {"Location": seen.path}, b"")
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        world.repository(fake.host).manifest("v1")


# Mirrors.


def test_mirrors_are_asked_first_and_the_registry_last(world: World, fake: Fake) -> None:
    fake.add_manifest(manifest(), "v1", "v2")
    world.knows(fake.host)
    with Fake() as mirror:
        mirror.add_manifest(manifest(), "v1")
        world.settings = f'[registry."{fake.host}"]\nmirrors = ["http://{mirror.host}"]\n'
        repository = world.repository(fake.host)
        repository.manifest("v1")
        assert (len(mirror.seen), len(fake.seen)) == (1, 0)
        repository.manifest("v2")
        assert (len(mirror.seen), len(fake.seen)) == (2, 1)
        assert all("authorization" not in one.headers for one in mirror.seen)


# Lists.


def test_tags_come_page_by_page(world: World, fake: Fake) -> None:
    wanted = [f"v{number}" for number in range(5)]
    fake.add_manifest(manifest(), *wanted)
    assert list(world.repository(fake.host).tags()) == wanted
    assert len(fake.asked("GET", "/tags/list")) == 3


def test_a_page_that_leads_elsewhere_or_in_a_circle_ends(world: World, fake: Fake) -> None:
    fake.before = lambda seen: (200, {"Link": '<http://127.0.0.1:1/x>; rel="next"'}, b'{"tags":["a"]}')
    with pytest.raises(RegistryError, match="next page"):
        list(world.repository(fake.host).tags())
    fake.before = lambda seen: (200, {"Link": f'<{seen.path}>; rel="next"'}, b'{"tags":["a"]}')
    assert list(world.repository(fake.host).tags()) == ["a"]


def test_a_list_that_is_none_is_refused(world: World, fake: Fake) -> None:
    fake.before = lambda seen: (200, {}, b'{"tags":"a"}')
    with pytest.raises(DocumentError):
        list(world.repository(fake.host).tags())


def test_referrers_by_the_tag_that_stands_for_them(world: World, fake: Fake) -> None:
    digest = fake.add_manifest(manifest(), "v1")
    one = {"mediaType": documents.OCI_MANIFEST, "digest": digest, "size": 3, "artifactType": "text/sig"}
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [one, one | {"artifactType": "x/y"}]}
    repository = world.repository(fake.host)
    assert repository.referrers(digest).manifests == ()
    fake.add_manifest(index, digest.replace(":", "-"))
    assert [found.artifact_type for found in repository.referrers(digest, "text/sig").manifests] == ["text/sig"]


# Writing.


@pytest.mark.parametrize("chunk", [0, 1 << 20])
def test_a_blob_is_sent(world: World, fake: Fake, chunk: int) -> None:
    told: list[int] = []
    repository = world.repository(fake.host)
    digest = digests.of(DATA)
    assert not repository.has(digest)
    repository.upload(digest, len(DATA), lambda: io.BytesIO(DATA), chunk=chunk, progress=told.append)
    assert repository.has(digest)
    assert fake.blobs[digest] == DATA
    assert sum(told) == len(DATA)


def test_an_empty_blob_is_sent(world: World, fake: Fake) -> None:
    world.repository(fake.host).upload(digests.of(b""), 0, lambda: io.BytesIO(b""))
    assert fake.blobs[digests.of(b"")] == b""


def test_pieces_are_sent_again_from_where_the_registry_is(world: World, fake: Fake) -> None:
    fails = [True]

    def lose(seen: Seen) -> Answer | None:
        if seen.method == "PATCH" and len(fake.asked("PATCH")) == 2 and fails:
            fails.pop()
            path = seen.path.partition("?")[0]
            fake.uploads[path] += seen.body[:1000]  # part of it came
            return 502, {}, b""
        return None

    fake.before = lose
    digest = digests.of(DATA)
    world.repository(fake.host).upload(digest, len(DATA), lambda: io.BytesIO(DATA), chunk=1 << 20)
    assert fake.blobs[digest] == DATA


def test_a_blob_is_mounted_or_the_upload_that_was_begun_is_cancelled(world: World, fake: Fake) -> None:
    digest = fake.add_blob(b"x")
    repository = world.repository(fake.host)
    assert repository.mount(digest, "other/app")
    assert not repository.mount(digests.of(b"y"), "other/app")
    assert fake.uploads == {}


def test_a_manifest_is_put_and_deleted(world: World, fake: Fake) -> None:
    data = json.dumps(manifest()).encode()
    repository = world.repository(fake.host)
    repository.put_manifest(data, documents.OCI_MANIFEST, "v1")
    assert fake.manifests["v1"] == (documents.OCI_MANIFEST, data)
    repository.delete("v1")
    assert "v1" not in fake.manifests


def test_an_upload_to_nowhere_is_refused(world: World, fake: Fake) -> None:
    fake.before = lambda seen: (202, {}, b"")
    with pytest.raises(RegistryError, match="does not say where"):
        world.repository(fake.host).upload(digests.of(b"x"), 1, lambda: io.BytesIO(b"x"))
