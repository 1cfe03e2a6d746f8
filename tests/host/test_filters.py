"""The cache of seccomp filters: a hit compiles nothing, and what is not ours alone is not believed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocirt.host import filters, seccomp
from ocirt.plan.facts import Filter

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["read", "write", "execve", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
}
SPEC: dict[str, Any] = {"process": {"noNewPrivileges": True}, "linux": {"seccomp": PROFILE}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's place; nothing is there yet."""
    path = tmp_path / "cache"
    monkeypatch.setitem(os.environ, "OCIRT_CACHE", str(path))
    monkeypatch.setattr("posix.environ", {b"OCIRT_CACHE": os.fsencode(path)})
    return path


class Compiled:
    """Counts what is compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self._compile = seccomp.compile_filter
        monkeypatch.setattr(seccomp, "compile_filter", self)

    def __call__(self, *args: Any, **more: Any) -> Filter:
        self.times += 1
        return self._compile(*args, **more)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compiled:
    return Compiled(monkeypatch)


def filter_of(spec: dict[str, Any] = SPEC) -> Filter:
    return filters.filter_of(spec, "x86_64")


def same(one: Filter, other: Filter) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in Filter.__slots__)


def entry(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_second_time_nothing_is_compiled(folder: Path, compiled: Compiled) -> None:
    first, second = filter_of(), filter_of()
    assert compiled.times == 1
    assert same(first, second)
    assert second.warnings == ('/linux/seccomp/syscalls/0/names/3: unknown system call "no_such_call": ignored',)


def test_it_works_without_libseccomp_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = filter_of()
    monkeypatch.setattr(seccomp, "LIBRARY", "libgone.so.2")
    monkeypatch.setattr(seccomp, "compile_filter", None)
    assert same(filter_of(), first)


def test_without_libseccomp_a_first_profile_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "LIBRARY", "libgone.so.2")
    with pytest.raises(Exception, match=r"cannot load libgone.so.2.*install libseccomp2"):
        filter_of()


@pytest.mark.parametrize(
    "other",
    [
        {"linux": {"seccomp": PROFILE | {"defaultErrnoRet": 2}}},
        {"linux": {"seccomp": PROFILE | {"defaultErrnoRet": 1}}},
        {"linux": {"seccomp": PROFILE | {"architectures": ["SCMP_ARCH_X86"]}}},
        {"process": {"noNewPrivileges": False}},
    ],
)
def test_another_profile_is_another_entry(folder: Path, compiled: Compiled, other: dict[str, Any]) -> None:
    filter_of()
    filter_of(SPEC | other)
    assert compiled.times == 2
    assert len(list(folder.iterdir())) == 2


def test_true_is_not_one(folder: Path) -> None:
    """A value of another type is checked again, and refused."""
    filter_of(SPEC | {"linux": {"seccomp": PROFILE | {"defaultErrnoRet": 1}}})
    with pytest.raises(Exception, match="expected an integer"):
        filter_of(SPEC | {"linux": {"seccomp": PROFILE | {"defaultErrnoRet": True}}})


def test_the_annotation_counts(folder: Path) -> None:
    filter_of()
    with pytest.raises(Exception, match='unknown system call "no_such_call"'):
        filter_of(SPEC | {"annotations": {filters.STRICT: "1"}})


def test_what_is_made_is_private(folder: Path) -> None:
    filter_of()
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert entry(folder).stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710, 0o702])
def test_a_folder_that_others_may_use_is_not_used(folder: Path, compiled: Compiled, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    found = filter_of()
    assert "is not ours alone" in found.warnings[-1]
    assert not list(folder.iterdir())
    filter_of()
    assert compiled.times == 2


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: gives the folder to another user")
def test_the_folder_of_another_user_is_not_used(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 1000, 1000)
    assert "owner 1000" in filter_of().warnings[-1]
    assert not list(folder.iterdir())


def test_a_link_to_a_folder_is_not_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert "no cache of seccomp filters" in filter_of().warnings[-1]
    assert not list((tmp_path / "elsewhere").iterdir())


def forged(content: bytes) -> bytes:
    """The same with another program, as someone would write it who does not know how the checksum is made."""
    return content[: filters._HEADER.size] + bytes(8) + content[filters._HEADER.size + 8 :]


@pytest.mark.parametrize(
    "damage",
    [lambda c: b"", lambda c: c[:-1], lambda c: c + b"x", lambda c: b"X" + c[1:], forged, lambda c: bytes(len(c))],
    ids=["empty", "short", "long", "magic", "forged", "zeros"],
)
def test_a_damaged_file_is_made_anew(folder: Path, compiled: Compiled, damage: Any) -> None:
    first = filter_of()
    path = entry(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert same(filter_of(), first)
    assert compiled.times == 2
    assert same(filter_of(), first)
    assert compiled.times == 2


def test_a_file_of_another_profile_is_no_answer(folder: Path, compiled: Compiled) -> None:
    filter_of()
    one = entry(folder)
    other = SPEC | {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_KILL"}}}
    wanted = filter_of(other)
    (two,) = set(folder.iterdir()) - {one}
    two.write_bytes(one.read_bytes())
    assert same(filter_of(other), wanted)
    assert compiled.times == 3


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo", "mode", "owner"])
def test_what_is_no_file_of_ours_is_not_read(folder: Path, compiled: Compiled, tmp_path: Path, kind: str) -> None:
    first = filter_of()
    path = entry(folder)
    content = path.read_bytes()
    if kind == "mode":
        path.chmod(0o644)
    elif kind == "owner":
        if os.getuid() != 0:
            pytest.skip("needs root")
        os.chown(path, 1000, 1000)
    else:
        path.unlink()
        if kind == "symlink":
            (tmp_path / "forged").write_bytes(content)
            (tmp_path / "forged").chmod(0o600)
            path.symlink_to(tmp_path / "forged")
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path, 0o600)
    assert same(filter_of(), first)
    assert compiled.times == 2


def test_another_libseccomp_compiles_anew(folder: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    filter_of()
    monkeypatch.setattr(filters, "identity", lambda path: b"1 2 3 4")
    filter_of()
    assert compiled.times == 2


def test_a_readonly_place_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posix.environ", {b"OCIRT_CACHE": b"/proc/ocirt-cache"})
    assert "no cache of seccomp filters" in filter_of().warnings[-1]


def test_a_full_place_is_no_obstacle_and_gets_no_fuller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("posix.write", full)
    assert filter_of().program
    assert not list(folder.iterdir())


def test_the_oldest_filters_go(folder: Path) -> None:
    filter_of()
    oldest = entry(folder)
    os.utime(oldest, (1, 1))
    for number in range(filters.MOST):
        filter_of(SPEC | {"linux": {"seccomp": PROFILE | {"defaultErrnoRet": number + 2}}})
    assert len(list(folder.iterdir())) == filters.MOST
    assert not oldest.exists()


def test_what_a_killed_writer_left_goes(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name, age in ((".old.1", 1000), (".new.2", 0)):
        (folder / name).write_text("")
        os.utime(folder / name, (filters.time() - age,) * 2)
    filter_of()
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == {".new.2"}


WRITER = """
import os, sys
from ocirt.host.filters import filter_of
folder, removes, spec = sys.argv[1], sys.argv[2] == "1", eval(sys.argv[3])
wanted = filter_of(spec, "x86_64").program
for _ in range(40):
    assert filter_of(spec, "x86_64").program == wanted
    for name in os.listdir(folder) if removes else ():
        if not name.startswith("."):
            os.unlink(f"{folder}/{name}")
"""


def test_two_writers_at_once(folder: Path) -> None:
    """One compiles and writes, the other removes under its hands: neither ever sees half a filter."""
    both = [
        subprocess.Popen([sys.executable, "-c", WRITER, folder, removes, repr(SPEC)], env={"OCIRT_CACHE": str(folder)})
        for removes in ("0", "1")
    ]
    assert [one.wait(60) for one in both] == [0, 0]
    filter_of()
    assert filters.unpack(entry(folder).read_bytes(), bytes.fromhex(entry(folder).name))
