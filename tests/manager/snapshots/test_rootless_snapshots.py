"""Snapshots of an ordinary user: root of a user namespace, where overlayfs has other attributes and nobody may make
devices.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus import archive, file, folder, header
from isal import igzip_lib
from stored import Store

from ocirt import _sys
from ocirt.manager.snapshots import btrfs, copies, snapshots, vfs, worker

pytestmark = pytest.mark.root

# Where the package and its needs lie may be root's alone, so they are loaded by root.
LOADED = (btrfs, copies, snapshots, vfs, worker, igzip_lib)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
IMAGE = archive(
    folder("d/", uid=1000, gid=1000), file("d/a", b"a", uid=1000), file("d/b", b"b"), folder("e/"), file("e/x", b"x")
).getvalue()
ABOVE = archive(
    file("d/.wh.a", b""),
    folder("e/"),
    file("e/.wh..wh..opq", b""),
    file("e/y", b"y"),
    header("null", b"3", device=(1, 3), mode=0o666),
).getvalue()


def as_user(work: Callable[[], None], log: Path) -> None:
    """Run in a process that is root of a user namespace with ids of its own, and of a mount namespace."""
    there, here = os.pipe()
    mapped, go = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            _sys.unshare(CLONE_NEWUSER | CLONE_NEWNS)
            os.write(here, b"x")
            os.read(mapped, 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            work()
            os._exit(0)
        except BaseException:
            log.write_text(traceback.format_exc())
        finally:
            os._exit(1)
    os.read(there, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text("0 500000 65536\n")
    os.write(go, b"x")
    status = os.waitpid(child, 0)[1]
    for descriptor in (there, here, mapped, go):
        os.close(descriptor)
    assert not status, log.read_text() if log.exists() else status


def test_in_a_user_namespace() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are root's alone
        place = Path(name)
        log = place / "log"
        log.touch()
        for path in (place, log):
            os.chown(path, 500000, 500000)
        as_user(lambda: store_of_a_user(place), log)
        assert list((place / "root/containers").iterdir()) == []


def store_of_a_user(place: Path) -> None:
    store = Store(place / "root", place / "run")
    assert store.snapshots.driver.name in ("overlay", "vfs")
    names = store.unpacked(IMAGE, ABOVE)
    root = store.snapshots.mount("c", names)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["d", "d/b", "e", "e/y"]
    assert (root / "d").stat().st_uid == 1000
    (root / "d/b").unlink()
    (root / "e/y").rename(root / "new")
    assert [(one.kind, one.path) for one in store.snapshots.changes("c")] == [
        *(("C", b"/d"), ("D", b"/d/b"), ("C", b"/e"), ("D", b"/e/y"), ("A", b"/new")),
    ]
    out = io.BytesIO()
    store.snapshots.layer("c", out)
    other = store.snapshots.mount("o", store.unpacked(IMAGE, ABOVE, out.getvalue()))
    assert sorted(str(path.relative_to(other)) for path in other.rglob("*")) == ["d", "e", "new"]
    with store.snapshots.root("o", [("/etc", "/e", False)]) as opened:
        assert stat.S_ISREG(os.stat("e/passwd", dir_fd=opened).st_mode)
    for container in ("c", "o"):
        store.snapshots.remove(container)
    store.database.close()
