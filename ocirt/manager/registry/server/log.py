"""The access log: a line for each request, on stderr.

    2026-11-26T07:00:00Z 127.0.0.1 alice "GET /v2/a/manifests/latest" 200 1234 0.012 "docker/28.2"

A thread writes it: whoever reads stderr may be slow, and requests do not wait for that. Where it is too slow lines are
left out, and their number is told.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TextIO

from ocirt.errors import printable

MOST_LINES = 10_000
LONGEST = 300


class Log:
    """Lines to a stream; `close` writes what is left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def line(self, *words: str) -> None:
        """One line, with the time before it."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._lost:
            words = (*words, f"({self._lost} lines before this one were left out)")
        try:
            self._lines.put_nowait(printable(" ".join((now, *words))))
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def request(
        self, peer: str, user: str, what: str, status: int, size: int, seconds: float, agent: str
    ) -> None:  # fmt: skip
        """what: method and target, or "-"."""
        self.line(peer, _word(user), _quoted(what), str(status), str(size), f"{seconds:.3f}", _quoted(agent))

    def close(self) -> None:
        """Wait a moment for a reader, no longer."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(timeout=5)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads it any more


def _word(text: str) -> str:
    """A name as one word."""
    return text[:LONGEST].replace(" ", "\\x20").replace('"', "\\x22") or "-"


def _quoted(text: str) -> str:
    return '"' + text[:LONGEST].replace("\\", "\\\\").replace('"', '\\"') + '"'
