"""One container that tests bring into a status, and what they wait for."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any

from support import Bundle, Done, Runtime

from ocirt.state.process import open_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOREVER = "trap 'exit 7' TERM; echo ready > /tmp/ready; while :; do sleep 0.05; done"


def wait_until(what: Callable[[], Any], patience: float = 20) -> Any:
    """The first truthy answer. The patience only bounds a failure: nothing is measured by it."""
    until = time.monotonic() + patience
    while not (answer := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)
    return answer


def until_gone(pid: int) -> None:
    """Wait for a process to end, by a pidfd: pid 1 of a test run need not reap in any hurry."""
    try:
        fd = open_process(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 20)[0], f"process {pid} does not end"
    finally:
        os.close(fd)


class Life:
    """One container `c` and the bundle it is made of."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        bundle.config["root"]["readonly"] = False
        bundle.config["process"]["args"] = ["/bin/sh", "-c", FOREVER]
        bundle.write()

    def __call__(self, verb: str, *args: str | Path) -> Done:
        return self.runtime(verb, *args)

    def create(self, *flags: str | Path) -> Done:
        return self.runtime("create", *flags, "--bundle", self.bundle.path, "c")

    @property
    def pid(self) -> int:
        return int(self.runtime.state("c")["pid"])

    @property
    def status(self) -> str:
        return str(self.runtime.state("c")["status"])

    def reach(self, status: str) -> None:
        """Bring it there from nothing."""
        if status != "absent":
            assert self.create().code == 0
        if status in ("running", "paused", "stopped"):
            assert self("start", "c").code == 0
            wait_until((self.bundle.rootfs / "tmp/ready").exists)
        if status == "paused":
            assert self("pause", "c").code == 0
        if status == "stopped":
            pid = self.pid
            assert self("kill", "c", "KILL").code == 0
            until_gone(pid)
