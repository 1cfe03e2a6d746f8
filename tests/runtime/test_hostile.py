"""What works against a container's creation from elsewhere: neighbours in its namespaces, who changes its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.test_namespaces import FIRST, in_user_namespace, join, neighbour  # noqa: F401  (a fixture)
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

TRACER = """
import ctypes, os, time
PTRACE_SEIZE = 0x4206
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
seized, first, until = set(), os.getpid() + 1, time.monotonic() + 6
print(flush=True)
while time.monotonic() < until:
    for pid in set(range(first, first + 40)) - seized:
        if not ptrace(PTRACE_SEIZE, pid, 0, 0):
            seized.add(pid)
            try:
                print(os.readlink(f"/proc/{pid}/exe"), os.listdir(f"/proc/{pid}/root"), flush=True)
            except OSError:
                continue  # it ends just now
"""


@pytest.mark.parametrize("first", [FIRST, 0])
def test_a_neighbour_cannot_trace_init(
    runtime: Runtime,
    bundle: Bundle,
    neighbour: Callable[..., int],  # noqa: F811
    first: int,
) -> None:
    """It is all-powerful in the user and pid namespaces that the container joins, and waits for init: which is the
    host's root there, in the host's mounts, until it has its own."""
    pid = neighbour("--fork", "--pid", "--user", "--mount", "--mount-proc")
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {first} 65536")
    in_user_namespace(bundle)
    for parent in bundle.rootfs.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    for name in ("uidMappings", "gidMappings"):
        del bundle.config["linux"][name]
    join(bundle, pid, "user", "pid")
    enter = ("nsenter", "--target", str(pid), "--user", "--pid", "--mount")
    with subprocess.Popen([*enter, sys.executable, "-c", TRACER], stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout
        tracer.stdout.readline()
        for number in range(8):
            done = runtime.sh(bundle, "echo hello", f"run-{number}")
            assert (done.code, done.out) == (0, "hello\n"), done.err
        found = tracer.stdout.read()
    assert tracer.returncode == 0
    assert "ocirt-init" not in found
