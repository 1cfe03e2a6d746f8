"""host.passwd: HOME from an image's /etc/passwd, which may be anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.host.passwd import MAX_SIZE, home_of


def home(path: Path, uid: int) -> bytes:
    return home_of(uid, os.open(path, os.O_PATH | os.O_CLOEXEC))


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:A User,,,:/home/user:/bin/sh\n")
    return path


@pytest.mark.parametrize(("uid", "expected"), [(0, b"/root"), (1000, b"/home/user"), (1, b"/"), (100, b"/")])
def test_home_is_that_of_the_uid(passwd: Path, uid: int, expected: bytes) -> None:
    assert home(passwd, uid) == expected


def test_without_a_file_it_is_the_root() -> None:
    assert home_of(0, None) == b"/"


def test_the_first_line_of_a_uid_counts(passwd: Path) -> None:
    passwd.write_text("a:x:7:7::/first:\nb:x:7:7::/second:\n")
    assert home(passwd, 7) == b"/first"


@pytest.mark.parametrize(
    "line",
    [
        b"user:x:7:7::relative:/bin/sh",
        b"user:x:7:7:::/bin/sh",
        b"user:x:7:7:",
        b"user:x:7",
        b"user:x:07:7::/home:/bin/sh",
        b"user:x: 7:7::/home:/bin/sh",
        b"user:x:7:7::/" + b"x" * 4096 + b":/bin/sh",
        b"user:x:7:7::/a\0b:/bin/sh",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_line_that_is_no_use_means_the_root(passwd: Path, line: bytes) -> None:
    passwd.write_bytes(line + b"\n")
    assert home(passwd, 7) == b"/"


def test_a_home_that_is_not_utf8_is_passed_on(passwd: Path) -> None:
    passwd.write_bytes(b"user:x:7:7::/home/\xff:/bin/sh\n")
    assert home(passwd, 7) == b"/home/\xff"


def test_the_last_line_needs_no_end(passwd: Path) -> None:
    passwd.write_bytes(b"user:x:7:7::/home/x:/bin/sh")
    assert home(passwd, 7) == b"/home/x"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    """A FIFO would block, a device could do anything."""
    path = tmp_path / "passwd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    assert home(path, 0) == b"/"


def test_only_the_start_of_a_huge_file_is_read(passwd: Path) -> None:
    with passwd.open("r+b") as file:
        file.truncate(MAX_SIZE * 10_000)
        file.seek(MAX_SIZE + 10)
        file.write(b"\nlate:x:7:7::/late:\n")
    assert home(passwd, 0) == b"/root"
    assert home(passwd, 7) == b"/"


def test_its_descriptor_is_closed(passwd: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    home(passwd, 0)
    home(Path("/dev"), 0)
    assert len(os.listdir("/proc/self/fd")) == before
