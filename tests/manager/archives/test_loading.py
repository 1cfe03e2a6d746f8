"""load: an archive from outside, honest and hostile. All of it comes in, or none of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from manager import made_images as made
from manager.archive import corpus

from ocirt.manager import archives, documents
from ocirt.manager.archive import compression
from ocirt.manager.archive.reader import Reader
from ocirt.manager.archives import contents, loading
from ocirt.manager.errors import (
    ArchiveError,
    DigestError,
    DocumentError,
    GrammarError,
    LimitError,
    ManagerError,
)
from ocirt.manager.site import Site
from ocirt.manager.store import staging

BOX = "docker.io/library/box:1"
LOW, HIGH = made.tar({"low": b"l" * 5000}), made.tar({"high": b"h"})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made.site(tmp_path)


def nothing_came(site: Site) -> bool:
    rows = [site.database.read.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES]
    return not any(rows) and not made.ingest(site) and not any((site.root / "blobs/sha256").iterdir())


TABLES = ("blobs", "edges", "images", "leases", "leased")


def config(*layers: bytes, **more: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [made.sha(layer) for layer in layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **more}).encode()


def docker(
    entries: list[dict[str, Any]] | bytes, files: dict[str, bytes], links: dict[str, str] | None = None
) -> io.BytesIO:
    members = [corpus.file(name, data) for name, data in files.items()]
    members += [corpus.symlink(name, target) for name, target in (links or {}).items()]
    data = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return corpus.archive(*members, corpus.file("manifest.json", data))


# What docker writes.


def test_layers_that_are_links_to_others(site: Site) -> None:
    """docker up to 24: a layer that an image before had is a symlink."""
    one, two = config(LOW, HIGH), config(LOW)
    archive = docker(
        [
            {"Config": "one.json", "RepoTags": ["box:1", "a/b:2"], "Layers": ["aa/layer.tar", "bb/layer.tar"]},
            {"Config": "two.json", "RepoTags": None, "Layers": ["cc/layer.tar"]},
        ],
        {"one.json": one, "two.json": two, "aa/layer.tar": LOW, "bb/layer.tar": HIGH, "aa/VERSION": b"1.0"},
        {"cc/layer.tar": "../dd/layer.tar", "dd/layer.tar": "../aa/layer.tar"},
    )
    loaded = made.load(site, archive)
    assert [one.name for one in loaded] == [BOX, "docker.io/a/b:2", ""]
    manifests = [site.images.manifest(one.target, documents.host_platform())[0] for one in loaded]
    assert [manifest.config.digest for manifest in manifests] == [made.sha(one), made.sha(one), made.sha(two)]
    assert [layer.digest for layer in manifests[0].layers] == [made.sha(LOW), made.sha(HIGH)]
    assert [layer.digest for layer in manifests[2].layers] == [made.sha(LOW)]


def test_layers_that_are_hard_links_and_names_with_a_dot(site: Site) -> None:
    data = config(LOW, LOW)
    archive = corpus.archive(
        corpus.folder("./"),
        corpus.file("./c.json", data),
        corpus.file("./a.tar", LOW),
        corpus.hard_link("./b.tar", "./a.tar"),
        corpus.file("./manifest.json", json.dumps([{"Config": "c.json", "Layers": ["a.tar", "./b.tar"]}]).encode()),
    )
    (loaded,) = made.load(site, archive)
    manifest, _ = site.images.manifest(loaded.target, documents.host_platform())
    assert [layer.digest for layer in manifest.layers] == [made.sha(LOW)] * 2


@pytest.mark.parametrize("media_type", [made.GZIP, made.ZSTD])
def test_layers_that_are_compressed_stay_so_and_are_checked(site: Site, media_type: str) -> None:
    layer = made.compressed(LOW, media_type)
    entry = {"Config": "c.json", "RepoTags": ["box:1"], "Layers": ["l"]}
    (loaded,) = made.load(site, docker([entry], {"c.json": config(LOW), "l": layer}))
    manifest, _ = site.images.manifest(loaded.target, documents.host_platform())
    (described,) = manifest.layers
    assert described.digest == made.sha(layer)
    assert documents.compression(described) == ("gzip" if media_type == made.GZIP else "zstd")


@pytest.mark.parametrize("media_type", [made.GZIP, made.ZSTD])
def test_the_archive_itself_may_be_compressed(site: Site, media_type: str) -> None:
    plain = docker([{"Config": "c", "RepoTags": ["box:1"], "Layers": ["l"]}], {"c": config(LOW), "l": LOW}).getvalue()
    assert made.load(site, io.BytesIO(made.compressed(plain, media_type)))[0].name == BOX


def test_a_pipe_that_gives_little_at_a_time(site: Site) -> None:
    data = docker([{"Config": "c", "RepoTags": ["box:1"], "Layers": ["l"]}], {"c": config(LOW), "l": LOW}).getvalue()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            for at in range(0, len(data), 1000):
                os.write(writing, data[at : at + 1000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        assert made.load(site, stream)[0].name == BOX
    os.waitpid(pid, 0)


def test_a_name_is_taken_over(site: Site) -> None:
    before = made.image(site, BOX)
    archive = docker([{"Config": "c", "RepoTags": ["box:1"], "Layers": ["l"]}], {"c": config(LOW), "l": LOW})
    (loaded,) = made.load(site, archive)
    assert made.names(site) == {BOX: loaded.target.digest} != {BOX: before.digest}


# What an enemy writes.

GOOD = {"c.json": config(LOW), "l.tar": LOW}
ENTRY = {"Config": "c.json", "RepoTags": ["box:1"], "Layers": ["l.tar"]}

HOSTILE: dict[str, tuple[type[ManagerError], Any]] = {
    "nothing": (ArchiveError, io.BytesIO),
    "no archive": (ArchiveError, lambda: io.BytesIO(b"hello" * 1000)),
    "cut": (ArchiveError, lambda: io.BytesIO(docker([ENTRY], GOOD).getvalue()[:6000])),
    "xz": (ArchiveError, lambda: io.BytesIO(b"\xfd7zXZ\0" + bytes(100))),
    "no manifest": (ArchiveError, lambda: corpus.archive(corpus.file("a"))),
    "no JSON": (DocumentError, lambda: docker(b"{", GOOD)),
    "no list": (DocumentError, lambda: docker(b"{}", GOOD)),
    "no image": (DocumentError, lambda: docker([], GOOD)),
    "a key twice": (DocumentError, lambda: docker(b'[{"Config":"c.json","Config":"d.json"}]', GOOD)),
    "a long manifest": (LimitError, lambda: docker(b" " * (documents.LARGEST_DOCUMENT + 1), GOOD)),
    "deep": (DocumentError, lambda: docker(b"[" * 100_000, GOOD)),
    "no Config": (DocumentError, lambda: docker([{"Layers": ["l.tar"]}], GOOD)),
    "Config is absent": (ArchiveError, lambda: docker([ENTRY | {"Config": "d.json"}], GOOD)),
    "Config leads out": (ArchiveError, lambda: docker([ENTRY | {"Config": "../../../../etc/passwd"}], GOOD)),
    "a layer leads out": (ArchiveError, lambda: docker([ENTRY | {"Layers": ["/etc/passwd"]}], GOOD)),
    "layers are no list": (DocumentError, lambda: docker([ENTRY | {"Layers": "l.tar"}], GOOD)),
    "layers are no names": (DocumentError, lambda: docker([ENTRY | {"Layers": [1]}], GOOD)),
    "a layer too many": (DocumentError, lambda: docker([ENTRY | {"Layers": ["l.tar", "l.tar"]}], GOOD)),
    "layers without end": (LimitError, lambda: docker([ENTRY | {"Layers": ["l.tar"] * 1001}], GOOD)),
    "another layer": (DigestError, lambda: docker([ENTRY], GOOD | {"l.tar": HIGH})),
    "another layer, compressed": (DigestError, lambda: docker([ENTRY], GOOD | {"l.tar": gzip.compress(HIGH)})),
    "damaged gzip": (ArchiveError, lambda: docker([ENTRY], GOOD | {"l.tar": gzip.compress(LOW)[:-9]})),
    "Config by a wrong digest": (
        DigestError,
        lambda: docker([ENTRY | {"Config": f"{'0' * 64}.json"}], GOOD | {f"{'0' * 64}.json": config(LOW)}),
    ),
    "a name that is none": (GrammarError, lambda: docker([ENTRY | {"RepoTags": ["../../etc"]}], GOOD)),
    "a name with a digest": (
        DocumentError,
        lambda: docker([ENTRY | {"RepoTags": ["box@" + made.sha(b"")]}], GOOD),
    ),
    "one name, two images": (
        ArchiveError,
        lambda: docker([ENTRY, ENTRY | {"Config": "d.json"}], GOOD | {"d.json": config(LOW, author="x")}),
    ),
    "a link leads out": (ArchiveError, lambda: docker([ENTRY], GOOD, {"x/y": "../../etc/passwd"})),
    "an absolute link": (ArchiveError, lambda: docker([ENTRY], GOOD, {"x": "/etc/passwd"})),
    "links in a circle": (
        ArchiveError,
        lambda: docker([ENTRY | {"Layers": ["a"]}], {"c.json": config(LOW)}, {"a": "b", "b": "a"}),
    ),
    "a manifest that is a link": (
        ArchiveError,
        lambda: corpus.archive(corpus.symlink("manifest.json", "c.json"), corpus.file("c.json", b"[]")),
    ),
    "a member twice": (ArchiveError, lambda: corpus.archive(corpus.file("a"), corpus.file("./a"))),
    "manifest.json twice": (
        ArchiveError,
        lambda: corpus.archive(corpus.file("manifest.json", b"[]"), corpus.file("./manifest.json", b"[]")),
    ),
    "a link beside a file": (ArchiveError, lambda: corpus.archive(corpus.file("a"), corpus.symlink("a", "b"))),
    "an absolute name": (ArchiveError, lambda: corpus.archive(corpus.file("/a"))),
    "a name that leads out": (ArchiveError, lambda: corpus.archive(corpus.file("a/../../b"))),
    "a name that is no text": (ArchiveError, lambda: corpus.archive(corpus.file(b"a\xff"))),
    "a device": (ArchiveError, lambda: corpus.archive(corpus.header("sda", b"4", device=(8, 0)))),
    "a blob that is another": (DigestError, lambda: corpus.archive(corpus.file("blobs/sha256/" + "0" * 64))),
    "a configuration with a wrong list": (
        DocumentError,
        lambda: docker([ENTRY], GOOD | {"c.json": config(LOW, config={"Cmd": "sh"})}),
    ),
    "a configuration without an end": (
        LimitError,
        lambda: docker([ENTRY], GOOD | {"c.json": b" " * (documents.LARGEST_DOCUMENT + 1)}),
    ),
}


@pytest.mark.parametrize(("error", "make"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_leave_nothing(site: Site, error: type[ManagerError], make: Any) -> None:
    site.blobs  # noqa: B018 - makes the folders
    with pytest.raises(error):
        made.load(site, make())
    assert nothing_came(site)


def test_the_good_archive_is_good(site: Site) -> None:
    """What the hostile ones are made of."""
    assert made.load(site, docker([ENTRY], GOOD))[0].name == BOX
    assert not nothing_came(site)


def test_bounds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.blobs  # noqa: B018
    monkeypatch.setattr(contents, "MOST_MEMBERS", 2)
    with pytest.raises(LimitError, match="members"):
        made.load(site, docker([ENTRY], GOOD))
    monkeypatch.setattr(compression, "FREE", 1 << 20)
    bomb = gzip.compress(gzip.compress(bytes(64 << 20), 9), 9)
    layer = corpus.archive(corpus.file("l.tar", bomb)).getvalue()
    assert len(layer) < 10_000
    with pytest.raises(ArchiveError):
        made.load(site, io.BytesIO(bomb))
    assert nothing_came(site)


def test_a_layer_that_is_a_bomb(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from backports import zstd

    site.blobs  # noqa: B018
    monkeypatch.setattr(compression, "FREE", 1 << 20)
    monkeypatch.setitem(compression.MOST_RATIO, "zstd", 1000)
    bomb = zstd.compress(bytes(64 << 20))
    with pytest.raises(LimitError, match="bomb"):
        made.load(site, docker([ENTRY], GOOD | {"l.tar": bomb}))
    assert nothing_came(site)


# Layouts.


class Layout:
    """The members of one, to be changed."""

    def __init__(self, tmp_path: Path) -> None:
        site = made.site(tmp_path / "from")
        self.target = made.image(site, BOX)
        self.manifest, _ = site.images.manifest(self.target, documents.host_platform())
        out = io.BytesIO()
        archives.save(site, ["box:1"], out)
        out.seek(0)
        self.files: dict[str, bytes] = {}
        reading = Reader(out)
        for entry in reading:
            if entry.kind == b"0":
                self.files[entry.name.decode()] = b"".join(reading.data())
        del self.files["manifest.json"]

    def blob(self, data: bytes) -> dict[str, Any]:
        self.files["blobs/" + made.sha(data).replace(":", "/")] = data
        return {"mediaType": documents.OCI_MANIFEST, "digest": made.sha(data), "size": len(data)}

    def index(self, *entries: dict[str, Any], **more: Any) -> None:
        value = {"schemaVersion": 2, "manifests": list(entries), **more}
        self.files["index.json"] = json.dumps(value).encode()

    def stream(self) -> io.BytesIO:
        return corpus.archive(*(corpus.file(name, data) for name, data in self.files.items()))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def refused(site: Site, layout: Layout, error: type[ManagerError], match: str) -> None:
    site.blobs  # noqa: B018
    with pytest.raises(error, match=match):
        made.load(site, layout.stream())
    assert nothing_came(site)


def test_the_layout_is_good(site: Site, layout: Layout) -> None:
    made.load(site, layout.stream())
    assert made.names(site) == {BOX: layout.target.digest}


def test_a_wrong_version(site: Site, layout: Layout) -> None:
    for version in (b"", b"[]", b'{"imageLayoutVersion":"2.0.0"}'):
        layout.files["oci-layout"] = version
        with pytest.raises((ArchiveError, DocumentError)):
            made.load(site, layout.stream())
    del layout.files["oci-layout"]
    refused(site, layout, ArchiveError, "no OCI layout")


def test_an_index_without_images(site: Site, layout: Layout) -> None:
    layout.index()
    refused(site, layout, ArchiveError, "names no image")


def test_an_index_that_is_a_manifest_too(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json(), layers=[])
    refused(site, layout, DocumentError, "another kind")


def test_a_descriptor_that_calls_a_manifest_an_index(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json() | {"mediaType": documents.OCI_INDEX})
    refused(site, layout, DocumentError, "calls itself")


def test_a_descriptor_of_another_size(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json() | {"size": layout.target.size + 1})
    refused(site, layout, DigestError, "bytes instead of")


def test_a_digest_that_is_a_path(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json() | {"digest": "sha256:../../../etc/passwd"})
    refused(site, layout, DocumentError, "no digest")


def test_a_layer_is_missing(site: Site, layout: Layout) -> None:
    del layout.files["blobs/" + layout.manifest.layers[0].digest.replace(":", "/")]
    refused(site, layout, ArchiveError, "missing in the archive")


def test_a_type_that_is_no_images(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json() | {"mediaType": "text/plain"})
    refused(site, layout, DocumentError, "no image's")


def test_layers_that_are_no_file_systems(site: Site, layout: Layout) -> None:
    layers = [layout.manifest.layers[0].as_json() | {"mediaType": "text/plain"}] * 2
    value = {"schemaVersion": 2, "config": layout.manifest.config.as_json(), "layers": layers}
    layout.index(layout.blob(json.dumps(value).encode()))
    refused(site, layout, DocumentError, "no file system")


def test_a_layer_too_few(site: Site, layout: Layout) -> None:
    layers = [layout.manifest.layers[0].as_json()]
    value = {"schemaVersion": 2, "config": layout.manifest.config.as_json(), "layers": layers}
    layout.index(layout.blob(json.dumps(value).encode()))
    refused(site, layout, DocumentError, "2 layers, and its manifest 1")


def test_indexes_without_end(site: Site, layout: Layout) -> None:
    entry = layout.target.as_json()
    for _ in range(5):
        value = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [entry]}
        entry = layout.blob(json.dumps(value).encode()) | {"mediaType": documents.OCI_INDEX}
    layout.index(entry)
    refused(site, layout, DocumentError, "index in an index")


def test_a_name_that_is_none(site: Site, layout: Layout) -> None:
    layout.index(layout.target.as_json() | {"annotations": {"org.opencontainers.image.ref.name": "-x/../y"}})
    refused(site, layout, DocumentError, "no repository name")


def test_a_name_with_another_digest(site: Site, layout: Layout) -> None:
    name = {"io.containerd.image.name": "a/b@" + made.sha(b"")}
    layout.index(layout.target.as_json() | {"annotations": name})
    refused(site, layout, DigestError, "is the name of")


@pytest.mark.parametrize(
    ("whole", "ref", "name"),
    [
        ("", "box:1", BOX),
        ("", "box", "docker.io/library/box:latest"),
        ("docker.io/library/box:1", "1", BOX),
        ("docker.io/library/box:1", "", BOX),
        ("docker.io/library/box:1", "docker.io/library/box:1", BOX),
        ("docker.io/library/box:1", "other:2", "docker.io/library/other:2"),
        ("", "", ""),
    ],
)
def test_names_of_a_layout(site: Site, layout: Layout, whole: str, ref: str, name: str) -> None:
    said = {"io.containerd.image.name": whole, "org.opencontainers.image.ref.name": ref}
    layout.index(layout.target.as_json() | {"annotations": {key: value for key, value in said.items() if value}})
    assert [one.name for one in made.load(site, layout.stream())] == [name]


def test_docker_and_layout_of_different_images(site: Site, layout: Layout) -> None:
    layout.files |= {"manifest.json": json.dumps([ENTRY]).encode(), **GOOD}
    refused(site, layout, ArchiveError, "speak of different images")


def test_an_attestation_is_kept_beside_its_image(site: Site, layout: Layout) -> None:
    statement = layout.blob(b"{}") | {"mediaType": "application/vnd.in-toto+json"}
    empty = layout.blob(b"{ }") | {"mediaType": documents.OCI_CONFIG}
    attestation = layout.blob(json.dumps({"schemaVersion": 2, "config": empty, "layers": [statement]}).encode())
    platform = {"os": "linux", "architecture": documents.host_platform().architecture}
    entries = [
        layout.target.as_json() | {"platform": platform},
        attestation | {"platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    value = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": entries}
    layout.index(layout.blob(json.dumps(value).encode()) | {"mediaType": documents.OCI_INDEX})
    (loaded,) = made.load(site, layout.stream())
    assert {attestation["digest"], statement["digest"], layout.target.digest} <= made.blobs(site)
    # Alone it is no image.
    layout.index(attestation)
    with pytest.raises(DocumentError):
        made.load(site, layout.stream())
    assert site.images.manifest(loaded.target, documents.host_platform())[1].digest == layout.target.digest


def test_the_same_bytes_as_manifest_and_layer_keep_their_needs(site: Site, layout: Layout) -> None:
    """A blob that an enemy names as a layer too is still collected last of all."""
    from ocirt.manager.store.collect import collect

    manifest = layout.target.as_json() | {"mediaType": documents.OCI_LAYER}
    diff_ids = {"rootfs": {"type": "layers", "diff_ids": [layout.target.digest]}}
    empty = layout.blob(json.dumps(diff_ids).encode()) | {"mediaType": documents.OCI_CONFIG}
    other = layout.blob(json.dumps({"schemaVersion": 2, "config": empty, "layers": [manifest]}).encode())
    layout.index(layout.target.as_json(), other)
    made.load(site, layout.stream())
    assert collect(site.blobs, site.database).blobs == 0


def test_symlinks_in_a_folder_are_followed_nowhere(site: Site, layout: Layout, tmp_path: Path) -> None:
    site.blobs  # noqa: B018
    folder = tmp_path / "layout"
    for name, data in layout.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    path = folder / "blobs" / layout.manifest.layers[0].digest.replace(":", "/")
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(ArchiveError, match="symbolic links"):
        made.load_folder(site, folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArchiveError, match="is no file"):
        made.load_folder(site, folder)
    assert nothing_came(site)
    path.unlink()
    (tmp_path / "secret").rename(path)
    assert made.load_folder(site, folder)[0].name == BOX


# Killed.


def test_who_is_killed_leaves_nothing_that_stays(site: Site, layout: Layout) -> None:
    """Killed in the middle of the archive: the folder that it had goes with the next clearing, not while it lives."""
    site.blobs  # noqa: B018
    data = layout.stream().getvalue()
    reading, writing = os.pipe()
    told, telling = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(writing)
            with staging.Staging(site.root) as area:
                os.write(telling, b"x")
                with os.fdopen(reading, "rb", buffering=0) as stream:
                    loading.Archive(stream, area)
        finally:
            os._exit(0)
    os.close(reading)
    assert os.read(told, 1) == b"x"
    os.write(writing, data[:3000])
    assert staging.clear(site.root) == (0, 0)
    assert len(made.ingest(site)) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for descriptor in (writing, told, telling):
        os.close(descriptor)
    assert staging.clear(site.root)[0] == 1
    assert nothing_came(site)
