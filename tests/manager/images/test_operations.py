"""tag, rmi, images, history, inspect: docker's words for what is in the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from manager import made_images as made

from ocirt.manager import documents
from ocirt.manager.errors import ConflictError, DocumentError, GrammarError, MissingError
from ocirt.manager.images import configuration, facts, operations
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease

BOX = "docker.io/library/box:1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made.site(tmp_path)


def config_of(site: Site, target: documents.Descriptor) -> str:
    return site.images.manifest(target, documents.host_platform())[0].config.digest


def test_a_tag_is_another_name(site: Site) -> None:
    target = made.image(site, BOX)
    operations.tag(site, "box:1", "localhost:5000/a/b")
    operations.tag(site, config_of(site, target)[7:19], "box")
    assert set(made.names(site)) == {BOX, "localhost:5000/a/b:latest", "docker.io/library/box:latest"}
    with pytest.raises(GrammarError):
        operations.tag(site, "box:1", "box@" + target.digest)
    with pytest.raises(MissingError):
        operations.tag(site, "box:2", "box:3")


def test_who_has_no_name_is_kept_by_its_digest_until_it_gets_one(site: Site) -> None:
    target = made.image(site, "")
    made.give(site, target.digest, target)
    (line,) = operations.listed(site)
    assert (line.repository, line.tag, line.id) == ("", "", config_of(site, target))
    operations.tag(site, line.id[7:], "box:1")
    assert made.names(site) == {BOX: target.digest}


def test_the_last_name_takes_the_image_along(site: Site) -> None:
    target = made.image(site, BOX)
    operations.tag(site, "box:1", "box:2")
    assert operations.remove(site, "box:1") == ["Untagged: box:1"]
    assert made.blobs(site)
    said = operations.remove(site, "box:2")
    assert said[0] == "Untagged: box:2"
    assert {f"Deleted: {target.digest}", f"Deleted: {config_of_lines(said)}"} == set(said[1:])
    assert made.blobs(site) == set()
    with pytest.raises(MissingError):
        operations.remove(site, "box:1")


def config_of_lines(said: list[str]) -> str:
    return said[-1].removeprefix("Deleted: ")


def test_an_id_takes_all_names_by_force(site: Site) -> None:
    target = made.image(site, BOX)
    operations.tag(site, "box:1", "other")
    identity = config_of(site, target)
    with pytest.raises(ConflictError, match="several names"):
        operations.remove(site, identity[7:19])
    said = operations.remove(site, identity[7:19], force=True)
    assert said[:2] == ["Untagged: box:1", "Untagged: other:latest"]
    assert f"Deleted: {identity}" in said
    assert made.blobs(site) == set()


def test_an_image_of_a_container_stays(site: Site) -> None:
    target = made.image(site, BOX)
    with site.database.write() as transaction:
        transaction.execute("insert into containers values ('cafe', 'web', ?, 0, '{}')", (target.digest,))
    with pytest.raises(ConflictError, match="the container web"):
        operations.remove(site, "box:1")
    assert operations.remove(site, "box:1", force=True) == ["Untagged: box:1"]
    assert target.digest in made.blobs(site)
    assert list(site.blobs.verify()) == []


def test_what_others_share_stays(site: Site) -> None:
    low, high = made.tar({"low": b"l" * 5000}), made.tar({"high": b"h"})
    made.image(site, BOX, (low,))
    made.image(site, "docker.io/library/box:2", (low, high))
    operations.remove(site, "box:2")
    assert len(made.blobs(site)) == 3
    assert operations.listed(site)[0].tag == "1"


def test_images_are_found_by_ids_and_not_by_layers(site: Site) -> None:
    target = made.image(site, BOX)
    manifest, _ = site.images.manifest(target, documents.host_platform())
    own = documents.host_platform().architecture
    index = made.index(site, "docker.io/library/multi:1", (own, target))
    for digest in (index.digest, index.digest[7:20]):
        assert site.images.find(digest).name == "docker.io/library/multi:1"
    with pytest.raises(MissingError):
        site.images.find(manifest.layers[0].digest[7:27])
    with pytest.raises(ConflictError, match="several images"):
        site.images.find(manifest.config.digest[7:20])  # of the one image, and of the index
    operations.remove(site, "box:1")
    assert site.images.find(manifest.config.digest[7:20]).name == "docker.io/library/multi:1"


def test_the_list_and_its_filters(site: Site) -> None:
    made.image(site, BOX)
    made.image(site, "localhost:5000/a/b:2", (made.tar({"a": b"1"}),), config={"Labels": {"x": "y"}})
    nameless = made.image(site, "", (made.tar({"a": b"2"}),), config={})
    made.give(site, nameless.digest, nameless)

    def tags(*filters: tuple[str, str]) -> list[str]:
        return [f"{one.repository}:{one.tag}" for one in operations.listed(site, filters)]

    assert sorted(tags()) == [":", "box:1", "localhost:5000/a/b:2"]
    assert tags(("dangling", "true")) == [":"]
    assert sorted(tags(("dangling", "false"))) == ["box:1", "localhost:5000/a/b:2"]
    assert tags(("label", "x")) == tags(("label", "x=y")) == ["localhost:5000/a/b:2"]
    assert tags(("label", "x=z")) == tags(("label", "x"), ("label", "a")) == []
    for pattern in ("box", "b*x:?", "box:1", "docker.io/library/box"):
        assert tags(("reference", pattern)) == ["box:1"], pattern
    assert tags(("reference", "*")) == ["box:1"]  # a star is no slash
    assert tags(("reference", "*/a/b")) == ["localhost:5000/a/b:2"]
    assert tags(("before", "box:1")) == tags(("since", "box:1")) == []
    for wrong in (("dangling", "maybe"), ("colour", "red")):
        with pytest.raises(GrammarError):
            operations.listed(site, [wrong])


def test_a_damaged_image_is_listed_and_can_be_removed(site: Site) -> None:
    target = made.image(site, BOX)
    made.image(site, "docker.io/library/whole:1", (made.tar({"a": b"1"}),))
    site.blobs.path(target.digest).write_bytes(b"{}")
    assert [(one.tag, one.size > 0) for one in operations.listed(site)] == [("1", True), ("1", False)]
    operations.remove(site, "box:1")
    assert [one.repository for one in operations.listed(site)] == ["whole"]


def test_sizes_are_of_files_once_unpacked(site: Site) -> None:
    target = made.image(site, BOX, (made.tar({"a": b"x" * 1000}), made.tar({"b": b"y" * 10})))
    manifest, _ = site.images.manifest(target, documents.host_platform())
    known = facts.of(site, target)
    assert facts.layer_sizes(site, known) == [layer.size for layer in manifest.layers]
    unpacked(site, known.configuration.diff_ids, chained=False, sizes=(1000, 10))
    assert facts.layer_sizes(site, known) == [1000, 10]
    assert operations.listed(site)[0].size == 1010
    with site.database.write() as transaction:
        transaction.execute("delete from snapshots")
    unpacked(site, known.configuration.diff_ids, chained=True, sizes=(1000, 1010))
    assert facts.layer_sizes(site, known) == [1000, 10]


def unpacked(site: Site, diff_ids: tuple[str, ...], *, chained: bool, sizes: tuple[int, ...]) -> None:
    from ocirt.manager.snapshots import layers

    with site.database.write() as transaction:
        for name, size in zip(layers.names(diff_ids, chained), sizes, strict=True):
            query = "insert into snapshots (name, driver, folder, size, added) values (?, 'x', ?, ?, 0)"
            transaction.execute(query, (name, name, size))


def test_history(site: Site) -> None:
    target = made.image(site, BOX)
    steps = operations.history(site, "box:1")
    assert [step.created_by for step in steps] == ["CMD sh", "COPY 1", "COPY 0"]
    assert [step.id for step in steps] == [config_of(site, target), "", ""]
    manifest, _ = site.images.manifest(target, documents.host_platform())
    assert [step.size for step in steps] == [0, manifest.layers[1].size, manifest.layers[0].size]
    assert steps[0].created == 1_577_934_245_000_000_006
    assert steps[0].tags == ("box:1",)
    assert steps[1].comment == "made"


def test_inspect_has_dockers_shape(site: Site) -> None:
    """Compared with dockerd in tests/engines."""
    target = made.image(site, BOX, config={"Env": ["A=b"], "Healthcheck": {"Test": ["NONE"]}, "Unknown": 1})
    operations.tag(site, "box:1", "localhost/x:y")
    found = operations.inspect(site, "box:1")
    assert found["Id"] == config_of(site, target)
    assert found["RepoTags"] == ["box:1", "localhost/x:y"]
    assert found["RepoDigests"] == [f"box@{target.digest}", f"localhost/x@{target.digest}"]
    assert found["Created"] == made.CREATED
    assert found["Config"]["Env"] == ["A=b"]
    assert found["Config"]["Cmd"] is None
    assert found["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "Unknown" not in found["Config"]
    assert found["RootFS"]["Type"] == "layers"
    assert len(found["RootFS"]["Layers"]) == 2


def test_of_an_index_it_is_the_hosts_image_or_the_one_that_is_here(site: Site) -> None:
    foreign = made.image(site, "", (made.tar({"f": b"1"}),), architecture="s390x")
    absent = documents.Descriptor(documents.OCI_MANIFEST, made.sha(b"absent"), 6)
    own = documents.host_platform().architecture
    made.index(site, BOX, (own, absent), ("s390x", foreign))
    assert operations.inspect(site, "box:1")["Architecture"] == "s390x"
    native = made.image(site, "", architecture=own)
    made.index(site, BOX, ("s390x", foreign), (own, native))
    assert operations.inspect(site, "box:1")["Architecture"] == own
    assert operations.inspect(site, "box:1", documents.platform("linux/s390x"))["Architecture"] == "s390x"
    with pytest.raises(DocumentError, match="no image for linux/mips"):
        operations.inspect(site, "box:1", documents.platform("linux/mips"))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:01.000000007+01:00", 1_000_000_007),
        ("1970-01-01T00:00:01", 0),
        ("yesterday", 0),
        ("", 0),
        ("9999999-01-01T00:00:00Z", 0),
        ("2020-01-01T00:00:00.Z", 1_577_836_800_000_000_000),
    ],
)
def test_times(text: str, moment: int) -> None:
    assert facts.nanoseconds(text) == moment


@pytest.mark.parametrize(
    "wrong",
    [
        b"[]",
        b"{",
        b'{"rootfs":[]}',
        b'{"rootfs":{"type":"squash"}}',
        b'{"rootfs":{"diff_ids":["sha256:../x"]}}',
        b'{"rootfs":{"diff_ids":"x"}}',
        b'{"os":1}',
        b'{"created":1}',
        b'{"config":{"Env":"A=b"}}',
        b'{"config":{"Cmd":[1]}}',
        b'{"config":{"Labels":{"a":1}}}',
        b'{"config":{"Labels":["a"]}}',
        b'{"config":{"User":0}}',
        b'{"history":{}}',
        b'{"history":[1]}',
        b'{"history":[{"created_by":1}]}',
        b'{"history":[{"empty_layer":"no"}]}',
    ],
)
def test_configurations_that_are_none(wrong: bytes) -> None:
    with pytest.raises(DocumentError):
        configuration.parse(wrong)


def test_a_lease_outlives_rmi(site: Site) -> None:
    """Who pulls or runs the image just now keeps it."""
    target = made.image(site, BOX)
    with Lease(site.database) as lease:
        assert site.blobs.hold(target.digest, lease)
        assert operations.remove(site, "box:1") == ["Untagged: box:1"]
        assert len(made.blobs(site)) == 4
