"""cp: what is in a container comes out, what is given goes in, and no link leads out of it, however it is swapped."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import archive, file, folder, hard_link, header, symlink
from stored import Store

from ocirt.manager import documents
from ocirt.manager.containers import copying
from ocirt.manager.errors import ArchiveError, ConflictError, ManagerError, MissingError

pytestmark = pytest.mark.root

IMAGE = archive(
    folder("etc/", uid=3),
    file("etc/a", b"aa", mode=0o640),
    folder("etc/d/"),
    file("etc/d/b", b"bb"),
    folder("usr/"),
    folder("usr/lib/"),
    symlink("lib", "usr/lib"),
    symlink("up", "../../../../../../etc/a"),
    symlink("etc/abs", "/etc/d"),
    symlink("loop", "loop"),
).getvalue()


@pytest.fixture
def container(store: Store) -> Iterator[str]:
    store.snapshots.mount("c", store.unpacked(IMAGE))
    yield "c"
    store.snapshots.remove("c")


def record(store: Store, mounts: list[dict[str, object]], host: dict[str, object]) -> None:
    document = documents.encode({"mounts": mounts, "host": host}).decode()
    with store.database.write() as transaction:
        transaction.execute("insert into containers values ('c', 'c', '', 0, ?)", (document,))


def out(store: Store, path: str, follow: bool = False) -> dict[str, bytes | None]:
    stream = io.BytesIO()
    copying.copy_out(store, "c", path, stream, follow=follow)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as theirs:
        return {
            one.name: theirs.extractfile(one).read() if one.isreg() else None  # type: ignore[union-attr]
            for one in theirs
        }


@pytest.mark.parametrize("mounted", [True, False])
def test_out(store: Store, container: str, mounted: bool) -> None:
    if not mounted:
        store.snapshots.unmount(container)
    assert out(store, "/etc/a") == out(store, "etc/a") == {"a": b"aa"}
    assert out(store, "/etc/d") == {"d": None, "d/b": b"bb"}
    assert out(store, "/etc/d/.") == out(store, "/etc/abs/.") == {".": None, "./b": b"bb"}
    assert out(store, "/etc/abs") == {"abs": None}
    assert out(store, "/etc/abs", follow=True) == {"abs": None, "abs/b": b"bb"}
    assert out(store, "/up", follow=True) == {"up": b"aa"}
    assert out(store, "/").keys() > {".", "./etc", "./etc/d/b", "./lib"}
    with pytest.raises(MissingError, match="no /none"):
        out(store, "/none")
    with pytest.raises(ConflictError, match="no folder"):
        out(store, "/etc/a/x")
    with pytest.raises(ManagerError, match="symbolic links"):
        out(store, "/loop", follow=True)


def test_stat(store: Store, container: str) -> None:
    found = copying.stat(store, container, "/etc/a")
    assert (found.name, found.size, found.mode, found.mtime, found.link_target) == ("a", 2, 0o100640, 10**18, "")
    assert copying.stat(store, container, "/up").link_target == "/etc/a"
    assert copying.stat(store, container, "/etc/abs").link_target == "/etc/d"
    assert copying.stat(store, container, "/etc/abs/").name == "abs"
    with pytest.raises(MissingError):
        copying.stat(store, container, "/etc/none")


@pytest.mark.parametrize("mounted", [True, False])
def test_in(store: Store, container: str, mounted: bool) -> None:
    if not mounted:
        store.snapshots.unmount(container)
    given = archive(
        folder("./", 0o700),
        folder("n/", uid=5),
        file("n/.wh.x", b"a name like others"),
        hard_link("n/h", "n/.wh.x"),
        symlink("n/l", "/etc"),
        file("lib2", b"2"),
    )
    copying.copy_in(store, container, "/lib/", given)
    copying.copy_in(store, container, "/lib", archive(file("more", b"3"), file("lib2", b"22")))
    assert out(store, "/usr/lib") == {
        "lib": None,
        "lib/n": None,
        "lib/n/.wh.x": b"a name like others",
        "lib/n/h": None,
        "lib/n/l": None,
        "lib/lib2": b"22",
        "lib/more": b"3",
    }
    assert copying.stat(store, container, "/usr/lib").mode & 0o777 == 0o755
    copying.copy_in(store, container, "/", archive(file("lib/deep/x", b"through the link, inside")))
    assert out(store, "/usr/lib/deep/x") == {"x": b"through the link, inside"}
    with pytest.raises(MissingError):
        copying.copy_in(store, container, "/none", archive())
    with pytest.raises(ConflictError):
        copying.copy_in(store, container, "/etc/a", archive())
    with pytest.raises(ArchiveError, match="leads out"):
        copying.copy_in(store, container, "/etc", archive(file("../x")))


def test_a_folder_and_something_else_do_not_replace_each_other(store: Store, container: str) -> None:
    for one in (archive(folder("a/")), archive(file("d", b"x")), archive(symlink("d", "/"))):
        with pytest.raises(ConflictError, match="folder"):
            copying.copy_in(store, container, "/etc", one)
    copying.copy_in(store, container, "/etc", archive(file("d", b"x")), folders=True)
    assert out(store, "/etc/d") == {"d": b"x"}


def test_volumes_are_in_their_places(store: Store, container: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "v").write_text("v")
    mount = {"Type": "volume", "Source": str(volume), "Destination": "/etc/d", "RW": True}
    sealed = {"Type": "bind", "Source": str(volume), "Destination": "/usr", "RW": False}
    record(store, [mount, sealed, {"Type": "tmpfs", "Destination": "/run"}], {"ReadonlyRootfs": True})
    assert out(store, "/etc/d") == {"d": None, "d/v": b"v"}
    copying.copy_in(store, container, "/etc/d", archive(file("w", b"w")))
    assert (volume / "w").read_text() == "w"
    with pytest.raises(ManagerError, match="Read-only"):
        copying.copy_in(store, container, "/usr", archive(file("x", b"x")))
    with pytest.raises(ConflictError, match="is read-only"):
        copying.copy_in(store, container, "/etc", archive(file("x", b"x")))
    assert sorted(os.listdir(store.container("c") / "rootfs/etc/d")) == ["b"]


def test_no_swap_leads_out(store: Store, container: str, tmp_path: Path) -> None:
    """A program in the container has a folder be a link to the host's, and a folder again, all the time."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "x").write_text("of the host")
    before = host.stat()
    root = store.container("c") / "rootfs"
    (root / "swap").mkdir()
    (root / "swap/x").write_text("inside")
    numbers = itertools.count()
    stopped = threading.Event()

    def swap() -> None:
        while not stopped.is_set():
            try:
                (root / "swap").rename(root / f"kept{next(numbers)}")
                (root / "swap").symlink_to(host)
                (root / "swap").unlink()
                (root / "swap").mkdir()
                (root / "swap/x").write_text("inside")
            except OSError:
                continue  # what is copied in came between two of these

    thread = threading.Thread(target=swap)
    thread.start()
    given = archive(
        folder("swap/", 0o707), file("swap/made", b"1"), header("swap/fifo", b"6", mode=0o777), symlink("swap/l", "x")
    ).getvalue()
    try:
        for _ in range(150):
            for work in (
                lambda: copying.copy_in(store, container, "/", io.BytesIO(given), folders=False),
                lambda: copying.copy_in(store, container, "/swap", archive(file("x", b"changed"), folder("y/"))),
                lambda: [one for one in out(store, "/swap").values() if one == b"of the host"] and pytest.fail("read"),
                lambda: (
                    [one for one in out(store, "/swap/x").values() if one == b"of the host"] and pytest.fail("read")
                ),
            ):
                try:
                    work()
                except ManagerError:
                    continue
    finally:
        stopped.set()
        thread.join()
    after = host.stat()
    assert os.listdir(host) == ["x"] and (host / "x").read_text() == "of the host"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
