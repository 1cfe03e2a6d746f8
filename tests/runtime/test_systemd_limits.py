"""--systemd-cgroup: limits and annotations, by what systemd tells, by the files, and by what a payload meets."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from runtime.systemd_host import (
    MARKS,
    MIB,
    PURE_V2,
    RESOURCES,
    UNIT,
    cgroup_of,
    created,
    file,
    on_v2,
    refusal,
    run,
    settled,
    shown,
    units,
)
from support import Bundle, Runtime

pytestmark = MARKS


# Its limits


def test_systemctl_show_tells_the_limits_that_are_in_force(runtime: Runtime, scoped: Bundle) -> None:
    """Also after a daemon-reload, when systemd has read again what it knows."""
    pid = created(runtime, scoped, **RESOURCES)
    assert runtime("start", "c").code == 0
    for _ in range(2):
        assert cgroup_of(pid) == {f"/system.slice/{UNIT}"}
        assert shown("TasksMax", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec") == ["20", "510ms", "50ms"]
        assert file("pids", "pids.max") == "20"
        assert file("cpuset", "cpuset.cpus") == "0"
        if PURE_V2:
            names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "CPUWeight", "AllowedCPUs", "AllowedMemoryNodes")
            assert shown(*names) == [str(64 * MIB), "0", str(32 * MIB), "59", "0", "0"]
            assert file("", "memory.max") == str(64 * MIB)
            assert file("", "memory.low") == str(32 * MIB)
            assert file("", "cpu.weight") == "59"
            assert file("", "cpu.max") in ("25500 50000", "25500 50000")
        else:
            assert shown("MemoryLimit", "CPUShares") == [str(64 * MIB), "512"]
            assert file("memory", "memory.limit_in_bytes") == str(64 * MIB)
            assert file("cpu,cpuacct", "cpu.shares") == "512"
            assert file("cpu,cpuacct", "cpu.cfs_quota_us") == "25500"
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def test_what_systemd_writes_again_by_itself_are_our_limits(runtime: Runtime, scoped: Bundle) -> None:
    """It writes all files of a controller when one of its properties changes."""
    created(runtime, scoped, **RESOURCES)
    name = "MemoryHigh=50M" if PURE_V2 else "CPUShares=600"
    subprocess.run(["systemctl", "set-property", "--runtime", UNIT, name, "TasksMax=19"], check=True)
    assert file("pids", "pids.max") == "19"
    if PURE_V2:
        assert [file("", f"memory.{one}") for one in ("max", "high", "low", "swap.max")] == [
            str(64 * MIB),
            str(50 * MIB),
            str(32 * MIB),
            "0",
        ]
    else:
        assert file("cpu,cpuacct", "cpu.shares") == "600"
        assert file("cpu,cpuacct", "cpu.cfs_quota_us") == "25500"


@pytest.mark.parametrize(("limit", "told", "in_force"), [(0, "1", "0"), (-1, "infinity", "max"), (7, "7", "7")])
def test_a_limit_of_processes(runtime: Runtime, scoped: Bundle, limit: int, told: str, in_force: str) -> None:
    created(runtime, scoped, pids={"limit": limit})
    assert shown("TasksMax") == [told]
    assert file("pids", "pids.max") == in_force


@on_v2
def test_an_idle_container_is_idle_for_systemd_too(runtime: Runtime, scoped: Bundle) -> None:
    created(runtime, scoped, cpu={"idle": 1, "shares": 512})
    assert shown("CPUWeight") == ["idle"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert file("", "cpu.idle") == "1"


@on_v2
def test_unified_keys_are_properties(runtime: Runtime, scoped: Bundle) -> None:
    unified = {"memory.high": "30M", "memory.max": str(40 * MIB), "cpu.weight": "77", "cpu.max": "20000 100000"}
    created(runtime, scoped, memory={"limit": 64 * MIB}, unified={**unified, "pids.max": "12"})
    names = ("MemoryHigh", "MemoryMax", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax")
    assert shown(*names) == [str(30 * MIB), str(40 * MIB), "77", "200ms", "12"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert [file("", name) for name in ("memory.high", "memory.max", "cpu.weight")] == [
        str(30 * MIB),
        str(40 * MIB),
        "77",
    ]


def test_block_devices_are_throttled(runtime: Runtime, scoped: Bundle) -> None:
    line = next(line for line in Path("/proc/partitions").read_text().splitlines()[2:] if "nvme" in line).split()
    major, minor, name = int(line[0]), int(line[1]), line[3]
    device = {"major": major, "minor": minor, "rate": 2 * MIB}
    created(runtime, scoped, blockIO={"throttleReadBpsDevice": [device]})
    if PURE_V2:
        assert shown("IOReadBandwidthMax") == [f"/dev/{name} {2 * MIB}"]
        assert f"rbps={2 * MIB}" in file("", "io.max")
    else:
        assert shown("BlockIOReadBandwidth") == [f"/dev/{name} {2 * MIB}"]
        assert file("blkio", "blkio.throttle.read_bps_device") == f"{major}:{minor} {2 * MIB}"


def test_one_process_more_than_the_limit_cannot_be_made(runtime: Runtime, scoped: Bundle) -> None:
    script = "sleep 1 & sleep 1 & sleep 1 & echo unlimited"
    assert run(runtime, scoped, script).out == "unlimited\n"
    scoped.config["linux"]["resources"]["pids"] = {"limit": 3}
    done = run(runtime, scoped, script)
    assert done.out == "" and "can't fork" in done.err


def test_a_quota_slows_the_program(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["resources"]["cpu"] = {"quota": 10_000, "period": 100_000}
    folder = "/sys/fs/cgroup" if PURE_V2 else "/sys/fs/cgroup/cpu,cpuacct"
    script = f"i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat {folder}/cpu.stat"
    done = run(runtime, scoped, script)
    counts = dict(line.split() for line in done.out.splitlines())
    assert int(counts["nr_throttled"]) > 0, done


def test_memory_beyond_the_limit_kills_and_leaves_no_failed_unit(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["resources"]["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    done = run(runtime, scoped, "head -c 64m /dev/zero | tail -c 64m | wc -c; echo $?")
    assert f"{64 * MIB}" not in done.out
    assert not units()


def test_a_container_whose_first_process_was_killed_for_memory_is_deleted(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["process"]["args"] = ["/bin/tail", "-c", "64m", "/dev/zero"]
    created(runtime, scoped, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    assert runtime("start", "c").code == 0
    until = time.monotonic() + 60
    while runtime.state("c")["status"] != "stopped":
        assert time.monotonic() < until
    assert runtime("delete", "c").code == 0
    assert not settled(units, set())


def test_a_failure_that_systemd_remembers_is_forgotten(runtime: Runtime, scoped: Bundle) -> None:
    """With a CollectMode of the old kind a scope that ran into a limit stays, failed, until someone resets it."""
    scoped.config["annotations"] = {"org.systemd.property.CollectMode": "'inactive'"}
    for name in ("RuntimeMax", "TimeoutStop"):
        scoped.config["annotations"][f"org.systemd.property.{name}Sec"] = "1"
    created(runtime, scoped)
    until = time.monotonic() + 30
    while shown("ActiveState") != ["failed"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert runtime("delete", "--force", "c").code == 0
    assert shown("ActiveState", "LoadState") == ["inactive", "not-found"]


DENY = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}


@pytest.mark.parametrize(
    ("rules", "policy", "reading", "writing"),
    [
        ([DENY], "strict", "no", "no"),
        ([DENY, KMSG], "strict", "yes", "no"),
        ([DENY, {**KMSG, "access": "w"}, KMSG], "strict", "yes", "yes"),
        ([{"allow": True, "access": "rwm"}], "auto" if PURE_V2 else "strict", "yes", "yes"),
        ([DENY, {**KMSG, "access": "rw"}, {**KMSG, "allow": False, "access": "w"}], None, "yes", "no"),
    ],
    ids=["none", "one", "two", "all", "partly"],
)
def test_a_device_opens_for_what_the_rules_allow(
    runtime: Runtime, scoped: Bundle, rules: list[dict[str, Any]], policy: str | None, reading: str, writing: str
) -> None:
    """kmsg, 1:11, by a node of the image; after a daemon-reload never more than before."""
    os.mknod(scoped.rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    process = scoped.config["process"]
    process["capabilities"] = {name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    test = "(exec 3< /kmsg) 2>/dev/null && echo yes || echo no; (exec 3> /kmsg) 2>/dev/null && echo yes || echo no"
    process["args"] = ["/bin/sh", "-c", f"{test}; until [ -e /tmp/go ]; do sleep 0.1; done; {test}; echo end"]
    scoped.config["root"]["readonly"] = False
    out = scoped.path / "out"
    scoped.config["linux"]["resources"] = {"devices": rules}
    with out.open("w") as stdout:
        done = runtime("--systemd-cgroup", "create", "-b", scoped.write().path, "c", stdout=stdout)
    assert done.code == 0, done.err
    assert shown("DevicePolicy") == [policy or ("auto" if PURE_V2 else "strict")]
    assert runtime("start", "c").code == 0
    while out.read_text().count("\n") < 2:
        time.sleep(0.05)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    (scoped.rootfs / "tmp/go").write_text("")
    while "end" not in out.read_text():
        time.sleep(0.05)
    before, after = out.read_text().split()[:2], out.read_text().split()[2:4]
    assert before == [reading, writing]
    assert all(now == "no" or now == then for now, then in zip(after, before, strict=True))
    if policy:
        assert after == before


# Annotations


def test_annotations_are_properties(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.Description": '"a container"',
        "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.property.Documentation": "['man:ocirt(1)', 'https://example.org/']",
        "org.systemd.property.SendSIGHUP": "true",
        "com.example.other": "no GVariant",
    }
    created(runtime, scoped)
    assert shown("TimeoutStopUSec", "Description", "CollectMode", "SendSIGHUP") == [
        "7s",
        "a container",
        "inactive",
        "yes",
    ]
    assert "https://example.org/" in shown("Documentation")[0]
    assert runtime("delete", "--force", "c").code == 0
    assert shown("LoadState") == ["not-found"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("TimeoutStopSec", "seven", 'expected a value, got "seven"'),
        ("Description", "'a", "a string has no closing '"),
        ("PIDs", "[uint32 1]", "PIDs is set by ocirt itself"),
        ("No-Such", "1", '"No-Such" is not the name of a property'),
        ("NoSuchThing", "true", "NoSuchThing"),
        ("KillMode", "true", "the unit"),
    ],
)
def test_a_wrong_annotation_is_named(runtime: Runtime, scoped: Bundle, name: str, text: str, words: str) -> None:
    scoped.config["annotations"] = {f"org.systemd.property.{name}": text}
    message = refusal(runtime, scoped)
    assert words in message
    if name != "KillMode":
        assert f"/annotations/org.systemd.property.{name}: " in message
    assert runtime("create", "-b", scoped.path, "c").code == 0  # the other managers do not look at it
