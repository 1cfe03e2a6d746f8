"""ocirt.sandbox.Pool: sandboxes that wait."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ocirt import sandbox
from ocirt.errors import Error, KernelError, UsageError
from ocirt.sandbox.client import keeper

pytestmark = pytest.mark.root


def waiting() -> list[int]:
    """The first processes of the keeper's sandboxes."""
    tasks = Path(f"/proc/{keeper.pid}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def test_each_run_has_a_sandbox_of_its_own() -> None:
    with sandbox.Pool(2, ["sh", "-c", "cat; ls /tmp; touch /tmp/mine"]) as pool:
        assert [pool.run(stdin=str(number)).stdout for number in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_many_threads_share_one() -> None:
    found: list[bytes] = []
    with sandbox.Pool(3, ["cat"]) as pool:
        threads = [
            threading.Thread(target=lambda number=number: found.append(pool.run(stdin=str(number)).stdout))
            for number in range(9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [str(number).encode() for number in range(9)]


def test_one_that_has_died_is_replaced() -> None:
    with sandbox.Pool(2, ["echo", "alive"]) as pool:
        pool.wait()
        for pid in waiting():
            os.kill(pid, 9)
        assert [pool.run().stdout for _ in range(3)] == [b"alive\n"] * 3


def test_limits_and_timeouts_are_each_runs_own() -> None:
    with sandbox.Pool(1, ["sh", "-c", 'read command; eval "$command"'], timeout=5) as pool:
        assert pool.run(stdin="sleep 1000\n").timed_out
        result = pool.run(stdin="unshare -m true; exit 7\n")
        assert (result.returncode, result.denied_syscalls) == (7, {"unshare": 1})


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(KernelError, match="not found"):
        sandbox.Pool(1, ["no-such-program"])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="size"):
        sandbox.Pool(0, ["true"])
    with pytest.raises(UsageError, match="unexpected"):
        sandbox.Pool(1, ["true"], memroy="1M")
    with pytest.raises(Error):
        sandbox.Pool(1, ["true"], binds=["/etc/passwd:/proc/self/x"])


def test_a_closed_pool_runs_nothing() -> None:
    pool = sandbox.Pool(2, ["true"])
    pool.close()
    pool.close()
    with pytest.raises(UsageError, match="closed"):
        pool.run()


def test_a_child_after_fork_leaves_it_alone() -> None:
    with sandbox.Pool(2, ["echo", "here"]) as pool:
        child = os.fork()
        if child == 0:
            try:
                pool.close()
                pool.run()
            except UsageError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.run().stdout == b"here\n"
