"""What the tests of the systemd driver share: whether systemd is here, what it has loaded, containers in scopes."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Runtime, cgroup_folders, inits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path("/sys/fs/cgroup")
PURE_V2 = (ROOT / "cgroup.controllers").exists()
MIB = 1 << 20
UNIT = "ocirt-c.scope"
RESOURCES: dict[str, Any] = {
    "memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 512, "quota": 25_500, "period": 50_000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 20},
}
_SYSTEMDS = {"", "systemd", "unified", "cpu,cpuacct", "cpu", "cpuacct", "blkio", "memory", "devices", "pids"}

MARKS = [
    pytest.mark.root,
    pytest.mark.usefixtures("no_unit_left"),
    pytest.mark.skipif(
        Path("/proc/1/comm").read_text() != "systemd\n" or not Path("/run/systemd/system").is_dir(),
        reason="pid 1 is not systemd: tests/vm/run.sh runs this",
    ),
]
on_v2 = pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")


def folders() -> set[str]:
    """All cgroups but those of systemd's own slices and services, which come and go as it likes."""
    found = set()
    for folder in cgroup_folders():
        hierarchy = "" if PURE_V2 else folder[len(str(ROOT)) + 1 :].partition("/")[0]
        if not (folder.endswith((".slice", ".service", ".socket", ".mount")) and hierarchy in _SYSTEMDS):
            found.add(folder)
    return found


def units() -> set[str]:
    """The scopes that systemd has loaded, failed ones too."""
    listed = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=scope,slice"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {line.split()[0] for line in listed.splitlines() if "ocirt" in line}


def settled(taken: Callable[[], set[str]], before: set[str]) -> set[str]:
    """What there is more than before; systemd forgets a unit a moment after its job has ended."""
    until = time.monotonic() + 10
    while (more := taken() - before) and time.monotonic() < until:
        time.sleep(0.05)
    return more


@contextmanager
def unchanged() -> Iterator[None]:
    """At the end there is no unit and no cgroup more than at the beginning."""
    before, loaded = folders(), units()
    yield
    assert not settled(units, loaded)
    assert not settled(folders, before)
    assert not inits()


def run(runtime: Runtime, bundle: Bundle, script: str) -> Any:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
    return runtime("--systemd-cgroup", "run", "-b", bundle.write().path, "c")


def created(runtime: Runtime, bundle: Bundle, **resources: Any) -> int:
    bundle.config["linux"]["resources"].update(resources)
    done = runtime("--systemd-cgroup", "create", "-b", bundle.write().path, "c")
    assert done.code == 0, done.err
    return int(runtime.state("c")["pid"])


def refusal(runtime: Runtime, bundle: Bundle) -> str:
    """The message of a creation that fails; nothing is left of it."""
    done = runtime("--systemd-cgroup", "create", "-b", bundle.write().path, "c")
    assert done.code == 1, done.err
    assert runtime("state", "c").code == 1
    return str(done.err)


def shown(*names: str, unit: str = UNIT) -> list[str]:
    """What `systemctl show` says of these properties."""
    values = []
    for name in names:
        done = subprocess.run(["systemctl", "show", "-P", name, unit], capture_output=True, text=True, check=True)
        values.append(done.stdout.strip())
    return values


def cgroup_of(pid: int) -> set[str]:
    """The cgroups of a process in all hierarchies; one path, if they are alike."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line.split(":", 2)[2] for line in lines}


def file(controller: str, name: str, unit: str = UNIT) -> str:
    folder = ROOT if PURE_V2 else ROOT / controller
    return (folder / "system.slice" / unit / name).read_text().strip()
