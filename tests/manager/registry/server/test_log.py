"""The access log never keeps requests waiting."""

from __future__ import annotations

import io
import threading

from ocirt.manager.registry.server import log as module
from ocirt.manager.registry.server.log import Log


class Slow(io.StringIO):
    """Takes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        self.may.wait(60)
        return super().write(text)


def test_lines_that_nobody_takes_are_left_out_and_counted() -> None:
    stream = Slow()
    log = Log(stream)
    log.line("first")
    assert stream.asked.wait(60)
    for number in range(module.MOST_LINES + 5):
        log.line(str(number))
    stream.may.set()
    while "first" not in stream.getvalue() or not log._lines.empty():
        pass
    log.line("last")
    log.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == module.MOST_LINES + 2
    assert lines[-1].endswith(" last (5 lines before this one were left out)")


def test_a_reader_that_is_gone_harms_nobody() -> None:
    stream = io.StringIO()
    stream.close()
    log = Log(stream)
    log.line("x")
    log.close()


def test_a_line_is_one_line() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.request("::1", 'a "b', "GET /\n\x1b[2J", 200, 1, 0.5, "x" * 1000)
    log.close()
    (line,) = stream.getvalue().splitlines()
    assert ' ::1 a\\x20\\x22b "GET /\\n\\x1b[2J" 200 1 0.500 "xxx' in line
    assert len(line) < 400
