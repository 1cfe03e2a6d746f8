"""What the handlers of requests share: the store, the threads, and what one request is about."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ocirt.manager import digest as digests
from ocirt.manager.errors import GrammarError
from ocirt.manager.registry.server.access import Access, Caller
from ocirt.manager.registry.server.messages import Request
from ocirt.manager.registry.server.options import Options
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.registry.server.repositories import Repositories
from ocirt.manager.registry.server.uploads import Uploads
from ocirt.manager.site import Site
from ocirt.manager.store.collect import Collected, collect

THREADS = 8
PASSWORD_THREADS = 2
"""bcrypt is slow on purpose: who guesses passwords keeps only these busy."""
MOST_WAITING = 32
"""Logins that wait for a thread; further ones are told to come back."""

T = TypeVar("T")


class Service:
    """Of one server. Raises ManagerError where the store or a file cannot be used."""

    def __init__(self, site: Site, options: Options) -> None:
        self.site = site
        self.limits = options.limits
        self.access = Access(options.htpasswd, options.rules)
        self.repositories = Repositories(site.database, site.blobs, options.limits.promise)
        self.uploads = Uploads(site.root / "uploads", site.database, options.limits.uploads)
        self.collection_wanted = asyncio.Event()
        self._threads = ThreadPoolExecutor(THREADS, "registry")
        self._password_threads = ThreadPoolExecutor(PASSWORD_THREADS, "passwords")
        self._collector = ThreadPoolExecutor(1, "collector")
        self._logins = 0

    async def run(self, function: Callable[..., T], *args: Any, undo: Callable[[T], object] | None = None) -> T:
        """Call it in a thread. Who is cancelled waits for its end all the same; `undo` gives back what it took."""
        return await _called(self._threads, partial(function, *args), undo)

    async def caller(self, request: Request) -> Caller:
        """Who sends a request. Raises Problem."""
        authorization = request.headers.get("authorization", "")
        if not authorization:
            return self.access.anonymous()
        known = self.access.remembered(authorization)
        if known is not None:
            return known
        if self._logins >= MOST_WAITING:
            raise Problem("TOOMANYREQUESTS", "too many logins at once", headers=[("Retry-After", "1")])
        self._logins += 1
        try:
            checked = await _called(self._password_threads, partial(self.access.check, authorization), None)
        finally:
            self._logins -= 1
        if checked is None:
            raise unauthorized("the name or the password is wrong")
        return checked

    async def collect(self) -> Collected:
        """Remove what nobody needs: beside requests, and beside other processes that use the store."""
        return await _called(self._collector, self._collect, None)

    def _collect(self) -> Collected:
        self.uploads.expire(self.limits.upload_idle)
        self.repositories.expire()
        return collect(self.site.blobs, self.site.database)

    async def refresh(self) -> str:
        """Read files of passwords and rules again if they have changed. Returns what is wrong with them."""
        return await _called(self._password_threads, self.access.refresh, None)

    def close(self) -> None:
        """When no request is left."""
        for threads in (self._threads, self._password_threads, self._collector):
            threads.shutdown()


async def _called(threads: Executor, function: Callable[[], T], undo: Callable[[T], object] | None) -> T:
    future = asyncio.get_running_loop().run_in_executor(threads, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if undo is not None and future.exception() is None:
            undo(future.result())
        raise


def unauthorized(message: str) -> Problem:
    """With what to log in with (RFC 7617)."""
    challenge = ("WWW-Authenticate", 'Basic realm="ocim registry", charset="UTF-8"')
    return Problem("UNAUTHORIZED", message, headers=[challenge])


@dataclass(frozen=True, slots=True)
class Call:
    """One request, its path taken apart.

    repository   "" where it is about none
    target       a tag, a digest, or an upload's id
    """

    service: Service
    request: Request
    caller: Caller
    repository: str
    target: str

    @property
    def path(self) -> str:
        """Of the repository's URLs."""
        return f"/v2/{self.repository}"

    def digest(self, text: str = "") -> str:
        """The target, or a text, as a digest. Raises Problem."""
        try:
            return digests.parse(text or self.target)
        except GrammarError as error:
            raise Problem("DIGEST_INVALID", error.message, hint=error.hint) from error

    def may_read(self) -> None:
        """Raises Problem."""
        if not self.caller.may_read(self.repository):
            raise self._refused("read")

    def may_write(self) -> None:
        """Raises Problem."""
        if not self.caller.may_write(self.repository):
            raise self._refused("write to")

    def _refused(self, doing: str) -> Problem:
        if not self.caller.name:
            return unauthorized(f"log in to {doing} {self.repository}")
        return Problem("DENIED", f"{self.caller.name} may not {doing} {self.repository}")


def temporary(folder: Path, data: bytes) -> Path:
    """A small file with these bytes, on the disk (fsync)."""
    descriptor, name = tempfile.mkstemp(prefix="manifest-", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Path(name)
