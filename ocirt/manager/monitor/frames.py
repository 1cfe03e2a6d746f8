"""The format of a container's log: a frame for each read of its output.

    u64 time        nanoseconds since 1970, when it was read
    u32 size        of the bytes that follow
    u8 stream       1: stdout, 2: stderr
    u24 MARK
    bytes           as they came: lines are found when they are read
    u32 size        again: so a file can be read from its end

All little-endian. Files are numbered, "1", "2", …; a reader that is through with one goes on with the next number.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = b"\x0fOF"
HEAD, TAIL = 16, 4


def head(time: int, stream: int, size: int) -> bytes:
    """What stands before the bytes."""
    return time.to_bytes(8, "little") + size.to_bytes(4, "little") + bytes((stream,)) + MARK


def tail(size: int) -> bytes:
    """What stands behind them."""
    return size.to_bytes(4, "little")


class Log:
    """The writing end. `folder`: exists. most_size: bytes of a file, 0 for any; most_files: how many are kept.

    A full disk costs output, which is counted in `lost`, and neither the container's life nor the frames before.
    """

    def __init__(self, folder: str, most_size: int, most_files: int) -> None:
        self.folder = folder
        self.most_size = most_size
        self.most_files = max(1, most_files)
        self.lost = 0
        numbers = [int(name) for name in posix.listdir(folder) if name.isdigit()]
        self.number = max(numbers, default=1)
        self.first = min(numbers, default=1)
        self._open()

    def _open(self) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        self.fd = posix.open(f"{self.folder}/{self.number}", flags, 0o640)
        self.size = posix.fstat(self.fd).st_size

    def write(self, time: int, stream: int, data: bytes | memoryview) -> None:
        """Append a frame; in a file of its own when the last one is full."""
        size = HEAD + len(data) + TAIL
        try:
            if self.most_size and self.size and self.size + size > self.most_size:
                self._rotate()
            self._append((head(time, stream, len(data)), data, tail(len(data))), size)
        except OSError:
            self.lost += len(data)

    def _append(self, parts: Sequence[bytes | memoryview], size: int) -> None:
        try:
            written = posix.writev(self.fd, parts)
        except OSError:
            written = 0
        if written != size:  # no room: half a frame would end the log for all readers
            posix.ftruncate(self.fd, self.size)
            raise OSError
        self.size += size

    def _rotate(self) -> None:
        old = self.fd
        self.number += 1
        try:
            self._open()
        except OSError:
            self.number -= 1
            raise
        posix.close(old)
        while self.first <= self.number - self.most_files:
            try:
                posix.unlink(f"{self.folder}/{self.first}")
            except FileNotFoundError:
                pass
            self.first += 1
