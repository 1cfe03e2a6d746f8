"""Containers of the systemd driver while they live: update, pause, ps, events and kill --all, as with cgroupfs."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from runtime.life import until_gone, wait_until
from runtime.systemd_host import MARKS, MIB, PURE_V2, UNIT, created, file, shown
from support import Bundle, Runtime

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = MARKS

LIMIT = "MemoryMax" if PURE_V2 else "MemoryLimit"
LIMIT_FILE = "memory.max" if PURE_V2 else "memory.limit_in_bytes"
DENY = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}


def limits() -> tuple[list[str], str, str]:
    return shown(LIMIT, "TasksMax", unit=UNIT), file("memory", LIMIT_FILE), file("pids", "pids.max")


def test_a_change_is_systemds_too_and_outlives_a_reload(runtime: Runtime, scoped: Bundle) -> None:
    created(runtime, scoped, memory={"limit": 64 * MIB}, pids={"limit": 20})
    assert runtime("start", "c").code == 0
    done = runtime("update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "30", "c")
    assert done.code == 0, done.err
    for _ in range(2):
        assert limits() == ([str(96 * MIB), "30"], str(96 * MIB), "30")
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def test_a_change_that_is_refused_is_taken_back_at_systemd_too(runtime: Runtime, scoped: Bundle) -> None:
    created(runtime, scoped, memory={"limit": 64 * MIB}, pids={"limit": 20})
    before = limits()
    done = runtime("update", "--pids-limit", "30", "--cpu-quota", "5", "c")
    assert done.code == 1
    assert "--cpu-quota" in done.err
    for _ in range(2):
        assert limits() == before
        subprocess.run(["systemctl", "daemon-reload"], check=True)


@pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")
def test_what_would_kill_is_refused_before_systemd_hears_of_it(runtime: Runtime, scoped: Bundle) -> None:
    created(runtime, scoped, memory={"limit": 64 * MIB})
    wanted = json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}})
    done = runtime("update", "-r", "-", "c", stdin=wanted)
    assert done.code == 1
    assert "bytes that are in use" in done.err
    assert shown("MemoryMax") == [str(64 * MIB)]
    assert runtime.state("c")["status"] == "created"


def newest(answer: Path) -> str:
    """The second answer from now: the first may be an old one."""
    for _ in range(2):
        answer.unlink(missing_ok=True)
        wait_until(answer.exists)
    return answer.read_text().strip()


def test_device_rules_are_replaced_in_both_programs(runtime: Runtime, scoped: Bundle) -> None:
    os.mknod(scoped.rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    (scoped.rootfs / "bin/mv").symlink_to("busybox")
    rights = {name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    scoped.config["process"]["capabilities"] = rights
    scoped.config["root"]["readonly"] = False
    script = (
        "while :; do (exec 3< /kmsg) 2>/dev/null && echo yes > /tmp/new || echo no > /tmp/new; mv /tmp/new /tmp/answer;"
        " sleep 0.02; done"
    )
    scoped.config["process"]["args"] = ["/bin/sh", "-c", script]
    created(runtime, scoped, devices=[DENY])
    assert runtime("start", "c").code == 0
    answer = scoped.rootfs / "tmp/answer"
    assert newest(answer) == "no"

    def change(*devices: dict[str, Any]) -> None:
        done = runtime("update", "-r", "-", "c", stdin=json.dumps({"devices": devices}))
        assert done.code == 0, done.err

    for devices, expected in (([DENY, KMSG], "yes"), ([{**KMSG, "access": "w"}], "no"), ([DENY, KMSG], "yes")):
        change(*devices)
        for _ in range(2):
            assert newest(answer) == expected
            subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert "/dev/char/1:11 rwm" in shown("DeviceAllow")[0]


def test_pause_ps_events_and_kill_all(runtime: Runtime, scoped: Bundle) -> None:
    pid = created(runtime, scoped, memory={"limit": 64 * MIB})
    assert runtime("start", "c").code == 0
    assert json.loads(runtime("ps", "-f", "json", "c").out) == [pid]
    data = json.loads(runtime("events", "--stats", "c").out)["data"]
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert runtime("pause", "c").code == 0
    assert runtime.state("c")["status"] == "paused"
    assert runtime("resume", "c").code == 0
    assert runtime.state("c")["status"] == "running"
    assert runtime("pause", "c").code == 0
    assert runtime("kill", "--all", "c", "KILL").code == 0
    until_gone(pid)
    assert runtime("delete", "c").code == 0
