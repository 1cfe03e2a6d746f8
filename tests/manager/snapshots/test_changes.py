"""What a container made of its image: told as docker diff does, and put on top of it again as a layer."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import archive, file, folder, hard_link, symlink
from stored import Store

from ocirt import _sys
from ocirt.manager import digest as digests
from ocirt.manager.errors import MissingError

pytestmark = pytest.mark.root

IMAGE = archive(
    folder("d/", 0o750, uid=7),
    file("d/changed", b"1"),
    file("d/gone", b"1"),
    file("d/kept", b"1"),
    folder("old/"),
    file("old/x", b"x"),
    file("old/y", b"y"),
    folder("tree/"),
    file("tree/leaf", b"leaf"),
    symlink("link", "d"),
    hard_link("d/hard", "d/kept"),
).getvalue()
ABOVE = archive(file("old/z", b"z"), file("d/.wh.hard", b"")).getvalue()


@pytest.fixture(params=["overlay", "vfs", "btrfs"])
def store(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Store]:
    place = folder
    if request.param == "btrfs":
        place = tmp_path / "btrfs"
        make_btrfs(folder / "image", place)
    one = Store(place / "root", folder / "run", request.param)
    yield one
    one.database.close()
    if request.param == "btrfs":
        _sys.umount2(str(place), 2)


def make_btrfs(image: Path, place: Path) -> None:
    if "btrfs" not in Path("/proc/filesystems").read_text() or not shutil.which("mkfs.btrfs"):
        pytest.skip("no btrfs here")
    with image.open("wb") as stream:
        stream.truncate(300 << 20)
    place.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode:
        pytest.skip("no loop devices here")


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """What a layer can say of a tree."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content: object = None
        if stat.S_ISREG(about.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(path)
        is_folder = stat.S_ISDIR(about.st_mode)
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)} if is_folder else {}
        found[str(path.relative_to(root))] = (
            *(about.st_mode, about.st_uid, about.st_gid, about.st_rdev, content, attributes),
            *(int(about.st_mtime), 0 if is_folder else about.st_nlink),
        )
    return found


def change(root: Path) -> None:
    (root / "d/changed").write_text("2")
    (root / "d/gone").unlink()
    (root / "new").mkdir(mode=0o700)
    (root / "new/f").write_bytes(b"f" * 5000)
    os.chown(root / "new/f", 3_000_000, 1000)
    (root / "new/f").chmod(0o4711)
    os.setxattr(root / "new/f", "security.capability", b"\x01\0\0\2\0\4\0\0" + bytes(12))
    os.link(root / "new/f", root / "new/g")
    (root / ("long" * 50)).symlink_to("a/" * 80)
    os.mkfifo(root / "new/fifo")
    os.mknod(root / "new/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    shutil.rmtree(root / "old")
    (root / "old").mkdir()
    (root / "old/x").write_text("another")
    shutil.rmtree(root / "tree")
    (root / "link").unlink()
    (root / "link").mkdir()
    os.utime(root / "new", (5, 5))


TOLD = {
    ("C", b"/d"),
    ("C", b"/d/changed"),
    ("D", b"/d/gone"),
    ("A", b"/new"),
    ("A", b"/new/f"),
    ("A", b"/new/g"),
    ("A", b"/new/fifo"),
    ("A", b"/new/null"),
    ("A", b"/" + b"long" * 50),
    ("C", b"/old"),
    ("C", b"/old/x"),
    ("D", b"/old/y"),
    ("D", b"/old/z"),
    ("D", b"/tree"),
    ("C", b"/link"),
}


def told(store: Store, container: str) -> list[tuple[str, bytes]]:
    return [(one.kind, one.path) for one in store.snapshots.changes(container)]


def test_what_changed_is_told_and_makes_a_layer(store: Store) -> None:
    names = store.unpacked(IMAGE, ABOVE)
    root = store.snapshots.mount("abc", names)
    assert told(store, "abc") == []
    change(root)
    found = told(store, "abc")
    if ("A", b"/old/x") in found:  # a folder that was made anew: overlayfs has no more to compare with
        found[found.index(("A", b"/old/x"))] = ("C", b"/old/x")
    assert len(found) == len(set(found)) and set(found) == TOLD
    out = io.BytesIO()
    diff_id = store.snapshots.layer("abc", out)
    assert diff_id == digests.of(out.getvalue())
    again = io.BytesIO()
    assert store.snapshots.layer("abc", again) == diff_id
    before = picture(root)
    names = store.unpacked(IMAGE, ABOVE, out.getvalue())
    other = store.snapshots.mount("other", names)
    assert picture(other) == before
    assert told(store, "other") == []
    for container in ("abc", "other"):
        store.snapshots.remove(container)


def test_the_layer_is_a_tar_archive_to_others(store: Store, tmp_path: Path) -> None:
    root = store.snapshots.mount("abc", store.unpacked(IMAGE, ABOVE))
    change(root)
    out = io.BytesIO()
    store.snapshots.layer("abc", out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as theirs:
        members = {one.name: one for one in theirs}
    assert members["new/f"].uid == 3_000_000 and members["new/f"].mode == 0o4711
    assert members["new/g"].islnk() and members["new/g"].linkname == "new/f"
    assert members["long" * 50].linkname == "a/" * 80
    assert {"d/.wh.gone", ".wh.tree"} < members.keys()
    listed = subprocess.run(["tar", "-t"], input=out.getvalue(), capture_output=True, check=True).stdout.decode()
    assert {line.rstrip("/") for line in listed.splitlines()} == set(members)
    store.snapshots.remove("abc")


def test_a_container_that_was_not_started_has_a_root(store: Store, tmp_path: Path) -> None:
    names = store.unpacked(IMAGE)
    store.snapshots.prepare("abc", names)
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "v").write_text("volume's")
    mounts = Path("/proc/self/mountinfo").read_text()
    binds = [(str(volume), "/old", True), (str(volume), "/none", True), ("/none", "/d", False)]
    with store.snapshots.root("abc", binds) as root:
        assert sorted(os.listdir(root)) == ["d", "link", "old", "tree"]
        with open(os.open("old/v", os.O_RDONLY, dir_fd=root)) as stream:
            assert stream.read() == "volume's"
        os.close(os.open("made", os.O_WRONLY | os.O_CREAT, dir_fd=root))
        assert Path("/proc/self/mountinfo").read_text() == mounts
    assert told(store, "abc") == [("A", b"/made")]
    assert store.snapshots.usage("abc") >= 0
    mounted = store.snapshots.mount("abc", names)
    with store.snapshots.root("abc") as root:
        assert os.path.samestat(os.fstat(root), mounted.stat())
    store.snapshots.remove("abc")
    with pytest.raises(MissingError, match="has no file system"), store.snapshots.root("abc"):
        pass


def test_what_is_as_it_was_is_not_told(store: Store) -> None:
    """A file that was written the same, and a folder that something came and went in."""
    root = store.snapshots.mount("abc", store.unpacked(IMAGE))
    about = (root / "d/kept").stat()
    (root / "tree/leaf").write_text("LEAF")
    os.utime(root / "tree/leaf", ns=(about.st_atime_ns, (1_000_000_000) * 10**9))
    assert ("C", b"/tree/leaf") in told(store, "abc")
    store.snapshots.remove("abc")


def test_what_was_made_to_mount_ours_over_is_no_change(store: Store) -> None:
    names = store.unpacked(archive(folder("etc/", 0o755), file("etc/passwd", b"root")).getvalue())
    root = store.snapshots.mount("abc", names)
    for name in ("hostname", "hosts", "resolv.conf"):
        (root / "etc" / name).touch()
    (root / "zero").touch()
    assert told(store, "abc") == [("A", b"/zero")]
    (root / "etc").chmod(0o700)
    assert told(store, "abc") == [("C", b"/etc"), ("A", b"/zero")]
    (root / "etc").chmod(0o755)
    (root / "etc/passwd").write_text("other")
    assert told(store, "abc") == [("C", b"/etc"), ("C", b"/etc/passwd"), ("A", b"/zero")]
    (root / "etc/hosts").write_text("somebody's own")
    assert ("A", b"/etc/hosts") in told(store, "abc")
    store.snapshots.remove("abc")


def test_nor_are_folders_that_the_image_lacks(store: Store) -> None:
    root = store.snapshots.mount("abc", store.unpacked(archive(folder("bin/")).getvalue()))
    for name in ("dev", "proc", "sys", "etc", "mine"):
        (root / name).mkdir()
    (root / "etc/hosts").touch()
    assert told(store, "abc") == [("A", b"/mine")]
    (root / "dev/own").touch()
    (root / "etc/passwd").touch()
    assert set(told(store, "abc")) == {
        *(("A", b"/dev"), ("A", b"/dev/own"), ("A", b"/etc"), ("A", b"/etc/passwd"), ("A", b"/mine"))
    }
    store.snapshots.remove("abc")
