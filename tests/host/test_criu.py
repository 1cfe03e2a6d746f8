"""CRIU: what its descriptors and logs are called, options, and a conversation with a stand-in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.cli.criu import page_server_of
from ocirt.errors import Error, UnsupportedError, UsageError
from ocirt.host.criu import Criu, Failed, Request, errors_in, last_words
from ocirt.host.criu_files import Descriptor, external, inherited, keys, look, read, write
from ocirt.host.criu_wire import CGROUP_MODES, DUMP, encode
from ocirt.runtime.checkpoint import Dump
from ocirt.runtime.criu import Folders, config_file
from ocirt.runtime.restore import Restore, cgroup_roots, numbered

LOG = """\
(00.010000) Dumping processes (pid: 5 comm: sh)
(00.010001) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.020000) Error (criu/mount.c:12): mnt: first
(00.030000) Error (criu/sk-inet.c:190): inet: Connected TCP socket, consider using --tcp-established option.
(00.030001) Error (criu/sk-inet.c:190): inet: Connected TCP socket, consider using --tcp-established option.
(00.040000) Error (criu/cr-dump.c:1720): Dump files (pid: 5) failed with -1
(00.050000) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""

PIPE, SOCKET = 0o010000, 0o140000
REGULAR, CHARACTER = 0o100000, 0o020000


def test_a_log_gives_its_last_errors() -> None:
    assert errors_in(LOG) == [
        "mnt: first",
        "inet: Connected TCP socket, consider using --tcp-established option.",
        "Dump files (pid: 5) failed with -1",
    ]
    assert errors_in("nothing\nof it") == []
    assert last_words("one\n\ntwo\n") == ["two"]
    assert last_words("") == []


def test_descriptors_have_the_keys_that_criu_has_for_them() -> None:
    found = [
        Descriptor("pipe:[7]", 14, 7, 13, 0, PIPE),
        Descriptor("socket:[8]", 9, 8, 8, 0, SOCKET),
        Descriptor("/var/log/x", 0x1F, 0x22, 5, 0, REGULAR),
        Descriptor("/dev/pts/3", 0x20, 6, 0x18, os.makedev(136, 3), CHARACTER),
        Descriptor("/dev/null", 0x21, 4, 6, os.makedev(1, 3), CHARACTER),
        Descriptor("/own", 500, 4, 6, 0, REGULAR),
        Descriptor("anon_inode:[eventfd]", 16, 4, 6, 0, 0),
        None,
    ]
    listed = keys(found, [500, 501])
    assert listed == [
        "pipe:[7]",
        "socket:[8]",
        "file[1f:22]",
        f"tty[{os.makedev(136, 3):x}:18]",
        "file[21:4]",
        "",
        "",
        "",
    ]
    assert external(listed) == ["file[1f:22]", "tty[8803:18]", "file[21:4]", "unix[8]"]
    assert inherited(listed) == [
        ("pipe:[7]", 0),
        ("socket:[8]", 1),
        ("ile[1f:22]", 2),
        ("tty[8803:18]", 3),
        ("ile[21:4]", 4),
    ]
    assert inherited(["pipe:[1]", "pipe:[1]", "/dev/null"]) == [("pipe:[1]", 0)]


def test_descriptors_of_a_process_are_looked_at_and_kept(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        one = look(os.getpid())
        assert len(one) == 3
    finally:
        os.close(reader)
        os.close(writer)
    write(str(tmp_path), ["pipe:[1]", "", "x"])
    assert read(str(tmp_path)) == ["pipe:[1]", "", "x"]
    (tmp_path / "descriptors.json").write_text("[1]")
    with pytest.raises(Error, match="is damaged"):
        read(str(tmp_path))


def test_a_dump_asks_for_what_was_wished() -> None:
    switches = ("leave_running", "tcp_established", "lazy_pages")
    options = Dump(
        "/i", cgroups="full", switches=switches, parent="../p", page_server=("::1", 27), network_lock="skip"
    ).options()
    assert options == {
        "leave_running": True,
        "tcp_established": True,
        "lazy_pages": True,
        "log_level": 4,
        "notify_scripts": True,
        "orphan_pts_master": True,
        "manage_cgroups_mode": CGROUP_MODES["full"],
        "network_lock": 3,
        "parent_img": "../p",
        "track_mem": True,
        "ps": {"address": "::1", "port": 27},
    }
    assert Dump("/i").options()["manage_cgroups_mode"] == CGROUP_MODES["soft"]
    assert "network_lock" not in Dump("/i").options()
    assert Dump("/i", pre_dump=True).options()["track_mem"]
    assert Dump("/i", pre_dump=True).goes_on
    assert not Dump("/i").goes_on
    assert encode({"type": DUMP, "opts": options})


def test_a_restore_asks_for_what_was_wished() -> None:
    options = Restore("/i", lsm_profile="apparmor:x", lsm_mount_context="c").options()
    assert (options["lsm_profile"], options["lsm_mount_context"]) == ("apparmor:x", "c")
    assert Restore("/i").options()["lsm_profile"] is None
    with pytest.raises(UsageError, match="--lsm-profile: expected TYPE:NAME"):
        Restore("/i", lsm_profile="x")
    assert numbered([("a", 90), ("b", 91)]) == [{"key": "a", "fd": 4}, {"key": "b", "fd": 5}]
    assert cgroup_roots("4:cpu,cpuacct:/c\n1:name=systemd:/a:b\n0::/\n") == [
        {"ctrl": "cpu", "path": "/c"},
        {"ctrl": "cpuacct", "path": "/c"},
        {"ctrl": "name=systemd", "path": "/a:b"},
        {"ctrl": "", "path": "/"},
    ]


def test_a_page_server_has_an_address_and_a_port() -> None:
    assert page_server_of("10.0.0.1:99") == ("10.0.0.1", 99)
    assert page_server_of("[::1]:99") == ("::1", 99)
    assert page_server_of(None) is None


def test_more_options_come_from_a_file_that_an_annotation_names() -> None:
    assert config_file({"org.criu.config": "/x"}) == "/x"
    assert config_file({"org.criu.config": ""}) is None


def test_folders_are_made_and_half_images_removed(tmp_path: Path) -> None:
    images, work = tmp_path / "a/images", tmp_path / "work"
    with Folders(Dump(str(images), str(work)), make=True) as folders:
        assert set(folders.options()) == {"images_dir_fd", "work_dir_fd"}
        (images / "core-1.img").touch()
        folders.undo()
    assert not images.parent.exists()
    images.mkdir(parents=True)
    (images / "old.img").touch()
    with Folders(Dump(str(images)), make=True) as folders:
        for name in ("new.img", "dump.log"):
            (images / name).touch()
        folders.undo()
    assert sorted(os.listdir(images)) == ["dump.log", "old.img"]


def stand_in(tmp_path: Path, script: str) -> Criu:
    path = tmp_path / "criu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Criu(str(path))


def test_what_criu_says_is_heard(tmp_path: Path) -> None:
    """A notification, and success: the answer is sent before it goes on."""
    script = r"""
    printf '\010\006\020\001\052\016\012\012setup-more\020\007' >&3
    printf '\010\001\020\001' >&3
    sleep 0.1"""
    notices: list[tuple[str, int, int]] = []
    answer = Request(stand_in(tmp_path, script), {"type": DUMP}).finish(lambda *notice: notices.append(notice))
    assert answer == {"type": DUMP, "success": True}
    assert notices == [("setup-more", 7, -1)]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (r"printf '\010\001\020\000\070\005' >&3; sleep 0.1", "it ended with status 0, and said nothing"),
        (r"printf '\010\001\020\000\112\003why' >&3; sleep 0.1", "why"),
        ("echo broken library >&2; exit 9", "broken library"),
        ("exit 9", "it ended with status 9, and said nothing"),
        ("kill -9 $$", "it was ended by signal 9"),
    ],
)
def test_why_criu_failed_is_said(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(Failed) as failed:
        Request(stand_in(tmp_path, script), {"type": DUMP}).finish()
    assert str(failed.value.error("do it")) == f"criu cannot do it: {words}"


def test_its_log_says_more(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("(00.1) Error (criu/x.c:1): inet: bad\n")
    with pytest.raises(Failed) as failed:
        Request(stand_in(tmp_path, "exit 1"), {"type": DUMP}).finish()
    error = failed.value.error("do it", str(tmp_path / "log"), hint="as before")
    assert str(error) == f"criu cannot do it: inet: bad (as before; see {tmp_path}/log)"


def test_an_error_of_ours_makes_it_give_up(tmp_path: Path) -> None:
    script = rf"""
    printf '\010\006\020\001\052\005\012\003one' >&3
    dd bs=100 count=2 <&3 2>/dev/null | od -An -tx1 > {tmp_path}/said
    printf '\010\001\020\000' >&3"""

    def refuse(script: str, pid: int, fd: int) -> None:
        raise UnsupportedError("not this")

    with pytest.raises(UnsupportedError, match="not this"):
        Request(stand_in(tmp_path, script), {"type": DUMP}).finish(refuse)
