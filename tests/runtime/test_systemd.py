"""--systemd-cgroup on a host whose pid 1 is systemd: pure v2, and hybrid. Runs in the virtual machine (tests/vm)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import OCIRT, Bundle, Runtime, cgroup_folders, command, inits

from ocirt.cgroups.layout import detect
from ocirt.cgroups.systemd import bus as bus_module
from ocirt.cgroups.systemd.scope import SystemdCgroups
from ocirt.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path("/sys/fs/cgroup")
PURE_V2 = (ROOT / "cgroup.controllers").exists()
MIB = 1 << 20
UNIT = "ocirt-c.scope"
_SYSTEMDS = {"", "systemd", "unified", "cpu,cpuacct", "cpu", "cpuacct", "blkio", "memory", "devices", "pids"}

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        Path("/proc/1/comm").read_text() != "systemd\n" or not Path("/run/systemd/system").is_dir(),
        reason="pid 1 is not systemd: tests/vm/run.sh runs this",
    ),
]
on_v2 = pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")
on_v1 = pytest.mark.skipif(PURE_V2, reason="a pure v2 host")


def folders() -> set[str]:
    """All cgroups but those of systemd's own slices, which come and go with its units."""
    found = set()
    for folder in cgroup_folders():
        hierarchy = "" if PURE_V2 else folder[len(str(ROOT)) + 1 :].partition("/")[0]
        if not (folder.endswith(".slice") and hierarchy in _SYSTEMDS):
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


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before, loaded = folders(), units()
    yield
    assert not settled(units, loaded)
    assert not settled(folders, before)
    assert not inits()


@pytest.fixture
def limited(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle for the container c; deleted at the end."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    yield bundle
    assert runtime("delete", "--force", "c").code == 0


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


# Where it is


@pytest.mark.parametrize(
    ("cgroups_path", "unit", "slice", "folder"),
    [
        (None, "ocirt-c.scope", "system.slice", "/system.slice/ocirt-c.scope"),
        ("system.slice:ocirt:web", "ocirt-web.scope", "system.slice", "/system.slice/ocirt-web.scope"),
        (":ocirt-x:c", "ocirt-x-c.scope", "system.slice", "/system.slice/ocirt-x-c.scope"),
        ("-:ocirt:c", "ocirt-c.scope", "-.slice", "/ocirt-c.scope"),
        ("-.slice:ocirt:c", "ocirt-c.scope", "-.slice", "/ocirt-c.scope"),
        ("::ocirt", "ocirt.scope", "system.slice", "/system.slice/ocirt.scope"),
    ],
)
def test_the_container_is_in_its_scope_on_every_hierarchy(
    runtime: Runtime, limited: Bundle, cgroups_path: str | None, unit: str, slice: str, folder: str
) -> None:
    if cgroups_path:
        limited.config["linux"]["cgroupsPath"] = cgroups_path
    pid = created(runtime, limited)
    assert cgroup_of(pid) == {folder}
    assert shown("ActiveState", "Slice", "ControlGroup", "Delegate", unit=unit) == ["active", slice, folder, "yes"]
    assert shown("Description", "CollectMode", unit=unit) == ["ocirt container c", "inactive-or-failed"]
    assert runtime("start", "c").code == 0
    assert runtime.state("c")["status"] == "running"
    assert cgroup_of(pid) == {folder}


def test_a_slice_of_its_own_is_made_and_stays_systemds(runtime: Runtime, limited: Bundle) -> None:
    """An empty slice is the administrator's to stop: other units may be on their way into it."""
    limited.config["linux"]["cgroupsPath"] = "ocirttest-a.slice:p:n"
    try:
        pid = created(runtime, limited)
        assert cgroup_of(pid) == {"/ocirttest.slice/ocirttest-a.slice/p-n.scope"}
        assert runtime("delete", "--force", "c").code == 0
        assert shown("ActiveState", unit="p-n.scope") == ["inactive"]
        assert shown("ActiveState", unit="ocirttest-a.slice") == ["active"]
        if PURE_V2:
            assert (ROOT / "ocirttest.slice/ocirttest-a.slice").is_dir()
    finally:
        subprocess.run(["systemctl", "stop", "ocirttest.slice"], check=True)


def test_a_slice_itself_can_be_the_containers(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["cgroupsPath"] = "::ocirttest.slice"
    pid = created(runtime, limited, pids={"limit": 9})
    assert cgroup_of(pid) == {"/ocirttest.slice"}
    assert shown("ActiveState", "TasksMax", unit="ocirttest.slice") == ["active", "9"]
    assert runtime("delete", "--force", "c").code == 0
    assert shown("ActiveState", unit="ocirttest.slice") == ["inactive"]
    assert not any((ROOT / name / "ocirttest.slice").exists() for name in os.listdir(ROOT))
    assert not (ROOT / "ocirttest.slice").exists()


@pytest.mark.parametrize(
    ("cgroups_path", "words"),
    [
        ("/system.slice/c", 'expected SLICE:PREFIX:NAME, got "/system.slice/c" (with the systemd manager it is SLICE:'),
        ("system.slice:a", "expected SLICE:PREFIX:NAME"),
        ("system:ocirt:c", '"system" is no slice'),
        ("a--b.slice:ocirt:c", '"a--b.slice" is no slice'),
        ("../x.slice:ocirt:c", '"../x.slice" is no unit name'),
        ("system.slice:..:/c", "is no unit name: '/'"),
        ("system.slice:ocirt:", "has no NAME"),
    ],
)
def test_what_is_no_name_of_a_unit_is_refused(runtime: Runtime, limited: Bundle, cgroups_path: str, words: str) -> None:
    limited.config["linux"]["cgroupsPath"] = cgroups_path
    message = refusal(runtime, limited)
    assert "/linux/cgroupsPath: " in message and words in message
    checked = runtime("--systemd-cgroup", "check", limited.path)
    assert checked.code == 1 and words.split(" (")[0] in checked.out


# Its limits

RESOURCES: dict[str, Any] = {
    "memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 512, "quota": 25_500, "period": 50_000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 20},
}


def test_systemctl_show_tells_the_limits_that_are_in_force(runtime: Runtime, limited: Bundle) -> None:
    """Also after a daemon-reload, when systemd has read again what it knows."""
    created(runtime, limited, **RESOURCES)
    assert runtime("start", "c").code == 0
    for _ in range(2):
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


def test_what_systemd_writes_again_by_itself_are_our_limits(runtime: Runtime, limited: Bundle) -> None:
    """It writes all files of a controller when one of its properties changes."""
    created(runtime, limited, **RESOURCES)
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
def test_a_limit_of_processes(runtime: Runtime, limited: Bundle, limit: int, told: str, in_force: str) -> None:
    created(runtime, limited, pids={"limit": limit})
    assert shown("TasksMax") == [told]
    assert file("pids", "pids.max") == in_force


@on_v2
def test_an_idle_container_is_idle_for_systemd_too(runtime: Runtime, limited: Bundle) -> None:
    created(runtime, limited, cpu={"idle": 1, "shares": 512})
    assert shown("CPUWeight") == ["idle"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert file("", "cpu.idle") == "1"


@on_v2
def test_unified_keys_are_properties(runtime: Runtime, limited: Bundle) -> None:
    unified = {"memory.high": "30M", "memory.max": str(40 * MIB), "cpu.weight": "77", "cpu.max": "20000 100000"}
    created(runtime, limited, memory={"limit": 64 * MIB}, unified={**unified, "pids.max": "12"})
    names = ("MemoryHigh", "MemoryMax", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax")
    assert shown(*names) == [str(30 * MIB), str(40 * MIB), "77", "200ms", "12"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert [file("", name) for name in ("memory.high", "memory.max", "cpu.weight")] == [
        str(30 * MIB),
        str(40 * MIB),
        "77",
    ]


def test_block_devices_are_throttled(runtime: Runtime, limited: Bundle) -> None:
    line = next(line for line in Path("/proc/partitions").read_text().splitlines()[2:] if "nvme" in line).split()
    major, minor, name = int(line[0]), int(line[1]), line[3]
    device = {"major": major, "minor": minor, "rate": 2 * MIB}
    created(runtime, limited, blockIO={"throttleReadBpsDevice": [device]})
    if PURE_V2:
        assert shown("IOReadBandwidthMax") == [f"/dev/{name} {2 * MIB}"]
        assert f"rbps={2 * MIB}" in file("", "io.max")
    else:
        assert shown("BlockIOReadBandwidth") == [f"/dev/{name} {2 * MIB}"]
        assert file("blkio", "blkio.throttle.read_bps_device") == f"{major}:{minor} {2 * MIB}"


def test_one_process_more_than_the_limit_cannot_be_made(runtime: Runtime, limited: Bundle) -> None:
    script = "sleep 1 & sleep 1 & sleep 1 & echo unlimited"
    assert run(runtime, limited, script).out == "unlimited\n"
    limited.config["linux"]["resources"]["pids"] = {"limit": 3}
    done = run(runtime, limited, script)
    assert done.out == "" and "can't fork" in done.err


def test_a_quota_slows_the_program(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["resources"]["cpu"] = {"quota": 10_000, "period": 100_000}
    folder = "/sys/fs/cgroup" if PURE_V2 else "/sys/fs/cgroup/cpu,cpuacct"
    script = f"i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat {folder}/cpu.stat"
    done = run(runtime, limited, script)
    counts = dict(line.split() for line in done.out.splitlines())
    assert int(counts["nr_throttled"]) > 0, done


def test_memory_beyond_the_limit_kills_and_leaves_no_failed_unit(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["resources"]["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    done = run(runtime, limited, "head -c 64m /dev/zero | tail -c 64m | wc -c; echo $?")
    assert f"{64 * MIB}" not in done.out
    assert not units()


def test_a_container_whose_first_process_was_killed_for_memory_is_deleted(runtime: Runtime, limited: Bundle) -> None:
    limited.config["process"]["args"] = ["/bin/tail", "-c", "64m", "/dev/zero"]
    created(runtime, limited, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    assert runtime("start", "c").code == 0
    until = time.monotonic() + 60
    while runtime.state("c")["status"] != "stopped":
        assert time.monotonic() < until
    assert runtime("delete", "c").code == 0
    assert not settled(units, set())


def test_a_failure_that_systemd_remembers_is_forgotten(runtime: Runtime, limited: Bundle) -> None:
    """With a CollectMode of the old kind a scope that ran into a limit stays, failed, until someone resets it."""
    limited.config["annotations"] = {"org.systemd.property.CollectMode": "'inactive'"}
    limited.config["annotations"]["org.systemd.property.RuntimeMaxSec"] = "uint64 1"
    created(runtime, limited)
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
        ([{"allow": True, "access": "rwm"}], "auto", "yes", "yes"),
        ([DENY, {**KMSG, "access": "rw"}, {**KMSG, "allow": False, "access": "w"}], None, "yes", "no"),
    ],
    ids=["none", "one", "two", "all", "partly"],
)
def test_a_device_opens_for_what_the_rules_allow(
    runtime: Runtime, limited: Bundle, rules: list[dict[str, Any]], policy: str | None, reading: str, writing: str
) -> None:
    """kmsg, 1:11, by a node of the image; after a daemon-reload never more than before."""
    os.mknod(limited.rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    process = limited.config["process"]
    process["capabilities"] = {name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    test = "(exec 3< /kmsg) 2>/dev/null && echo yes || echo no; (exec 3> /kmsg) 2>/dev/null && echo yes || echo no"
    process["args"] = ["/bin/sh", "-c", f"{test}; until [ -e /tmp/go ]; do sleep 0.1; done; {test}; echo end"]
    limited.config["root"]["readonly"] = False
    out = limited.path / "out"
    limited.config["linux"]["resources"] = {"devices": rules}
    with out.open("w") as stdout:
        done = runtime("--systemd-cgroup", "create", "-b", limited.write().path, "c", stdout=stdout)
    assert done.code == 0, done.err
    assert shown("DevicePolicy") == [policy or ("auto" if PURE_V2 else "strict")]
    assert runtime("start", "c").code == 0
    while out.read_text().count("\n") < 2:
        time.sleep(0.05)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    (limited.rootfs / "tmp/go").write_text("")
    while "end" not in out.read_text():
        time.sleep(0.05)
    before, after = out.read_text().split()[:2], out.read_text().split()[2:4]
    assert before == [reading, writing]
    assert all(now == "no" or now == then for now, then in zip(after, before, strict=True))
    if policy:
        assert after == before


# Annotations


def test_annotations_are_properties(runtime: Runtime, limited: Bundle) -> None:
    limited.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.Description": '"a container"',
        "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.property.Documentation": "['man:ocirt(1)', 'https://example.org/']",
        "org.systemd.property.SendSIGHUP": "true",
        "com.example.other": "no GVariant",
    }
    created(runtime, limited)
    assert shown("TimeoutStopUSec", "Description", "CollectMode", "SendSIGHUP") == [
        "7s",
        "a container",
        "inactive",
        "yes",
    ]
    assert shown("Documentation") == ["man:ocirt(1) https://example.org/"]
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
def test_a_wrong_annotation_is_named(runtime: Runtime, limited: Bundle, name: str, text: str, words: str) -> None:
    limited.config["annotations"] = {f"org.systemd.property.{name}": text}
    message = refusal(runtime, limited)
    assert words in message
    if name != "KillMode":
        assert f"/annotations/org.systemd.property.{name}: " in message
    assert runtime("create", "-b", limited.path, "c").code == 0  # the other managers do not look at it


# Units that are there already, and none that stay


def test_a_unit_of_the_same_name_is_left_alone(runtime: Runtime, limited: Bundle) -> None:
    with subprocess.Popen(["systemd-run", "--quiet", "--scope", f"--unit={UNIT}", "sleep", "1000"]) as other:
        try:
            while shown("ActiveState") != ["active"]:
                time.sleep(0.05)
            message = refusal(runtime, limited)
            assert f"/linux/cgroupsPath: systemd has a unit {UNIT} already: it is active (give each" in message
            limited.config["linux"]["cgroupsPath"] = "-:ocirt:c"
            assert f"systemd has a unit {UNIT} already" in refusal(runtime, limited)
            assert other.poll() is None and shown("ActiveState") == ["active"]
        finally:
            subprocess.run(["systemctl", "stop", UNIT], check=True)


def test_a_second_container_of_the_same_name_under_another_root(
    runtime: Runtime, limited: Bundle, tmp_path: Path
) -> None:
    pid = created(runtime, limited)
    second = Runtime(tmp_path / "second")
    assert f"systemd has a unit {UNIT} already" in refusal(second, limited)
    assert second("delete", "--force", "c").code == 0
    assert cgroup_of(pid) == {f"/system.slice/{UNIT}"}


def test_a_unit_that_failed_is_forgotten_for_the_new_one(runtime: Runtime, limited: Bundle) -> None:
    command_ = ["systemd-run", "--quiet", "--scope", f"--unit={UNIT}", "-p", "RuntimeMaxSec=1", "sleep", "1000"]
    subprocess.run(command_, check=False)
    until = time.monotonic() + 30
    while shown("ActiveState") != ["failed"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    created(runtime, limited)
    assert shown("ActiveState", "Description") == ["active", "ocirt container c"]


def test_a_program_that_ended_by_itself(runtime: Runtime, limited: Bundle) -> None:
    limited.config["process"]["args"] = ["/bin/true"]
    created(runtime, limited)
    assert runtime("start", "c").code == 0
    while runtime.state("c")["status"] != "stopped":
        os.sched_yield()
    assert runtime("delete", "c").code == 0


def test_what_is_left_without_a_pid_namespace_goes_with_the_container(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["namespaces"] = [
        one for one in limited.config["linux"]["namespaces"] if one["type"] != "pid"
    ]
    assert run(runtime, limited, "sleep 1000 >/dev/null 2>&1 & exit 4").code == 4


def test_a_creation_that_was_killed_at_any_moment_is_undone(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["resources"].update(RESOURCES)
    limited.write()
    started = time.monotonic()
    created(runtime, limited)
    usual = time.monotonic() - started
    runtime("delete", "--force", "c")
    for _ in range(25):
        args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(limited.path), "c"]
        with subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as one:
            time.sleep(random.uniform(0, usual))
            one.send_signal(signal.SIGKILL)
        done = runtime("delete", "--force", "c")
        assert done.code == 0, done.err
        assert not settled(units, set())


def test_a_creation_that_is_interrupted_leaves_nothing(runtime: Runtime, limited: Bundle) -> None:
    limited.write()
    for _ in range(10):
        args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(limited.path), "c"]
        with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
            time.sleep(random.uniform(0.2, 1))
            one.send_signal(signal.SIGTERM)
        if one.returncode == 0:  # it had been faster
            assert runtime("delete", "--force", "c").code == 0
        assert not (runtime.root / "c").exists()
        assert not settled(units, set())


def test_the_unit_goes_with_a_container_whose_state_is_damaged(runtime: Runtime, limited: Bundle) -> None:
    pid = created(runtime, limited)
    (runtime.root / "c" / "state.json").write_text("{")
    done = runtime("delete", "--force", "c")
    assert done.code == 0, done.err
    assert not Path(f"/proc/{pid}").exists() or (Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z")


# Beside other things


def test_a_hook_in_the_container_is_in_its_cgroup(runtime: Runtime, limited: Bundle, tmp_path: Path) -> None:
    limited.config["hooks"] = {
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat /proc/self/cgroup >{tmp_path}/hook"]}]
    }
    created(runtime, limited)
    seen = {line.split(":", 2)[2] for line in (tmp_path / "hook").read_text().splitlines()}
    assert len(seen) == 1 and seen <= {"/", f"/system.slice/{UNIT}"}


MAPS = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]


@pytest.mark.parametrize("namespace", [True, False], ids=["cgroup namespace", "the host's"])
def test_a_user_namespace(runtime: Runtime, limited: Bundle, namespace: bool) -> None:
    linux = limited.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux.update(uidMappings=MAPS, gidMappings=MAPS)
    if not namespace:
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "cgroup"]
    for folder in (limited.path, *limited.path.parents):
        folder.chmod(0o755)
    for folder, names, files in os.walk(limited.rootfs):
        for name in [*names, *files, ""]:
            os.lchown(os.path.join(folder, name), 100_000, 100_000)
    limited.config["linux"]["resources"]["pids"] = {"limit": 20}
    place = "" if PURE_V2 else "pids/"
    done = run(runtime, limited, f"cat /proc/self/cgroup; cat /sys/fs/cgroup/{place}pids.max")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[-1] == "20"
    assert {line.split(":", 2)[2] for line in lines[:-1]} == {"/" if namespace else f"/system.slice/{UNIT}"}


@on_v2
def test_a_writable_cgroup_belongs_to_the_user_but_for_its_limits(runtime: Runtime, limited: Bundle) -> None:
    limited.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    for mount in limited.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
    created(runtime, limited, pids={"limit": 20})
    folder = ROOT / "system.slice" / UNIT
    owners = {name: (folder / name).stat().st_uid for name in ("", "cgroup.procs", "pids.max", "memory.max")}
    assert owners == {"": 1000, "cgroup.procs": 1000, "pids.max": 0, "memory.max": 0}


def test_run_in_the_foreground_and_detached(runtime: Runtime, limited: Bundle) -> None:
    assert run(runtime, limited, "exit 7").code == 7
    assert not settled(units, set())
    limited.config["process"]["args"] = ["/bin/sleep", "1000"]
    done = runtime("--cgroup-manager", "systemd", "run", "-d", "-b", limited.write().path, "c")
    assert done.code == 0, done.err
    assert shown("ActiveState") == ["active"]
    assert runtime("kill", "c", "KILL").code == 0


def test_no_connection_to_the_bus_stays_while_a_container_runs(runtime: Runtime, limited: Bundle) -> None:
    limited.write()
    args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "run", "-b", str(limited.path), "c"]
    with subprocess.Popen(args, stdin=subprocess.DEVNULL) as one:
        while runtime("state", "c").code or runtime.state("c")["status"] != "running":
            time.sleep(0.05)
        links = [os.readlink(entry) for entry in Path(f"/proc/{one.pid}/fd").iterdir()]
        assert runtime("kill", "c", "KILL").code == 0
    assert not any(link.startswith("socket:") for link in links[3:]), links


def test_explain_shows_what_systemd_is_asked_for(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["resources"].update(RESOURCES)
    limited.config["linux"]["cgroupsPath"] = "system.slice:ocirt:c"
    shown_ = runtime("--systemd-cgroup", "explain", limited.write().path).out
    assert f"on the host: start the scope {UNIT} over D-Bus, with init in it" in shown_
    assert "▸  Slice=system.slice" in shown_ and "▸  TasksMax=20" in shown_
    assert f"at delete: stop the unit {UNIT}" in shown_


def test_three_dozen_containers_half_of_them_killed(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["resources"].update(RESOURCES)
    names = [f"ocirt-leak-{number}" for number in range(36)]
    running = []
    for name in names:
        limited.config["linux"]["cgroupsPath"] = f"system.slice:ocirt:{name}"
        limited.write()
        if len(running) % 2:
            args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(limited.path), name]
            with subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as one:
                time.sleep(random.uniform(0, 1.5))
                one.kill()
        else:
            assert runtime("--systemd-cgroup", "create", "-b", limited.path, name).code == 0
        running.append(name)
    for name in running:
        done = runtime("delete", "--force", name)
        assert done.code == 0, done.err


# The driver alone: other ways to systemd


def lives_in_a_scope(cgroups: SystemdCgroups, resources: dict[str, Any]) -> str:
    """Give a sleep a life in the unit of these cgroups; returns the cgroup that it had."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        cgroups.limit(resources)
        cgroups.plan()
        cgroups.create()
        cgroups.attach(process.pid)
        (path,) = cgroup_of(process.pid)
        again = SystemdCgroups.from_state(json.loads(json.dumps(cgroups.to_state())))
        again.tell_manager({"pids": {"limit": 33}})
        assert again.processes() == [process.pid]
    finally:
        cgroups.remove()
        process.wait()
    return path


def test_without_a_bus_systemd_is_reached_at_its_own_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_SYSTEM_BUS", "/run/no/such/socket")
    cgroups = SystemdCgroups.for_unit(detect(), "", "c", {})
    assert lives_in_a_scope(cgroups, {"pids": {"limit": 20}}) == f"/system.slice/{UNIT}"


def test_update_tells_systemd(runtime: Runtime, limited: Bundle) -> None:
    created(runtime, limited, pids={"limit": 20})
    known = json.loads((runtime.root / "c/state.json").read_text())
    SystemdCgroups.from_state(known["cgroups"]).tell_manager({"pids": {"limit": 30}, "cpu": {"shares": 2048}})
    assert shown("TasksMax", "CPUWeight" if PURE_V2 else "CPUShares") == ["30", "152" if PURE_V2 else "2048"]
    assert file("pids", "pids.max") == "30"


AS_USER = """
import json, os, sys
from ocirt.cgroups.layout import detect
from ocirt.cgroups.systemd.scope import SystemdCgroups
import subprocess
cgroups = SystemdCgroups.for_unit(detect(), "", "c", {})
process = subprocess.Popen(["sleep", "1000"])
try:
    cgroups.limit({"pids": {"limit": 20}, "memory": {"limit": 1 << 26}})
    cgroups.plan(); cgroups.create(); cgroups.attach(process.pid)
    where = open(f"/proc/{process.pid}/cgroup").read().strip()
    cgroups.tell_manager({"pids": {"limit": 20}, "memory": {"limit": 1 << 26}})
    cgroups.resources.set_late()
    limit = open(cgroups.unified() + "/pids.max").read().strip()
    show = ["systemctl", "--user", "show", "-P", "TasksMax", "ocirt-c.scope"]
    shown = subprocess.run(show, capture_output=True, text=True).stdout.strip()
finally:
    cgroups.remove()
    process.wait()
print(json.dumps([where, limit, shown, cgroups.bus.address, os.path.exists(cgroups.unified())]))
"""


def as_user(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as the user "test"."""
    environment |= {"HOME": "/home/test", "PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
    who: dict[str, Any] = {"user": "test", "group": "test", "extra_groups": [], "cwd": "/", "env": environment}
    return subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=False, timeout=120, **who)


@on_v2
def test_a_users_own_systemd(tmp_path: Path) -> None:
    """Its bus, where it has one; else the manager's own socket."""
    subprocess.run(["loginctl", "enable-linger", "test"], check=True)
    folder = Path("/run/user/1000")
    until = time.monotonic() + 120
    while not (folder / "systemd/private").exists():
        assert time.monotonic() < until, "no user manager"
        time.sleep(0.2)
    done = as_user(AS_USER, XDG_RUNTIME_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    where, limit, told, address, left = json.loads(done.stdout)
    assert where == "0::/user.slice/user-1000.slice/user@1000.service/user.slice/ocirt-c.scope"
    assert (limit, told, address, left) == ("20", "20", f"unix:path={folder}/bus", False)


def test_a_user_without_a_systemd_is_told_so() -> None:
    script = (
        "from ocirt.cgroups.layout import detect\nfrom ocirt.cgroups.systemd.scope import SystemdCgroups\n"
        "from ocirt.errors import Error\n"
        "try: SystemdCgroups.for_unit(detect(), '', 'c', {})\nexcept Error as error: print(error)"
    )
    out = as_user(script, XDG_RUNTIME_DIR="").stdout
    assert out.startswith("there is no user's systemd to make cgroups") and "enable-linger" in out
    out = as_user(script, XDG_RUNTIME_DIR="/run/user/4711").stdout
    assert "/run/user/4711/bus: No such file or directory" in out or "pure cgroup v2 only" in out


def test_who_may_not_is_told_what_to_do() -> None:
    """Of the system's manager a user may ask what there is, and start nothing."""
    script = (
        "from ocirt.cgroups.systemd import bus, scope\nfrom ocirt.cgroups.layout import detect\n"
        "from ocirt.errors import Error\nimport os, subprocess\nscope.own_address = lambda: bus.SYSTEM\n"
        "cgroups = scope.SystemdCgroups.for_unit(detect(), '', 'c', {})\ncgroups.plan()\n"
        "process = subprocess.Popen(['sleep', '9'])\n"
        "try: cgroups.attach(process.pid)\nexcept Error as error: print(error)\nfinally: process.kill()"
    )
    done = as_user(script)
    assert "loginctl enable-linger" in done.stdout, done
    assert done.stdout.startswith(f"/linux/cgroupsPath: start the unit {UNIT}: ")


def test_a_bus_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_SYSTEM_BUS", "/run/no/such/socket")
    monkeypatch.setattr(bus_module, "_SYSTEM_PRIVATE", "/run/no/other/one")
    with pytest.raises(Error, match=r"connect to the system's systemd over D-Bus: /run/no/such/socket: No such file"):
        SystemdCgroups.for_unit(detect(), "", "c", {})


def test_the_command_says_so_too(runtime: Runtime, limited: Bundle) -> None:
    assert command(OCIRT, "--systemd-cgroup", "--cgroup-manager", "disabled", "run", limited.path).code == 1
