"""A container's log, read (monitor/frames.py says how it is written)."""

from __future__ import annotations

import _socket
from collections.abc import Iterator

from ocirt.manager.containers.connection import ask
from ocirt.manager.containers.launch import logs_folder
from ocirt.manager.containers.logfiles import Chunk, Reader
from ocirt.manager.monitor.wire import PACKET
from ocirt.manager.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.containers.state import Kept


class Line(Chunk):
    """A line with its newline; the last one of a stream may have none. time: when its first byte was read."""

    __slots__ = ()


def chunks(
    site: Site,
    record: Kept,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    streams: tuple[str, ...] = ("stdout", "stderr"),
) -> Iterator[Chunk]:
    """The log as it was read, which is fastest: nothing looks for lines.

    follow: and what comes, until the container has ended for good. tail: the last so many lines of both streams
    together. since, until: nanoseconds since 1970. Frames that are gone because files were rotated away are skipped.
    """
    reader = Reader(logs_folder(site, record.id))
    waiting = None
    try:
        if tail is not None:  # the reader is at the end afterwards
            yield from _wanted(reader.go_back(tail), since, until, streams)
        waiting = _Waiting(site, record) if follow else None
        while True:
            alive = waiting.alive() if waiting else False
            for chunk in reader.read():
                if until is not None and chunk.time > until:
                    return
                yield from _wanted([chunk], since, None, streams)
            if not waiting or not alive:
                return
            waiting.wait()
    finally:
        reader.close()
        if waiting:
            waiting.close()


def read(
    site: Site,
    record: Kept,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    streams: tuple[str, ...] = ("stdout", "stderr"),
) -> Iterator[Line]:
    """The log by lines; as `chunks`."""
    begun: dict[str, list[Chunk]] = {name: [] for name in streams}
    for chunk in chunks(site, record, follow=follow, tail=tail, since=since, until=until, streams=streams):
        first, newline, rest = chunk.data.partition(b"\n")
        before = begun[chunk.stream]
        if not newline:
            before.append(chunk)
            continue
        start = before[0].time if before else chunk.time
        yield Line(start, chunk.stream, b"".join([*(one.data for one in before), first, newline]))
        before.clear()
        lines = rest.split(b"\n")
        for line in lines[:-1]:
            yield Line(chunk.time, chunk.stream, line + b"\n")
        if lines[-1]:
            before.append(Chunk(chunk.time, chunk.stream, lines[-1]))
    for name in streams:
        if begun[name]:
            yield Line(begun[name][0].time, name, b"".join(one.data for one in begun[name]))


def _wanted(
    found: Iterator[Chunk] | list[Chunk], since: int | None, until: int | None, streams: tuple[str, ...]
) -> Iterator[Chunk]:
    for chunk in found:
        if (
            chunk.stream in streams
            and (since is None or chunk.time >= since)
            and (until is None or chunk.time <= until)
        ):
            yield chunk


class _Waiting:
    """For the log to grow: the monitor says so."""

    def __init__(self, site: Site, record: Kept) -> None:
        self.site = site
        self.record = record
        self.connection = ask(site, record.id, "follow")

    def alive(self) -> bool:
        """May there be more? Asked before the log is read: what is written before the end is read then."""
        return self.connection is not None

    def wait(self) -> None:
        assert self.connection
        try:
            data = self.connection.recv(PACKET)
            while data:  # what else has been said meanwhile is the same
                data = self.connection.recv(PACKET, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()

    def close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None
