"""The log's files: what is written is read, from both ends, over rotations, and with half a frame at the end."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ocirt.manager.containers.logfiles import Reader, repair
from ocirt.manager.monitor.frames import HEAD, TAIL, Log


def content(reader: Reader) -> list[tuple[str, bytes]]:
    return [(chunk.stream, chunk.data) for chunk in reader.read()]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 0, 1)
    log.write(5, 1, b"one\n")
    log.write(6, 2, b"two")
    reader = Reader(tmp_path)
    assert [(chunk.time, chunk.stream, chunk.data) for chunk in reader.read()] == [
        (5, "stdout", b"one\n"),
        (6, "stderr", b"two"),
    ]
    assert content(reader) == []
    log.write(7, 1, b"three")
    assert content(reader) == [("stdout", b"three")]


def test_files_are_rotated_and_a_reader_comes_along(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 100, 3)
    reader = Reader(tmp_path)
    seen = []
    for number in range(50):
        log.write(number, 1, b"%d\n" % number)
        seen += [data for _, data in content(reader)]
    assert seen == [b"%d\n" % number for number in range(50)]
    assert len(os.listdir(tmp_path)) == 3
    assert all((tmp_path / name).stat().st_size <= 100 for name in os.listdir(tmp_path))


def test_one_who_reads_late_gets_what_is_left(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 100, 2)
    reader = Reader(tmp_path)
    log.write(0, 1, b"0\n")
    assert content(reader) == [("stdout", b"0\n")]
    for number in range(1, 50):
        log.write(number, 1, b"%d\n" % number)
    found = [data for _, data in content(reader)]
    assert found[-1] == b"49\n"
    # The first file, which it had open, is there for it to the end.
    assert found == [b"%d\n" % number for number in [*range(1, 4), *range(50 - len(found) + 3, 50)]]


def test_a_log_goes_on_where_the_last_monitor_left_it(tmp_path: Path) -> None:
    for number in range(3):
        log = Log(str(tmp_path), 59, 9)
        log.write(number, 1, b"%d" % number * 10)
        log.write(number, 1, b"%d" % number * 10)
        os.close(log.fd)
    assert b"".join(data for _, data in content(Reader(tmp_path))) == b"0" * 20 + b"1" * 20 + b"2" * 20
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("lines", [0, 1, 2, 7, 30, 10_000])
def test_the_last_lines(tmp_path: Path, lines: int) -> None:
    """As splitting all of it has them."""
    for seed in range(20):
        chance = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        log = Log(str(folder), chance.choice((0, 200)), 1000)
        whole = b""
        for number in range(40):
            data = b"".join(chance.choice((b"a", b"bc", b"\n")) for _ in range(chance.randrange(1, 9)))
            log.write(number, 1 + number % 2, data)
            whole += data
        os.close(log.fd)
        reader = Reader(folder)
        found = b"".join(chunk.data for chunk in reader.go_back(lines))
        assert found == b"".join(whole.splitlines(keepends=True)[-lines:] if lines else [])
        log = Log(str(folder), 0, 1000)
        assert content(reader) == []
        log.write(0, 1, b"more")
        assert content(reader) == [("stdout", b"more")]
        os.close(log.fd)


@pytest.mark.parametrize("left", range(1, HEAD + 5 + TAIL))
def test_half_a_frame_is_cut_off(tmp_path: Path, left: int) -> None:
    log = Log(str(tmp_path), 0, 1)
    log.write(1, 1, b"whole")
    log.write(2, 1, b"piece")
    os.close(log.fd)
    os.truncate(tmp_path / "1", HEAD + 5 + TAIL + left)
    assert content(Reader(tmp_path)) == [("stdout", b"whole")]
    assert [chunk.data for chunk in Reader(tmp_path).go_back(9)] == [b"whole"]
    repair(tmp_path)
    log = Log(str(tmp_path), 0, 1)
    log.write(3, 2, b"next")
    os.close(log.fd)
    assert content(Reader(tmp_path)) == [("stdout", b"whole"), ("stderr", b"next")]


def test_a_full_disk_costs_what_does_not_fit(tmp_path: Path) -> None:
    """/dev/full's answer, by a limit on the size of files: what was written stays whole."""
    pid = os.fork()
    if pid == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        log = Log(str(tmp_path), 0, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (120, 120))
        for _ in range(3):
            log.write(1, 1, b"x" * 30)
        os._exit(7 if log.lost == 30 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert content(Reader(tmp_path)) == [("stdout", b"x" * 30)] * 2
