"""save and load again: digests stay, the same images are the same bytes, and nothing half is brought in."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from manager import made_images as made

from ocirt.manager import archives, documents
from ocirt.manager.errors import ArchiveError, ConflictError, DigestError, GrammarError, MissingError
from ocirt.manager.site import Site
from ocirt.manager.store.collect import collect

BOX = "docker.io/library/box:1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made.site(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Site:
    return made.site(tmp_path / "other")


def saved(site: Site, *texts: str, format: str = "oci") -> io.BytesIO:
    out = io.BytesIO()
    archives.save(site, texts, out, format)
    return io.BytesIO(out.getvalue())


def files(archive: io.BytesIO) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened if one.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("layer_type", [made.GZIP, made.ZSTD, documents.OCI_LAYER])
@pytest.mark.parametrize("family", ["oci", "docker"])
def test_a_layout_keeps_every_digest(site: Site, other: Site, layer_type: str, family: str) -> None:
    target = made.image(site, BOX, layer_type=layer_type, family=family)
    archive = saved(site, "box:1")
    (loaded,) = made.load(other, archive)
    assert (loaded.name, loaded.target) == (BOX, target)
    assert made.names(other) == {BOX: target.digest}
    assert made.blobs(other) == made.blobs(site)
    assert collect(other.blobs, other.database).blobs == 0
    assert list(other.blobs.verify()) == made.ingest(other) == []
    assert saved(other, "box:1").getvalue() == archive.getvalue()


@pytest.mark.parametrize("layer_type", [made.GZIP, made.ZSTD, documents.OCI_LAYER])
def test_docker_archives_have_plain_layers_and_keep_the_images_id(site: Site, other: Site, layer_type: str) -> None:
    made.image(site, BOX, layer_type=layer_type)
    archive = saved(site, "box:1", format="docker")
    found = files(archive)
    (entry,) = json.loads(found["manifest.json"])
    config = json.loads(found[entry["Config"]])
    assert entry["RepoTags"] == [BOX]  # whole: podman would take a short one for localhost's
    assert [made.sha(found[name]) for name in entry["Layers"]] == config["rootfs"]["diff_ids"]
    (loaded,) = made.load(other, archive)
    manifest, _ = other.images.manifest(loaded.target, documents.host_platform())
    assert manifest.media_type == documents.DOCKER_MANIFEST
    assert [layer.digest for layer in manifest.layers] == config["rootfs"]["diff_ids"]
    assert (
        manifest.config.digest
        == site.images.manifest(site.images.find("box:1").target, documents.host_platform())[0].config.digest
    )
    # Once more it is the same, whoever saves it.
    assert saved(other, "box:1", format="docker").getvalue() == archive.getvalue()
    assert made.load(other, saved(other, "box:1", format="docker")) == (loaded,)


def test_several_images_share_what_they_have_in_common(site: Site, other: Site) -> None:
    low, high = made.tar({"low": b"l" * 5000}), made.tar({"high": b"h"})
    made.image(site, BOX, (low,))
    made.image(site, "localhost:5000/a/b:2", (low, high))
    for kind in ("oci", "docker"):
        archive = saved(site, "box:1", "localhost:5000/a/b:2", "box:1", format=kind)
        assert list(files(archive).values()).count(low) == (kind == "docker")
        where = made.site(other.root / kind)
        assert [one.name for one in made.load(where, archive)] == [BOX, "localhost:5000/a/b:2"]
        with where.database.write() as transaction:
            transaction.execute("delete from images where name = ?", (BOX,))
        collect(where.blobs, where.database)
        archives.save(where, ["localhost:5000/a/b:2"], io.BytesIO(), kind)


def test_an_index_is_saved_with_the_platforms_that_are_here(site: Site, other: Site) -> None:
    own = documents.host_platform().architecture
    foreign = made.image(site, "", (made.tar({"f": b"1"}),), architecture="s390x")
    native = made.image(site, "", architecture=own)
    absent = documents.Descriptor(documents.OCI_MANIFEST, made.sha(b"absent"), 6)
    target = made.index(site, BOX, ("s390x", foreign), (own, native), ("mips", absent))
    (loaded,) = made.load(other, saved(site, "box:1"))
    assert (loaded.target.digest, loaded.target.media_type) == (target.digest, documents.OCI_INDEX)
    assert made.blobs(other) == made.blobs(site)
    # Docker's kind has one platform: the host's, or what was asked for.
    config = other.images.manifest(native, documents.host_platform())[0].config.digest
    assert config.removeprefix("sha256:") + ".json" in files(saved(site, "box:1", format="docker"))
    out = io.BytesIO()
    archives.save(site, ["box:1"], out, platform=documents.platform("linux/s390x"))
    assert json.loads(files(out)["index.json"])["manifests"][0]["digest"] == foreign.digest


def test_a_platform_without_its_layers_is_left_out(site: Site, other: Site) -> None:
    own = documents.host_platform().architecture
    half = made.image(site, "", (made.tar({"f": b"1"}),), architecture="s390x")
    made.index(site, BOX, ("s390x", half), (own, made.image(site, "", architecture=own)))
    layer = site.images.manifest(half, documents.host_platform())[0].layers[0].digest
    with site.database.write() as transaction:
        transaction.execute("delete from blobs where digest = ?", (layer,))
    made.load(other, saved(site, "box:1"))
    assert half.digest not in made.blobs(other)


def test_an_id_saves_the_image_without_its_names(site: Site, other: Site) -> None:
    target = made.image(site, BOX)
    config = site.images.manifest(target, documents.host_platform())[0].config.digest
    for text in (target.digest, config[7:19]):
        archive = saved(site, text)
        assert json.loads(files(archive)["manifest.json"])[0]["RepoTags"] is None
        (loaded,) = made.load(other, archive)
        assert (loaded.name, loaded.target) == ("", target)
        assert made.names(other) == {target.digest: target.digest}
        assert other.images.find(target.digest).named is False
    assert collect(other.blobs, other.database).blobs == 0


def test_a_name_and_an_id_of_one_image_are_one_entry(site: Site) -> None:
    target = made.image(site, BOX)
    made.give(site, "docker.io/library/box:2", target)
    entries = json.loads(files(saved(site, "box:1", target.digest, "box:2"))["index.json"])["manifests"]
    assert [one["annotations"]["org.opencontainers.image.ref.name"] for one in entries] == [
        BOX,
        "docker.io/library/box:2",
    ]


def test_a_folder_is_a_layout_too(site: Site, other: Site, tmp_path: Path) -> None:
    target = made.image(site, BOX)
    folder = tmp_path / "layout"
    archives.save_folder(site, ["box:1"], folder)
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (loaded,) = made.load_folder(other, folder)
    assert (loaded.name, loaded.target) == (BOX, target)
    with pytest.raises(ConflictError, match="not empty"):
        archives.save_folder(site, ["box:1"], folder)


def test_what_is_here_already_need_not_be_in_the_archive(site: Site, other: Site, tmp_path: Path) -> None:
    target = made.image(site, BOX)
    folder = tmp_path / "layout"
    archives.save_folder(site, ["box:1"], folder)
    manifest, _ = site.images.manifest(target, documents.host_platform())
    path = folder / "blobs" / manifest.layers[0].digest.replace(":", "/")
    path.unlink()
    with pytest.raises(ArchiveError, match="missing in the archive"):
        made.load_folder(other, folder)
    assert made.blobs(other) == set()
    other.blobs.put(site.blobs.read(manifest.layers[0].digest, 1 << 20), made.GZIP)
    made.load_folder(other, folder)
    assert made.blobs(other) == made.blobs(site)


def test_a_damaged_blob_does_not_leave_the_store(site: Site) -> None:
    target = made.image(site, BOX)
    layer = site.images.manifest(target, documents.host_platform())[0].layers[1].digest
    data = bytearray(site.blobs.path(layer).read_bytes())
    data[-1] ^= 1
    site.blobs.path(layer).write_bytes(data)
    with pytest.raises(DigestError):
        saved(site, "box:1")
    site.blobs.path(layer).write_bytes(data[:-1])
    with pytest.raises(DigestError, match="shorter"):
        saved(site, "box:1")


def test_what_is_not_there_is_said_before_anything_is_written(site: Site) -> None:
    target = made.image(site, BOX)
    out = io.BytesIO()
    with pytest.raises(MissingError, match="no image"):
        archives.save(site, ["box:1", "box:9"], out)
    with pytest.raises(MissingError, match="no image was named"):
        archives.save(site, [], out)
    with pytest.raises(GrammarError, match="no format"):
        archives.save(site, ["box:1"], out, "zip")
    layer = site.images.manifest(target, documents.host_platform())[0].layers[1].digest
    with site.database.write() as transaction:
        transaction.execute("delete from blobs where digest = ?", (layer,))
    with pytest.raises(MissingError, match="is not here"):
        archives.save(site, ["box:1"], out)
    assert out.getvalue() == b""
    assert site.database.read.execute("select count(*) from leases").fetchone() == (0,)
