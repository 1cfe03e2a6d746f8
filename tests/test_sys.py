"""ocirt._sys: what the manager's part of it does, and that an OSError says which call failed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import _sys


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_file_is_made_whole(tmp_path: Path, place: int) -> None:
    content = os.urandom(200_000)
    _sys.make_file(place, b"f", content, 0o4640, True, -1, -1, -1_500_000_000)
    about = (tmp_path / "f").stat()
    assert (tmp_path / "f").read_bytes() == content
    assert (about.st_mode, about.st_mtime_ns) == (0o104640, -1_500_000_000)
    mask = os.umask(0o027)
    try:
        _sys.make_file(place, b"g", b"", 0o666, False, os.getuid(), os.getgid(), 7)
    finally:
        os.umask(mask)
    about = (tmp_path / "g").stat()
    assert (about.st_mode, about.st_size, about.st_mtime_ns) == (0o100640, 0, 7)


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, place: int) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "f").write_text("old")
    for name in (b"f", b"link"):
        with pytest.raises(FileExistsError) as caught:
            _sys.make_file(place, name, b"new", 0o644, True, -1, -1, 0)
        assert caught.value.filename == "open"
    assert (tmp_path / "f").read_text() == "old"
    assert not (tmp_path / "target").exists()


def test_nothing_stays_open(tmp_path: Path, place: int) -> None:
    before = os.listdir("/proc/self/fd")
    for name in (b"f", b"f", b"none/f"):
        try:
            _sys.make_file(place, name, b"x", 0o644, True, -1, -1, 0)
        except OSError:
            continue
    assert os.listdir("/proc/self/fd") == before


def test_syncfs(place: int) -> None:
    _sys.syncfs(place)
    with pytest.raises(OSError, match="syncfs"):
        _sys.syncfs(-1)


@pytest.mark.root
def test_mount_with_type_and_data(tmp_path: Path) -> None:
    _sys.mount("tmpfs", os.fsencode(tmp_path), 0, "tmpfs", "mode=711")
    try:
        assert tmp_path.stat().st_mode & 0o777 == 0o711
    finally:
        _sys.umount2(str(tmp_path), 0)
    with pytest.raises(OSError, match="mount"):
        _sys.mount("tmpfs", str(tmp_path), 0, "tmpfs", "no-such-option=1")


def test_openat2_is_not_disturbed_by_renames(tmp_path: Path) -> None:
    """The kernel answers EAGAIN to a path with ".." below a root while anything is renamed anywhere (openat2(2))."""
    (tmp_path / "a").mkdir()
    (tmp_path / "x").touch()
    child = os.fork()
    if not child:
        while True:
            os.rename(tmp_path / "x", tmp_path / "y")
            os.rename(tmp_path / "y", tmp_path / "x")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(5000):
            os.close(_sys.openat2(folder, "a/../a/../a", os.O_PATH, 0x10))  # RESOLVE_IN_ROOT
    finally:
        os.close(folder)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
