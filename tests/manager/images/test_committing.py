"""commit, export and import: what a container made of its image, and images of a tar."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manager import made_images as made

from ocirt import _sys
from ocirt.manager import documents
from ocirt.manager.containers import create, flags
from ocirt.manager.containers.records import Record
from ocirt.manager.errors import ArchiveError, GrammarError, LimitError
from ocirt.manager.images import configuration, operations
from ocirt.manager.images import importing as imported
from ocirt.manager.site import Site
from ocirt.manager.store.collect import collect

pytestmark = pytest.mark.root

BOX = "docker.io/library/box:1"


@pytest.fixture(params=["overlay", "vfs"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "store"
    folder.mkdir()
    _sys.mount("tmpfs", str(folder), 0, "tmpfs", "mode=700,size=256m")
    one = Site(folder / "root", folder / "run", request.param)
    yield one
    one.database.close()
    _sys.umount2(str(folder), 2)


def container(site: Site, image: str | None = "box:1", command: tuple[str, ...] = (), **values: Any) -> Record:
    return create.create(site, image, flags.options(values), list(command))


def write(site: Site, record: Record, name: str, data: bytes) -> None:
    """As the container would."""
    path = site.snapshots.mount(record.id, record.document["snapshots"])
    (path / name).write_bytes(data)
    site.snapshots.unmount(record.id)


def image(site: Site, identity: str) -> tuple[documents.Manifest, dict[str, Any]]:
    manifest, _ = site.images.manifest(site.images.find(identity).target, documents.host_platform())
    assert manifest.config.digest == identity
    return manifest, configuration.read(site.blobs, manifest.config).document


def members(data: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: (archive.extractfile(one).read() if one.isreg() else None) for one in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["oci", "docker"])
def test_a_commit_is_the_image_and_one_layer(site: Site, family: str) -> None:
    base = made.image(site, BOX, family=family)
    before, _ = site.images.manifest(base, documents.host_platform())
    record = container(site, command=("x", "y"), env=("A=b",))
    write(site, record, "new", b"of the container")
    identity = operations.commit(site, record, "made:2", author="me", message="because", changes=["LABEL l=m"])
    manifest, document = image(site, identity)
    assert manifest.media_type == before.media_type
    assert manifest.config.media_type == before.config.media_type
    assert manifest.layers[:-1] == before.layers
    layer = gzip.decompress(site.blobs.read(manifest.layers[-1].digest, 1 << 20))
    assert members(layer) == {"new": b"of the container"}
    assert document["rootfs"]["diff_ids"][-1] == made.sha(layer)
    assert document["config"]["Cmd"] == ["x", "y"]
    assert "A=b" in document["config"]["Env"]
    assert document["config"]["Labels"] == {"a": "b", "l": "m"}
    assert "Hostname" not in document["config"]
    assert (document["author"], document["architecture"]) == ("me", documents.host_platform().architecture)
    step = document["history"][-1]
    assert {key: step[key] for key in ("created_by", "author", "comment")} == {
        "created_by": "x y",
        "author": "me",
        "comment": "because",
    }
    assert len(document["history"]) == 4
    assert made.names(site)["docker.io/library/made:2"]
    assert list(site.blobs.verify()) == made.ingest(site) == []


def test_a_commit_of_a_commit_runs_on(site: Site) -> None:
    """A container of it has the files of both."""
    made.image(site, BOX)
    record = container(site)
    write(site, record, "one", b"1")
    operations.commit(site, record, "made:2")
    second = container(site, "made:2")
    write(site, second, "two", b"2")
    (site.snapshots.mount(second.id, second.document["snapshots"]) / "etc/motd").unlink()
    site.snapshots.unmount(second.id)
    operations.commit(site, second, "made:3")
    third = container(site, "made:3")
    out = io.BytesIO()
    operations.export(site, third, out)
    found = members(out.getvalue())
    assert {"one": b"1", "two": b"2"}.items() <= found.items()
    assert "etc/motd" not in found
    assert "bin/sh" in found


def test_nothing_changed_is_no_layer(site: Site) -> None:
    base = made.image(site, BOX)
    before, _ = site.images.manifest(base, documents.host_platform())
    manifest, document = image(site, operations.commit(site, container(site), "made:2", changes=["USER 5"]))
    assert manifest.layers == before.layers
    assert document["history"][-1]["empty_layer"] is True
    assert document["config"]["User"] == "5"


def test_the_same_changes_are_the_same_layer(site: Site) -> None:
    made.image(site, BOX)
    digests = set()
    for _ in range(2):
        record = container(site)
        write(site, record, "new", b"n" * 100_000)
        path = site.snapshots.mount(record.id, record.document["snapshots"]) / "new"
        os.utime(path, (1, 1))
        os.utime(path.parent, (1, 1))
        site.snapshots.unmount(record.id)
        digests.add(image(site, operations.commit(site, record, "made:2"))[0].layers[-1].digest)
    assert len(digests) == 1


def test_without_a_name_it_is_kept_by_its_digest(site: Site) -> None:
    made.image(site, BOX)
    identity = operations.commit(site, container(site), changes=["LABEL only=this"])
    collect(site.blobs, site.database, site.snapshots)
    assert image(site, identity)[1]["config"]["Labels"]["only"] == "this"
    assert [one.id for one in operations.listed(site, [("dangling", "true")])] == [identity]


def test_a_bad_change_or_name_leaves_nothing(site: Site) -> None:
    made.image(site, BOX)
    record = container(site)
    before = made.blobs(site)
    with pytest.raises(GrammarError):
        operations.commit(site, record, "made:2", changes=["RUN x"])
    with pytest.raises(GrammarError):
        operations.commit(site, record, "made@" + made.sha(b""))
    assert (made.blobs(site), set(made.names(site))) == (before, {BOX})
    assert made.ingest(site) == []


def test_the_image_may_lose_its_name_first(site: Site) -> None:
    made.image(site, BOX)
    record = container(site)
    operations.remove(site, "box:1", force=True)
    assert len(image(site, operations.commit(site, record, "made:2"))[0].layers) == 2


def test_an_export_is_all_files(site: Site) -> None:
    made.image(site, BOX)
    record = container(site)
    write(site, record, "new", b"n")
    path = site.snapshots.mount(record.id, record.document["snapshots"])
    (path / "link").symlink_to("/etc/passwd")
    os.link(path / "new", path / "newer")
    os.mkfifo(path / "pipe")
    os.setxattr(path / "new", "user.a", b"b")
    out, again = io.BytesIO(), io.BytesIO()
    operations.export(site, record, out)
    site.snapshots.unmount(record.id)
    operations.export(site, record, again)
    assert out.getvalue() == again.getvalue()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        found = {one.name: one for one in archive}
    assert found["link"].linkname == "/etc/passwd"
    assert (found["newer"].type, found["newer"].linkname) == (tarfile.LNKTYPE, "new")
    assert found["pipe"].isfifo()
    assert found["new"].pax_headers["SCHILY.xattr.user.a"] == "b"
    assert {"bin", "bin/sh", "etc", "etc/motd"} <= set(found)


def test_what_was_exported_can_be_imported(site: Site) -> None:
    made.image(site, BOX)
    out = io.BytesIO()
    operations.export(site, container(site), out)
    out.seek(0)
    identity = operations.import_tar(site, out, "flat:1", ['CMD ["/bin/sh"]'], "flattened")
    manifest, document = image(site, identity)
    assert gzip.decompress(site.blobs.read(manifest.layers[0].digest, 1 << 20)) == out.getvalue()
    assert document["config"] == {"Cmd": ["/bin/sh"]}
    assert document["history"][-1]["comment"] == "flattened"
    assert document["rootfs"]["diff_ids"] == [made.sha(out.getvalue())]
    container(site, "flat:1")


@pytest.mark.parametrize("media_type", [made.GZIP, made.ZSTD])
def test_what_is_compressed_stays_as_it_is(site: Site, media_type: str) -> None:
    plain = made.tar({"a": b"b"})
    data = made.compressed(plain, media_type)
    manifest, document = image(site, operations.import_tar(site, io.BytesIO(data), "flat"))
    (layer,) = manifest.layers
    assert (layer.digest, layer.media_type) == (made.sha(data), media_type)
    assert document["rootfs"]["diff_ids"] == [made.sha(plain)]


def test_no_tar_leaves_nothing(site: Site) -> None:
    site.blobs  # noqa: B018
    for wrong in (b"hello" * 1000, gzip.compress(b"hello" * 1000), gzip.compress(made.tar({"a": b"b"}))[:-9]):
        with pytest.raises((ArchiveError, LimitError)):
            operations.import_tar(site, io.BytesIO(wrong), "flat")
    with pytest.raises(GrammarError):
        operations.import_tar(site, io.BytesIO(made.tar({"a": b"b"})), "flat", ["RUN x"])
    assert made.blobs(site) == set(made.names(site)) == set()
    assert made.ingest(site) == []
    assert imported.reference("") == ""


def test_a_container_of_nothing(site: Site) -> None:
    record = container(site, None, ("x",))
    write(site, record, "a", b"b")
    manifest, document = image(site, operations.commit(site, record, "made:1"))
    assert len(manifest.layers) == 1
    assert json.dumps(document["rootfs"]).count("sha256") == 1
