"""Fixtures of the regression tests for known attacks: a folder of the host, programs that attack from inside."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from init.running import need
from runtime.conftest import life, nothing_left  # noqa: F401  (fixtures)
from runtime.life import wait_until
from security.attacks import Hunted, everything_of
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@pytest.fixture
def hunt(runtime: Runtime, bundle: Bundle, attacker: Callable[[str], Path]) -> Iterator[Callable[[Path], Hunted]]:
    """Starts the hunter as the program of the container c."""

    def begin(executable: Path) -> Hunted:
        one = Hunted(executable, runtime, bundle)
        (bundle.rootfs / "bin/hunter").write_bytes(attacker("fd_hunter.c").read_bytes())
        (bundle.rootfs / "bin/hunter").chmod(0o755)
        bundle.config["root"]["readonly"] = False
        bundle.config["process"]["args"] = ["/bin/sh", "-c", "/bin/hunter > /tmp/told"]
        (bundle.rootfs / "tmp").chmod(0o1777)
        done = one("run", "--detach", "-b", bundle.write().path, "c")
        assert done.code == 0, done.err
        wait_until(lambda: one.told.exists() and "ready" in one.lines())
        return one

    yield begin
    runtime("delete", "--force", "c")
