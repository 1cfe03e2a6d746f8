"""USER and WORKDIR, with the attacks that others had to learn of."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import GROUP, PASSWD

from ocirt.manager.containers import users, within
from ocirt.manager.errors import GrammarError, LimitError, ManagerError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    return root


@pytest.fixture
def root(folder: Path) -> Iterator[int]:
    descriptor = within.opened(folder)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("text", "extra", "uid", "gid", "groups", "home"),
    [
        ("", (), 0, 0, (0, 1), "/root"),
        ("root", (), 0, 0, (0, 1), "/root"),
        ("ann", (), 1000, 1001, (1001, 1, 50), "/home/ann"),
        ("1000", (), 1000, 1001, (1001, 1, 50), "/home/ann"),
        ("ann:staff", (), 1000, 50, (50,), "/home/ann"),
        ("ann:7", ("staff", "9"), 1000, 7, (7, 50, 9), "/home/ann"),
        ("7", (), 7, 0, (0,), "/"),
        ("7:8", (), 7, 8, (8,), "/"),
        (":8", (), 0, 8, (8,), "/root"),
        ("2147483647", (), 2147483647, 0, (0,), "/"),
    ],
)
def test_users(
    root: int, text: str, extra: tuple[str, ...], uid: int, gid: int, groups: tuple[int, ...], home: str
) -> None:
    assert users.resolve(root, text, extra) == users.User(uid, gid, groups, home)


@pytest.mark.parametrize(
    "text",
    [
        *"2147483648 4294967295 4294967296 4294967297 9223372036854775808 99999999999999999999999 +0 -1".split(),
        *"0x0 1e3 0_0 1.0 ٣ 0:4294967296 ann:+0 ann:".split(),
        *(" 0", "0 ", "0\n", "a b", "a\0b", "a,b", "a/b"),
    ],
)
def test_what_is_neither_a_name_nor_an_id(root: int, text: str) -> None:
    """CVE-2026-46680, CVE-2024-40635: the passwd of the test has an account with the name 4294967297, which is root."""
    with pytest.raises(GrammarError):
        users.check(text, "USER")
    with pytest.raises(GrammarError):
        users.resolve(root, text)


def test_who_is_not_there(root: int) -> None:
    for text, extra in (("eve", ()), ("ann:eve", ()), ("bad", ()), ("ann", ("eve",))):
        with pytest.raises(ManagerError, match="has no"):
            users.resolve(root, text, extra)


def test_no_files_at_all(tmp_path: Path) -> None:
    root = within.opened(tmp_path)
    assert users.resolve(root, "") == users.User(0, 0, (0,), "/")
    assert users.resolve(root, "5:6") == users.User(5, 6, (6,), "/")
    with pytest.raises(ManagerError):
        users.resolve(root, "root")
    os.close(root)


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "link", "device"])
def test_what_is_no_regular_file_is_not_opened(folder: Path, root: int, tmp_path: Path, kind: str) -> None:
    """CVE-2024-9676."""
    path = folder / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(folder / "etc")
        try:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind("passwd")
        finally:
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "outside").write_text("eve:x:0:0::/:\n")
        path.symlink_to(tmp_path / "outside")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ManagerError, match="has no user eve"):
        users.resolve(root, "eve")


def test_links_lead_inside(folder: Path, root: int) -> None:
    (folder / "etc/passwd").rename(folder / "accounts")
    (folder / "etc/passwd").symlink_to("/accounts")
    assert users.resolve(root, "ann").uid == 1000


def test_a_file_without_end(folder: Path, root: int) -> None:
    """CVE-2026-47262, CVE-2023-25173's neighbour: groups of a gigabyte."""
    os.truncate(folder / "etc/group", 1 << 32)
    with pytest.raises(LimitError, match="etc/group"):
        users.resolve(root, "ann")


def test_a_working_directory_is_made_inside(folder: Path, root: int, tmp_path: Path) -> None:
    """CVE-2026-55686."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "a").symlink_to(outside)
    (folder / "b").symlink_to("/real")
    (folder / "real").mkdir()
    os.close(within.make_folder(root, "/b/c/../d"))
    assert (folder / "real/d").is_dir()
    with pytest.raises(ManagerError, match="symlink that leads nowhere"):
        within.make_folder(root, "/a/x")
    (folder / str(outside).lstrip("/")).mkdir(parents=True)
    os.close(within.make_folder(root, "/a/x"))
    assert list(outside.iterdir()) == []
    assert (folder / str(outside).lstrip("/") / "x").is_dir()
    os.close(within.make_folder(root, "/../../../../../../up"))
    assert (folder / "up").is_dir()
    (folder / "file").touch()
    with pytest.raises(ManagerError, match="/file"):
        within.make_folder(root, "/file/x")
