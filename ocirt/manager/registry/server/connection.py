"""HTTP/1.1 on a connection: h11 parses, and here are the bounds: how much, how long, how slow.

What two readers could understand in two ways is refused, and the connection closed (RFC 9112, 6.1 and 11.2): a length
beside a transfer coding, a coding from an HTTP/1.0 client. h11 refuses lengths that differ and codings that it does not
know.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

import h11

from ocirt.manager.registry.server.messages import Answer, Part, Request
from ocirt.manager.registry.server.options import Limits
from ocirt.manager.registry.server.problems import Problem

PIECE = 256 << 10
SEGMENT = 1 << 20
"""Bytes of a file that are looked at together: whether they are in memory."""
RATE_SECONDS = 60.0
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 << 20
"""How much is still read from who has been answered: else the connection's reset might overtake the answer."""

Handler = Callable[[Request, "Connection"], Awaitable[Answer]]
T = TypeVar("T")


class Gone(Exception):
    """The peer has closed the connection, or is too slow."""


class Connection:
    """One connection. `serve` ends when it does.

    idle    whether it waits for a request
    run     calls a function in a thread
    told    is told of each answer: request or None, status, bytes, seconds
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
        run: Callable[..., Awaitable[Any]],
        told: Callable[[Connection, Request | None, int, int, float], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._run = run
        self._told = told
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header)
        self.idle = True
        self.closing = False
        self.user = ""
        peer = writer.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) and peer else "-"
        self._encrypted = writer.get_extra_info("sslcontext") is not None
        if not self._encrypted:
            # drain() then waits until all is with the kernel: sendfile(2) must not overtake what is before it.
            writer.transport.set_write_buffer_limits(high=0)

    async def serve(self, handler: Handler) -> None:
        """Request after request."""
        try:
            while await self._one(handler):
                self._http.start_next_cycle()
            await self._linger()
        except (Gone, OSError):  # TimeoutError too; the peer's end of a connection may be gone at any point
            pass
        finally:
            self._writer.close()

    async def refuse(self, problem: Problem) -> None:
        """Answer the first request with this, whatever it is."""

        async def refused(request: Request, connection: Connection) -> Answer:
            raise problem

        self.closing = True
        await self.serve(refused)

    # One request.

    async def _one(self, handler: Handler) -> bool:
        """Whether another one may follow."""
        self.user = ""
        began = time.monotonic()
        request = None
        try:
            event = await self._head()
            if event is None:
                return False
            began = time.monotonic()
            request = self._request(event)
            answer = await self._handled(handler, request)
        except h11.RemoteProtocolError as error:
            self.closing = True
            status = error.error_status_hint
            answer = problem_answer(Problem("UNSUPPORTED", f"the request is no HTTP: {error}", status=status))
        except Problem as problem:
            self.closing = True
            answer = problem_answer(problem)
        sent = 0
        try:
            sent = await self._send(request, answer)
        finally:
            if isinstance(answer.body, Part):
                answer.body.file.close()
            self._told(self, request, answer.status, sent, time.monotonic() - began)
        return not self.closing and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _handled(self, handler: Handler, request: Request) -> Answer:
        try:
            request.parse()
            return await handler(request, self)
        except Problem as problem:
            return problem_answer(problem)

    async def _head(self) -> h11.Request | None:
        """The next request's line and headers, or None where the peer has nothing more to say."""
        self.idle = self._http.trailing_data[0] == b""
        wait = self._limits.idle
        ends = None
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self.idle = False
                return event
            if isinstance(event, h11.ConnectionClosed):
                return None
            if event is not h11.NEED_DATA:
                raise Gone
            now = time.monotonic()
            if ends is not None:
                wait = ends - now
            try:
                async with asyncio.timeout(wait):
                    data = await self._reader.read(PIECE)
            except TimeoutError:
                if ends is None:
                    return None
                raise Problem("UNSUPPORTED", "the request did not come in time", status=408) from None
            self.idle = False
            if ends is None:
                ends = time.monotonic() + self._limits.header_wait
            self._http.receive_data(data)

    def _request(self, event: h11.Request) -> Request:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        coded = "transfer-encoding" in headers
        if coded and ("content-length" in headers or event.http_version == b"1.0"):
            raise Problem("UNSUPPORTED", "Transfer-Encoding with Content-Length, or from HTTP/1.0")
        length = None if coded else int(headers.get("content-length", "0"))
        pieces = self._pieces
        if length == 0:
            self._http.next_event()  # the end of the body, which nobody would ask for
            pieces = _nothing
        return Request(event.method.decode("ascii"), event.target.decode("latin-1"), headers, length, pieces)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises Gone, h11.RemoteProtocolError."""
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            await self._write(self._http.send(go_on))
        pace = _Pace(self._limits)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            elif event is h11.NEED_DATA:
                data = await self._waited(self._reader.read(PIECE))
                pace.passed(len(data))
                self._http.receive_data(data)
            else:
                raise Gone

    async def _waited(self, awaitable: Awaitable[T]) -> T:
        """Raises Gone where the peer does nothing for too long."""
        try:
            async with asyncio.timeout(self._limits.body_wait):
                return await awaitable
        except TimeoutError:
            raise Gone from None

    # The answer.

    async def _send(self, request: Request | None, answer: Answer) -> int:
        """Returns how many bytes of body went."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise Gone
        size = answer.size if answer.size is not None else len(answer.body) if isinstance(answer.body, bytes) else 0
        if isinstance(answer.body, Part):
            size = answer.body.size
        headers = [("Date", email.utils.formatdate(usegmt=True)), ("Docker-Distribution-Api-Version", "registry/2.0")]
        headers += [("X-Content-Type-Options", "nosniff"), *answer.headers]
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(size)))
        if self._http.their_state is not h11.DONE or answer.status in (408, 503):
            self.closing = True  # of a body that nobody has read
        if self.closing:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(answer.status).phrase.encode()
        head = self._http.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        bare = answer.status in (204, 304) or (request is not None and request.method == "HEAD")
        if bare:
            await self._write(head + self._http.send(h11.EndOfMessage()))
            return 0
        if isinstance(answer.body, bytes):
            data = self._http.send(h11.Data(data=answer.body)) if answer.body else b""
            await self._write(head + data + self._http.send(h11.EndOfMessage()))
            return size
        await self._write(head)
        self._http.send_with_data_passthrough(h11.Data(data=_Sized(size)))  # type: ignore[arg-type]
        await self._part(answer.body)
        await self._write(self._http.send(h11.EndOfMessage()))
        return size

    async def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            await self._waited(self._writer.drain())

    async def _part(self, part: Part) -> None:
        """A file's bytes: by sendfile(2), unless they have to be encrypted."""
        pace = _Pace(self._limits)
        offset, end = part.offset, part.offset + part.size
        socket = -1 if self._encrypted else os.dup(self._writer.get_extra_info("socket").fileno())
        try:
            while offset < end:
                size = min(SEGMENT, end - offset)
                if self._encrypted:
                    data = await self._run(os.pread, part.file.fileno(), min(size, PIECE), offset)
                    if not data:
                        raise Gone  # shorter than it was
                    await self._write(data)
                    size = len(data)
                else:
                    await self._segment(socket, part.file.fileno(), offset, size)
                pace.passed(size)
                offset += size
        finally:
            if socket >= 0:
                os.close(socket)

    async def _segment(self, socket: int, file: int, offset: int, size: int) -> None:
        if not _cached(file, offset, size):
            await self._run(os.pread, file, size, offset)
        end = offset + size
        while offset < end:
            try:
                sent = os.sendfile(socket, file, offset, end - offset)
            except BlockingIOError:
                await self._waited(_writable(socket))
                continue
            if not sent:
                raise Gone
            offset += sent
        await asyncio.sleep(0)  # others' turn, however quick this peer is

    async def _linger(self) -> None:
        """Read what the peer still sends of a request that is answered."""
        if self._http.their_state in (h11.DONE, h11.IDLE, h11.CLOSED):
            return
        if self._writer.can_write_eof():
            self._writer.write_eof()
        left = LINGER_BYTES
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (data := await self._reader.read(PIECE)):
                left -= len(data)


class _Pace:
    """Ends who sends or takes next to nothing, though always something."""

    def __init__(self, limits: Limits) -> None:
        self._slowest = limits.slowest
        self._began = time.monotonic()
        self._size = 0

    def passed(self, size: int) -> None:
        """Raises Gone."""
        self._size += size
        now = time.monotonic()
        if now - self._began > RATE_SECONDS:
            if self._size < self._slowest * RATE_SECONDS:
                raise Gone
            self._began, self._size = now, 0


class _Sized:
    """Stands for bytes that h11 does not need to see."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def _cached(file: int, offset: int, size: int) -> bool:
    """Whether a file's bytes can be had without waiting for the disk (preadv2(2), RWF_NOWAIT)."""
    try:
        for place in (offset, offset + size - 1):
            if os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT) != 1:
                return False
    except OSError:  # EAGAIN; EOPNOTSUPP of file systems that do not know
        return False
    return True


async def _nothing() -> AsyncIterator[bytes]:
    """The pieces of a body that is empty."""
    for piece in ():
        yield piece


async def _writable(socket: int) -> None:
    """Until the socket takes bytes again. The descriptor must not be the one that asyncio has."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(socket, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(socket)


def problem_answer(problem: Problem) -> Answer:
    """With the specification's body."""
    return Answer(problem.status, [("Content-Type", "application/json"), *problem.headers], problem.body())
