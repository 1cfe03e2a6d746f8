"""linux.resources on the hierarchies that this host has: by what a payload meets, or else by the files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.hosts import PURE_V2, ROOT, has, needs, on_v1, on_v2
from support import Bundle, Runtime, cgroup_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def limited(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle in the cgroup /limits/c; deleted at the end."""
    bundle.config["linux"]["cgroupsPath"] = "/limits/c"
    yield bundle
    runtime("delete", "--force", "c")


def wanting(bundle: Bundle, **resources: Any) -> Bundle:
    bundle.config["linux"]["resources"].update(resources)
    return bundle.write()


def file(controller: str, name: str) -> str:
    folder = ROOT if PURE_V2 else ROOT / controller
    return (folder / "limits/c" / name).read_text().strip()


def created(runtime: Runtime, bundle: Bundle, **resources: Any) -> int:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    done = runtime("create", "-b", wanting(bundle, **resources).path, "c")
    assert done.code == 0, done.err
    return int(runtime.state("c")["pid"])


def refusal(runtime: Runtime, bundle: Bundle, **resources: Any) -> str:
    """The message of a creation that fails; nothing is left of it."""
    before = cgroup_folders()
    done = runtime("create", "-b", wanting(bundle, **resources).path, "c")
    assert done.code == 1
    assert cgroup_folders() == before
    assert runtime("state", "c").code == 1
    return done.err


# By effect


@needs("pids")
def test_one_process_more_than_the_limit_cannot_be_made(runtime: Runtime, limited: Bundle) -> None:
    script = "sleep 1 & sleep 1 & sleep 1 & echo unlimited"
    assert runtime.sh(limited, script, "c").out == "unlimited\n"
    done = runtime.sh(wanting(limited, pids={"limit": 3}), script, "c")
    assert done.out == "" and "can't fork" in done.err


@needs("pids")
@pytest.mark.parametrize("limit", [0, 1])
def test_the_smallest_limits_let_the_program_itself_run(runtime: Runtime, limited: Bundle, limit: int) -> None:
    done = runtime.sh(wanting(limited, pids={"limit": limit}), "echo alone; (echo more); true", "c")
    assert done.out == "alone\n" and "can't fork" in done.err


@needs("memory")
def test_memory_beyond_the_limit_kills(runtime: Runtime, limited: Bundle) -> None:
    script = "head -c 40000000 /dev/zero | tail | wc -c"  # tail keeps the last line, which is all of it
    assert runtime.sh(limited, script, "c").out == "40000000\n"
    swap = {} if PURE_V2 else {"swap": 20 * MIB}
    done = runtime.sh(wanting(limited, memory={"limit": 20 * MIB, **swap}), script, "c")
    assert done.out != "40000000\n"
    assert "Killed" in done.err


@needs("memory")
def test_a_small_limit_never_kills_init(runtime: Runtime, limited: Bundle) -> None:
    """It fits or it does not, depending on what the kernel counts for init by then."""
    limited.config["process"]["args"] = ["/bin/sleep", "1000"]
    done = runtime("create", "-b", wanting(limited, memory={"limit": 65536}).path, "c")
    if done.code == 0:
        assert runtime.state("c")["status"] == "created"
    else:
        assert "in use before the program starts" in done.err


@needs("memory")
def test_a_limit_that_is_too_small_is_an_error_with_the_reason(runtime: Runtime, limited: Bundle) -> None:
    message = refusal(runtime, limited, memory={"limit": 4096})
    assert "/linux/resources/memory/limit" in message
    assert "bytes" in message and "in use before the program starts" in message


@needs("cpu")
def test_a_quota_slows_the_program_but_not_its_creation(runtime: Runtime, limited: Bundle) -> None:
    """1 ms in a second: a creation under that limit would take several seconds."""
    before = time.monotonic()
    created(runtime, limited)
    unlimited = time.monotonic() - before
    assert runtime("delete", "--force", "c").code == 0
    if unlimited > 0.5:
        pytest.skip("an emulated machine: there a millisecond is not enough to end either")
    before = time.monotonic()
    created(runtime, limited, cpu={"quota": 1000, "period": 1000000})
    assert time.monotonic() - before < unlimited + 1
    assert runtime("start", "c").code == 0


@needs("cpuset")
def test_the_program_runs_on_the_cpus_it_may(runtime: Runtime, limited: Bundle) -> None:
    last = max(os.sched_getaffinity(0))
    script = "while read -r name value; do [ $name = Cpus_allowed_list: ] && echo $value; done </proc/self/status"
    done = runtime.sh(wanting(limited, cpu={"cpus": str(last), "mems": "0"}), script, "c")
    assert done.out == f"{last}\n", done.err


# By the files

V1_FILES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (
        "memory",
        {"memory": {"limit": 50 * MIB, "swap": 90 * MIB, "reservation": 30 * MIB, "swappiness": 0}},
        {
            "memory.limit_in_bytes": str(50 * MIB),
            "memory.memsw.limit_in_bytes": str(90 * MIB),
            "memory.soft_limit_in_bytes": str(30 * MIB),
            "memory.swappiness": "0",
        },
    ),
    (
        "memory",
        {"memory": {"kernel": 50 * MIB, "kernelTCP": 40 * MIB}},
        {"memory.kmem.tcp.limit_in_bytes": str(40 * MIB)},
    ),
    ("memory", {"memory": {"disableOOMKiller": True, "useHierarchy": True}}, {"memory.use_hierarchy": "1"}),
    (
        "cpu",
        {"cpu": {"shares": 512, "quota": 5000, "period": 20000, "burst": 3000}},
        {"cpu.shares": "512", "cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "20000", "cpu.cfs_burst_us": "3000"},
    ),
    ("cpu", {"cpu": {"shares": 1024, "idle": 1}}, {"cpu.idle": "1"}),
    ("cpuset", {"cpu": {"cpus": "0", "mems": "0"}}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
    ("pids", {"pids": {"limit": -1}}, {"pids.max": "max"}),
]
V2_FILES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (
        "memory",
        {"memory": {"limit": 50 * MIB, "swap": 90 * MIB, "reservation": 30 * MIB}},
        {"memory.max": str(50 * MIB), "memory.swap.max": str(40 * MIB), "memory.low": str(30 * MIB)},
    ),
    ("memory", {"memory": {"limit": -1}}, {"memory.max": "max"}),
    ("cpu", {"cpu": {"shares": 512, "quota": 5000, "burst": 3000}}, {"cpu.weight": "59", "cpu.max": "5000 100000"}),
    ("cpu", {"cpu": {"shares": 512, "idle": 1}}, {"cpu.idle": "1"}),
    ("cpuset", {"cpu": {"cpus": "0", "mems": "0"}}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
    ("pids", {"pids": {"limit": 77}}, {"pids.max": "77"}),
    (
        "hugetlb",
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
        {"hugetlb.2MB.max": str(4 * MIB), "hugetlb.2MB.rsvd.max": str(4 * MIB)},
    ),
    ("hugetlb", {"unified": {"hugetlb.2MB.max": str(6 * MIB)}}, {"hugetlb.2MB.max": str(6 * MIB)}),
    (
        "memory",
        {"memory": {"limit": 50 * MIB}, "unified": {"memory.max": str(60 * MIB)}},
        {"memory.max": str(60 * MIB)},
    ),
]


@pytest.mark.parametrize(("controller", "resources", "expected"), V2_FILES if PURE_V2 else V1_FILES, ids=str)
def test_the_kernel_has_the_value(
    runtime: Runtime, limited: Bundle, controller: str, resources: dict[str, Any], expected: dict[str, str]
) -> None:
    if not has(controller):
        pytest.skip(f"no controller {controller}")
    created(runtime, limited, **resources)
    assert {name: file(controller, name) for name in expected} == expected


@on_v1
@needs("blkio")
def test_block_devices_are_throttled(runtime: Runtime, limited: Bundle) -> None:
    numbers = [entry.read_text().strip() for entry in Path("/sys/block").glob("*/dev")]
    major, minor = map(int, sorted(numbers)[0].split(":"))
    device = {"major": major, "minor": minor}
    created(
        runtime,
        limited,
        blockIO={
            "throttleReadBpsDevice": [{**device, "rate": 1000}],
            "throttleWriteBpsDevice": [{**device, "rate": 2000}],
            "throttleReadIOPSDevice": [{**device, "rate": 30}],
            "throttleWriteIOPSDevice": [{**device, "rate": 40}],
        },
    )
    for name, rate in (("read_bps", 1000), ("write_bps", 2000), ("read_iops", 30), ("write_iops", 40)):
        assert file("blkio", f"blkio.throttle.{name}_device") == f"{major}:{minor} {rate}"


@on_v1
@needs("cpuset")
def test_new_parents_of_a_cpuset_have_their_parents_values(runtime: Runtime, limited: Bundle) -> None:
    limited.config["linux"]["cgroupsPath"] = "/limits/deep/c"
    created(runtime, limited, cpu={"cpus": "0"})
    all_cpus = (ROOT / "cpuset/cpuset.cpus").read_text()
    assert (ROOT / "cpuset/limits/cpuset.cpus").read_text() == all_cpus
    assert (ROOT / "cpuset/limits/deep/cpuset.cpus").read_text() == all_cpus
    assert (ROOT / "cpuset/limits/deep/c/cpuset.cpus").read_text() == "0\n"


@on_v1
@needs("cpu")
def test_a_budget_for_real_time_goes_through_new_parents(runtime: Runtime, limited: Bundle) -> None:
    budget = ROOT / "cpu/cpu.rt_runtime_us"
    if not budget.exists() or int(budget.read_text()) < 7000:  # it is divided among all, also other runs of the tests
        pytest.skip("no budget for real-time scheduling is left")
    limited.config["linux"]["cgroupsPath"] = "/limits/deep/c"
    created(runtime, limited, cpu={"realtimeRuntime": 7000, "realtimePeriod": 500000})
    for folder in ("limits/deep", "limits/deep/c"):
        assert (ROOT / "cpu" / folder / "cpu.rt_runtime_us").read_text() == "7000\n"
        assert (ROOT / "cpu" / folder / "cpu.rt_period_us").read_text() == "500000\n"


@on_v1
@needs("memory")
@pytest.mark.parametrize(("old", "new"), [((20, 30), (50, 60)), ((50, 60), (20, 30)), ((20, 60), (30, 40))])
def test_limits_that_a_cgroup_has_already_are_raised_and_lowered(
    runtime: Runtime, limited: Bundle, old: tuple[int, int], new: tuple[int, int]
) -> None:
    folder = ROOT / "memory/limits/c"
    folder.mkdir(parents=True)
    try:
        (folder / "memory.limit_in_bytes").write_text(f"{old[0] * MIB}")
        (folder / "memory.memsw.limit_in_bytes").write_text(f"{old[1] * MIB}")
        created(runtime, limited, memory={"limit": new[0] * MIB, "swap": new[1] * MIB})
        assert file("memory", "memory.limit_in_bytes") == f"{new[0] * MIB}"
        assert file("memory", "memory.memsw.limit_in_bytes") == f"{new[1] * MIB}"
    finally:
        runtime("delete", "--force", "c")
        for path in (folder, folder.parent):
            if path.exists():
                path.rmdir()


@needs("pids")
def test_the_limits_hold_from_the_programs_first_moment(runtime: Runtime, limited: Bundle) -> None:
    done = runtime.sh(wanting(limited, pids={"limit": 9}), "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/*/pids.max", "c")
    assert done.out == "9\n"


# Errors


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("cpuset", {"cpu": {"cpus": "4095"}}, "/cpu/cpus", 'write "4095" to'),
    ("cpu", {"cpu": {"quota": 1}}, "/cpu/quota", "at least 1000"),
    ("cpu", {"cpu": {"period": 1}}, "/cpu/period", "Invalid argument ("),
]
if PURE_V2:
    REFUSED += [
        ("hugetlb", {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "/hugepageLimits/0", "page sizes here: "),
        ("", {"unified": {"no.such": "1"}}, "/unified/no.such", "has no no controller"),
        ("", {"network": {"classID": 1}}, "/network/classID", "cgroup v2 has no net_cls controller"),
        ("", {"memory": {"swappiness": 1}}, "/memory/swappiness", "cgroup v2 has no"),
    ]
else:
    NO_DEVICE = {"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 1}]}
    REFUSED += [
        ("memory", {"memory": {"useHierarchy": False}}, "/memory/useHierarchy", "since Linux 5.11"),
        ("memory", {"memory": {"swap": 50 * MIB}}, "/memory/swap", "cannot be below the memory limit"),
        ("cpu", {"cpu": {"shares": 1}}, "/cpu/shares", "expected 2 to 262144"),
        ("cpu", {"cpu": {"realtimeRuntime": 1 << 40}}, "/cpu/realtimeRuntime", "cpu.rt_runtime_us: "),
        ("blkio", {"blockIO": {"leafWeight": 10}}, "/blockIO/leafWeight", "gone since Linux 5.0"),
        ("blkio", {"blockIO": NO_DEVICE}, "/blockIO/throttleReadBpsDevice/0", 'write "4000:0 1" to'),
        (
            "",
            {"rdma": {"no-such": {"hcaHandles": 1}}},
            "/rdma/no-such",
            "no such RDMA device" if has("rdma") else "no rdma",
        ),
    ]
if not PURE_V2 and not (ROOT / "unified").exists():
    REFUSED.append(("", {"unified": {"memory.max": "1"}}, "/unified/memory.max", "this host has no cgroup v2"))


@pytest.mark.parametrize(("controller", "resources", "pointer", "words"), REFUSED, ids=str)
def test_what_the_kernel_or_the_host_refuses_is_named(
    runtime: Runtime, limited: Bundle, controller: str, resources: dict[str, Any], pointer: str, words: str
) -> None:
    if controller and not has(controller):
        pytest.skip(f"no controller {controller}")
    message = refusal(runtime, limited, **resources)
    assert f"/linux/resources{pointer}: " in message
    assert words in message


@on_v2
def test_a_controller_that_is_not_there_is_named(runtime: Runtime, limited: Bundle) -> None:
    if has("memory"):
        pytest.skip("there is a memory controller")
    message = refusal(runtime, limited, memory={"limit": 50 * MIB})
    assert "/linux/resources/memory/limit: this host has no memory controller (see /sys/fs/cgroup/" in message


@pytest.mark.parametrize("empty", [{}, None])
def test_empty_resources_ask_for_nothing(runtime: Runtime, limited: Bundle, empty: dict[str, Any] | None) -> None:
    names = ("memory", "cpu", "pids", "blockIO", "network", "rdma", "unified", "hugepageLimits")
    resources: dict[str, Any] = dict.fromkeys(names, empty)
    resources["hugepageLimits"] = None if empty is None else []
    done = runtime.sh(wanting(limited, **resources), "echo fine", "c")
    assert (done.out, done.err) == ("fine\n", "")
