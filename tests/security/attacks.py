"""What the regression tests for known attacks share: races, and changes of bundles."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support import Bundle, Done, Runtime, command, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("RACES", "60"))
"""How often a race is run; more by RACES in the environment."""
_SWAP = """
import ctypes, sys
renameat2 = ctypes.CDLL(None).renameat2
first, second = (name.encode() for name in sys.argv[1:])
AT_FDCWD, RENAME_EXCHANGE = -100, 2
print("ready" if renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) == 0 else "cannot", flush=True)
while True:
    renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)
"""


def everything_of(folder: Path) -> tuple[int, dict[str, tuple[int, int, int]]]:
    """What changes when anything is made in a folder or below, also if it is removed again."""
    return folder.stat().st_mtime_ns, tree_of(folder)


@contextlib.contextmanager
def swapping(first: Path, second: Path) -> Iterator[None]:
    """A process that exchanges two names without a pause, as a container could in a volume that it shares."""
    with subprocess.Popen([sys.executable, "-IS", "-c", _SWAP, first, second], stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout
        try:
            assert swapper.stdout.readline() == b"ready\n"
            yield
            assert swapper.poll() is None
        finally:
            swapper.kill()


def mounts_without(bundle: Bundle, *destinations: str) -> None:
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if one["destination"] not in destinations]


def add_mount(bundle: Bundle, **mount: Any) -> None:
    bundle.config["mounts"].append(mount)


def bind(bundle: Bundle, source: Path, destination: str, *options: str) -> None:
    add_mount(bundle, destination=destination, type="bind", source=str(source), options=["bind", *options])


def refused(done: Done, *words: str) -> None:
    """In one line, which has these words."""
    assert done.code == 1, done
    assert done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err


def runs_or_is_refused(done: Done) -> bool:
    """Whether it ran. In a race both are right; anything else is not."""
    assert (done.code, bool(done.err)) in ((0, False), (1, True)), done
    assert done.err.count("\n") <= 1, done.err
    return done.code == 0


class Hunted:
    """A container whose program (fd_hunter.c) hunts what enters it, and what it has told so far."""

    def __init__(self, executable: Path, runtime: Runtime, bundle: Bundle) -> None:
        self.executable = executable
        self.runtime = runtime
        self.bundle = bundle
        self.told = bundle.rootfs / "tmp" / "told"

    def __call__(self, *args: str | Path, **options: object) -> Done:
        return command(self.executable, "--root", self.runtime.root, *args, **options)

    def lines(self) -> set[str]:
        return set(self.told.read_text().splitlines())
