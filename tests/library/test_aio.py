"""ocirt.aio: the same for asyncio."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import ocirt
from ocirt.aio import Container

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("traces")]


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def test_life(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/bin/sleep", "1000"]
        async with await Container.run(config=config, root=root) as container:
            assert (await container.state())["status"] == "running"
            process = await container.exec(["/bin/echo", "hello"], stdout=ocirt.PIPE)
            assert await process.communicate() == (b"hello\n", b"")
            assert await process.wait() == process.returncode == 0
            process.close()
            await container.kill("KILL")
            assert await container.wait() == -9
            assert await container.wait() == -9

    run(life())


def test_the_loop_goes_on_and_many_wait(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/bin/sh", "-c", "read x; exit 5"]
        made = await asyncio.gather(*(Container.run(config=config, root=root, stdin=ocirt.PIPE) for _ in range(6)))
        waiting = [asyncio.ensure_future(one.wait()) for one in made]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        for one in made:
            assert one.stdin
            one.stdin.write(b"\n")
        assert await asyncio.gather(*waiting) == [5] * 6
        await asyncio.gather(*(one.delete() for one in made))

    run(life())


def test_a_wait_that_is_given_up(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/bin/sleep", "1000"]
        async with await Container.run(config=config, root=root) as container:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(container.wait(), 0.05)
            assert container.returncode is None

    run(life())


def test_a_creation_that_is_cancelled_leaves_nothing(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        task = asyncio.ensure_future(Container.run(config=config, root=root, stdin=ocirt.PIPE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(life())


def test_errors(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/no/such"]
        with pytest.raises(ocirt.KernelError):
            await Container.run(config=config, root=root)

    run(life())
