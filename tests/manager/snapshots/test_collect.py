"""What nothing needs goes, what somebody is at work with stays, and kill -9 leaves a store that can go on."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest
from corpus import archive, file, folder
from stored import Store

from ocirt.manager.store.collect import collect
from ocirt.manager.store.leases import Lease

pytestmark = pytest.mark.root


def layer(number: int, files: int = 3) -> bytes:
    return archive(folder(f"d{number}/"), *(file(f"d{number}/{one}", bytes(2000)) for one in range(files))).getvalue()


def collected(store: Store) -> tuple[int, int]:
    found = collect(store.blobs, store.database, store.snapshots)
    return found.snapshots, found.unpacked


def unname(store: Store) -> None:
    for image in list(store.images):
        store.images.remove(image.name)


def test_snapshots_live_as_long_as_their_image(store: Store) -> None:
    store.unpacked(layer(1), layer(2))
    assert collected(store) == (0, 0)
    assert len(store.folders()) == 2
    unname(store)
    assert collected(store) == (2, 12000)
    assert store.folders() == store.rows() == set()


def test_what_a_lease_or_a_container_needs_stays(store: Store) -> None:
    image = store.image(layer(1))
    with Lease(store.database) as lease:
        store.snapshots.unpack(image, lease)
        unname(store)
        assert collected(store) == (0, 0)
        with store.database.write() as transaction:
            transaction.execute("insert into containers values ('c', 'c', ?, 0, '{}')", (image.digest,))
    assert collected(store) == (0, 0)
    with store.database.write() as transaction:
        transaction.execute("delete from containers")
    assert collected(store) == (1, 6000)


def test_another_image_keeps_what_both_have(store: Store) -> None:
    store.unpacked(layer(1), layer(2))
    unname(store)
    store.unpacked(layer(1), layer(3))
    assert collected(store)[0] == 1
    assert len(store.rows()) == 2


def test_what_is_dead_is_unpacked_anew(store: Store) -> None:
    image = store.image(layer(1))
    with Lease(store.database) as lease:
        store.snapshots.unpack(image, lease)
    with store.database.write() as transaction:
        transaction.execute("update snapshots set dead = 1")
    before = store.folders()
    with Lease(store.database) as lease:
        store.snapshots.unpack(image, lease)
    assert store.folders() == store.rows() and not before & store.rows()


def test_a_folder_at_work_is_not_swept(store: Store) -> None:
    name, path, lock = store.snapshots._make("")
    assert store.snapshots.sweep() == []
    os.close(lock)
    assert store.snapshots.sweep() == [name]
    assert not path.exists()


def worker(folder: Path, seed: int) -> None:
    """Unpacks, mounts nothing, forgets and collects, until it is killed."""
    chance = random.Random(seed)
    mine = Store(folder / "root", folder / "run", "overlay")
    while True:
        store_layers = [layer(chance.randrange(6), 40) for _ in range(3)]
        mine.unpacked(*store_layers)
        if chance.random() < 0.5:
            for image in list(mine.images):
                with mine.database.write() as transaction:
                    transaction.execute("delete from images where name = ?", (image.name,))
        if chance.random() < 0.5:
            collect(mine.blobs, mine.database, mine.snapshots)
        if chance.random() < 0.3:
            mine.snapshots.sweep()


def test_killed_at_any_point(store: Store, folder: Path) -> None:
    """Two processes at a time on one store, killed together with those that they forked, twenty times."""
    assert store.snapshots.driver.name == "overlay"
    log = folder / "log"
    for round_ in range(20):
        children = []
        for seed in (2 * round_, 2 * round_ + 1):
            child = os.fork()
            if not child:
                os.setpgid(0, 0)
                try:
                    worker(folder, seed)
                except BaseException:
                    with log.open("a") as stream:
                        traceback.print_exc(file=stream)
                finally:
                    os._exit(1)
            children.append(child)
        time.sleep(random.Random(round_).uniform(0.03, 0.25))
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        for path in (store.root / "snapshots" / name for name in store.rows()):
            assert len(list(path.rglob("*"))) == 41, "a row whose folder is not whole"
    assert not log.exists(), log.read_text()
    unname(store)
    until = time.monotonic() + 120
    while store.folders():  # the forked ones may end a moment later
        collect(store.blobs, store.database, store.snapshots)
        store.snapshots.sweep()
        assert time.monotonic() < until, "somebody holds a folder that nobody can need"
    assert store.rows() == set()
