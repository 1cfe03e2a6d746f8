"""communicate() for asyncio: the event loop watches the pipes, so that no thread waits for what a program says."""

from __future__ import annotations

import asyncio
import os
from typing import IO

from ocirt.library.child import Child

_CHUNK = 65536


async def exchange(child: Child, content: bytes) -> tuple[bytes, bytes]:
    """Write `content` to stdin, read stdout and stderr to their ends (those that are PIPE), and wait for the end.

    Cancelled, it leaves the process and the pipes as they are; what was read is lost.
    """
    async with asyncio.TaskGroup() as group:
        if child.stdin:
            group.create_task(_write(child.stdin, content))
        out, err = (group.create_task(_read(file)) for file in (child.stdout, child.stderr))
    await child.wait_async()
    return out.result(), err.result()


async def _read(file: IO[bytes] | None) -> bytes:
    """All up to its end; then it is closed."""
    if not file or file.closed:
        return b""
    loop, fd, found = asyncio.get_running_loop(), file.fileno(), bytearray()
    done: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if done.done():
            return
        try:
            chunk = os.read(fd, _CHUNK)
        except OSError as error:
            done.set_exception(error)
            return
        found.extend(chunk)
        if not chunk:
            done.set_result(None)

    loop.add_reader(fd, ready)
    try:
        await done
    finally:
        loop.remove_reader(fd)
    file.close()
    return bytes(found)


async def _write(file: IO[bytes], content: bytes) -> None:
    """All of it, or what a program takes that closes its end earlier; then it is closed."""
    if file.closed:
        return
    loop, fd, left = asyncio.get_running_loop(), file.fileno(), memoryview(content)
    done: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        nonlocal left
        if done.done():
            return
        try:
            left = left[os.write(fd, left[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            left = left[:0]
        except OSError as error:
            done.set_exception(error)
            return
        if not left:
            done.set_result(None)

    if left:
        os.set_blocking(fd, False)  # a pipe that has room for some has not for all
        loop.add_writer(fd, ready)
        try:
            await done
        finally:
            loop.remove_writer(fd)
            os.set_blocking(fd, True)
    file.close()
