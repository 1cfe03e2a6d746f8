"""Containers for asyncio: `ocirt.Container` with coroutines.

What makes or changes a container takes some milliseconds and runs in a thread; for its end the event loop watches a
pidfd, for what it says its pipes, so that a thousand containers need no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, ParamSpec, TypeVar

from ocirt.library import container as blocking
from ocirt.library.documents import Path
from ocirt.library.exchange import exchange
from ocirt.library.stdio import Stream

P = ParamSpec("P")
T = TypeVar("T")


class Process:
    """A further process in a container; `blocking` is the same as a Process of `ocirt`."""

    def __init__(self, process: blocking.Process) -> None:
        self.blocking = process

    @property
    def pid(self) -> int:
        return self.blocking.pid

    @property
    def returncode(self) -> int | None:
        return self.blocking.returncode

    async def wait(self) -> int | None:
        """As Child.wait; asyncio.timeout and wait_for bound it."""
        return await self.blocking.wait_async()

    async def communicate(self, content: bytes = b"") -> tuple[bytes, bytes]:
        """As Child.communicate; given up, the process goes on, its pipes stay open, and what was read is lost."""
        return await exchange(self.blocking, content)

    def send_signal(self, signal: int | str) -> None:
        self.blocking.send_signal(signal)

    def poll(self) -> int | None:
        return self.blocking.poll()

    def close(self) -> None:
        self.blocking.close()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Killed, unless it has ended."""
        await _finished(self.blocking.__exit__)


class Container:
    """`blocking` is the same as a Container of `ocirt`, whose methods these are; docs/library.md has examples."""

    def __init__(self, container: blocking.Container) -> None:
        """Not to be called: see `create` and `load`."""
        self.blocking = container

    @classmethod
    async def create(
        cls,
        bundle: Path | None = None,
        *,
        id: str | None = None,
        root: Path | None = None,
        config: Mapping[str, Any] | Path | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        console_socket: Path | None = None,
        manager: str = "cgroupfs",
        new_keyring: bool = True,
        strict: bool = False,
    ) -> Container:
        """As Container.create. Cancelled, it leaves nothing."""
        made = await _made(
            blocking.Container.create,
            bundle,
            id=id,
            root=root,
            config=config,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            console_socket=console_socket,
            manager=manager,
            new_keyring=new_keyring,
            strict=strict,
        )
        return cls(made)

    @classmethod
    async def run(
        cls,
        bundle: Path | None = None,
        *,
        id: str | None = None,
        root: Path | None = None,
        config: Mapping[str, Any] | Path | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        console_socket: Path | None = None,
        manager: str = "cgroupfs",
        new_keyring: bool = True,
        strict: bool = False,
    ) -> Container:
        """`create` and `start`. Cancelled, it leaves nothing."""
        made = await _made(
            blocking.Container.run,
            bundle,
            id=id,
            root=root,
            config=config,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            console_socket=console_socket,
            manager=manager,
            new_keyring=new_keyring,
            strict=strict,
        )
        return cls(made)

    @classmethod
    async def load(cls, id: str, *, root: Path | None = None) -> Container:
        return cls(await _finished(blocking.Container.load, id, root=root))

    @classmethod
    async def list(cls, *, root: Path | None = None) -> blocking.Documents:
        return await _finished(blocking.Container.list, root=root)

    @property
    def id(self) -> str:
        return self.blocking.id

    @property
    def pid(self) -> int:
        return self.blocking.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        return self.blocking.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self.blocking.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        return self.blocking.stderr

    @property
    def returncode(self) -> int | None:
        return self.blocking.returncode

    @property
    def status(self) -> str:
        """As Container.status: a few small files are read, at once."""
        return self.blocking.status

    def poll(self) -> int | None:
        return self.blocking.poll()

    async def start(self) -> None:
        await _finished(self.blocking.start)

    async def state(self) -> dict[str, Any]:
        return await _finished(self.blocking.state)

    async def exec(
        self,
        argv: Sequence[str] | None = None,
        *,
        process: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: tuple[int, int] | int | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        ignore_paused: bool = False,
    ) -> Process:
        """As Container.exec. Cancelled, it ends the process."""
        made = await _made(
            self.blocking.exec,
            argv,
            process=process,
            env=env,
            cwd=cwd,
            user=user,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            ignore_paused=ignore_paused,
        )
        return Process(made)

    async def kill(self, signal: int | str = "TERM", *, everyone: bool = False) -> None:
        await _finished(self.blocking.kill, signal, everyone=everyone)

    async def wait(self) -> int | None:
        """As Child.wait; asyncio.timeout and wait_for bound it."""
        return await self.blocking._child.wait_async()

    async def communicate(self, content: bytes = b"") -> tuple[bytes, bytes]:
        """As Process.communicate."""
        return await exchange(self.blocking._child, content)

    async def stats(self) -> dict[str, Any]:
        return await _finished(self.blocking.stats)

    async def ps(self) -> blocking.Pids:
        return await _finished(self.blocking.ps)

    async def pause(self) -> None:
        await _finished(self.blocking.pause)

    async def resume(self) -> None:
        await _finished(self.blocking.resume)

    async def update(self, resources: Mapping[str, Any]) -> None:
        await _finished(self.blocking.update, resources)

    async def delete(self, *, force: bool = False) -> None:
        await _finished(self.blocking.delete, force=force)

    def detach(self) -> None:
        self.blocking.detach()

    async def __aenter__(self) -> Container:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.delete(force=True)


async def _finished(function: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """In a thread. A thread cannot be cancelled: who is cancelled waits for its end all the same."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **keywords))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        if not task.cancelled():
            task.exception()  # seen
        raise


async def _made(function: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """The same for what makes something, which goes again if nobody is there to take it."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **keywords))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        if not task.cancelled() and not task.exception():
            await _ended(asyncio.ensure_future(asyncio.to_thread(_removed, task.result())))
        raise


async def _ended(task: asyncio.Future[T]) -> None:
    """Wait for it, however often somebody cancels us: what is half done must not be left."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue


def _removed(made: object) -> None:
    if isinstance(made, blocking.Container):
        made.delete(force=True)
    elif isinstance(made, blocking.Process):
        with made:
            pass
