"""ocirt.aio: the same for asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
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
        await asyncio.sleep(0)
        task.cancel()  # impatience changes nothing
        with pytest.raises(asyncio.CancelledError):
            await task

    run(life())


def test_more_talk_than_the_loop_has_threads(config: dict[str, Any], root: Path) -> None:
    """Who waits for the end of a conversation holds nothing that others need for theirs to begin."""
    big = b"0123456789abcdef" * 10_000

    async def life() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        config["process"]["args"] = ["/bin/sh", "-c", "echo oops >&2; cat"]
        keywords: dict[str, Any] = {"stdin": ocirt.PIPE, "stdout": ocirt.PIPE, "stderr": ocirt.PIPE}
        made = [await Container.create(config=config, root=root, **keywords) for _ in range(4)]
        talking = [asyncio.ensure_future(one.communicate(big)) for one in made]
        await asyncio.sleep(0)
        assert {one["id"] for one in await Container.list(root=root)} == {one.id for one in made}
        for one in made:
            await one.start()
        assert await asyncio.gather(*talking) == [(big, b"oops\n")] * 4
        assert [one.poll() for one in made] == [0] * 4
        await asyncio.gather(*(one.delete() for one in made))

    run(life())


def test_talk_that_is_given_up(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/bin/cat"]
        async with await Container.run(config=config, root=root, stdin=ocirt.PIPE, stdout=ocirt.PIPE) as container:
            async with await container.exec(["/bin/sleep", "1000"], stdout=ocirt.PIPE) as process:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(process.communicate(), 0.05)
                assert process.poll() is None
            assert process.returncode == -9
            assert container.status == "running"
            assert await container.communicate(b"after") == (b"after", b"")

    run(life())


def test_errors(config: dict[str, Any], root: Path) -> None:
    async def life() -> None:
        config["process"]["args"] = ["/no/such"]
        with pytest.raises(ocirt.KernelError):
            await Container.run(config=config, root=root)

    run(life())
