"""update: limits of a running container, by effect and by the kernel's files; all of a change or nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.hosts import PURE_V2, ROOT, has, needs, on_v1, on_v2
from runtime.life import Life, until_gone, wait_until
from support import Done

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

MIB = 1 << 20
ALLOCATE = "head -c 40000000 /dev/zero | tail -c 40000000 > /dev/null"
"""tail keeps what it reads: 40 MB."""


@pytest.fixture
def limited(life: Life) -> Callable[..., Life]:
    """Runs a script with these resources, in the cgroup /limits/c."""

    def run(script: str = "echo > /tmp/ready; sleep 1000", **resources: Any) -> Life:
        life.bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
        life.bundle.config["linux"]["cgroupsPath"] = "/limits/c"
        life.bundle.config["linux"]["resources"] = resources
        life.bundle.write()
        done = life.create()
        assert done.code == 0, done.err
        assert life("start", "c").code == 0
        if "/tmp/ready" in script:
            wait_until((life.bundle.rootfs / "tmp/ready").exists)
        return life

    return run


def folder(controller: str) -> Path:
    return (ROOT if PURE_V2 else ROOT / controller) / "limits/c"


def file(controller: str, name: str) -> str:
    return (folder(controller) / name).read_text().strip()


def memory_limit() -> int:
    return int(file("memory", "memory.max" if PURE_V2 else "memory.limit_in_bytes"))


def quota() -> tuple[str, str]:
    """(quota, period)."""
    if PURE_V2:
        quota, period = file("cpu", "cpu.max").split()
        return quota, period
    return file("cpu", "cpu.cfs_quota_us"), file("cpu", "cpu.cfs_period_us")


def change(life: Life, **resources: Any) -> Done:
    """`update` by --resources from stdin."""
    return life.runtime("update", "--resources", "-", "c", stdin=json.dumps(resources))


# By effect


@needs("memory")
def test_a_lowered_memory_limit_kills_who_exceeds_it_then(limited: Callable[..., Life]) -> None:
    life = limited(f"{ALLOCATE} && echo > /tmp/ready; while ! [ -e /tmp/go ]; do sleep 0.05; done; {ALLOCATE}")
    assert life("update", "--memory", "20m", "c").code == 0
    assert memory_limit() == 20 * MIB
    (life.bundle.rootfs / "tmp/go").touch()
    until_gone(life.pid)
    events = file("memory", "memory.events" if PURE_V2 else "memory.oom_control")
    assert int(next(line for line in events.splitlines() if line.startswith("oom_kill ")).split()[1]) > 0


@needs("memory")
def test_a_raised_memory_limit_lets_it_live(limited: Callable[..., Life]) -> None:
    script = (
        f"echo > /tmp/ready; while ! [ -e /tmp/go ]; do sleep 0.05; done; {ALLOCATE} && echo > /tmp/done; sleep 1000"
    )
    swap = {} if PURE_V2 else {"swap": 20 * MIB}
    life = limited(script, memory={"limit": 20 * MIB, **swap})
    more = ("--memory-swap", "100m") if swap else ()
    assert life("update", "--memory", "100m", *more, "c").code == 0
    (life.bundle.rootfs / "tmp/go").touch()
    wait_until((life.bundle.rootfs / "tmp/done").exists)


@needs("pids")
@pytest.mark.parametrize(("limit", "forks"), [("1", False), ("2", True)])
def test_a_lowered_limit_of_processes_stops_the_next_fork(
    limited: Callable[..., Life], limit: str, forks: bool
) -> None:
    script = "echo > /tmp/ready; while ! [ -e /tmp/go ]; do :; done; (exit 0); echo > /tmp/forked"
    life = limited(script, pids={"limit": 50})
    assert life("update", "--pids-limit", limit, "c").code == 0
    assert file("pids", "pids.max") == limit
    pid = life.pid
    (life.bundle.rootfs / "tmp/go").touch()
    until_gone(pid)
    assert (life.bundle.rootfs / "tmp/forked").exists() == forks


@needs("cpu")
def test_a_quota_throttles_what_runs_already(limited: Callable[..., Life]) -> None:
    life = limited("echo > /tmp/ready; while :; do :; done")
    assert life("update", "--cpu-quota", "5000", "--cpu-period", "100000", "c").code == 0
    assert quota() == ("5000", "100000")
    clock = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = Path(f"/proc/{life.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / clock

    before, began = used(), time.monotonic()
    time.sleep(1)
    assert used() - before < 0.3 * (time.monotonic() - began)


@needs("cpuset")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_it_moves_to_the_processors_that_it_is_left(limited: Callable[..., Life]) -> None:
    life = limited()
    first = min(os.sched_getaffinity(0))
    assert life("update", "--cpuset-cpus", str(first), "c").code == 0
    assert os.sched_getaffinity(life.pid) == {first}


DENY = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}


def asks_for_kmsg(limited: Callable[..., Life], devices: list[dict[str, Any]]) -> Life:
    script = (
        "echo > /tmp/ready; while :; do (exec 3< /kmsg) 2>/dev/null && echo yes > /tmp/new || echo no > /tmp/new;"
        " (exec 3< /dev/null) || echo broken > /tmp/new; mv /tmp/new /tmp/answer; sleep 0.02; done"
    )
    return limited(script, devices=devices)


@pytest.fixture
def kmsg(life: Life) -> Callable[[], str]:
    """The container's newest answer to: can /kmsg, device 1:11, be opened?"""
    os.mknod(life.bundle.rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    (life.bundle.rootfs / "bin/mv").symlink_to("busybox")
    life.bundle.config["process"]["capabilities"] = {
        name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")
    }
    answer = life.bundle.rootfs / "tmp/answer"

    def newest() -> str:
        answer.unlink(missing_ok=True)
        wait_until(answer.exists)
        answer.unlink()
        wait_until(answer.exists)
        return answer.read_text().strip()

    return newest


def test_device_rules_are_replaced(limited: Callable[..., Life], kmsg: Callable[[], str]) -> None:
    life = asks_for_kmsg(limited, [DENY])
    assert kmsg() == "no"
    assert change(life, devices=[DENY, KMSG]).code == 0
    assert kmsg() == "yes"
    assert change(life, devices=[{**KMSG, "allow": False}]).code == 0
    assert kmsg() == "no"
    assert change(life, devices=[{"allow": True, "access": "rwm"}]).code == 0
    assert kmsg() == "yes"


def test_the_rule_that_cri_sends_with_every_update_is_not_meant(
    limited: Callable[..., Life], kmsg: Callable[[], str]
) -> None:
    life = asks_for_kmsg(limited, [DENY, KMSG])
    assert kmsg() == "yes"
    assert change(life, devices=[DENY]).code == 0
    assert kmsg() == "yes"
    assert change(life, devices=[DENY], cpu={"shares": 0}).code == 0
    assert kmsg() == "yes"


def test_the_default_devices_work_at_every_moment_of_a_change(limited: Callable[..., Life]) -> None:
    """v1's list is emptied and filled line by line; v2's program is exchanged."""
    script = "echo > /tmp/ready; while (exec 3< /dev/null) 2>/dev/null; do :; done; echo > /tmp/broken"
    life = limited(script, devices=[DENY])
    for round_ in range(20):
        assert change(life, devices=[DENY, KMSG] if round_ % 2 else [{**KMSG, "access": "r"}]).code == 0
    assert not (life.bundle.rootfs / "tmp/broken").exists()
    assert life.status == "running"


# What is written, and what stays


@needs("memory", "cpu", "pids")
def test_what_is_not_named_stays_and_each_flag_is_its_property(limited: Callable[..., Life]) -> None:
    life = limited(memory={"limit": 64 * MIB, "reservation": 32 * MIB}, cpu={"shares": 512, "quota": 20000})
    assert life("update", "--memory-reservation", "16m", "c").code == 0
    assert life("update", "--cpu-period", "50000", "c").code == 0
    assert life("update", "--pids-limit", "77", "--cpu-share", "2048", "c").code == 0
    assert memory_limit() == 64 * MIB
    soft = "memory.low" if PURE_V2 else "memory.soft_limit_in_bytes"
    assert int(file("memory", soft)) == 16 * MIB
    assert quota() == ("20000", "50000")
    assert file("pids", "pids.max") == "77"
    assert file("cpu", "cpu.weight" if PURE_V2 else "cpu.shares") == ("174" if PURE_V2 else "2048")


@needs("memory", "cpu", "pids")
def test_the_zeros_that_docker_sends_are_unset(limited: Callable[..., Life]) -> None:
    life = limited(memory={"limit": 64 * MIB}, cpu={"shares": 512, "quota": 20000, "period": 50000}, pids={"limit": 9})
    done = change(
        life,
        memory={"limit": 0, "reservation": 0, "kernel": 0},
        cpu={"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        blockIO={"weight": 0},
    )
    assert (done.code, done.err) == (0, "")
    assert memory_limit() == 64 * MIB
    assert quota() == ("20000", "50000")
    assert file("pids", "pids.max") == "9"


@needs("pids")
def test_zero_is_a_number_of_processes(limited: Callable[..., Life]) -> None:
    life = limited()
    assert change(life, pids={"limit": 0}).code == 0
    assert file("pids", "pids.max") == "0"
    assert change(life, pids={"limit": -1}).code == 0
    assert file("pids", "pids.max") == "max"


@needs("memory")
@on_v1
@pytest.mark.parametrize(("old", "new"), [((20, 30), (50, 60)), ((50, 60), (20, 30)), ((20, 60), (30, 40))])
def test_memory_and_swap_are_raised_and_lowered_together(
    limited: Callable[..., Life], old: tuple[int, int], new: tuple[int, int]
) -> None:
    life = limited(memory={"limit": old[0] * MIB, "swap": old[1] * MIB})
    assert life("update", "--memory", f"{new[0]}m", "--memory-swap", f"{new[1]}m", "c").code == 0
    assert memory_limit() == new[0] * MIB
    assert int(file("memory", "memory.memsw.limit_in_bytes")) == new[1] * MIB


@needs("memory")
def test_no_limit_takes_it_away(limited: Callable[..., Life]) -> None:
    life = limited(memory={"limit": 64 * MIB})
    assert life("update", "--memory", "-1", "--memory-swap", "-1", "c").code == 0
    name = "memory.max" if PURE_V2 else "memory.limit_in_bytes"
    assert file("memory", name) in ("max", "9223372036854771712")


@needs("cpu")
def test_weights_come_back_when_it_is_not_idle_any_more(limited: Callable[..., Life]) -> None:
    life = limited(cpu={"shares": 512})
    weight = "cpu.weight" if PURE_V2 else "cpu.shares"
    before = file("cpu", weight)
    if not (folder("cpu") / "cpu.idle").exists():
        pytest.skip("Linux 5.15: cpu.idle")
    assert life("update", "--cpu-idle", "1", "c").code == 0
    assert file("cpu", "cpu.idle") == "1"
    assert life("update", "--cpu-idle", "0", "c").code == 0
    assert file("cpu", "cpu.idle") == "0"
    assert file("cpu", weight) == before


@needs("pids")
def test_a_value_that_somebody_else_changed_is_written_though_it_is_the_recorded_one(
    limited: Callable[..., Life],
) -> None:
    life = limited(pids={"limit": 50})
    (folder("pids") / "pids.max").write_text("60")
    assert life("update", "--pids-limit", "50", "c").code == 0
    assert file("pids", "pids.max") == "50"


@needs("pids", "cpu")
def test_a_paused_and_a_created_container_can_be_changed(life: Life) -> None:
    life.reach("created")
    assert life("update", "--pids-limit", "50", "c").code == 0
    assert life("pause", "c").code == 0
    assert life("update", "--pids-limit", "60", "c").code == 0
    path = ROOT.rglob("c/pids.max")
    assert next(path).read_text() == "60\n"
    assert life.status == "paused"


@on_v2
@needs("memory")
def test_a_unified_key_is_written_after_the_others(limited: Callable[..., Life]) -> None:
    life = limited()
    assert change(life, unified={"memory.high": str(32 * MIB)}, memory={"limit": 64 * MIB}).code == 0
    assert file("memory", "memory.high") == str(32 * MIB)
    assert memory_limit() == 64 * MIB


@on_v2
@needs("memory")
def test_check_before_update_refuses_what_would_kill(limited: Callable[..., Life]) -> None:
    life = limited("head -c 20000000 /dev/zero > /tmp/file; echo > /tmp/ready; sleep 1000")
    used = int(file("memory", "memory.current"))
    done = change(life, memory={"limit": used // 2, "checkBeforeUpdate": True})
    assert done.code == 1
    assert "/memory/limit: memory.max of" in done.err and "bytes that are in use (the kernel would kill" in done.err
    assert file("memory", "memory.max") == "max"


# What is refused changes nothing


def snapshot() -> dict[str, str]:
    """All values that can be written in the container's cgroups."""
    found = {}
    for path in ROOT.rglob("limits/c/*"):
        if path.is_file() and path.stat().st_mode & 0o200 and not path.name.startswith(("cgroup.", "tasks", "notify")):
            try:
                found[str(path)] = path.read_text()
            except OSError:
                continue
    return {name: text for name, text in found.items() if not name.endswith((".pressure", "usage_in_bytes", ".usage"))}


REFUSED = [
    # flags, words of the error
    (("--memory", "x"), '--memory: expected a size such as 64m, got "x"'),
    (("--memory", "12q"), "--memory: expected a size"),
    (("--memory", "-2"), "--memory: expected a size"),
    (("--memory", "1.m"), "--memory: expected a size"),
    (("--cpu-share", "1e3"), "--cpu-share: expected a whole number"),
    (("--cpu-share", "-5"), "--cpu-share: expected an integer from 0"),
    (("--pids-limit", "-7"), "--pids-limit: expected -1 (no limit) or a number from 0"),
    (("--cpuset-cpus", "a-b"), "--cpuset-cpus: expected a list such as"),
    (("--blkio-weight", "1001"), "--blkio-weight: expected a weight from 10 to 1000"),
    (("--cpu-idle", "2"), "--cpu-idle: expected 0 or 1"),
    (("--memory", "64m", "--memory-swap", "32m"), "--memory-swap: expected at least the limit of 67108864"),
    ((), "update needs something to change"),
    (("--resources", "/nowhere/r.json"), "/nowhere/r.json: cannot open it: No such file or directory"),
    (("--resources", "-", "--memory", "64m"), "--memory and --resources are two answers to one question"),
    (("--l3-cache-schema", "L3:0=f"), "has no class of service whose schemata could change"),
]


@needs("memory", "cpu", "pids", "cpuset")
@pytest.mark.parametrize(("flags", "words"), REFUSED, ids=lambda value: " ".join(value)[:40])
def test_a_bad_flag_is_named_and_nothing_changes(
    limited: Callable[..., Life], flags: tuple[str, ...], words: str
) -> None:
    life = limited(memory={"limit": 128 * MIB})
    before = snapshot()
    done = life("update", *flags, "c")
    assert done.code == 1
    assert done.err.startswith("ocirt: ") and words in done.err
    assert len(done.err.splitlines()) == 1
    assert snapshot() == before
    assert not (life.runtime.root / "c/resources.json").exists()


BAD_DOCUMENTS = [
    ('{"memory": {"limit": "10M"}}', '1:13: /memory/limit: expected an integer, got "10M"'),
    ('{"cpu": {\n "shares": -1}}', "2:2: /cpu/shares: expected an integer from 0"),
    ("[]", "1:1: expected an object, got an empty array"),
    ("{", "1:2: not JSON"),
    ("", "1:1: not JSON: the file is empty"),
    ('{"pids": {"limit": 5}, "pids": {}}', '1:24: the key "pids" stands twice'),
    ('{"unified": {"../x": "1"}}', '1:14: /unified/..~1x: expected the name of a file of a cgroup, got "../x"'),
    ('{"devices": [{"access": "r"}]}', "/devices/0/allow: expected a value"),
    ('{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 2000}]}}', "/blockIO/weightDevice/0/weight"),
]


@needs("pids")
@pytest.mark.parametrize(("text", "words"), BAD_DOCUMENTS, ids=[text[:20] for text, _ in BAD_DOCUMENTS])
@pytest.mark.parametrize("way", ["stdin", "file"])
def test_a_bad_document_is_named_with_its_place(
    limited: Callable[..., Life], tmp_path: Path, text: str, words: str, way: str
) -> None:
    life = limited(pids={"limit": 50})
    before = snapshot()
    if way == "stdin":
        done = life.runtime("update", "-r", "-", "c", stdin=text)
        place = "standard input"
    else:
        (tmp_path / "r.json").write_text(text)
        done = life("update", "-r", tmp_path / "r.json", "c")
        place = str(tmp_path / "r.json")
    assert done.code == 1
    assert done.err.startswith(f"ocirt: {place}:"), done.err
    assert words in done.err, done.err
    assert snapshot() == before


@needs("memory", "cpu", "pids")
def test_a_value_that_the_kernel_refuses_takes_all_others_back(limited: Callable[..., Life]) -> None:
    life = limited(memory={"limit": 128 * MIB}, pids={"limit": 50})
    before = snapshot()
    done = life("update", "--memory", "64m", "--pids-limit", "20", "--cpu-quota", "5", "c")
    assert done.code == 1
    assert "--cpu-quota: write " in done.err and "Invalid argument" in done.err
    assert snapshot() == before
    assert life("update", "--cpu-quota", "50000", "c").code == 0
    assert (memory_limit(), file("pids", "pids.max")) == (128 * MIB, "50")


@needs("pids")
def test_a_change_that_cannot_be_recorded_is_none(limited: Callable[..., Life]) -> None:
    life = limited(pids={"limit": 50})
    (life.runtime.root / "c/.resources.json").mkdir()
    done = life("update", "--pids-limit", "20", "c")
    assert done.code == 1
    assert "Is a directory" in done.err
    assert file("pids", "pids.max") == "50"
    (life.runtime.root / "c/.resources.json").rmdir()


@on_v1
@needs("memory", "blkio", "cpu", "cpuset", "pids")
def test_every_kind_of_value_is_taken_back(limited: Callable[..., Life]) -> None:
    """The last, a quota, is refused; before it stands one of each kind of file."""
    life = limited()
    before = snapshot()
    disks = [path for path in Path("/sys/block").iterdir() if not path.name.startswith(("ram", "loop"))]
    resources: dict[str, Any] = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swappiness": 7, "disableOOMKiller": True},
        "network": {"classID": 99} if has("net_cls") else {},
        "cpu": {"shares": 77, "cpus": "0", "quota": 5},
        "pids": {"limit": 66},
    }
    if disks:
        major, minor = map(int, (disks[0] / "dev").read_text().split(":"))
        limit = {"major": major, "minor": minor, "rate": 1 << 20}
        resources["blockIO"] = {"throttleReadBpsDevice": [limit], "throttleWriteIOPSDevice": [limit]}
    done = change(life, **resources)
    assert done.code == 1
    assert "cpu/quota" in done.err, done.err
    assert snapshot() == before
