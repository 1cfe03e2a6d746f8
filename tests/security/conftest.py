"""Fixtures of the regression tests for known attacks: a folder of the host, races, a program that attacks from inside."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from init.running import need
from support import tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that nothing may touch, not even for a moment; nor its /dev/null."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "ptmx").write_text("host's")
    before = everything_of(folder)
    yield folder
    assert everything_of(folder) == before
    null = os.stat("/dev/null")
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev, null.st_mode & 0o777) == (True, os.makedev(1, 3), 0o666)


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


@pytest.fixture(scope="session")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name of a C file of this folder → the static program, for a root file system without libraries."""

    def built(name: str) -> Path:
        need("gcc", packages="gcc libc6-dev")
        program = tmp_path_factory.mktemp("attacker") / name.removesuffix(".c")
        source = Path(__file__).with_name(name)
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
        return program

    return built
