"""kill --all, and how delete ends whatever a container has become: all processes, however fast they make others."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from runtime.hosts import PURE_V2, ROOT, needs
from runtime.life import Life, until_gone, wait_until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

STORM = "storm() { while :; do (sleep 0.2; storm) & sleep 0.05 & wait $!; done; }; echo > /tmp/ready; storm"
"""Processes that make others all the time, never more than a few hundred at once: pids.limit."""


def without_pid_namespace(life: Life, script: str, **resources: object) -> Life:
    """Whose first process may end before its others."""
    config = life.bundle.config
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "pid"]
    config["linux"]["cgroupsPath"] = "/all/c"
    config["linux"]["resources"].update(resources)
    config["process"]["args"] = ["/bin/sh", "-c", script]
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    wait_until((life.bundle.rootfs / "tmp/ready").exists)
    return life


def pids(life: Life) -> list[int]:
    return json.loads(life("ps", "--format", "json", "c").out)


def members() -> list[int]:
    folder = ROOT if PURE_V2 else ROOT / "freezer"
    procs = folder / "all/c/cgroup.procs"
    return [int(line) for line in procs.read_text().split()] if procs.exists() else []


def test_every_process_gets_the_signal(life: Life) -> None:
    """Also those that ignore what their parents get."""
    trap = "trap 'echo >> /tmp/got' USR1"
    script = f"{trap}; ({trap}; while :; do sleep 0.05; done) & echo > /tmp/ready; while :; do sleep 0.05; done"
    without_pid_namespace(life, script)
    wait_until(lambda: len(pids(life)) >= 2)
    assert life("kill", "--all", "c", "USR1").code == 0
    got = life.bundle.rootfs / "tmp/got"
    wait_until(lambda: got.exists() and got.stat().st_size == 2)
    time.sleep(0.1)
    assert got.stat().st_size == 2  # none twice
    assert life("kill", "-a", "c", "KILL").code == 0


def test_without_all_only_the_first_process_gets_it(life: Life) -> None:
    without_pid_namespace(life, "sleep 1000 & echo > /tmp/ready; wait")
    first = life.pid
    assert life("kill", "c", "KILL").code == 0
    until_gone(first)
    assert len(members()) == 1
    assert life.status == "stopped"


def test_what_the_first_process_has_left_is_killed(life: Life) -> None:
    without_pid_namespace(life, "sleep 1000 & echo > /tmp/ready; exit 0")
    wait_until(lambda: life.status == "stopped")
    (left,) = members()
    assert life("kill", "--all", "c", "KILL").code == 0
    until_gone(left)
    assert life("kill", "--all", "c", "KILL").code == 0
    assert life("delete", "c").code == 0


def test_a_stopped_container_whose_pid_namespace_is_gone_kills_nobody(life: Life) -> None:
    """Who is in its cgroup by now is another."""
    life.bundle.config["linux"]["cgroupsPath"] = "/all/c"
    life.bundle.write()
    life.reach("stopped")
    other = os.posix_spawn("/bin/busybox", ["sleep", "1000"], {})
    try:
        for procs in ROOT.rglob("all/c/cgroup.procs"):
            procs.write_text(str(other))
        assert life("kill", "--all", "c", "KILL").code == 0
        assert os.waitpid(other, os.WNOHANG) == (0, 0)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


@needs("pids")
@pytest.mark.parametrize("way", [("kill", "--all", "c", "KILL"), ("delete", "--force", "c")], ids=" ".join)
def test_a_storm_of_processes_without_a_pid_namespace_is_ended(life: Life, way: tuple[str, ...]) -> None:
    without_pid_namespace(life, STORM, pids={"limit": 300})
    wait_until(lambda: len(members()) > 40)
    done = life(*way)
    assert done.code == 0, done.err
    wait_until(lambda: not members())


@needs("cpu")
def test_a_container_that_may_hardly_run_is_ended_at_once(life: Life) -> None:
    """A process needs time of its own to end."""
    without_pid_namespace(life, "echo > /tmp/ready; while :; do :; done")
    assert life("update", "--cpu-quota", "1000", "--cpu-period", "1000000", "c").code == 0
    began = time.monotonic()
    assert life("delete", "--force", "c").code == 0
    assert time.monotonic() - began < 5


@pytest.mark.skipif(PURE_V2, reason="v2 ends frozen processes")
def test_who_resists_is_named(life: Life) -> None:
    """One that is frozen by a cgroup above does not end on v1, whatever it gets."""
    without_pid_namespace(life, "sleep 1000 & echo > /tmp/ready; exit 0")
    wait_until(lambda: life.status == "stopped")
    (left,) = members()
    wait_until(lambda: Path(f"/proc/{left}/comm").read_text() == "sleep\n")  # it has its name by execve
    above = ROOT / "freezer/all/freezer.state"
    above.write_text("FROZEN")
    try:
        done = life("delete", "c")
        assert done.code == 1
        assert "Device or resource busy" in done.err and f"(still in it: {left} (sleep))" in done.err
        assert len(done.err.splitlines()) == 1
        assert life.status == "stopped"
    finally:
        above.write_text("THAWED")
    assert life("delete", "c").code == 0
