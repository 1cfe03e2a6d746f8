"""create, start, state, kill, delete and list: each in every status, and what each leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.hosts import has
from runtime.life import Life, until_gone, wait_until
from support import OCIRT, Runtime, cgroup_folders, inits, traces

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.root

VERBS = ("create", "start", "state", "kill", "kill --all", "pause", "resume", "ps", "update", "delete")
OUTCOMES: dict[str, tuple[str | None, ...]] = {
    # what each of the verbs does in each status: None is success, else words of the error
    "absent": (None, *("does not exist",) * 9),
    "created": ("exists already", None, None, None, None, None, "container not paused", None, None, None),
    "running": (
        *("exists already", "running, not created", None, None, None),
        *(None, "container not paused", None, None, "running, not stopped"),
    ),
    "paused": (
        *("exists already", "paused, not created", None, None, None),
        *("paused already", None, None, None, "paused, not stopped"),
    ),
    "stopped": (
        *("exists already", "stopped, not created", None, "container not running", None),
        *("container not running", "container not paused", None, "container not running", None),
    ),
}
MORE = {"ps": ("--format", "json"), "update": ("--cpu-share", "512")}


@pytest.mark.parametrize(
    ("status", "verb", "expected"),
    [(status, *outcome) for status, outcomes in OUTCOMES.items() for outcome in zip(VERBS, outcomes, strict=True)],
)
def test_each_command_in_each_status_does_what_it_may_or_changes_nothing(
    life: Life, status: str, verb: str, expected: str | None
) -> None:
    if verb == "update" and not has("cpu"):
        pytest.skip("no controller cpu")
    life.reach(status)
    before = life.runtime("state", "c").out
    done = life.create() if verb == "create" else life(*verb.split(), *MORE.get(verb, ()), "c")
    if expected is None:
        assert (done.code, done.err) == (0, "")
        return
    assert done.code == 1
    assert expected in done.err
    assert len(done.err.splitlines()) == 1
    assert life.runtime("state", "c").out == before


@pytest.mark.parametrize("status", OUTCOMES)
def test_delete_with_force_always_succeeds_and_leaves_nothing(life: Life, status: str) -> None:
    before = traces(life.runtime.root)
    life.reach(status)
    assert life("delete", "--force", "c").code == 0
    after = traces(life.runtime.root)
    before.state, after.state = set(), {path for path in after.state if Path(path) != life.runtime.root}
    assert after == before
    assert life("state", "c").code == 1


def test_the_status_follows_the_container_from_created_to_stopped(life: Life) -> None:
    seen = []
    life.reach("created")
    seen.append(life.status)
    assert life("start", "c").code == 0
    seen.append(life.status)
    pid = life.pid
    wait_until((life.bundle.rootfs / "tmp/ready").exists)
    assert life("kill", "c").code == 0
    until_gone(pid)
    seen.append(life.status)
    assert seen == ["created", "running", "stopped"]


def test_while_create_is_at_work_the_status_is_creating(life: Life) -> None:
    """A stopped `create` (SIGSTOP) after its intent record stands still for as long as we look."""
    process = subprocess.Popen(
        [OCIRT, "--root", life.runtime.root, "create", "--bundle", life.bundle.path, "c"], env={}
    )
    record = life.runtime.root / "c" / "state.json"
    try:
        while process.poll() is None and not record.exists():
            pass
        process.send_signal(signal.SIGSTOP)
        status = life.status
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait(20) == 0
    assert status in ("creating", "created")  # created only if it was faster than our look
    assert life.status == "created"


def test_a_payload_killed_from_outside_leaves_a_stopped_container_without_a_pid(life: Life) -> None:
    life.reach("running")
    pid = life.pid
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    state = life.runtime.state("c")
    assert (state["status"], state["pid"]) == ("stopped", 0)
    assert life("delete", "c").code == 0


def test_an_init_killed_while_it_waits_leaves_a_stopped_container(life: Life) -> None:
    life.reach("created")
    pid = life.pid
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    assert life.status == "stopped"
    done = life("start", "c")
    assert (done.code, "stopped, not created" in done.err) == (1, True)


def test_the_state_has_what_the_specification_and_engines_ask_for(life: Life) -> None:
    life.bundle.config["annotations"] = {"com.example.key": "välue", "empty": ""}
    life.bundle.write()
    earliest = datetime.now(UTC) - timedelta(seconds=1)
    life.reach("created")
    state = life.runtime.state("c")
    assert state["ociVersion"] == life.bundle.config["ociVersion"]
    assert state["id"] == "c"
    assert state["bundle"] == str(life.bundle.path)
    assert state["rootfs"] == str(life.bundle.rootfs)
    assert state["annotations"] == {"com.example.key": "välue", "empty": ""}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", state["created"])
    assert earliest < datetime.fromisoformat(state["created"]) <= datetime.now(UTC)
    assert Path(f"/proc/{state['pid']}/cmdline").read_bytes().startswith(b"ocirt-init\0")


def test_annotations_are_an_object_even_if_there_are_none(life: Life) -> None:
    life.reach("created")
    assert life.runtime.state("c")["annotations"] == {}


def test_the_pid_is_the_same_in_the_pid_file_the_state_and_before_and_after_start(life: Life, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert life.create("--pid-file", pid_file).code == 0
    content = pid_file.read_text()
    assert re.fullmatch(r"[1-9]\d*", content), "decimal, without a newline"
    assert life.pid == int(content)
    assert life("start", "c").code == 0
    assert life.pid == int(content)


def test_list_shows_every_container_as_table_json_and_ids(life: Life) -> None:
    life.reach("created")
    assert life.runtime("create", "--bundle", life.bundle.path, "a").code == 0
    try:
        rows = json.loads(life("list", "--format", "json").out)
        assert [(row["id"], row["status"]) for row in rows] == [("a", "created"), ("c", "created")]
        assert life("list", "--quiet").out.split() == ["a", "c"]
        table = life("list").out.splitlines()
        assert table[0].split()[:3] == ["ID", "PID", "STATUS"]
        assert table[2].split()[:3] == ["c", str(life.pid), "created"]
    finally:
        life("delete", "--force", "a")


def test_list_of_a_root_that_does_not_exist_is_empty(runtime: Runtime) -> None:
    assert json.loads(runtime("list", "--format", "json").out) == []
    assert not runtime.root.exists()


def test_a_strict_delete_refuses_a_created_container_and_leaves_it_untouched(life: Life) -> None:
    life.reach("created")
    before = life.runtime.state("c")
    done = life.runtime("--strict", "delete", "c")
    assert (done.code, "created, not stopped" in done.err) == (1, True)
    assert life.runtime.state("c") == before
    assert life("start", "c").code == 0


SIGNALS = {"TERM": 15, "SIGTERM": 15, "sigusr1": 10, "10": 10, "RTMIN+3": 37, "SIGRTMAX-1": 63, "40": 40}


@pytest.mark.parametrize(("name", "number"), SIGNALS.items())
def test_kill_takes_names_numbers_and_realtime_signals(life: Life, name: str, number: int) -> None:
    trap = f"trap 'echo {number} > /tmp/got; exit 0' {number}; echo ready > /tmp/ready; while :; do sleep 0.05; done"
    life.bundle.config["process"]["args"] = ["/bin/sh", "-c", trap]
    life.bundle.write()
    life.reach("running")
    assert life("kill", "c", name).code == 0
    wait_until((life.bundle.rootfs / "tmp/got").exists)


@pytest.mark.parametrize("name", ["NOPE", "0", "65", "-1", "", "RTMIN+31", "SIGRTMIN-1", "15x"])
def test_an_unknown_signal_is_an_error_and_sends_nothing(life: Life, name: str) -> None:
    life.reach("running")
    done = life("kill", "--", "c", name)
    assert (done.code, "signal" in done.err) == (1, True)
    assert life.status == "running"


def test_a_pid_that_was_reused_belongs_to_no_container(life: Life) -> None:
    """The recorded start time, not the pid alone, says which process is meant: ours is used as a stand-in."""
    life.reach("created")
    pid = life.pid
    record = life.runtime.root / "c" / "state.json"
    state = json.loads(record.read_text())
    bystander = subprocess.Popen(["/bin/sleep", "60"])
    try:
        state["pid"] = bystander.pid
        record.write_text(json.dumps(state))
        assert life.status == "stopped"
        assert life("kill", "c", "KILL").code == 1
        assert life("start", "c").code == 1
        assert life("delete", "--force", "c").code == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    until_gone(pid)  # found in the container's cgroup, and ended


def test_everything_that_is_removed_is_gone_after_a_whole_life(life: Life) -> None:
    folders = cgroup_folders()
    life.reach("stopped")
    assert life("delete", "c").code == 0
    assert cgroup_folders() == folders
    assert list(life.runtime.root.iterdir()) == []
    assert not inits()


def test_start_returns_when_the_program_is_executed(life: Life) -> None:
    """So the name of the first process is the payload's at once."""
    life.reach("created")
    assert life("start", "c").code == 0
    assert Path(f"/proc/{life.pid}/cmdline").read_bytes().startswith(b"/bin/sh\0")
