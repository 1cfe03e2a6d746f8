"""What the tests of checkpoint and restore share: CRIU, a container that counts, and its images."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.life import until_gone, wait_until
from support import CACHE, Bundle, Done, Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = os.environ.get("OCIRT_CRIU_SUITE", "trixie")
CRIU = Path(os.environ.get("OCIRT_CRIU") or Path.home() / ".cache/ocirt-criu") / SUITE / "criu"
COUNTING = "n=0; while :; do n=$((n+1)); echo $n > /tmp/new; busybox mv /tmp/new /tmp/count; sleep 0.02; done"
ENVIRONMENT = {"OCIRT_CACHE": CACHE, "PATH": f"{CRIU.parent}:/usr/sbin:/usr/bin:/sbin:/bin"}


def require_criu() -> None:
    """Skip a test without CRIU; in CI fail instead."""
    if not CRIU.exists():
        why = "needs CRIU: tests/criu/fetch gets it (make test does)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


class Counter:
    """A container `c` that writes one number after the other to /tmp/count, and its images."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.images = bundle.path.parent / "images"
        bundle.config["root"]["readonly"] = False
        bundle.config["process"]["args"] = ["/bin/sh", "-c", COUNTING]

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        options.setdefault("env", ENVIRONMENT)
        return self.runtime(*args, **options)

    def run(self, **options: Any) -> None:
        self.bundle.write()
        done = self("run", "--detach", "--bundle", self.bundle.path, "c", **options)
        assert done.code == 0, done.err
        wait_until(lambda: self.count > 0)

    @property
    def count(self) -> int:
        try:
            return int((self.bundle.rootfs / "tmp/count").read_text())
        except FileNotFoundError:
            return 0

    def counts(self) -> bool:
        """Does it go on, from where it was? One that began anew would begin with 1."""
        before = self.count
        return bool(wait_until(lambda: self.count > before))

    def stands_still(self) -> bool:
        before = self.count
        time.sleep(0.3)
        return self.count == before

    def pid(self, container_id: str = "c") -> int:
        return int(self.runtime.state(container_id)["pid"])

    def checkpoint(self, *flags: str | Path) -> Done:
        return self("checkpoint", "--image-path", self.images, *flags, "c")

    def restore(self, *flags: str | Path, container_id: str = "c", **options: Any) -> Done:
        return self(
            *("restore", "--detach", "--image-path", self.images, "--bundle", self.bundle.path),
            *flags,
            container_id,
            **options,
        )

    def through(self, *flags: str | Path) -> None:
        """Run it, save it, and restore it."""
        self.run()
        pid = self.pid()
        done = self.checkpoint()
        assert done.code == 0, done.err
        until_gone(pid)
        done = self.restore(*flags)
        assert done.code == 0, done.err


def mounts_of(pid: int) -> list[tuple[str, ...]]:
    """What is mounted where, and how; without numbers, which are new each time."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        found.append((*fields[3:6], after.split(" ")[0]))
    return sorted(found)


def open_files(pid: int, numbers: Sequence[int] = (0, 1, 2)) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in numbers]
