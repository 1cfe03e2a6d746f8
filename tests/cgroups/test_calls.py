"""cgroups.calls, and what the library has in its place: both do the same."""

from __future__ import annotations

import errno
import os
import runpy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from ocirt import _sys
from ocirt.cgroups import calls

Several: TypeAlias = "Callable[[list[tuple[str, str, bytes]], bool], list[int]]"

python: Several = runpy.run_path(calls.__file__)["several"]
"""Read anew: where the library was imported, the module has the other one."""


@pytest.fixture(params=["python", "c"])
def several(request: pytest.FixtureRequest) -> Several:
    return python if request.param == "python" else _sys.several


def test_each_call_does_what_it_says(several: Several, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "fi\udc80le"
    file.write_text("before")
    before = os.listdir("/proc/self/fd")
    done = several(
        [
            ("mkdir", str(folder), b""),
            ("stat", str(folder), b""),
            ("access", str(folder), b""),
            ("write", str(file), b"one"),
            ("write", str(file), b"two"),
            ("rmdir", str(folder), b""),
        ],
        True,
    )
    assert done == [0] * 6
    assert not folder.exists()
    assert file.read_text() == "onetwo"  # as of one that is open: files of a cgroup do not care where
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_folders_have_their_mode(several: Several, tmp_path: Path) -> None:
    several([("mkdir", str(tmp_path / "folder"), b"")], True)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_failures_have_their_numbers_and_the_rest_is_done(several: Several, tmp_path: Path) -> None:
    there, missing = tmp_path / "there", str(tmp_path / "missing")
    wanted = [("mkdir", str(tmp_path), b""), ("rmdir", missing, b""), ("stat", missing, b""), ("access", missing, b"")]
    wanted += [("write", missing, b"x"), ("write", str(tmp_path), b"x"), ("mkdir", str(there), b"")]
    numbers = [errno.EEXIST, errno.ENOENT, errno.ENOENT, errno.EACCES, errno.ENOENT, errno.EISDIR, 0]
    assert several(wanted, False) == numbers
    assert there.is_dir()


def test_nothing_is_done_after_a_failure_where_that_is_asked_for(several: Several, tmp_path: Path) -> None:
    file, missing = tmp_path / "file", str(tmp_path / "missing")
    file.touch()
    wanted = [("write", str(file), b"1"), ("stat", missing, b""), ("write", str(file), b"2")]
    assert several(wanted, True) == [0, errno.ENOENT]
    assert file.read_text() == "1"
    assert several([], True) == []


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ([("stat", "/", b""), ("stat", "/\0", b"")], ValueError),
        ([("stat", "/", b""), ("stat", "/", "text")], TypeError),
        ([("stat", "/", b""), ("stat", 7, b"")], TypeError),
    ],
)
def test_what_is_no_list_of_calls_is_refused_before_any_is_made(wrong: object, kind: type[Exception]) -> None:
    for _ in range(100):
        with pytest.raises(kind):
            _sys.several(wrong, True)  # type: ignore[arg-type]


def test_other_threads_go_on(tmp_path: Path) -> None:
    """A FIFO is opened only when somebody reads it: here by a thread that could not if it had to wait for that."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    assert _sys.several([("write", str(fifo), b"content")], True) == [0]
    reader.join()
    assert read == ["content"]


OF_GLIBC = 0x180000000
"""Two signals that posix_spawn(3) leaves ignored (plan.scope.reset)."""


def test_a_child_has_the_descriptors_that_are_meant_for_it_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCIRT_TEST", "left")
    reader, writer = os.pipe()
    script = 'echo "<$OCIRT_TEST>"; while read -r line; do echo "$line"; done </proc/$$/status'
    pid = _sys.spawn("/bin/sh", ["sh", "-c", script], [(writer, 1)])
    os.close(writer)
    with open(reader, encoding="ascii") as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert said.startswith("<>\n")
    signals = dict(line.split(":\t") for line in said.splitlines() if line.startswith("Sig"))
    assert int(signals["SigBlk"], 16) == 0
    assert int(signals["SigIgn"], 16) & ~OF_GLIBC == 0  # Python ignores SIGPIPE


def test_what_cannot_be_executed_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        _sys.spawn("/no/such/program", ["x"], [])
    with pytest.raises(OSError, match="posix_spawn") as refused:
        _sys.spawn("/bin/sh", ["sh", "-c", "exit 0"], [(-1, 5)])
    assert refused.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="more than 8"):
        _sys.spawn("/bin/sh", ["x"] * 9, [])
    with pytest.raises(TypeError):
        _sys.spawn("/bin/sh", ["x"], [("a", 1)])  # type: ignore[list-item]
