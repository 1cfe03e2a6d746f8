"""The extractor: nothing outside of its folder changes, whatever the archive says; what is inside is what GNU tar
makes of it.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corpus import archive, file, folder, hard_link, header, pax, symlink

from ocirt.manager.archive import extract
from ocirt.manager.archive.extract import Extractor, Unpacked, inside
from ocirt.manager.archive.whiteouts import Apply, Overlay
from ocirt.manager.errors import ArchiveError, LimitError, ManagerError

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="owners and devices need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """What no archive may touch: beside the root, with a sentinel of each kind. Compared afterwards."""
    path = tmp_path / "host"
    (path / "d").mkdir(parents=True)
    (path / "f").write_text("secret")
    (path / "d" / "inner").write_text("secret")
    before = picture(path)
    yield path
    assert picture(path) == before


def picture(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a test can compare about a tree."""
    found = {}
    for each in [path, *sorted(path.rglob("*"))]:
        about = each.lstat()
        content: object = None
        if stat.S_ISREG(about.st_mode):
            content = each.read_bytes()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(each)
        attributes = {
            name: os.getxattr(each, name, follow_symlinks=False) for name in os.listxattr(each, follow_symlinks=False)
        }
        found[str(each.relative_to(path))] = (
            about.st_mode,
            about.st_uid,
            about.st_gid,
            about.st_mtime_ns,
            about.st_rdev,
            about.st_nlink if not stat.S_ISDIR(about.st_mode) else 0,
            content,
            attributes,
        )
    return found


def unpack(root: Path, stream: io.BytesIO, whiteouts: Overlay | Apply | None = None, **limits: int) -> Unpacked:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    before = set(os.listdir("/proc/self/fd"))
    try:
        return Extractor(descriptor, whiteouts or Overlay(), **limits).run(stream)
    finally:
        assert set(os.listdir("/proc/self/fd")) == before
        os.close(descriptor)


def test_everything_is_as_the_archive_says(root: Path) -> None:
    result = unpack(
        root,
        archive(
            folder("./", 0o711, uid=3, mtime=77),
            folder("d/", 0o3775, uid=1, gid=2, mtime=11),
            pax(("SCHILY.xattr.security.capability", b"\x01\0\0\2\0\4\0\0" + bytes(12)), ("mtime", "5.123456789"))
            + file("d/f", b"x" * 3_000_000, mode=0o4755, uid=1000, gid=1001),
            hard_link("d/h", "d/f"),
            symlink("d/s", "../../host/f"),
            header("d/null", b"3", device=(1, 3), mode=0o666),
            header("d/p", b"6", mode=0o600),
            file("deep/er/f"),
        ),
    )
    assert (result.entries, result.size, result.lost) == (8, 3_000_004, [])
    f = (root / "d/f").lstat()
    assert (f.st_size, stat.S_IMODE(f.st_mode), f.st_uid, f.st_gid, f.st_mtime_ns, f.st_nlink) == (
        3_000_000, 0o4755, 1000, 1001, 5_123_456_789, 2,
    )  # fmt: skip
    assert os.getxattr(root / "d/f", "security.capability")[0] == 1
    d = (root / "d").lstat()
    assert (stat.S_IMODE(d.st_mode), d.st_uid, d.st_gid, d.st_mtime) == (0o3775, 1, 2, 11)
    assert (root.lstat().st_mtime, root.lstat().st_uid, stat.S_IMODE(root.lstat().st_mode)) == (77, 3, 0o711)
    assert (root / "d/null").lstat().st_rdev == os.makedev(1, 3)
    assert os.readlink(root / "d/s") == "../../host/f"
    assert stat.S_IMODE((root / "deep/er").lstat().st_mode) == 0o755


# What leads out. Each archive, and what is in the root afterwards where it is not refused.
ATTACKS: dict[str, Callable[[Path], tuple[list[bytes], dict[str, str]]]] = {
    "absolute name": lambda host: ([file(f"{host}/f")], {f"{str(host)[1:]}/f": "data"}),
    "symlink, absolute, then a file through it": lambda host: (
        [folder(str(host)), symlink("l", str(host)), file("l/f")],
        {f"{str(host)[1:]}/f": "data"},
    ),
    "symlink, relative, then a file through it": lambda host: (
        [folder("host"), symlink("l", "../../../../host"), file("l/f")],
        {"host/f": "data"},
    ),
    "a chain of symlinks": lambda host: (
        [
            folder("host"),
            symlink("a", "b"),
            symlink("b", "c"),
            symlink("c", "d/e"),
            folder("d"),
            symlink("d/e", "../../../host"),
            file("a/f"),
        ],
        {"host/f": "data"},
    ),
    "symlink to the file itself": lambda host: ([symlink("f", f"{host}/f"), file("f")], {"f": "data"}),
    "a folder that is a symlink is replaced": lambda host: (
        [symlink("d", f"{host}/d"), folder("d", 0o777), file("d/inner")],
        {"d/inner": "data"},
    ),
    "through a symlink and up again": lambda host: (
        [folder("x"), symlink("x/l", "/"), file("x/l/../f")],
        {"x/f": "data"},
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_name_that_leads_out_stays_inside(root: Path, host: Path, attack: str) -> None:
    members, inside = ATTACKS[attack](host)
    unpack(root, archive(*members))
    for path, content in inside.items():
        assert (root / path).read_text() == content


@pytest.mark.parametrize(
    "members",
    [
        [file("../host/f")],
        [file("a/../../host/f")],
        [file("..")],
        [folder("../host/d", 0o777)],
        [symlink("../l", "x")],
        [hard_link("h", "../host/f")],
        [hard_link("h", "f")],
        [hard_link("h", ".")],
        [symlink(".", "/")],
        [symlink("/", "/host")],
        [file(".")],
        [file("f"), file("f/g")],
        [symlink("l", "nowhere"), file("l/f")],
        [symlink("l", "l"), file("l/f")],
        [symlink("l", "/proc/self/fd/0"), file("l/f")],
        [symlink("l", "")],
        [file(".wh.")],
        [file(".wh..")],
        [file("d/.wh...")],
        [file("x" * 100 + "/" + "y")[:0] + pax(("path", "n" * 300)) + file("a")],
    ],
)
def test_what_cannot_be_meant_is_refused(root: Path, host: Path, members: list[bytes]) -> None:
    with pytest.raises(ManagerError):
        unpack(root, archive(*members))


@pytest.mark.parametrize("depth", range(1, 6))
@pytest.mark.parametrize("absolute", [True, False])
def test_hard_links_through_symlinks_stay_inside(root: Path, host: Path, depth: int, absolute: bool) -> None:
    """GHSA-hfg8-hc9c-6c3h: link chains of every depth; the target is looked for inside."""
    start = str(host) if absolute else "../" * 9 + str(host)[1:]
    links = [symlink("l0", start)] + [symlink(f"l{number}", f"l{number - 1}") for number in range(1, depth)]
    own = [folder(str(host)), file(f"{host}/f", b"own")]
    unpack(root, archive(*own, *links, hard_link("h", f"l{depth - 1}/f")))
    assert (root / "h").read_text() == "own"
    assert (root / "h").stat().st_nlink == 2


def test_an_absolute_hard_link_is_one_inside(root: Path) -> None:
    unpack(root, archive(file("a/f", b"x"), hard_link("b", "/a/f"), hard_link("c", "//a/./f")))
    assert (root / "b").samefile(root / "a/f")
    assert (root / "c").samefile(root / "a/f")


def test_a_hard_link_to_a_symlink_is_one_to_the_link(root: Path, host: Path) -> None:
    unpack(root, archive(symlink("s", f"{host}/f"), hard_link("h", "s")))
    assert os.readlink(root / "h") == f"{host}/f"


def test_metadata_at_the_end_does_not_follow_what_came_later(root: Path, host: Path) -> None:
    """CVE-2021-32760, CVE-2026-33056: a folder's mode is set when something else has its name."""
    unpack(
        root, archive(folder("d", 0o777, uid=5), symlink("d", str(host)), folder("e/d", 0o777), symlink("e", str(host)))
    )
    assert os.readlink(root / "d") == str(host)
    assert os.readlink(root / "e") == str(host)


def test_a_later_member_goes_before_an_earlier_one(root: Path) -> None:
    unpack(
        root,
        archive(
            file("a", b"1"), file("a", b"2"),
            folder("b"), file("b/x"), file("b", b"3"),
            file("c"), folder("c", 0o700), file("c/y", b"4"),
            symlink("d", "a"), file("d", b"5"),
            folder("e"), file("e/z"), folder("e", 0o711),
            file("g", b"6"), hard_link("h", "g"), hard_link("h", "g"), hard_link("g", "g"),
        ),
    )  # fmt: skip
    assert [(root / name).read_text() for name in ("a", "b", "c/y", "d", "e/z", "g", "h")] == [
        "2",
        "3",
        "4",
        "5",
        "data",
        "6",
        "6",
    ]
    assert stat.S_IMODE((root / "e").stat().st_mode) == 0o711


def test_attributes_of_overlayfs_are_never_taken(root: Path) -> None:
    """A redirect would let a layer name folders that are not its own."""
    unpack(
        root,
        archive(
            pax(("SCHILY.xattr.trusted.overlay.redirect", "/etc"), ("SCHILY.xattr.user.overlay.opaque", "y"))
            + folder("d")
        ),
    )
    assert not [name for name in os.listxattr(root / "d") if "overlay" in name]


def test_attributes_that_are_not_taken_are_reported(root: Path) -> None:
    result = unpack(root, archive(pax(("SCHILY.xattr.strange.name", "x")) + file("f")))
    assert result.lost == ["f: strange.name"]


def test_whiteouts_of_an_overlay(root: Path) -> None:
    unpack(
        root,
        archive(
            file("a/.wh.gone"), file("b/.wh..wh..opq"), file("b/f"),
            file("c/.wh.d"), folder("c/d"), file("c/d/new"),
            file("e/f"), file(".wh.e"), file(".wh..wh.plnk"), file("g"), file(".wh.g"), file(".wh.h"), file("h"),
        ),
    )  # fmt: skip
    gone = (root / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    opaque = {path: "trusted.overlay.opaque" in os.listxattr(root / path) for path in ("a", "b", "c", "c/d", "e")}
    assert opaque == {"a": False, "b": True, "c": False, "c/d": True, "e": True}
    assert (root / "e/f").read_text() == (root / "g").read_text() == (root / "h").read_text() == "data"
    assert not (root / ".wh..wh.plnk").exists()


def test_whiteouts_carried_out(root: Path, host: Path) -> None:
    unpack(
        root,
        archive(*[file(name) for name in ("a/gone", "a/stays", "b/x", "b/y/z", "c/d/old", "e/f", "e/h/i")]),
        Apply(),
    )
    (root / "l").symlink_to(host)
    unpack(
        root,
        archive(
            file("a/.wh.gone"), file("b/f"), file("b/.wh..wh..opq"), file("c/.wh.d"), folder("c/d"), file("c/d/new"),
            file("e/g"), file(".wh.e"), file(".wh.l"), file("a/.wh.never"),
        ),
        Apply(),
    )  # fmt: skip
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert left == ["a", "a/stays", "b", "b/f", "c", "c/d", "c/d/new", "e", "e/g"]


def test_limits_end_it(root: Path) -> None:
    with pytest.raises(LimitError, match="9 bytes"):
        unpack(root, archive(file("a"), file("b"), file("c")), most_bytes=9)
    with pytest.raises(LimitError, match="2 members"):
        unpack(root, archive(file("a"), file("b"), file("c")), most_entries=2)


def test_a_file_that_ends_early_is_an_error(root: Path) -> None:
    with pytest.raises(ArchiveError, match="ends in the middle"):
        unpack(root, io.BytesIO(file("a", b"x" * 5000)[:3000]))


def test_many_folders_need_few_descriptors(root: Path) -> None:
    members = [file(f"{number % 100}/{number}/f") for number in range(300)] + [
        hard_link(f"{number}/h", f"{99 - number}/{99 - number}/f") for number in range(100)
    ]
    unpack(root, archive(*members))
    assert len(list(root.rglob("f"))) == 300
    assert len(list(root.rglob("h"))) == 100


def test_it_makes_what_gnu_tar_makes(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(60):
        place = source / f"d{number % 7}" / f"e{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{'long' * (number % 5 * 15)}{number}").write_bytes(os.urandom(number * 97))
        os.chown(place, number, number + 1)
        (place / f"l{number}").symlink_to("x" * (1 + number * 3))
    os.link(source / "d0/e0/0", source / "hard")
    os.setxattr(source / "d0/e0", "user.test", b"value")
    with (source / "holes").open("wb") as stream:
        stream.truncate(1 << 20)
        stream.seek(700_000)
        stream.write(b"x")
    os.mkfifo(source / "fifo")
    os.mknod(source / "device", stat.S_IFBLK | 0o640, os.makedev(8, 300))
    for number, options in enumerate(
        (
            ["--format=gnu", "-S"],
            ["--format=pax", "--xattrs", "-S"],
            ["--format=ustar", "--exclude=*long*"],
            ["--format=posix", "--sparse"],
        )
    ):
        made = subprocess.run(["tar", *options, "-C", source, "-cf", "-", "."], capture_output=True, check=False).stdout
        theirs, ours = tmp_path / f"theirs{number}", root / str(number)
        theirs.mkdir()
        ours.mkdir()
        subprocess.run(
            ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", "-C", theirs],
            input=made,
            check=True,
        )
        unpack(ours, io.BytesIO(made))
        assert picture(ours) == picture(theirs)
    assert (root / "0/holes").stat().st_blocks < 1000


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (b"a", (b"", b"a")),
        (b"a/b/c", (b"a/b", b"c")),
        (b"./a//b/", (b"a", b"b")),
        (b"/", (b"", b"")),
        (b"", (b"", b"")),
        (b"./.", (b"", b"")),
        (b"a/..", (b"", b"")),
        (b"a/../b", (b"", b"b")),
        (b".a/b..", (b".a", b"b..")),
        (b"a../b", (b"a..", b"b")),
        (b"a/.", (b"", b"a")),
        (b"..a", (b"", b"..a")),
    ],
)
def test_names_are_made_plain(name: bytes, parts: tuple[bytes, bytes]) -> None:
    assert inside(name) == parts


def test_folders_that_are_too_many_to_remember(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get what they are like before the end, and keep it when more is made in them."""
    monkeypatch.setattr(extract, "_MOST_LATER", 3)
    members = [folder("./", 0o711, mtime=5)]
    members += [folder(f"d{number}/", 0o550, uid=number, mtime=number) for number in range(10)]
    members += [folder(f"d{number}/in/", 0o700, mtime=70 + number) for number in range(10)]
    members += [file(f"d{number}/in/f", b"x") for number in range(10)] + [file("implied/f"), file("implied/g")]
    result = unpack(root, archive(*members))
    assert result.implied == [b"implied"] and result.root
    about = root.stat()
    assert (about.st_mode & 0o777, about.st_mtime) == (0o711, 5)
    for number in range(10):
        about = (root / f"d{number}").stat()
        assert (about.st_mode & 0o777, about.st_uid, about.st_mtime) == (0o550, number, number)
        about = (root / f"d{number}/in").stat()
        assert (about.st_mode & 0o777, about.st_mtime) == (0o700, 70 + number)


def test_a_folder_in_place_of_a_file_hides_what_is_below(root: Path) -> None:
    """As it would if the layer were applied: the file takes the lower folder's place first."""
    unpack(root, archive(file("d", b"x"), folder("d/"), file(".wh.e", b""), folder("e/"), folder("f/")))
    attribute = "trusted.overlay.opaque"
    assert [os.getxattr(root / name, attribute) for name in ("d", "e")] == [b"y", b"y"]
    assert os.listxattr(root / "f") == []
