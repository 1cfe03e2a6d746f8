"""What a program in a container reads and writes: descriptors of ours, files, pipes, nothing; as in subprocess."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Mapping
from typing import IO, TypeAlias

from ocirt.errors import UsageError

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""The same numbers as subprocess has them. STDOUT is for stderr alone: where stdout goes."""
Stream: TypeAlias = "int | IO[bytes] | IO[str] | None"
"""A descriptor, PIPE, STDOUT, DEVNULL, an open file; None: our own."""
_CHUNK = 65536


class Streams:
    """`theirs` has the three descriptors for the program, until `given`; `ours` the other ends of the pipes.

    Raises UsageError for what is no stream. Every descriptor is close-on-exec, so that no other child has it.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self.ours: list[IO[bytes] | None] = [None, None, None]
        self._opened: list[int] = []
        self.theirs: tuple[int, int, int] = (0, 1, 2)
        try:
            first, second = self._one(0, stdin), self._one(1, stdout)
            self.theirs = first, second, second if stderr == STDOUT else self._one(2, stderr)
        except BaseException:
            self.close()
            raise

    def _one(self, number: int, stream: Stream) -> int:
        if stream is None:
            return number
        if not isinstance(stream, int):
            return stream.fileno()
        if stream >= 0:
            return stream
        if stream == DEVNULL:
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._opened.append(fd)
            return fd
        if stream != PIPE:
            raise UsageError(f"{('stdin', 'stdout', 'stderr')[number]}={stream} is no stream")
        reader, writer = os.pipe2(os.O_CLOEXEC)
        mine, theirs = (writer, reader) if number == 0 else (reader, writer)
        self._opened.append(theirs)
        self.ours[number] = os.fdopen(mine, "wb" if number == 0 else "rb", buffering=0)
        return theirs

    def given(self) -> None:
        """The program has its ends."""
        while self._opened:
            os.close(self._opened.pop())

    def close(self) -> None:
        """Also ours."""
        self.given()
        for file in self.ours:
            if file:
                file.close()


def exchange(
    stdin: IO[bytes] | None, outputs: Mapping[int, IO[bytes] | None], content: bytes, timeout: float | None
) -> dict[int, bytes]:
    """Write `content` and read all outputs to their ends, at the same time; all of them are closed then.

    Raises TimeoutError after `timeout` seconds, with nothing closed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    found = {number: bytearray() for number, file in outputs.items() if file}
    left = memoryview(content)
    with selectors.DefaultSelector() as selector:
        for number, file in outputs.items():
            if file:
                selector.register(file, selectors.EVENT_READ, number)
        if stdin and not left:
            stdin.close()
        elif stdin:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                raise TimeoutError(f"the program has not closed its output after {timeout} s")
            for key, _ in selector.select(wait):
                if key.data is None:
                    assert stdin
                    try:
                        left = left[os.write(stdin.fileno(), left[:_CHUNK]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        selector.unregister(stdin)
                        stdin.close()
                    continue
                chunk = os.read(key.fd, _CHUNK)
                found[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return {number: bytes(read) for number, read in found.items()}
