"""The files of a container's log: frames as monitor/frames.py writes them, read from either end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ocirt.manager.errors import ManagerError
from ocirt.manager.monitor.frames import HEAD, MARK, TAIL

STREAMS = {1: "stdout", 2: "stderr"}
_BLOCK = 1 << 20
_LARGEST = 1 << 22
"""Of a frame: a length beyond it is none."""


class Chunk:
    """What was read at once: `data` from "stdout" or "stderr", at `time` (nanoseconds since 1970)."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, time: int, stream: str, data: bytes) -> None:
        self.time = time
        self.stream = stream
        self.data = data


def repair(folder: Path) -> None:
    """Cut off half a frame, which a monitor that was killed while it wrote has left. Raises OSError."""
    numbers = _numbers(folder)
    if not numbers:
        return
    path = folder / str(numbers[-1])
    size = path.stat().st_size
    with path.open("rb") as file:
        if _ends_whole(file.fileno(), size):
            return
    whole = 0
    reader = _File(path)
    try:
        for _ in reader.read():
            whole = reader.place
    finally:
        reader.close()
    os.truncate(path, whole)


class _File:
    """One file, frame by frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.place = 0

    def close(self) -> None:
        os.close(self.fd)

    def read(self) -> Iterator[Chunk]:
        """What has come since; half a frame at the end, which is being written, is left for the next time."""
        while True:
            block = os.pread(self.fd, _BLOCK, self.place)
            used = 0
            while len(block) - used >= HEAD:
                size = int.from_bytes(block[used + 8 : used + 12], "little")
                end = used + HEAD + size + TAIL
                if end > len(block):
                    break
                if block[used + 13 : used + HEAD] != MARK:
                    raise ManagerError(f"{self.path} is damaged at byte {self.place}")
                data = block[used + HEAD : end - TAIL]
                time, stream = int.from_bytes(block[used : used + 8], "little"), block[used + 12]
                used = end
                self.place += HEAD + size + TAIL
                yield Chunk(time, STREAMS.get(stream, "stdout"), data)
            if not used:
                return

    def back(self) -> Iterator[tuple[int, Chunk]]:
        """From the end: (its place, the frame)."""
        place = _whole_end(self.fd)
        while place:
            size = int.from_bytes(os.pread(self.fd, TAIL, place - TAIL), "little")
            place -= HEAD + size + TAIL
            head = os.pread(self.fd, HEAD + size, place)
            yield place, Chunk(int.from_bytes(head[:8], "little"), STREAMS.get(head[12], "stdout"), head[HEAD:])


def _ends_whole(fd: int, size: int) -> bool:
    """Is the end of this many bytes the end of a frame?"""
    if not size:
        return True
    if size < HEAD + TAIL:
        return False
    length = int.from_bytes(os.pread(fd, TAIL, size - TAIL), "little")
    start = size - HEAD - TAIL - length
    if start < 0 or length > _LARGEST:
        return False
    head = os.pread(fd, HEAD, start)
    return head[8:12] == length.to_bytes(4, "little") and head[13:] == MARK


def _whole_end(fd: int) -> int:
    """Where the last whole frame ends: a frame may be being written, which is over in a moment, or was left half."""
    for _ in range(50):
        size = os.fstat(fd).st_size
        if _ends_whole(fd, size):
            return size
        time.sleep(0.001)
    place = 0
    while len(head := os.pread(fd, HEAD, place)) == HEAD:
        end = place + HEAD + int.from_bytes(head[8:12], "little") + TAIL
        if end > size:
            break
        place = end
    return place


class Reader:
    """All files of a log, from the oldest on, also while they are written and rotated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.file: _File | None = None

    def close(self) -> None:
        if self.file:
            self.file.close()
            self.file = None

    def read(self) -> Iterator[Chunk]:
        """What there is and has not been read yet."""
        while True:
            following = self._next()  # asked first: nothing is written to a file after the next one is there
            if self.file:
                yield from self.file.read()
            if following is None or not self._open(following):
                return

    def go_back(self, lines: int) -> Iterator[Chunk]:
        """The last so many lines, with the reader at the end of them then."""
        kept: list[Chunk] = []
        missing = lines
        first = True
        for number in reversed(_numbers(self.folder)):
            if not self._open(number):
                break
            file = self.file
            assert file
            end = 0
            for place, chunk in file.back():
                end = end or place + HEAD + len(chunk.data) + TAIL
                missing = _take_lines(kept, chunk, missing, last=not kept)
                if missing < 0:
                    break
            if first:
                newest, newest_end, first = number, end, False
            if missing < 0:
                break
        if not first and self._open(newest) and self.file:
            self.file.place = newest_end
        yield from reversed(kept)

    def _next(self) -> int | None:
        numbers = [number for number in _numbers(self.folder) if number > self.number]
        return numbers[0] if numbers else None

    def _open(self, number: int) -> bool:
        self.close()
        self.number = number
        try:
            self.file = _File(self.folder / str(number))
        except FileNotFoundError:
            return number != 0
        return True


def _take_lines(kept: list[Chunk], chunk: Chunk, missing: int, *, last: bool) -> int:
    """Put the chunk, or its end, to what is kept already. Returns how many lines are still missing, -1 for enough."""
    if not missing:
        return -1
    data = chunk.data
    end = len(data)
    if last and data.endswith(b"\n"):
        end -= 1  # the newline at the very end begins no line
    while True:
        place = data.rfind(b"\n", 0, end)
        if place < 0:
            kept.append(chunk)
            return missing
        missing -= 1
        if missing <= 0:
            break
        end = place
    if data[place + 1 :]:
        kept.append(Chunk(chunk.time, chunk.stream, data[place + 1 :]))
    return -1


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except FileNotFoundError:
        return []
