"""df, prune and check: what is there, what nothing needs, what is damaged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manager import made_images as made

from ocirt.manager import digest as digests
from ocirt.manager import documents, system
from ocirt.manager.containers import create, flags
from ocirt.manager.containers.records import Record
from ocirt.manager.errors import GrammarError, MissingError
from ocirt.manager.images import operations
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease
from ocirt.manager.store.staging import Staging

pytestmark = pytest.mark.root

BOX = "docker.io/library/box:1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path / "root", tmp_path / "run", "vfs")
    yield one
    one.database.close()


def container(site: Site, **values: Any) -> Record:
    return create.create(site, "box:1", flags.options(values), ["x"])


def problems(site: Site, *, repair: bool = False) -> list[tuple[str, str, str]]:
    return [(one.kind, one.name, one.repaired) for one in system.check(site, repair=repair)]


# df


def test_df(site: Site) -> None:
    made.image(site, BOX)
    made.image(site, "docker.io/library/other:1", (made.tar({"a": b"x" * 10_000}),))
    record = container(site)
    with site.blobs.ingest(made.sha(b"part"), 100) as part:
        part.write(b"12345")
    images, containers, volumes, unfinished = system.df(site)
    assert (images.type, images.total, images.active) == ("Images", 2, 1)
    assert 0 < images.reclaimable < images.size
    assert (containers.total, containers.active) == (1, 0)
    assert containers.size == containers.reclaimable > 0
    assert (volumes.type, volumes.total) == ("Local Volumes", 0)
    assert (unfinished.total, unfinished.size) == (1, 5)
    before = images
    create.remove(site, record)
    (images, *_) = system.df(site)
    assert (images.active, images.reclaimable) == (0, before.size)


# prune


def test_prune_takes_what_has_neither_name_nor_container(site: Site) -> None:
    made.image(site, BOX)
    nameless = made.image(site, "", (made.tar({"a": b"1"}),))
    made.give(site, nameless.digest, nameless)
    made.image(site, "", (made.tar({"a": b"2"}),))
    with site.blobs.ingest(made.sha(b"part"), 100) as part:
        part.write(b"12345")
    done = system.prune(site)
    assert set(made.names(site)) == {BOX}
    assert len(made.blobs(site)) == 4
    assert done["images"].bytes > 0
    assert done["unfinished"].bytes == 5
    assert made.ingest(site) == []
    assert system.prune(site)["images"].bytes == 0


def test_prune_all_keeps_what_a_container_is_of(site: Site) -> None:
    made.image(site, BOX)
    made.image(site, "docker.io/library/other:1", (made.tar({"a": b"1"}),))
    record = container(site)
    done = system.prune_images(site, all_=True)
    assert "untagged: other:1" in done.lines
    assert set(made.names(site)) == {BOX}
    assert problems(site) == []
    assert system.prune_containers(site).lines == [record.id]
    system.prune_images(site, all_=True)
    assert made.blobs(site) == set()
    assert not any((site.root / "snapshots" / one).is_dir() for one in os.listdir(site.root / "snapshots"))


def test_filters_of_prune(site: Site) -> None:
    made.image(site, BOX)
    container(site, label=("keep=yes",))
    container(site, label=("keep=no",))
    assert system.prune_containers(site, [("until", "1h")]).lines == []
    assert system.prune_containers(site, [("label", "other")]).lines == []
    assert len(system.prune_containers(site, [("label!", "keep=yes")]).lines) == 1
    assert len(system.prune_containers(site, [("label", "keep"), ("until", str(int(time.time()) + 100))]).lines) == 1
    assert system.prune_images(site, all_=True, filters=[("until", "2019-01-01T00:00:00Z")]).lines == []
    assert system.prune_images(site, all_=True, filters=[("label", "a=b"), ("until", "24h")]).lines
    for wrong in (("until", "soon"), ("colour", "red")):
        with pytest.raises(GrammarError):
            system.prune(site, filters=[wrong])


def test_prune_while_others_bring_things_in(site: Site) -> None:
    """What a process holds, by a lease or by a lock, is there when it needs it."""
    data = os.urandom(1000)
    with Lease(site.database) as lease, Staging(site.root) as area:
        digest = site.blobs.put(b"held", "application/octet-stream", lease)
        piece = area.take([b"staged"])
        with site.blobs.ingest(digests.of(data), len(data), lease) as part:
            part.write(data[:500])
            system.prune(site, all_=True)
            part.write(data[500:])
            part.commit("application/octet-stream", lease)
        assert piece.path.read_bytes() == b"staged"
        assert made.blobs(site) == {digest, digests.of(data)}
    system.prune(site)
    assert made.blobs(site) == set()


def test_prune_beside_a_process_that_imports(site: Site) -> None:
    """Whatever the moment: each import is whole, or its process says that it failed, which none does."""
    import io

    count = 15
    pid = os.fork()
    if not pid:
        code = 1
        try:
            mine = Site(site.root, site.run, "vfs")
            for number in range(count):
                data = made.tar({f"f{number}": os.urandom(2000)})
                operations.import_tar(mine, io.BytesIO(data), f"made:{number}")
            code = 0
        finally:
            os._exit(code)
    ended = 0
    while not ended:
        system.prune(site)
        ended, status = os.waitpid(pid, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(made.names(site)) == count
    assert problems(site) == []


# check


def test_a_store_that_is_whole(site: Site) -> None:
    made.image(site, BOX)
    own = documents.host_platform().architecture
    absent = documents.Descriptor(documents.OCI_MANIFEST, made.sha(b"absent"), 6)
    made.index(site, "docker.io/library/multi:1", ("mips", absent), (own, site.images.find("box:1").target))
    container(site)
    assert problems(site) == []


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_layer_can_be_pulled_again(site: Site, damage: str) -> None:
    target = made.image(site, BOX)
    layer = site.images.manifest(target, documents.host_platform())[0].layers[0].digest
    path = site.blobs.path(layer)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] + (b"" if damage == "cut" else b"\xff"))
    (finding,) = system.check(site)
    assert (finding.kind, finding.name, finding.repaired, finding.hint) == ("blob", layer, "", f"ocim pull {BOX}")
    found = problems(site, repair=True)
    assert ("blob", layer, "removed") in found
    assert site.blobs.size(layer) is None
    assert not path.exists()
    # Until it is: the image is not whole, and check says so.
    (finding,) = system.check(site)
    assert (finding.kind, finding.name) == ("image", target.digest)
    assert layer in finding.problem
    assert finding.hint == f"ocim pull {BOX}"
    site.blobs.put(whole, made.GZIP)
    assert problems(site) == []


def test_a_manifest_that_is_gone(site: Site) -> None:
    target = made.image(site, BOX)
    with site.database.write() as transaction:
        transaction.execute("insert into containers values ('cafe', 'web', ?, 0, '{}')", (target.digest,))
    site.container("cafe").mkdir(parents=True)
    site.blobs.path(target.digest).unlink()
    found = {(one.kind, one.name): one for one in system.check(site, repair=True)}
    assert "needed by the containers web" in found["blob", target.digest].hint
    assert found["image", BOX].hint == f"ocim pull {BOX}"
    assert found["container", "web"].problem.endswith("is gone")


def test_an_edge_that_is_missing_is_said_again(site: Site) -> None:
    target = made.image(site, BOX)
    with site.database.write() as transaction:
        transaction.execute("delete from edges where parent = ?", (target.digest,))
        transaction.execute("insert into edges values ('sha256:nothing', 'sha256:else')")
    assert problems(site) == [("edge", target.digest, ""), ("edge", "sha256:nothing", "")]
    assert problems(site, repair=True) == [
        ("edge", target.digest, "said again"),
        ("edge", "sha256:nothing", "forgotten"),
    ]
    assert problems(site) == []
    system.prune(site)
    assert len(made.blobs(site)) == 4


def test_a_snapshot_without_its_folder_is_unpacked_again(site: Site) -> None:
    made.image(site, BOX)
    create.remove(site, container(site))
    name, folder = site.database.read.execute("select name, folder from snapshots order by size").fetchone()
    import shutil

    shutil.rmtree(site.root / "snapshots" / folder)
    (finding,) = system.check(site, repair=True)
    assert (finding.kind, finding.name) == ("snapshot", name)
    assert "unpacked again" in finding.repaired
    container(site)
    assert problems(site) == []


def test_files_that_nobody_knows_of(site: Site) -> None:
    made.image(site, BOX)
    stray = site.blobs.path(made.sha(b"stray"))
    stray.write_bytes(b"stray")
    assert site.snapshots.driver.name == "vfs"  # the folder of snapshots is there
    (site.root / "snapshots/abcde").mkdir()
    assert problems(site) == [("file", str(stray), "")]
    assert problems(site, repair=True) == [
        ("file", str(stray), "removed"),
        ("file", str(site.root / "snapshots/abcde"), "removed"),
    ]
    assert problems(site, repair=True) == []


def test_a_container_without_its_folder(site: Site) -> None:
    import shutil

    made.image(site, BOX)
    record = container(site, name="web")
    shutil.rmtree(site.container(record.id))
    (finding,) = system.check(site, repair=True)
    assert (finding.kind, finding.name, finding.repaired, finding.hint) == ("container", "web", "", "ocim rm web")


def test_what_comes_just_now_is_no_finding(site: Site) -> None:
    """A manifest comes before its layers."""
    value = made.image(site, "")
    manifest = site.images.manifest(value, documents.host_platform())[0]
    with Lease(site.database) as lease:
        site.blobs.hold(value.digest, lease)
        with site.database.write() as transaction:
            transaction.execute("delete from blobs where digest = ?", (manifest.layers[0].digest,))
        site.blobs.path(manifest.layers[0].digest).unlink()
        made.give(site, BOX, value)
        assert problems(site) == []
    assert [kind for kind, _, _ in problems(site)] == ["image"]


def test_a_damaged_database(site: Site) -> None:
    made.image(site, BOX)
    for number in range(20):
        made.give(site, f"docker.io/library/box:{number}", site.images.find("box:1").target)
    site.database.read.execute("pragma wal_checkpoint(truncate)")
    site.database.close()
    path = site.root / "db.sqlite"
    data = bytearray(path.read_bytes())
    # A page of an index, of which reindex makes a new one.
    root = site.database.read.execute("select rootpage from sqlite_schema where name = 'images_digest'").fetchone()[0]
    size = site.database.read.execute("pragma page_size").fetchone()[0]
    site.database.close()
    data[root * size - 300 : root * size] = bytes(300)
    path.write_bytes(data)
    (finding,) = system.check(site)
    assert (finding.kind, finding.repaired) == ("database", "")
    assert "move it away" in finding.hint
    (finding,) = system.check(site, repair=True)
    assert finding.repaired == "its indexes were made anew"
    assert problems(site) == []
    assert len(made.names(site)) == 20


def test_who_was_killed_at_an_import_is_no_finding_after_repair(site: Site) -> None:
    """SIGKILL at whatever moment: the store is whole, and prune takes what is left."""
    import io

    for number in range(10):
        pid = os.fork()
        if not pid:
            try:
                mine = Site(site.root, site.run, "vfs")
                operations.import_tar(mine, io.BytesIO(made.tar({f"f{number}": os.urandom(500_000)})), f"made:{number}")
            finally:
                os._exit(0)
        time.sleep(0.002 * number)  # not to wait for something: to kill at another moment each time
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    system.check(site, repair=True)
    assert problems(site) == []
    system.prune(site)
    assert made.ingest(site) == []
    for name in made.names(site):
        operations.remove(site, name)
    assert made.blobs(site) == set()
    with pytest.raises(MissingError):
        operations.remove(site, "made:1")
