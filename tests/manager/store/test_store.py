"""The store: bytes by digest, parts that survive, garbage collection beside others' work, and kill -9 at any point."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
import traceback
from pathlib import Path

import pytest

from ocirt.manager import digest as digests
from ocirt.manager.errors import DigestError, GrammarError, ManagerError, MissingError
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.collect import collect, sweep
from ocirt.manager.store.database import Database
from ocirt.manager.store.leases import Lease

TYPE = "application/octet-stream"


class Store:
    """What the tests deal with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.database = Database(folder / "db.sqlite")
        self.blobs = Blobs(folder, self.database)

    def name(self, name: str, digest: str) -> None:
        with self.database.write() as transaction:
            transaction.execute("insert or replace into images values (?, ?, ?, 0)", (name, digest, TYPE))

    def unname(self, name: str) -> None:
        with self.database.write() as transaction:
            transaction.execute("delete from images where name = ?", (name,))

    def files(self) -> set[str]:
        return {f"{path.parent.name}:{path.name}" for path in (self.folder / "blobs").glob("*/*")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_put_can_be_read(store: Store) -> None:
    digest = store.blobs.put(b"hello", TYPE)
    assert store.blobs.read(digest, 100) == b"hello"
    assert store.blobs.size(digest) == 5
    assert store.blobs.put(b"hello", TYPE) == digest
    assert list((store.folder / "ingest").iterdir()) == []
    assert list(store.blobs.verify()) == []


def test_what_is_not_there_is_missing(store: Store) -> None:
    with pytest.raises(MissingError):
        store.blobs.open("sha256:" + "0" * 64)
    with pytest.raises(GrammarError):
        store.blobs.path("sha256:../../etc/passwd")


def test_a_blob_that_was_changed_is_noticed(store: Store) -> None:
    digest = store.blobs.put(b"hello", TYPE)
    store.blobs.path(digest).write_bytes(b"jello")
    with pytest.raises(DigestError, match="changed on disk"):
        store.blobs.read(digest, 100)
    assert [found for found, _ in store.blobs.verify()] == [digest]
    store.blobs.path(digest).unlink()
    assert [found for found, _ in store.blobs.verify()] == [digest]


def test_a_part_is_gone_on_with(store: Store) -> None:
    data = os.urandom(3_000_000)
    digest = digests.of(data)
    with store.blobs.ingest(digest, len(data)) as ingest:
        ingest.write(data[:2_000_000])
    with store.blobs.ingest(digest, len(data)) as ingest:
        assert ingest.offset == 2_000_000
        ingest.write(data[2_000_000:])
        ingest.commit(TYPE)
    assert store.blobs.read(digest, 3_000_000) == data


def test_a_part_that_was_wrong_is_forgotten(store: Store) -> None:
    digest = digests.of(b"right")
    with store.blobs.ingest(digest, 5) as ingest:
        ingest.write(b"wrong")
        with pytest.raises(DigestError):
            ingest.commit(TYPE)
    with store.blobs.ingest(digest, 5) as ingest:
        assert ingest.offset == 0
        with pytest.raises(DigestError, match="longer"):
            ingest.write(b"right and more")
    assert store.blobs.size(digest) is None
    assert store.files() == set()


def test_two_that_bring_in_the_same_wait_for_each_other(store: Store) -> None:
    data = b"x" * 100_000
    digest = digests.of(data)
    done = []

    def other() -> None:
        with store.blobs.ingest(digest, len(data)) as ingest:
            done.append((ingest.whole, ingest.offset))

    with store.blobs.ingest(digest, len(data)) as ingest:
        thread = threading.Thread(target=other)
        thread.start()
        ingest.write(data)
        assert done == []
        ingest.commit(TYPE)
    thread.join()
    assert done == [(True, 0)]
    assert store.blobs.read(digest, 100_000) == data


def test_what_nothing_needs_is_collected_and_the_rest_stays(store: Store) -> None:
    layer, shared = store.blobs.put(b"layer", TYPE), store.blobs.put(b"shared", TYPE)
    with store.blobs.ingest(digests.of(b"first")) as ingest:
        ingest.write(b"first")
        ingest.commit(TYPE, needs=(layer, shared))
    second = store.blobs.put(b"second", TYPE, needs=(shared,))
    store.name("a", digests.of(b"first"))
    store.name("b", second)
    assert collect(store.blobs, store.database).blobs == 0
    store.unname("a")
    removed = collect(store.blobs, store.database)
    assert (removed.blobs, removed.size) == (2, 10)
    assert store.files() == {second, shared}
    store.unname("b")
    collect(store.blobs, store.database)
    assert store.files() == set()


def test_a_lease_protects_while_its_process_lives(store: Store) -> None:
    with Lease(store.database) as lease:
        held = store.blobs.put(b"held", TYPE, lease)
        assert collect(store.blobs, store.database).blobs == 0
        assert store.blobs.hold(held, lease)
        assert not store.blobs.hold("sha256:" + "0" * 64, lease)
    assert collect(store.blobs, store.database).blobs == 1
    child = os.fork()
    if not child:
        mine = Store(store.folder)
        mine.blobs.put(b"of one that is killed", TYPE, Lease(mine.database))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert store.files()
    assert collect(store.blobs, store.database).blobs == 1
    assert store.files() == set()


def test_what_is_brought_in_again_while_it_is_collected_stays(store: Store) -> None:
    """The collector has marked it dead; before it comes to the file somebody needs it again."""
    digest = store.blobs.put(b"again", TYPE)
    with store.database.write() as transaction:
        transaction.execute("update blobs set dead = 1")
    assert store.blobs.size(digest) is None
    with Lease(store.database) as lease:
        store.blobs.put(b"again", TYPE, lease)
        assert collect(store.blobs, store.database).blobs == 0
        assert store.blobs.read(digest, 10) == b"again"


def test_one_that_is_whole_stays_until_it_is_committed(store: Store) -> None:
    """Another process has brought it in, and takes away what needed it just then."""
    digest = store.blobs.put(b"again", TYPE)
    with Lease(store.database) as lease, store.blobs.ingest(digest, 5, lease) as ingest:
        assert ingest.whole
        assert collect(store.blobs, store.database).blobs == 0
        ingest.commit(TYPE, lease)
    with store.blobs.ingest(digest, 5) as ingest:
        assert ingest.whole
        collect(store.blobs, store.database)
        with pytest.raises(MissingError, match="removed meanwhile"):
            ingest.commit(TYPE)


def test_files_without_a_row_are_swept(store: Store) -> None:
    kept = store.blobs.put(b"kept", TYPE)
    orphan = store.blobs.path(digests.of(b"orphan"))
    orphan.write_bytes(b"orphan")
    assert sweep(store.folder, store.database) == [orphan]
    assert store.files() == {kept}


def test_a_change_is_whole_or_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.database.write() as transaction:
        transaction.execute("insert into images values ('a', 'b', 'c', 0)")
        raise RuntimeError
    assert store.database.read.execute("select count(*) from images").fetchone() == (0,)


def test_a_newer_store_is_refused_and_one_that_is_none_too(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(store.folder / "db.sqlite") as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(ManagerError, match="newer ocim"):
        Store(store.folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/db.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(ManagerError, match="not a database"):
        Store(tmp_path / "other")


ROUNDS = int(os.environ.get("OCIRT_STORE_ROUNDS", "200"))


def test_a_store_survives_kill_at_any_point(store: Store) -> None:
    """Two processes at work on one store; one of them is killed, two hundred times: what has a name is whole."""
    random.seed(7)
    for number in range(ROUNDS):
        workers = [_worker(store.folder, number * 2 + second) for second in range(2 if number % 4 == 0 else 1)]
        time.sleep(random.random() * 0.02)  # the point at which it is killed, not a wait for anything
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        ended = [os.waitpid(worker, 0)[1] for worker in workers]
        assert all(map(os.WIFSIGNALED, ended)), "a worker failed by itself: its traceback is in stderr"
        _check(Store(store.folder))
    collect(store.blobs, store.database)
    sweep(store.folder, store.database)
    rows = {digest for (digest,) in store.database.read.execute("select digest from blobs")}
    assert rows == store.files()
    assert store.database.read.execute("select count(*) from leases").fetchone() == (0,)


def _worker(folder: Path, seed: int) -> int:
    child = os.fork()
    if not child:
        try:
            _work(Store(folder), seed)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def _work(store: Store, seed: int) -> None:
    """Pulls, removes and collects, until it is killed."""
    chance = random.Random(seed)
    while True:
        image = f"image{chance.randrange(5)}"
        with Lease(store.database) as lease:
            layers = []
            for _ in range(chance.randrange(4)):
                data = b"layer%d" % chance.randrange(12) * chance.choice((1, 5000))
                with store.blobs.ingest(digests.of(data), len(data), lease) as ingest:
                    if not ingest.whole:
                        for start in range(ingest.offset, len(data), 9000):
                            ingest.write(data[start : start + 9000])
                    ingest.commit(TYPE, lease)
                layers.append(digests.of(data))
            manifest = store.blobs.put(repr(layers).encode(), TYPE, lease, layers)
            store.name(image, manifest)
        if chance.random() < 0.5:
            store.unname(f"image{chance.randrange(5)}")
        if chance.random() < 0.3:
            collect(store.blobs, store.database)
        if chance.random() < 0.1:
            sweep(store.folder, store.database)


def _check(store: Store) -> None:
    assert store.database.read.execute("pragma quick_check").fetchone() == ("ok",)
    assert list(store.blobs.verify()) == []
    for (digest,) in store.database.read.execute("select digest from images").fetchall():
        for layer in eval(store.blobs.read(digest, 10_000)):
            assert store.blobs.size(layer) is not None, "an image lost a layer"
    store.database.close()
