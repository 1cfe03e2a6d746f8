"""Layers unpacked, put together, and removed, whatever is killed on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpus import archive, file, folder, symlink
from stored import Store

from ocirt.manager import digest as digests
from ocirt.manager.errors import ArchiveError, DigestError, DocumentError, ManagerError, MissingError
from ocirt.manager.store.leases import Lease

pytestmark = pytest.mark.root


def tar(*members: bytes) -> bytes:
    return archive(*members).getvalue()


LOWEST = tar(
    folder("./", 0o751, uid=5), folder("d/"), file("d/a", b"a1"), file("d/b", b"b1"), folder("e/"), file("e/x")
)
MIDDLE = tar(file("d/.wh.a", b""), file("d/c", b"c2"), folder("e/"), file("e/.wh..wh..opq", b""), file("e/y", b"y2"))
HIGHEST = tar(file("d/b", b"b3"), symlink("s", "d/b"), file("big", bytes(3_000_000)))


def seen(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(root.rglob("*"))
    }


MERGED = {"big": bytes(3_000_000), "d": None, "d/b": b"b3", "d/c": b"c2", "e": None, "e/y": b"y2", "s": None}


def test_layers_come_together(store: Store) -> None:
    names = store.unpacked(LOWEST, MIDDLE, HIGHEST)
    assert names == tuple(f"diff:{digests.of(one)}" for one in (LOWEST, MIDDLE, HIGHEST))
    root = store.snapshots.mount("abc", names)
    assert seen(root) == MERGED
    assert (root.stat().st_mode & 0o7777, root.stat().st_uid) == (0o751, 5)
    (root / "new").write_text("of the container")
    assert store.snapshots.mount("abc", names) == root  # it is there already
    store.snapshots.unmount("abc")
    store.snapshots.unmount("abc")
    assert seen(root) == {}
    store.snapshots.mount("abc", names)
    assert (root / "new").read_text() == "of the container"
    assert store.folders() == store.rows()
    store.snapshots.remove("abc")
    store.snapshots.remove("abc")
    assert not store.container("abc").exists()
    assert seen(store.root / "snapshots").keys() > {"driver"}


def test_unpacked_once_for_all_images(store: Store) -> None:
    first = store.unpacked(LOWEST, MIDDLE)
    before = store.rows()
    second = store.unpacked(LOWEST, HIGHEST)
    assert first[0] == second[0] and len(store.rows()) == 3 and before < store.rows()
    with Lease(store.database) as lease:
        assert store.snapshots.unpack(store.image(LOWEST, MIDDLE), lease) == first
    assert store.folders() == store.rows()


def test_the_same_layer_twice_and_none_at_all(store: Store) -> None:
    names = store.unpacked(LOWEST, MIDDLE, LOWEST)
    assert seen(store.snapshots.mount("a", names)).keys() == {"d", "d/a", "d/b", "d/c", "e", "e/x", "e/y"}
    assert seen(store.snapshots.mount("b", store.unpacked())) == {}
    for container in ("a", "b"):
        store.snapshots.remove(container)


def test_a_root_that_hides_all_below(store: Store) -> None:
    names = store.unpacked(LOWEST, tar(file(".wh..wh..opq", b""), file("only", b"1")), HIGHEST)
    assert seen(store.snapshots.mount("a", names)).keys() == {"big", "d", "d/b", "only", "s"}
    store.snapshots.remove("a")


def test_as_many_layers_as_the_kernel_takes(store: Store) -> None:
    """Their names are more than a page, were they written whole."""
    names = store.unpacked(*(tar(file(f"f{number}", b"x")) for number in range(500)))
    root = store.snapshots.mount("f" * 64, names)
    assert seen(root).keys() == {f"f{number}" for number in range(500)}
    store.snapshots.remove("f" * 64)
    more = store.unpacked(*(tar(file(f"f{number}", b"x")) for number in range(501)))
    with pytest.raises(ManagerError, match="501 layers"):
        store.snapshots.mount("b", more)


@pytest.mark.parametrize(
    ("archives", "kind", "reason"),
    [
        ([LOWEST, b"no archive" * 100], ArchiveError, "is damaged"),
        ([LOWEST, tar(symlink("x", "/"), file("../out"))], ArchiveError, "out of the layer"),
        ([LOWEST[:1600], HIGHEST], ArchiveError, "ends in the middle"),
    ],
)
def test_a_bad_layer_leaves_nothing(store: Store, archives: list[bytes], kind: type[ManagerError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        store.unpacked(*archives)
    assert store.folders() == store.rows() == set()


def test_content_that_the_configuration_does_not_name(store: Store) -> None:
    image = store.image(LOWEST, HIGHEST, diff_ids=[digests.of(LOWEST), digests.of(MIDDLE)])
    with Lease(store.database) as lease, pytest.raises(DigestError, match="the configuration says"):
        store.snapshots.unpack(image, lease)
    few = store.image(LOWEST, HIGHEST, diff_ids=[digests.of(LOWEST)])
    with Lease(store.database) as lease, pytest.raises(DocumentError, match="1 diff_ids, and the manifest 2"):
        store.snapshots.unpack(few, lease)
    assert store.folders() == store.rows() == set()


def test_a_layer_whose_blob_is_gone(store: Store) -> None:
    image = store.image(LOWEST)
    for (digest,) in store.database.read.execute("select digest from blobs where media_type like '%layer%'").fetchall():
        with store.database.write() as transaction:
            transaction.execute("delete from blobs where digest = ?", (digest,))
    with Lease(store.database) as lease, pytest.raises(MissingError, match="is not here"):
        store.snapshots.unpack(image, lease)


def test_what_a_container_made_is_not_followed(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("of the host")
    root = store.snapshots.mount("abc", store.unpacked(LOWEST))
    (root / "link").symlink_to(outside)
    deep = os.open(root, os.O_RDONLY)
    for _ in range(1500):  # more than a path can say, and than Python can call
        os.mkdir("deep", dir_fd=deep)
        inner = os.open("deep", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    store.snapshots.remove("abc")
    assert not store.container("abc").exists()
    assert (outside / "file").read_text() == "of the host"


def test_a_name_that_leads_elsewhere_is_none(store: Store) -> None:
    for name in ("../x", "", ".", "a/b"):
        with pytest.raises(ManagerError, match="no id"):
            store.snapshots.remove(name)


def test_what_no_driver_can_do_is_told(store: Store) -> None:
    with pytest.raises(ManagerError, match="cannot be limited"):
        store.snapshots.mount("a", store.unpacked(LOWEST), size=1 << 20)
    assert not store.container("a").exists()


def test_folders_of_which_a_layer_says_nothing_are_as_below(store: Store) -> None:
    base = tar(folder("d/", 0o700, uid=5), folder("d/in/", 0o711, uid=6), folder("e/", 0o500))
    names = store.unpacked(base, tar(file("e/x")), tar(file("d/in/new/x"), file("e/y")))
    root = store.snapshots.mount("a", names)
    found = {name: (root / name).stat() for name in ("d", "d/in", "d/in/new", "e")}
    assert {name: (about.st_mode & 0o777, about.st_uid) for name, about in found.items()} == {
        "d": (0o700, 5),
        "d/in": (0o711, 6),
        "d/in/new": (0o755, 0),
        "e": (0o500, 0),
    }
    store.snapshots.remove("a")
