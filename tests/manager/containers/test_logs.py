"""Logs are read by lines, from their end, from a time on, and while they are written and rotated."""

from __future__ import annotations

import threading
import time

import pytest
from by_hand import HandMade, Workshop

from ocirt.manager.containers import lifecycle, logs

pytestmark = pytest.mark.root


def said_one_by_one(workshop: Workshop, *parts: str) -> HandMade:
    """A container that has written these, each when the one before was in the log, and has ended."""
    record = workshop.sh("; read a; ".join(parts), open_stdin=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, stdin=True)
    assert attachment
    for _ in parts:
        assert attachment.receive()[0] in ("stdout", "stderr")
        attachment.send(b"\n")
    assert attachment.receive() == ("exit", 0)
    attachment.close()
    return record


def test_lines_of_both_streams(workshop: Workshop) -> None:
    before = time.time_ns()
    record = said_one_by_one(workshop, "echo one", "echo two >&2", "printf 'three\\nfour'")
    found = list(logs.read(workshop.site, record))
    assert [(line.stream, line.data) for line in found] == [
        ("stdout", b"one\n"),
        ("stderr", b"two\n"),
        ("stdout", b"three\n"),
        ("stdout", b"four"),
    ]
    times = [line.time for line in found]
    assert before < times[0] < times[1] < times[2] <= times[3] < time.time_ns()
    assert [line.data for line in logs.read(workshop.site, record, tail=2)] == [b"three\n", b"four"]
    assert [line.data for line in logs.read(workshop.site, record, streams=("stderr",))] == [b"two\n"]
    assert [line.data for line in logs.read(workshop.site, record, since=times[1], until=times[1])] == [b"two\n"]


def test_a_line_that_came_in_parts_is_one(workshop: Workshop) -> None:
    record = said_one_by_one(workshop, "printf a", "printf b", "echo x >&2", "echo c")
    assert [line.data for line in logs.read(workshop.site, record)] == [b"x\n", b"abc\n"]


def test_follow_until_the_end_over_rotations(workshop: Workshop) -> None:
    """Nothing is missed by a reader that comes along, though there are never more than two files of four kilobytes."""
    record = workshop.sh(
        "read a; i=0; while [ $i -lt 2000 ]; do echo line $i; read a; i=$((i+1)); done",
        open_stdin=True,
        log={"driver": "file", "max_size": 4096, "max_file": 2},
    )
    lifecycle.start(workshop.site, record)
    client = lifecycle.attach(workshop.site, record, stdin=True, stdout=False, stderr=False)
    client.send(b"\n")
    found = []
    for line in logs.read(workshop.site, record, follow=True):
        found.append(line.data)
        client.send(b"\n")  # the next line is written when this one was read
    client.close()
    assert found == [b"line %d\n" % number for number in range(2000)]


def test_tail_and_follow(workshop: Workshop) -> None:
    record = workshop.sh("echo a; echo b; echo c; read x; echo d", open_stdin=True)
    lifecycle.start(workshop.site, record)
    client = lifecycle.attach(workshop.site, record, stdin=True)
    while len(list(logs.read(workshop.site, record))) < 3:
        time.sleep(0.01)
    found = []
    for line in logs.read(workshop.site, record, follow=True, tail=2):
        found.append(line.data)
        if len(found) == 2:
            client.send(b"\n")
    client.close()
    assert found == [b"b\n", b"c\n", b"d\n"]


def test_follow_of_one_that_has_ended_ends(workshop: Workshop) -> None:
    record = workshop.sh("echo over")
    assert list(logs.read(workshop.site, record, follow=True)) == []
    lifecycle.start(workshop.site, record)
    lifecycle.wait(workshop.site, record)
    assert [line.data for line in logs.read(workshop.site, record, follow=True)] == [b"over\n"]


def test_followers_that_do_not_read_hold_nobody_up(workshop: Workshop) -> None:
    record = workshop.sh("head -c 30000000 /dev/zero; echo over; read a", open_stdin=True)
    lifecycle.start(workshop.site, record)
    lazy = logs.chunks(workshop.site, record, follow=True)
    next(lazy)
    found = []
    reading = threading.Thread(
        target=lambda: found.extend(len(chunk.data) for chunk in logs.chunks(workshop.site, record, follow=True))
    )
    reading.start()
    client = lifecycle.attach(workshop.site, record, stdin=True, stdout=False)
    client.send(b"\n")
    assert lifecycle.wait(workshop.site, record) == 0
    reading.join(60)
    assert sum(found) == 30_000_005
    client.close()
    lazy.close()  # type: ignore[attr-defined]


def test_no_log(workshop: Workshop) -> None:
    record = workshop.sh("echo lost; exit 2", log={"driver": "none"})
    lifecycle.start(workshop.site, record)
    assert lifecycle.wait(workshop.site, record) == 2
    assert list(logs.read(workshop.site, record)) == []
