"""pause and resume: by what the processes of a container do, and what the other verbs make of a paused one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.hosts import PURE_V2, ROOT
from runtime.life import Life, until_gone, wait_until
from support import OCIRT, command

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

COUNTING = "while :; do echo >> /tmp/count; done"


@pytest.fixture
def counting(life: Life) -> Life:
    """Running, and making a file longer; below a cgroup of its own."""
    life.bundle.config["process"]["args"] = ["/bin/sh", "-c", COUNTING]
    life.bundle.config["linux"]["cgroupsPath"] = "/above/c"
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    wait_until((life.bundle.rootfs / "tmp/count").exists)
    return life


def stands_still(life: Life) -> bool:
    count = life.bundle.rootfs / "tmp/count"
    before = count.stat().st_size
    time.sleep(0.1)
    return count.stat().st_size == before


def above() -> Path:
    """The file that freezes the cgroup above the container's."""
    return ROOT / "above/cgroup.freeze" if PURE_V2 else ROOT / "freezer/above/freezer.state"


def test_a_paused_container_stands_still_and_goes_on(counting: Life) -> None:
    wait_until(lambda: not stands_still(counting))
    done = counting("pause", "c")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert stands_still(counting)
    assert counting.status == "paused"
    assert json.loads(counting("list", "--format", "json").out)[0]["status"] == "paused"
    assert counting.pid > 0
    assert counting("resume", "c").code == 0
    assert counting.status == "running"
    wait_until(lambda: not stands_still(counting))


def test_all_processes_stop_also_those_below_the_first(counting: Life) -> None:
    counting("delete", "--force", "c")
    counting.bundle.config["process"]["args"] = ["/bin/sh", "-c", f"({COUNTING}) & wait"]
    counting.bundle.write()
    assert counting.create().code == 0
    assert counting("start", "c").code == 0
    wait_until((counting.bundle.rootfs / "tmp/count").exists)
    assert counting("pause", "c").code == 0
    assert stands_still(counting)


def test_a_container_that_waits_for_start_can_be_paused_and_starts_when_it_is_resumed(life: Life) -> None:
    assert life.create().code == 0
    assert life("pause", "c").code == 0
    assert life.status == "paused"
    done = life("start", "c")
    assert done.code == 1
    assert "it is paused" in done.err
    assert life("resume", "c").code == 0
    assert life.status == "created"
    assert life("start", "c").code == 0


@pytest.mark.parametrize("flags", [(), ("--all",)])
def test_sigkill_ends_a_paused_container(counting: Life, flags: tuple[str, ...]) -> None:
    assert counting("pause", "c").code == 0
    pid = counting.pid
    assert counting("kill", *flags, "c", "KILL").code == 0
    until_gone(pid)
    assert counting.status == "stopped"
    assert counting("delete", "c").code == 0


@pytest.mark.parametrize("flags", [(), ("--all",)])
def test_another_signal_waits_until_a_paused_container_is_resumed(life: Life, flags: tuple[str, ...]) -> None:
    life.reach("paused")
    pid = life.pid
    done = command(OCIRT, "--debug", "--root", life.runtime.root, "kill", *flags, "c", "TERM")
    assert done.code == 0
    assert done.err == 'ocirt: warning: "c" is paused: the signal arrives when it is resumed\n'
    time.sleep(0.05)
    assert life.status == "paused"
    assert life("resume", "c").code == 0
    until_gone(pid)


def test_delete_with_force_ends_a_paused_container(counting: Life) -> None:
    assert counting("pause", "c").code == 0
    began = time.monotonic()
    assert counting("delete", "--force", "c").code == 0
    assert time.monotonic() - began < 5
    assert counting("state", "c").code == 1


def test_a_cgroup_above_that_is_frozen_is_not_this_containers_pause(counting: Life) -> None:
    above().write_text("1" if PURE_V2 else "FROZEN")
    try:
        wait_until(lambda: stands_still(counting))
        assert counting.status == "running"
        assert counting("pause", "c").code == 0
        assert counting.status == "paused"
        done = counting("resume", "c")
        assert done.code == 1
        assert "a cgroup above" in done.err and "is frozen as well" in done.err
        assert counting.status == "running"
    finally:
        above().write_text("0" if PURE_V2 else "THAWED")


def test_a_fork_storm_is_stopped(life: Life) -> None:
    """On v1 processes that are being made slip through a freezer that is told only once."""
    life.bundle.config["process"]["args"] = ["/bin/sh", "-c", "while :; do /bin/true & /bin/true; wait; done"]
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    for _ in range(5):
        done = life("pause", "c")
        assert done.code == 0, done.err
        listed = life("ps", "--format", "json", "c").out
        time.sleep(0.05)
        assert life("ps", "--format", "json", "c").out == listed
        assert life("resume", "c").code == 0


def test_a_cgroup_that_is_gone_is_said(life: Life) -> None:
    life.reach("running")
    pid = life.pid
    state = json.loads((life.runtime.root / "c/state.json").read_text())
    places = [(place[3], place[4]) for place in state["cgroups"]["places"]]
    moved = []
    try:
        for mount, path in places:
            aside = Path(mount, "aside")
            aside.mkdir()
            moved.append(aside)
            if (aside / "cpuset.mems").exists():
                for name in ("cpuset.mems", "cpuset.cpus"):
                    (aside / name).write_text(Path(path, name).read_text())
            (aside / "cgroup.procs").write_text(str(pid))
            wait_until(lambda path=path: os.path.exists(path) and not Path(path, "cgroup.procs").read_text())
            Path(path).rmdir()
        for verb, *flags in (("pause",), ("ps",), ("update", "--cpu-share", "100")):
            done = life(verb, *flags, "c")
            assert done.code == 1
            assert "is gone" in done.err
            assert len(done.err.splitlines()) == 1
        assert life.status == "running"
        assert life("delete", "--force", "c").code == 0
        until_gone(pid)
    finally:
        for folder in moved:
            wait_until(lambda folder=folder: not (folder / "cgroup.procs").read_text())
            folder.rmdir()
