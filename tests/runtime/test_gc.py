"""`gc` shows what killed commands have left, removes it if told to, and touches nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import CACHE, OCIRT, Bundle, Runtime, cgroup_folders, traces

import ocirt

pytestmark = pytest.mark.root
PACKAGES = Path(ocirt.__file__).parents[1]
DYING = """
import os, signal, sys
sys.path.append(sys.argv[1])
from ocirt.runtime.create import create
from ocirt.runtime.creation import Creation
name, when = sys.argv[5].split()
original = getattr(Creation, name)
def dying(*args):
    if when == "after":
        original(*args)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Creation, name, dying)
create(sys.argv[2], sys.argv[4], sys.argv[3])
"""
"""A `create` that is killed before or after one of its parts."""


def killed(runtime: Runtime, bundle: Bundle, container_id: str, where: str) -> None:
    words = [PACKAGES, runtime.root, bundle.path, container_id, where]
    done = subprocess.run([sys.executable, "-IS", "-c", DYING, *words], env={"OCIRT_CACHE": CACHE}, check=False)
    assert done.returncode == -signal.SIGKILL


def gc(runtime: Runtime, *words: str) -> list[dict[str, Any]]:
    done = runtime("gc", "--format", "json", *words)
    assert (done.code, done.err) == (0, ""), done
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


@pytest.mark.parametrize(
    "where", ["_prepare before", "_prepare after", "_spawn after", "started after", "_set_limits after"]
)
def test_a_creation_that_was_killed_is_shown_and_then_removed(runtime: Runtime, bundle: Bundle, where: str) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    killed(runtime, bundle, "crashed", where)
    until = time.monotonic() + 30
    while not (found := gc(runtime)):  # init ends by itself, without its host
        assert time.monotonic() < until
    left = traces(runtime.root)
    assert [(one["kind"], one["id"], one["removed"]) for one in found] == [("creation", "crashed", False)]
    assert found[0]["path"] == str(runtime.root / "crashed") and "was killed" in found[0]["why"]
    assert gc(runtime) == found and traces(runtime.root).cgroups == left.cgroups, "a dry run changes nothing"
    table = runtime("gc").out
    assert table.split()[:5] == ["KIND", "ID", "REMOVED", "PATH", "WHY"] and "crashed" in table
    assert gc(runtime, "--force") == [{**found[0], "removed": True}]
    assert gc(runtime) == []
    after = traces(runtime.root)
    assert (after.cgroups, after.state, after.inits) == (before.cgroups, before.state, before.inits)


def test_containers_that_are_there_are_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["sleep", "1000"]
    bundle.write()
    for name in ("created", "running", "paused", "stopped", "killed"):
        assert runtime("create", "--bundle", bundle.path, name).code == 0
    for name in ("running", "paused", "stopped"):
        assert runtime("start", name).code == 0
    assert runtime("pause", "paused").code == 0
    for name in ("stopped", "killed"):  # the latter was never started
        assert runtime("kill", name, "KILL").code == 0
        until = time.monotonic() + 30
        while runtime.state(name)["status"] != "stopped":
            assert time.monotonic() < until
    before = traces(runtime.root)
    assert gc(runtime, "--force") == []
    assert runtime("gc").out == ""
    shown = gc(runtime, "--force", "--stopped")
    assert [(one["kind"], one["id"], one["removed"]) for one in shown] == [
        ("stopped", "killed", False),
        ("stopped", "stopped", False),
    ]
    assert traces(runtime.root) == before
    statuses = {name: runtime.state(name)["status"] for name in ("created", "running", "paused")}
    assert statuses == {name: name for name in statuses}
    for name in ("created", "running", "paused", "stopped", "killed"):
        assert runtime("delete", "--force", name).code == 0


def test_files_that_were_being_written_go_and_the_container_stays(runtime: Runtime, bundle: Bundle) -> None:
    """Beside a state, an unfinished file; a FIFO that has done its work; among the filters, one that is old."""
    bundle.config["process"]["args"] = ["sleep", "1000"]
    assert runtime("run", "--detach", "--bundle", bundle.write().path, "x").code == 0
    folder = runtime.root / "x"
    (folder / ".state.json").write_text("{")
    os.mkfifo(folder / "start")
    old, new = Path(CACHE) / ".old.1", Path(CACHE) / ".new.1"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (1, 1))
    expected = {("fifo", f"{folder}/start"), ("temporary", f"{folder}/.state.json"), ("temporary", str(old))}
    assert {(one["kind"], one["path"]) for one in gc(runtime)} == expected
    assert all(one["removed"] for one in gc(runtime, "--force"))
    assert gc(runtime) == []
    assert new.exists() and not old.exists()
    new.unlink()
    assert runtime.state("x")["status"] == "running"
    assert runtime("delete", "--force", "x").code == 0


def test_what_cannot_be_read_is_shown_and_stays(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime("create", "--bundle", bundle.path, "x").code == 0
    (runtime.root / "x" / "state.json").write_text("{")
    (found,) = gc(runtime, "--force")
    assert (found["kind"], found["id"], found["removed"]) == ("damaged", "x", False)
    assert runtime("delete", "--force", "x").code == 0


def test_a_state_that_is_missing_does_not_cost_processes_their_lives(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["sleep", "1000"]
    assert runtime("run", "--detach", "--bundle", bundle.write().path, "x").code == 0
    pid = runtime.state("x")["pid"]
    (runtime.root / "x" / "state.json").unlink()
    done = runtime("gc", "--force")
    assert done.code == 1
    assert (
        "there are processes in its cgroups (--force kills them)" in done.err or "processes in its cgroups" in done.err
    )
    os.kill(pid, 0)
    assert runtime("delete", "--force", "x").code == 0


def test_nothing_is_found_below_a_root_that_is_not_there(runtime: Runtime) -> None:
    assert gc(runtime, "--force") == []
    assert not runtime.root.exists()


def test_a_container_that_a_command_works_on_is_left_out(runtime: Runtime, bundle: Bundle) -> None:
    """Its creation was killed, and somebody is about to delete it."""
    runtime.root.mkdir()
    killed(runtime, bundle, "crashed", "_prepare after")
    folder = os.open(runtime.root / "crashed", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert gc(runtime, "--force") == []
    os.close(folder)
    assert len(gc(runtime, "--force")) == 1


def test_no_creation_suffers_from_a_collection_at_the_same_time(runtime: Runtime, bundle: Bundle) -> None:
    """A folder is there for a moment before its lock is: `create` then makes it anew."""
    runtime.root.mkdir()
    before = cgroup_folders()
    over = threading.Event()
    found: list[dict[str, Any]] = []

    def collect() -> None:
        from ocirt.runtime.gc import collect

        while not over.is_set():
            found.extend(one.document() for one in collect(str(runtime.root), force=True)[0])

    collectors = [threading.Thread(target=collect) for _ in range(2)]
    for collector in collectors:
        collector.start()
    try:
        for _ in range(2):
            creations = [
                subprocess.Popen(
                    [OCIRT, "--root", runtime.root, "create", "--bundle", bundle.path, f"c{number}"],
                    env={"OCIRT_CACHE": CACHE},
                    stdin=subprocess.DEVNULL,
                )
                for number in range(5)
            ]
            assert [creation.wait(60) for creation in creations] == [0] * 5
            for number in range(5):
                assert runtime.state(f"c{number}")["status"] == "created"
                assert runtime("delete", f"c{number}").code == 0
    finally:
        over.set()
        for collector in collectors:
            collector.join()
    # What is found may only be the empty folder of one whose lock was not there yet.
    assert {one["why"] for one in found} <= {"its creation was killed before it began"}, found
    assert cgroup_folders() == before


def test_a_folder_that_is_taken_away_before_its_lock_is_there_is_made_anew(tmp_path: Path) -> None:
    from ocirt.state import entry
    from ocirt.state.store import Store

    original, tries = entry.open_folder, []

    def taken_away(folder: str, container_id: str) -> int:
        tries.append(folder)
        if len(tries) == 1:
            os.rmdir(folder)
        return original(folder, container_id)

    entry.open_folder = taken_away  # type: ignore[assignment]
    try:
        with Store(str(tmp_path)).create("x") as made:
            assert os.path.samestat(os.fstat(made.fd), os.stat(tmp_path / "x"))
    finally:
        entry.open_folder = original  # type: ignore[assignment]
    assert len(tries) == 2
