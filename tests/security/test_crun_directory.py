"""The check of the working directory, which crun had wrong at first (hardening for CVE-2024-21626: 1.14.1, mended in
1.15).

That no descriptor of the host is there to be used for it is in test_runc_*.py. Here is a way to a folder outside
that needs no descriptor: where the container shares the host's processes, /proc/PID/root of one of these is a magic
link to the host's root, and init has the rights to follow it when it enters the working directory.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from security.attacks import refused
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


@pytest.fixture
def shares(bundle: Bundle) -> Bundle:
    """A bundle whose container is in the host's pid namespace, and sees all of it."""
    linux = bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "pid"]
    linux["maskedPaths"] = linux["readonlyPaths"] = []
    return bundle


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[int]:
    """The pid of a process on the host that stays."""
    with subprocess.Popen(["/bin/sleep", "1000"], cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("where", ["root", "root/etc", "cwd"])
def test_cve_2024_21626_a_working_directory_outside_of_the_root_is_refused(
    runtime: Runtime, shares: Bundle, outside: int, tmp_path: Path, where: str
) -> None:
    """Without getcwd(2) and the check of its answer (plan/process.py, enter_directory_as_user) and `verify`, the
    program runs, in the host's folder: `ls` shows what is there."""
    shares.config["process"]["args"] = ["/bin/ls", "-A", "."]
    shares.config["process"]["cwd"] = f"/proc/{outside}/{where}"
    shares.write()
    done = runtime("run", "-b", shares.path, "c")
    refused(done, "/process/cwd", "is inside the container")
    assert done.out == ""


@pytest.mark.parametrize("where", ["root", "cwd"])
def test_cve_2024_21626_that_of_an_exec_too(runtime: Runtime, shares: Bundle, outside: int, where: str) -> None:
    """The same is seen."""
    shares.config["process"]["args"] = ["/bin/sleep", "1000"]
    shares.write()
    assert runtime("run", "--detach", "-b", shares.path, "c").code == 0
    try:
        done = runtime("exec", "--cwd", f"/proc/{outside}/{where}", "c", "/bin/ls", "-A", ".")
        assert (done.code, done.out) == (255, "")
        assert "is inside the container" in done.err
        # It is right of a folder that is inside, by way of the same kind of link.
        own = runtime.state("c")["pid"]
        done = runtime("exec", "--cwd", f"/proc/{own}/root/etc", "c", "/bin/pwd")
        assert (done.code, done.out) == (0, "/etc\n"), done.err
    finally:
        runtime("delete", "--force", "c")


def test_cve_2024_21626_a_folder_that_is_gone_is_refused_in_an_exec(runtime: Runtime, bundle: Bundle) -> None:
    """The working directory of a process of the container, which was removed: getcwd(2) says ENOENT. With only a
    comparison of a path, as crun had it at first, it would do."""
    (bundle.rootfs / "tmp/gone").mkdir()
    bundle.config["process"]["cwd"] = "/tmp/gone"
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    assert runtime("run", "--detach", "-b", bundle.path, "c").code == 0
    try:
        os.rmdir(bundle.rootfs / "tmp/gone")
        done = runtime("exec", "--cwd", "/proc/1/cwd", "c", "/bin/ls")
        assert (done.code, done.out, "No such file or directory" in done.err) == (255, "", True), done
    finally:
        runtime("delete", "--force", "c")
