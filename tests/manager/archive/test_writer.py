"""The tar writer: what it writes is what the reader, GNU tar and Python's tarfile read."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.manager.archive import reader
from ocirt.manager.archive.reader import Entry, Reader
from ocirt.manager.archive.writer import Writer
from ocirt.manager.errors import ArchiveError

FIELDS = ("kind", "name", "target", "mode", "uid", "gid", "mtime", "size", "length", "device", "xattrs")


def entry(name: bytes, kind: bytes = reader.REGULAR, **fields: object) -> Entry:
    made = Entry()
    made.name, made.kind = name, kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def file(name: bytes, size: int, **fields: object) -> Entry:
    return entry(name, size=size, length=size, mode=0o644, **fields)


def written(*members: tuple[Entry, bytes]) -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    for member, data in members:
        assert writer.add(member, io.BytesIO(data)) == 0
    writer.close()
    assert writer.written == len(out.getvalue())
    return out.getvalue()


def read(archive: bytes) -> list[tuple[dict[str, object], bytes]]:
    reading = Reader(io.BytesIO(archive))
    return [({key: getattr(one, key) for key in FIELDS}, b"".join(reading.data())) for one in reading]


MEMBERS = [
    (entry(b"etc/", reader.FOLDER, mode=0o755), b""),
    (file(b"etc/motd", 6, mtime=1_500_000_000_250_000_000, xattrs={b"user.b": b"\0\n=", b"user.a": b""}), b"hello\n"),
    (file(b"n" * 99, 0), b""),
    (file(b"n" * 100, 513), b"x" * 513),
    (file(b"d/" * 1500 + b"\xff\xfe", 1, uid=1 << 21, gid=(1 << 32) - 2, mtime=-1_500_000_000), b"y"),
    (entry(b"link", reader.SYMLINK, target=b"t" * 300, mode=0o777), b""),
    (entry(b"hard", reader.HARD_LINK, target=b"etc/motd", mode=0o644), b""),
    (entry(b"dev/null", reader.CHARACTER, device=(1, 3), mode=0o666, mtime=-1), b""),
    (entry(b"dev/big", reader.BLOCK_DEVICE, device=(4095, (1 << 20) - 1), mode=0o600), b""),
    (entry(b"pipe", reader.FIFO, mode=0o4600), b""),
]


def test_the_reader_reads_what_was_written() -> None:
    found = read(written(*MEMBERS))
    assert found == [({key: getattr(member, key) for key in FIELDS}, data) for member, data in MEMBERS]


def test_tarfile_reads_it_too() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(*MEMBERS))) as archive:
        found = archive.getmembers()
    for one, (member, _) in zip(found, MEMBERS, strict=True):
        assert one.name.encode("utf-8", "surrogateescape") == member.name.rstrip(b"/")
        assert (one.mode, one.uid, one.gid, one.size) == (member.mode, member.uid, member.gid, member.size)
        assert one.mtime == pytest.approx(member.mtime / 1e9)
        assert one.linkname.encode() == member.target
    assert found[1].pax_headers["SCHILY.xattr.user.a"] == ""


def test_gnu_tar_reads_it_and_has_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(written(*MEMBERS))
    done = subprocess.run(
        ["tar", "--xattrs", "--numeric-owner", "--quoting-style=escape", "-tvf", tmp_path / "a.tar"],
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"},
    )
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [
        *("drwxr-xr-x", "-rw-r--r--*", "-rw-r--r--", "-rw-r--r--", "-rw-r--r--", "lrwxrwxrwx", "hrw-r--r--"),
        *("crw-rw-rw-", "brw-------", "prwS------"),
    ]
    assert lines[4].split()[1] == "2097152/4294967294"
    # Of the time before 1970 GNU tar says that it is implausible.
    assert all(b"implausibly old" in line for line in done.stderr.splitlines())


def test_the_order_of_attributes_does_not_show() -> None:
    one = written((file(b"a", 0, xattrs={b"user.a": b"1", b"user.b": b"2"}), b""))
    other = written((file(b"a", 0, xattrs={b"user.b": b"2", b"user.a": b"1"}), b""))
    assert one == other


def test_more_than_eight_gigabytes_are_said_by_pax() -> None:
    class Nothing:
        def __init__(self) -> None:
            self.head = b""

        def write(self, data: bytes) -> None:
            self.head = self.head or data

    class Zeros:
        def read(self, size: int) -> bytes:
            return zeros[:size]

    zeros, size, out = bytes(1 << 20), (8 << 30) + 1, Nothing()
    writer = Writer(out)
    writer.add(file(b"big", size), Zeros())
    assert writer.written == 1536 + size + 511
    assert next(iter(Reader(io.BytesIO(out.head)))).size == size


def test_a_file_that_shrinks_ends_with_zeros() -> None:
    out = io.BytesIO()
    writer = Writer(out)
    assert writer.add(file(b"a", 700), io.BytesIO(b"x" * 300)) == 400
    assert writer.add(file(b"b", 3), io.BytesIO(b"more than three")) == 0
    writer.close()
    assert [data for _, data in read(out.getvalue())] == [b"x" * 300 + bytes(400), b"mor"]


def test_one_owner_of_everything() -> None:
    out = io.BytesIO()
    writer = Writer(out, (7, 8))
    writer.add(file(b"a", 0, uid=1, gid=2))
    writer.empty(b"b")
    writer.close()
    assert [(one["uid"], one["gid"]) for one, _ in read(out.getvalue())] == [(7, 8), (7, 8)]


def test_a_folder_gets_its_slash_and_put_needs_no_entry() -> None:
    out = io.BytesIO()
    writer = Writer(out)
    writer.add(entry(b"d", reader.FOLDER))
    writer.put(b"d/f", b"abc", mtime=5_000_000_000)
    writer.close()
    (folder, _), (made, data) = read(out.getvalue())
    assert (folder["name"], made["name"], made["mtime"], made["mode"], data) == (
        b"d/",
        b"d/f",
        5_000_000_000,
        0o644,
        b"abc",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        entry(b""),
        entry(b"a\0b"),
        entry(b"a", reader.SYMLINK, target=b"a\0b"),
        entry(b"a", xattrs={b"user.a=b": b""}),
        entry(b"a", xattrs={b"": b""}),
    ],
)
def test_what_no_archive_can_say_is_refused(wrong: Entry) -> None:
    out = io.BytesIO()
    with pytest.raises(ArchiveError):
        Writer(out).add(wrong)
    assert out.getvalue() == b""


NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))


@given(
    NAMES,
    st.binary(max_size=1200),
    st.integers(0, 0o7777),
    st.integers(0, (1 << 32) - 1),
    st.integers(-(1 << 62), 1 << 62),
    st.dictionaries(
        st.binary(min_size=1, max_size=120).filter(lambda key: b"=" not in key), st.binary(max_size=200), max_size=3
    ),
)
def test_whatever_is_written_is_read(
    name: bytes, data: bytes, mode: int, owner: int, mtime: int, xattrs: dict[bytes, bytes]
) -> None:
    made = entry(
        name,
        size=len(data),
        length=len(data),
        mode=mode,
        uid=owner,
        gid=owner,
        mtime=mtime,
        xattrs=xattrs,
    )
    assert read(written((made, data))) == [({key: getattr(made, key) for key in FIELDS}, data)]


def test_files_on_disk(tmp_path: Path) -> None:
    """Each kind, a file of two names, attributes; sockets are left out. The same tree is the same bytes."""
    import os
    import socket

    from ocirt.manager.snapshots import trees

    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d/f").write_bytes(b"data")
    (top / "d/f").chmod(0o4755)
    os.utime(top / "d/f", ns=(0, 1_500_000_000_999_999_999))
    os.setxattr(top / "d/f", "user.a", b"b")
    os.link(top / "d/f", top / "z")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))

    def packed() -> bytes:
        out = io.BytesIO()
        writer = Writer(out)
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        for found in trees.walk(descriptor):
            writer.member(found)
        writer.empty(b"d/.wh.gone")
        writer.close()
        os.close(descriptor)
        return out.getvalue()

    found = {one["name"]: (one, data) for one, data in read(packed())}
    assert list(found) == [b"d/", b"d/f", b"link", b"pipe", b"z", b"d/.wh.gone"]
    file_, data = found[b"d/f"]
    assert (data, file_["mode"], file_["mtime"]) == (b"data", 0o4755, 1_500_000_000_000_000_000)
    assert file_["xattrs"] == {b"user.a": b"b"}
    assert (found[b"z"][0]["kind"], found[b"z"][0]["target"]) == (reader.HARD_LINK, b"d/f")
    assert found[b"link"][0]["target"] == b"/etc/passwd"
    assert found[b"pipe"][0]["kind"] == reader.FIFO
    assert packed() == packed()
    os.setxattr(top / "d/f", "user.a=b", b"c")
    with pytest.raises(ArchiveError, match="no archive can have"):
        packed()
