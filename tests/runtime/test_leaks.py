"""Many containers with limits on all controllers, several at a time, half of them killed: nothing is left of any.

LEAKS says how many there are (300), LEAKS_SEED repeats a run that failed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.life import until_gone
from runtime.limits import limits
from support import CACHE, OCIRT, Bundle, Runtime, traces

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = int(os.environ.get("LEAKS", "300"))
SEED = int(os.environ.get("LEAKS_SEED") or random.SystemRandom().randrange(1 << 32))
AT_A_TIME = 4
PATIENCE = 20.0
MARK = "86399.75"
"""Seconds that no other sleep on this machine is asked for."""

pytestmark = pytest.mark.root


class One:
    """A container and what happens to it."""

    def __init__(self, runtime: Runtime, bundle: Path, index: int, duration: float) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.id = f"leak-{index}"
        self.chance = random.Random(f"{SEED}/{index}")
        self.duration = duration
        self.made = ("create", "--bundle", str(bundle), self.id)

    def live(self) -> None:
        """Its whole life, undisturbed."""
        self.expect(*self.made)
        self.expect("start", self.id)
        pid = self.runtime.state(self.id)["pid"]
        self.expect("kill", self.id, "KILL")
        until_gone(pid)
        self.expect("delete", self.id)

    def lose_create(self) -> None:
        self.cut_short(*self.made)

    def lose_run(self) -> None:
        self.cut_short("run", "--detach", "--bundle", str(self.bundle), self.id)

    def lose_foreground(self) -> None:
        self.cut_short("run", "--bundle", str(self.bundle), self.id)

    def lose_start(self) -> None:
        self.expect(*self.made)
        self.cut_short("start", self.id)

    def lose_delete(self) -> None:
        self.expect(*self.made)
        if self.chance.random() < 0.5:
            self.expect("start", self.id)
        self.cut_short("delete", "--force", self.id)

    def die_before_start(self) -> None:
        self.expect(*self.made)
        self.kill()
        assert self.runtime("start", self.id).code == 1

    def die_while_it_starts(self) -> None:
        self.expect(*self.made)
        starting = self.begin("start", self.id)
        self.wait()
        self.kill()
        starting.wait(PATIENCE)

    def die_running(self) -> None:
        self.expect("run", "--detach", "--bundle", str(self.bundle), self.id)
        self.kill()

    def expect(self, *words: str) -> None:
        done = self.runtime(*words)
        assert (done.code, done.err) == (0, ""), f"{words}: {done}"

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        return subprocess.Popen(
            [OCIRT, "--root", self.runtime.root, *words],
            stdin=null,
            stdout=null,
            stderr=null,
            env={"OCIRT_CACHE": CACHE},
        )

    def wait(self) -> None:
        """For a moment at which the command may be anywhere between its first step and its end."""
        time.sleep(self.chance.uniform(0, 1.2 * self.duration))

    def cut_short(self, *words: str) -> None:
        with self.begin(*words) as process:
            self.wait()
            process.kill()

    def kill(self) -> None:
        """The container's first process, which may have ended meanwhile."""
        pid = self.runtime.state(self.id)["pid"]
        if pid:
            os.kill(pid, signal.SIGKILL)


DEATHS: tuple[Callable[[One], None], ...] = (
    One.lose_create,
    One.lose_create,
    One.lose_run,
    One.lose_foreground,
    One.lose_start,
    One.lose_delete,
    One.die_before_start,
    One.die_while_it_starts,
    One.die_running,
)


def stragglers(root: Path) -> list[str]:
    """The command lines of processes that are containers' of ours, or commands on them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if MARK in line or f"{root} " in line:
                found.append(line)
    return found


def test_nothing_is_left_of_containers_that_are_killed_at_random_moments(runtime: Runtime, bundle: Bundle) -> None:
    print(f"again: LEAKS_SEED={SEED} LEAKS={COUNT}")  # pytest shows it if the test fails
    bundle.config["process"]["args"] = ["/bin/sleep", MARK]
    bundle.config["linux"]["resources"] |= limits()
    bundle.write()
    runtime.root.mkdir()
    before = traces(runtime.root, bundle.rootfs)
    began = time.monotonic()
    probe = One(runtime, bundle.path, COUNT, 0)
    probe.expect(*probe.made)
    duration = time.monotonic() - began
    probe.expect("delete", "--force", probe.id)
    containers = [One(runtime, bundle.path, index, duration) for index in range(COUNT)]
    lives = [DEATHS[index // 2 % len(DEATHS)] if index % 2 else One.live for index in range(COUNT)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for done in [pool.submit(life, one) for life, one in zip(lives, containers, strict=True)]:
                done.result()
        finally:
            removals = list(pool.map(lambda one: runtime("delete", "--force", one.id), containers))
    assert {(done.code, done.err) for done in removals} == {(0, "")}
    until = time.monotonic() + PATIENCE
    while (left := stragglers(runtime.root)) or (after := traces(runtime.root, bundle.rootfs)) != before:
        if time.monotonic() > until:
            assert left == []
            assert after == before
        time.sleep(0.05)
