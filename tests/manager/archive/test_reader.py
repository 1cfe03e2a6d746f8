"""The tar reader: what honest programs write is read as they meant it, and what could mean two things is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from corpus import archive, file, folder, hard_link, header, long_name, padded, pax, raw_pax, symlink
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.manager.archive import reader
from ocirt.manager.archive.reader import Entry, Reader
from ocirt.manager.errors import ArchiveError, LimitError


def entries(stream: io.BytesIO) -> list[tuple[Entry, bytes]]:
    archive = Reader(stream)
    return [(entry, b"".join(archive.data())) for entry in archive]


def names(*members: bytes) -> list[bytes]:
    return [entry.name for entry, _ in entries(archive(*members))]


def test_the_plain_kinds() -> None:
    found = entries(
        archive(
            file("a", b"hello", mode=0o4755, uid=7, gid=8, mtime=12),
            folder("d/"),
            symlink("s", "a"),
            hard_link("h", "a"),
            header("c", b"3", device=(1, 3)),
            header("p", b"6"),
        )
    )
    first, data = found[0]
    assert (first.name, data, first.mode, first.uid, first.gid, first.mtime) == (
        b"a",
        b"hello",
        0o4755,
        7,
        8,
        12_000_000_000,
    )
    assert [entry.kind for entry, _ in found] == [b"0", b"5", b"2", b"1", b"3", b"6"]
    assert found[2][0].target == found[3][0].target == b"a"
    assert found[4][0].device == (1, 3)


def test_long_names_of_all_three_ways() -> None:
    name = "/".join(["x" * 60] * 4)
    assert names(
        long_name(name) + file("short"),
        pax(("path", name)) + file("short"),
        file("y", prefix=b"p" * 150),  # type: ignore[arg-type]
    ) == [name.encode(), name.encode(), b"p" * 150 + b"/y"]
    ((link, _),) = entries(archive(long_name("t" * 200, b"K") + symlink("l", "t")))
    assert link.target == b"t" * 200


def test_pax_goes_before_the_header() -> None:
    ((entry, data),) = entries(
        archive(
            pax(
                ("uid", "4294967294"),
                ("gid", "3000000"),
                ("mtime", "1.5"),
                ("size", "3"),
                ("SCHILY.xattr.user.a", b"\x00=\n"),
            )
            + header("f", size=2)
            + padded(b"abc")
        )
    )
    assert (entry.uid, entry.gid, entry.mtime, data) == (4294967294, 3000000, 1_500_000_000, b"abc")
    assert entry.xattrs == {b"user.a": b"\x00=\n"}


def test_a_time_before_1970_and_its_fraction_are_exact() -> None:
    ((entry, _),) = entries(archive(pax(("mtime", "-1.123456789")) + file("f")))
    assert entry.mtime == -1_123_456_789


def test_a_global_header_is_everyones() -> None:
    found = entries(archive(pax(("uid", "5"), kind=b"g") + file("a") + pax(("uid", "6")) + file("b") + file("c")))
    assert [entry.uid for entry, _ in found] == [5, 6, 5]


def test_large_numbers_are_in_base_256() -> None:
    ((entry, _),) = entries(archive(file("a", uid=1 << 31)))
    assert entry.uid == 1 << 31


def test_links_and_folders_have_no_data_whatever_their_size() -> None:
    assert names(header("h", b"1", size=1000, target="x"), header("d", b"5", size=5), file("f")) == [b"h", b"d", b"f"]


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_as_gnu_tar_writes_them(tmp_path: Path, form: str) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(5 << 20)
        for index in range(30):  # more than the header of the old format has room for
            stream.seek(index * 128 * 1024)
            stream.write(b"%04d" % index * 16)
    made = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    out = subprocess.run(
        ["tar", *made, "-S", "-C", tmp_path, "-cf", "-", "sparse"], check=True, capture_output=True
    ).stdout
    if len(out) >= 5 << 20:
        pytest.fail("GNU tar found no holes here")
    archive = Reader(io.BytesIO(out))
    for entry in archive:
        assert entry.extents is not None
        whole = bytearray(entry.length)
        for offset, length in entry.extents:
            whole[offset : offset + length] = archive.exactly(length)
        assert entry.name.endswith(b"sparse")
        assert whole == path.read_bytes()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([b"not a tar archive".ljust(512)], "is no"),
        ([file("a")[:100] + b"X" + file("a")[101:]], "is no|checksum"),
        ([header("a", b"Q")], "no layer may have"),
        ([header("a", b"V")], "no layer may have"),
        ([header("a", size=3000)], "ends in the middle"),
        ([pax(("size", "-3")) + file("a")], "no size"),
        ([pax(("size", "0x10")) + file("a")], "no size"),
        ([pax(("uid", "")) + pax(("uid", "1.5")) + file("a")], "no uid"),
        ([raw_pax(b"5 a=b\n") + file("a")], "wrong length"),
        ([raw_pax(b"99 path=b\n") + file("a")], "wrong length"),
        ([raw_pax(b"0 a=b\n") + file("a")], "wrong length"),
        ([raw_pax(b"path=b\n") + file("a")], "without a length"),
        ([raw_pax(b"6 =abc\n") + file("a")], "wrong length"),
        ([pax(("path", "x"))], "describes the next entry"),
        ([long_name("x")], "describes the next entry"),
        ([pax(("path", b"a\0b")) + file("a")], "NUL"),
        ([pax(("GNU.sparse.map", "0,3,2,1"), ("GNU.sparse.realsize", "9")) + file("a")], "overlap"),
        ([pax(("GNU.sparse.map", "0,3,7"), ("GNU.sparse.realsize", "9")) + file("a")], "odd"),
        ([pax(("GNU.sparse.map", "0,9"), ("GNU.sparse.realsize", "9")) + file("a")], "do not fit"),
        ([pax(("GNU.sparse.map", "0,4"), ("GNU.sparse.realsize", "3")) + file("a")], "do not fit"),
        ([pax(("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")) + file("a", b"x" * 512)], "sparse map"),
        ([pax(("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")) + file("a", b"1\n" + b"0" * 510)], "sparse map"),
    ],
)
def test_what_is_damaged_is_refused(members: list[bytes], says: str) -> None:
    with pytest.raises(ArchiveError, match=says):
        entries(archive(*members)) if len(members[0]) != 512 or b"\0" in members[0] else entries(io.BytesIO(members[0]))


@pytest.mark.parametrize(
    "member",
    [
        long_name("x" * 5000) + file("a"),
        pax(("path", "x" * 4096)) + file("a"),
        pax(("linkpath", "x" * 4096)) + symlink("a", "b"),
        header("a", b"x", size=2 << 20),
        header("a", b"L", size=1 << 40),
        pax(("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")) + file("a", padded(b"9999999\n")),
    ],
)
def test_what_is_too_long_is_refused(member: bytes) -> None:
    with pytest.raises(LimitError):
        entries(archive(member))


def test_an_archive_may_end_without_its_end_but_not_inside() -> None:
    assert [entry.name for entry, _ in entries(io.BytesIO(file("a")))] == [b"a"]
    for cut in (1, 511, 513, 700, 1023):
        with pytest.raises(ArchiveError):
            entries(io.BytesIO(file("a")[:cut]))


def test_all_of_the_stream_is_read() -> None:
    stream = archive(file("a"))
    stream.seek(0, os.SEEK_END)
    stream.write(b"x" * (3 << 20))
    stream.seek(0)
    assert len(entries(stream)) == 1
    assert stream.read() == b""


@settings(max_examples=300)
@given(st.integers(0, 6 * 512 - 1), st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_harmless(at: int, value: int) -> None:
    whole = bytearray(pax(("path", "name"), ("SCHILY.xattr.user.x", "y")) + file("f", b"abc") + folder("d"))
    whole += bytes(6 * 512 - len(whole))
    whole[at] = value
    try:
        found = entries(io.BytesIO(bytes(whole)))
    except (ArchiveError, LimitError):
        return
    assert len(found) <= 3


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text("abc/é. ", min_size=1, max_size=150).filter(lambda name: name.strip("/")),
            st.binary(max_size=1200),
            st.integers(0, 2**33),
            st.integers(0, 2**40),
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_pythons_tarfile_writes_is_read_as_it_reads_it(
    files: list[tuple[str, bytes, int, int]], form: int
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        for name, data, uid, mtime in files:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = len(data), uid, mtime
            made.addfile(info, io.BytesIO(data))
    stream.seek(0)
    with tarfile.open(fileobj=stream) as read:
        theirs = [(member.name.rstrip("/"), member.uid, int(member.mtime) * 10**9, member.size) for member in read]
    stream.seek(0)
    ours = [(entry.name.decode().rstrip("/"), entry.uid, entry.mtime, len(data)) for entry, data in entries(stream)]
    assert ours == theirs


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ArchiveError, match="no mode"):
        reader._number(b"0000x44\0", "mode")
    assert reader._number(b"       \0", "mode") == 0
    assert reader._number(b"\xff" * 12, "mtime") == -1
