"""The server: it listens, hands requests to their handlers, collects garbage, and ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import ssl
import sys
import traceback
from collections.abc import Awaitable, Callable
from types import TracebackType

from ocirt.manager import names
from ocirt.manager.errors import GrammarError, ManagerError
from ocirt.manager.registry.server import pulling, pushing
from ocirt.manager.registry.server.connection import Connection
from ocirt.manager.registry.server.log import Log
from ocirt.manager.registry.server.messages import Answer, Request
from ocirt.manager.registry.server.options import Options, is_loopback
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.registry.server.service import Call, Service
from ocirt.manager.site import Site

HANDSHAKE_SECONDS = 15.0
REFRESH_SECONDS = 2.0
SOON = 1.0
"""Seconds from a deletion to the collection: more deletions may follow."""
BACKLOG = 512
BUFFER = 256 << 10
MOST_REFUSED = 100
"""Connections beyond the bound that are told so; others are closed."""

_HANDLERS: dict[str, dict[str, Callable[[Call], Awaitable[Answer]]]] = {
    "ping": {"GET": pulling.ping, "HEAD": pulling.ping},
    "catalog": {"GET": pulling.catalog},
    "tags": {"GET": pulling.tags},
    "referrers": {"GET": pulling.referrers},
    "manifests": {
        "GET": pulling.manifest,
        "HEAD": pulling.manifest,
        "PUT": pushing.put_manifest,
        "DELETE": pushing.delete_manifest,
    },
    "blobs": {"GET": pulling.blob, "HEAD": pulling.blob, "DELETE": pushing.delete_blob},
    "uploads": {"POST": pushing.begin},
    "upload": {"GET": pushing.status, "PATCH": pushing.chunk, "PUT": pushing.finish, "DELETE": pushing.cancel},
}


def route(segments: list[str]) -> tuple[str, str, str]:
    """A path's kind, repository and target ("Endpoints"). Raises Problem where there is no such thing."""
    match segments:
        case ["v2"] | ["v2", ""]:
            return "ping", "", ""
        case ["v2", "_catalog"]:
            return "catalog", "", ""
        case ["v2", *name, "tags", "list"]:
            kind, target = "tags", ""
        case ["v2", *name, "blobs", "uploads"] | ["v2", *name, "blobs", "uploads", ""]:
            kind, target = "uploads", ""
        case ["v2", *name, "blobs", "uploads", target]:
            kind = "upload"
        case ["v2", *name, ("manifests" | "blobs" | "referrers") as kind, target]:
            pass
        case _:
            raise Problem("UNSUPPORTED", "there is nothing at this path", status=404)
    try:
        return kind, names.path("/".join(name)), target
    except GrammarError as error:
        raise Problem("NAME_INVALID", error.message, hint=error.hint) from error


class Server:
    """A registry on a store; an asynchronous context manager, or `start` and `close`.

    port   that it listens on, once it does

    Raises ManagerError: options that make no sense, files that cannot be read, an address that is taken.
    """

    def __init__(self, site: Site, options: Options, log: Log | None = None) -> None:
        options.check()
        self.port = 0
        self._options = options
        self._log = log
        self._tls = options.tls()
        self._service = Service(site, options)
        self._listening: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._background: list[asyncio.Task[None]] = []
        self._refusing = 0
        self._complaint = ""

    async def start(self) -> None:
        """Listen."""
        options, tls = self._options, self._tls
        handshake = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS} if tls else {}
        try:
            self._listening = await asyncio.start_server(
                self._connected,
                options.address.strip("[]"),
                options.port,
                limit=BUFFER,
                backlog=BACKLOG,
                **handshake,  # type: ignore[arg-type]
            )
        except OSError as error:
            self._service.close()
            hint = "another registry? --port takes another port" if error.errno == 98 else ""
            reason = error.strerror or str(error)
            raise ManagerError(f"listen on {options.address}:{options.port}: {reason}", hint=hint) from error
        self.port = self._listening.sockets[0].getsockname()[1]
        self._background = [asyncio.create_task(self._collect()), asyncio.create_task(self._refresh())]

    async def close(self) -> None:
        """Take no more; requests that came are answered, as far as the limit `finish` allows."""
        if self._listening is not None:
            self._listening.close()
        for task in self._background:
            task.cancel()
        for task, connection in self._connections.items():
            connection.closing = True
            if connection.idle:
                task.cancel()
        if self._connections:
            _, late = await asyncio.wait([*self._connections], timeout=self._options.limits.finish)
            for task in late:
                task.cancel()
        await asyncio.gather(*self._connections, *self._background, return_exceptions=True)
        self._service.close()

    def hurry(self) -> None:
        """Requests under way end now."""
        for task in self._connections:
            task.cancel()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def reload(self) -> None:
        """The certificate was renewed."""
        if self._tls is not None:
            try:
                self._options.load(self._tls)
            except ManagerError as error:
                self._say(str(error))

    async def collect(self) -> None:
        """Collect garbage now."""
        found = await self._service.collect()
        if found.blobs:
            self._say(f"collected {found.blobs} blobs, {found.size} bytes")

    # Connections.

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._options.limits, self._service.run, self._told)
        if len(self._connections) - self._refusing >= self._options.limits.connections:
            await self._refuse(connection, writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = connection
        try:
            await connection.serve(self._answer)
        except asyncio.CancelledError:
            writer.transport.abort()
        except ssl.SSLError:
            pass
        finally:
            del self._connections[task]

    async def _refuse(self, connection: Connection, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._refusing >= MOST_REFUSED:
            writer.transport.abort()
            return
        self._refusing += 1
        self._connections[task] = connection
        try:
            too_many = "too many connections"
            await connection.refuse(Problem("TOOMANYREQUESTS", too_many, status=503, headers=[("Retry-After", "5")]))
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._refusing -= 1
            del self._connections[task]

    # Requests.

    async def _answer(self, request: Request, connection: Connection) -> Answer:
        try:
            self._check_host(request)
            kind, repository, target = route(request.segments)
            caller = await self._service.caller(request)
            connection.user = caller.name
            handlers = _HANDLERS[kind]
            handler = handlers.get(request.method)
            if handler is None:
                allowed = [("Allow", ", ".join(handlers))]
                raise Problem("UNSUPPORTED", f"{request.method} of this is unknown", status=405, headers=allowed)
            return await handler(Call(self._service, request, caller, repository, target))
        except Problem:
            raise
        except (ManagerError, OSError) as error:
            # The store's: a full disk, a file that was changed. The peer learns no path of ours.
            self._say(f"{request.method} {request.target[:200]}: {error}")
            full = isinstance(error, OSError) and error.errno in (28, 122)  # ENOSPC, EDQUOT
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            message = "the disk is full" if full else "the registry's store failed: its log says why"
            raise Problem("UNSUPPORTED", message, status=507 if full else 500) from error
        except Exception as error:
            if type(error).__module__.startswith("h11") or type(error).__name__ == "Gone":
                raise
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._say(f"{request.method} {request.target[:200]}: {error!r} at {place.filename}:{place.lineno}")
            raise Problem("UNSUPPORTED", "the registry failed: its log says why", status=500) from error

    def _check_host(self, request: Request) -> None:
        """Raises Problem."""
        if "origin" in request.headers:
            # No client of a registry is a web page; who is one would act with the rights of who looks at it.
            raise Problem("DENIED", "requests of web pages are not taken")
        if not self._options.local_names_only:
            return
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name and not (is_loopback(name.lower()) or name.lower().endswith(".localhost")):
            message = f"this registry is open to all, and answers to localhost only, not to {name[:100]}"
            raise Problem("DENIED", message, hint="--insecure takes any name, and so does --htpasswd")

    def _told(self, connection: Connection, request: Request | None, status: int, size: int, seconds: float) -> None:
        if self._log is not None and self._options.log:
            what = f"{request.method} {request.target}" if request else "-"
            agent = request.headers.get("user-agent", "-") if request else "-"
            self._log.request(connection.peer, connection.user, what, status, size, seconds, agent)

    def _say(self, message: str) -> None:
        if self._log is not None:
            self._log.line(message)

    # In the background.

    async def _collect(self) -> None:
        wanted, every = self._service.collection_wanted, self._options.limits.collect
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await wanted.wait()
            await asyncio.sleep(SOON)
            wanted.clear()
            try:
                await self.collect()
            except (ManagerError, OSError) as error:
                self._say(f"garbage collection: {error}")

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            complaint = await self._service.refresh()
            if complaint and complaint != self._complaint:
                self._say(complaint)
            self._complaint = complaint


def serve(site: Site, options: Options) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends requests that are under way. SIGHUP reads the certificate again.

    Returns the exit code. Raises ManagerError.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log = Log(sys.stderr)
    try:
        asyncio.run(_serve(site, options, log))
    finally:
        log.close()
    return 0


async def _serve(site: Site, options: Options, log: Log) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    server = Server(site, options, log)
    await server.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    scheme = "https" if options.certificate else "http"
    address = options.address.strip("[]")
    name = f"[{address}]" if ":" in address else address
    log.line(f"listening on {scheme}://{name}:{server.port}, the store is {site.root}")
    await ended.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.hurry)
    closing = asyncio.create_task(server.close())
    log.line("ending: requests under way are finished")
    await closing
