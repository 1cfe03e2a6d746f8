"""The process that unpacks layers: one after the other, as it is told through a socket.

A line each, JSON: a job comes in, `Job`; going out are `{"taken": N}` (bytes of the blob) while it works, and then
what came of it: `{"diff_id", "size", "lost", "implied"}` (see `Unpacked`) or `{"error": CODE, "message", "hint"}`.
Whoever started it ends it by closing the socket, or by dying, after which it does not go on.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import TypedDict

from ocirt.errors import Error
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.archive.extract import MOST_BYTES, Extractor
from ocirt.manager.archive.whiteouts import Apply, Overlay
from ocirt.manager.errors import ManagerError

CHUNK = 512 << 10
AHEAD = 4
_TOLD = 4 << 20
_PATIENCE = 0.02  # seconds until we look again for more of a blob that is on its way


class Job(TypedDict):
    """blob: path of the file; size: its bytes where some may be still to come, else 0; compression: see `Unpacking`;
    diff_id: what its content must have; folder: where it goes, which is there; opaque: overlayfs's attribute, or "" to
    carry whiteouts out; below: the folder of which `folder` is to be a copy first, or "".
    """

    blob: str
    size: int
    compression: str
    diff_id: str
    folder: str
    opaque: str
    below: str


class _Gone(Exception):
    """Who gave the job is no more."""


class Blob:
    """A file that may still grow, up to a size that is known."""

    def __init__(self, path: str, size: int, channel: socket.socket, told: Callable[[int], None]) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = size
        self._channel = channel
        self._told = told
        self._next = _TOLD
        self.offset = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes, when they are there."""
        patience = 0.0
        while True:
            if select.select([self._channel], [], [], patience)[0]:
                raise _Gone
            data = os.read(self._file, size)
            if data or self.offset >= self._size:
                self.offset += len(data)
                if self.offset >= self._next:
                    self._told(self.offset)
                    self._next = self.offset + _TOLD
                return data
            patience = _PATIENCE

    def close(self) -> None:
        """No more is read."""
        os.close(self._file)


class Ahead:
    """A stream that is read by a thread while what came before is used: decompressing and hashing let others work."""

    def __init__(self, source: Unpacking) -> None:
        self._source = source
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._stopped = False
        self._rest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        try:
            while not self._stopped:
                piece = self._source.read(CHUNK)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as error:  # the reader's to raise
            self._pieces.put(error)

    def read(self, size: int, /) -> bytes:
        """The next piece, of whatever length up to `size`; raises what reading it raised."""
        if self._rest:
            piece = self._rest
        elif self._ended:
            return b""
        else:
            found = self._pieces.get()
            if isinstance(found, BaseException):
                self._ended = True
                raise found
            piece = found
            self._ended = not piece
        piece, self._rest = piece[:size], piece[size:]
        return piece

    def close(self) -> None:
        """Let the thread end, and wait for it."""
        self._stopped = True
        while self._thread.is_alive():
            try:
                self._pieces.get(timeout=0.01)
            except queue.Empty:
                continue


def unpack(job: Job, channel: socket.socket, told: Callable[[int], None]) -> dict[str, object]:
    """Do one job. Raises ManagerError."""
    folder = os.open(job["folder"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Nobody sweeps it away while we are at it, even if we outlive who asked for it by a moment.
        fcntl.flock(folder, fcntl.LOCK_SH)
        if job["below"]:
            _copy(job["below"], folder)
        blob = Blob(job["blob"], job["size"], channel, told)
        try:
            return _extract(job, blob, folder)
        finally:
            blob.close()
    finally:
        os.close(folder)


def _extract(job: Job, blob: Blob, folder: int) -> dict[str, object]:
    content = Unpacking(blob, job["compression"], MOST_BYTES, job["diff_id"].partition(":")[0])
    whiteouts = Overlay(job["opaque"]) if job["opaque"] else Apply()
    ahead = Ahead(content)
    try:
        result = Extractor(folder, whiteouts, umask=0).run(ahead)
    finally:
        ahead.close()
    if job["opaque"] and not result.root:
        os.fchmod(folder, 0)  # says that a layer below tells what the root folder is like
    return {
        "diff_id": content.diff_id,
        "size": result.size,
        "lost": result.lost,
        "implied": [os.fsdecode(path) for path in result.implied] if job["opaque"] else [],
    }


def _copy(below: str, folder: int) -> None:
    from ocirt.manager.snapshots.copies import copy

    source = os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy(source, folder)
    finally:
        os.close(source)


def serve(channel: socket.socket) -> None:
    """Do all jobs that come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for who started us, and ends us too
    os.umask(0)

    def say(value: dict[str, object]) -> None:
        channel.sendall(json.dumps(value).encode() + b"\n")

    with channel.makefile("rb") as jobs:
        for line in jobs:
            job: Job = json.loads(line)
            try:
                say(unpack(job, channel, lambda taken: say({"taken": taken})))
            except _Gone:
                return
            except Error as error:
                say({"error": error.code, "message": error.message, "hint": error.hint})
            except OSError as error:
                problem = ManagerError(f"unpack into {job['folder']}: {error.strerror}")
                say({"error": problem.code, "message": problem.message, "hint": ""})
