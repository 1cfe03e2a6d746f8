"""cgroups.stats: recorded files of the kernel → runc's JSON, on v1, on v2 and where both have something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroups.folder import UNLIMITED, Folder, keyed, ranges
from ocirt.cgroups.stats import cgroup_stats

Place = tuple[str, tuple[str, ...], bool, str, str]
NO_LIMIT = "9223372036854771712"

CPU = {
    "cpu.stat": "nr_periods 12\nnr_throttled 5\nthrottled_time 230000\nnr_bursts 2\nburst_time 7000\n",
    "cpu.idle": "1\n",
}
CPUACCT = {
    "cpuacct.usage": "18685299\n",
    "cpuacct.usage_percpu": "15443893 3241406 \n",
    "cpuacct.usage_all": "cpu user system\n0 443893 15000000\n1 41406 3200000\n",
    "cpuacct.stat": "user 3\nsystem 15\n",
}
CPUSET = {
    "cpuset.cpus": "0-1,4\n",
    "cpuset.mems": "0\n",
    "cpuset.cpu_exclusive": "1\n",
    "cpuset.sched_load_balance": "1\n",
    "cpuset.sched_relax_domain_level": "-1\n",
}
MEMORY = {
    "memory.stat": "cache 4096\nrss 49152\nhierarchical_memory_limit 52428800\ntotal_shmem -8\n",
    "memory.usage_in_bytes": "692224\n",
    "memory.max_usage_in_bytes": "2490368\n",
    "memory.failcnt": "3\n",
    "memory.limit_in_bytes": "52428800\n",
    "memory.kmem.usage_in_bytes": "466944\n",
    "memory.kmem.max_usage_in_bytes": "655360\n",
    "memory.kmem.failcnt": "0\n",  # and no limit: newer kernels have none
    "memory.kmem.tcp.usage_in_bytes": "0\n",
    "memory.kmem.tcp.max_usage_in_bytes": "0\n",
    "memory.kmem.tcp.failcnt": "0\n",
    "memory.kmem.tcp.limit_in_bytes": NO_LIMIT + "\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
}
PIDS = {"pids.current": "7\n", "pids.max": "max\n", "pids.peak": "9\n"}
BLKIO = {
    "blkio.bfq.io_serviced_recursive": "Total 0\n",
    "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio.throttle.io_serviced_recursive": "8:0 Read 2\n8:0 Write 0\n8:0 Discard 1\n8:0 Total 3\nTotal 3\n",
    "blkio.throttle.io_service_bytes_recursive": "8:16 Read 8192\nTotal 8192\n",
}
HUGETLB = {
    "hugetlb.2MB.usage_in_bytes": "2097152\n",
    "hugetlb.2MB.max_usage_in_bytes": "2097152\n",
    "hugetlb.2MB.failcnt": "1\n",
    "hugetlb.1GB.usage_in_bytes": "5\n",
    "hugetlb.1GB.rsvd.usage_in_bytes": "1073741824\n",
    "hugetlb.1GB.rsvd.max_usage_in_bytes": "2147483648\n",
    "hugetlb.1GB.rsvd.failcnt": "0\n",
}
RDMA = {
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=20\nocrdma1 hca_handle=0 hca_object=0\n",
    "rdma.max": "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n",
}
MISC = {"misc.current": "res_a 3\n", "misc.max": "res_a max\n", "misc.events": "res_a.max 2\n"}
PRESSURE = (
    "some avg10=0.50 avg60=1.51 avg300=1.45 total=10150459\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=123456789\n"
)
PSI = {
    "some": {"avg10": 0.5, "avg60": 1.51, "avg300": 1.45, "total": 10150459},
    "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 123456789},
}
V2 = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    "cpu.stat": (
        "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\nnice_usec 5\ncore_sched.force_idle_usec 6\nnr_periods 9\n"
        "nr_throttled 4\nthrottled_usec 777\nnr_bursts 1\nburst_usec 20\n"
    ),
    "cpu.idle": "0\n",
    "cpu.pressure": PRESSURE,
    "cpuset.cpus.effective": "0-3\n",
    "cpuset.mems.effective": "0\n",
    "memory.stat": "anon 1000\nfile 8192\nkernel 77\n",
    "memory.current": "300000\n",
    "memory.max": "1000000\n",
    "memory.peak": "600000\n",
    "memory.swap.current": "50000\n",
    "memory.swap.max": "2000000\n",
    "memory.swap.peak": "70000\n",
    "memory.swap.events": "high 0\nmax 6\nfail 1\n",
    "memory.events": "low 0\nhigh 1\nmax 22\noom 3\noom_kill 2\noom_group_kill 0\n",
    "memory.pressure": PRESSURE,
    "pids.current": "3\n",
    "pids.max": "0\n",
    "pids.peak": "5\n",
    "io.stat": (
        "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=512 dios=1 cost.usage=3\n"
        "8:16 \n"
        "(unknown) rbytes=1 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n"
        "253:1 rbytes=0 wbytes=65536 rios=0 wios=16 dbytes=0 dios=0\n"
    ),
    "io.pressure": PRESSURE,
    "hugetlb.2MB.current": "1\n",
    "hugetlb.2MB.rsvd.current": "4194304\n",
    "hugetlb.2MB.events": "max 8\n",
    "rdma.current": "mlx4_0 hca_handle=1 hca_object=1\n",
    "rdma.max": "mlx4_0 hca_handle=max hca_object=max\n",
    "misc.current": "sev 1\nsev_es 0\n",
    "misc.max": "sev max\nsev_es 10\n",
    "misc.peak": "sev 2\nsev_es 0\n",
    "misc.events": "sev.max 0\nsev_es.max 3\n",
}
NO_CPUSET = dict.fromkeys(
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab memory_pressure"
    " sched_load_balance sched_relax_domain_level".split(),
    0,
)


def place(root: Path, name: str, files: dict[str, str], *, v2: bool = False) -> Place:
    """A hierarchy, with the container's cgroup in it."""
    folder = root / name / "c"
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_text(content)
    controllers = () if v2 else tuple(name.split(","))
    return (name, controllers, v2, str(root / name), str(folder))


def test_every_v1_controller(tmp_path: Path) -> None:
    places = [
        place(tmp_path, "cpu,cpuacct", {**CPU, **CPUACCT}),
        place(tmp_path, "cpuset", CPUSET),
        place(tmp_path, "memory", MEMORY),
        place(tmp_path, "pids", PIDS),
        place(tmp_path, "blkio", BLKIO),
        place(tmp_path, "hugetlb", HUGETLB),
        place(tmp_path, "rdma", RDMA),
        place(tmp_path, "misc", MISC),
    ]
    assert cgroup_stats(places) == {
        "cpu": {
            "usage": {
                "total": 18685299,
                "percpu": [15443893, 3241406],
                "percpu_kernel": [15000000, 3200000],
                "percpu_user": [443893, 41406],
                "kernel": 150_000_000,
                "user": 30_000_000,
            },
            "throttling": {"periods": 12, "throttledPeriods": 5, "throttledTime": 230000},
            "burst": {"periods": 2, "time": 7000},
            "idle": 1,
        },
        "cpuset": {
            **NO_CPUSET,
            "cpus": [0, 1, 4],
            "mems": [0],
            "cpu_exclusive": 1,
            "sched_load_balance": 1,
            "sched_relax_domain_level": -1,
        },
        "memory": {
            "cache": 4096,
            "usage": {"limit": 52428800, "usage": 692224, "max": 2490368, "failcnt": 3},
            "kernel": {"limit": 0, "usage": 466944, "max": 655360, "failcnt": 0},
            "kernelTCP": {"limit": int(NO_LIMIT), "failcnt": 0},
            "raw": {"cache": 4096, "rss": 49152, "hierarchical_memory_limit": 52428800, "total_shmem": 0},
            "events": {"oom_kill_disable": 0, "under_oom": 0, "oom_kill": 4},
        },
        "pids": {"current": 7, "peak": 9},
        "blkio": {
            "ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 2},
                {"major": 8, "op": "Write"},
                {"major": 8, "op": "Discard", "value": 1},
                {"major": 8, "op": "Total", "value": 3},
            ],
            "ioServiceBytesRecursive": [{"major": 8, "minor": 16, "op": "Read", "value": 8192}],
        },
        "hugetlb": {
            "1GB": {"usage": 1073741824, "max": 2147483648, "failcnt": 0},
            "2MB": {"usage": 2097152, "max": 2097152, "failcnt": 1},
        },
        "rdma": {
            "current": [
                {"device": "mlx4_0", "hca_handles": 2, "hca_objects": 20},
                {"device": "ocrdma1", "hca_handles": 0, "hca_objects": 0},
            ],
            "limit": [
                {"device": "mlx4_0", "hca_handles": 2, "hca_objects": 2000},
                {"device": "ocrdma1", "hca_handles": 3, "hca_objects": 4294967295},
            ],
        },
        "misc": {"res_a": {"usage": 3, "limit": UNLIMITED, "events": 2}},
    }


def test_every_v2_controller(tmp_path: Path) -> None:
    assert cgroup_stats([place(tmp_path, "", V2, v2=True)]) == {
        "cpu": {
            "usage": {"total": 1234000, "kernel": 234000, "user": 1000000, "nice": 5000, "forceIdle": 6000},
            "throttling": {"periods": 9, "throttledPeriods": 4, "throttledTime": 777000},
            "burst": {"periods": 1, "time": 20000},
            "psi": PSI,
        },
        "cpuset": {**NO_CPUSET, "cpus": [0, 1, 2, 3], "mems": [0]},
        "memory": {
            "cache": 8192,
            "usage": {"limit": 1000000, "usage": 300000, "max": 600000, "failcnt": 22},
            "swap": {"limit": 3000000, "usage": 350000, "failcnt": 6},
            "swapOnly": {"limit": 2000000, "usage": 50000, "max": 70000, "failcnt": 6},
            "raw": {"anon": 1000, "file": 8192, "kernel": 77},
            "events": {"low": 0, "high": 1, "max": 22, "oom": 3, "oom_kill": 2, "oom_group_kill": 0},
            "psi": PSI,
        },
        "pids": {"current": 3, "limit": 0, "peak": 5},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 4096},
                {"major": 8, "op": "Write"},
                {"major": 8, "op": "Discard", "value": 512},
                {"major": 253, "minor": 1, "op": "Read"},
                {"major": 253, "minor": 1, "op": "Write", "value": 65536},
                {"major": 253, "minor": 1, "op": "Discard"},
            ],
            "ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 1},
                {"major": 8, "op": "Write"},
                {"major": 8, "op": "Discard", "value": 1},
                {"major": 253, "minor": 1, "op": "Read"},
                {"major": 253, "minor": 1, "op": "Write", "value": 16},
                {"major": 253, "minor": 1, "op": "Discard"},
            ],
            "psi": PSI,
        },
        "hugetlb": {"2MB": {"usage": 4194304, "failcnt": 8}},
        "rdma": {
            "current": [{"device": "mlx4_0", "hca_handles": 1, "hca_objects": 1}],
            "limit": [{"device": "mlx4_0", "hca_handles": 4294967295, "hca_objects": 4294967295}],
        },
        "misc": {
            "sev": {"usage": 1, "limit": UNLIMITED, "max": 2, "events": 0},
            "sev_es": {"usage": 0, "limit": 10, "max": 0, "events": 3},
        },
    }


ENTRY = dict.fromkeys(("limit", "usage", "max", "failcnt"), int)
IO_ENTRY = [{"major": int, "minor": int, "op": str, "value": int}]
GO_RUNC: dict[str, Any] = {
    "cpu": {
        "usage": {"total": int, "percpu": [int], "kernel": int, "user": int},
        "throttling": {"periods": int, "throttledPeriods": int, "throttledTime": int},
    },
    "memory": {
        "cache": int,
        **dict.fromkeys(("usage", "swap", "kernel", "kernelTCP"), ENTRY),
        "raw": {"": int},
    },
    "pids": {"current": int, "limit": int},
    "blkio": dict.fromkeys(
        "ioServiceBytesRecursive ioServicedRecursive ioQueueRecursive ioServiceTimeRecursive ioWaitTimeRecursive"
        " ioMergedRecursive ioTimeRecursive sectorsRecursive".split(),
        IO_ENTRY,
    ),
    "hugetlb": {"": {"usage": int, "max": int, "failcnt": int}},
}
"""What containerd's go-runc decodes; "" stands for any key. Its numbers are uint64: what is not is an error to it."""


def undecodable(value: Any, shape: Any, where: str = "") -> list[str]:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [where]
        known = {key: shape.get(key, shape.get("")) for key in value}
        return [bad for key in value if known[key] for bad in undecodable(value[key], known[key], f"{where}/{key}")]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [where]
        return [bad for item in value for bad in undecodable(item, shape[0], where + "/-")]
    fits = type(value) is shape and (shape is str or 0 <= value < 2**64)
    return [] if fits else [where]


@pytest.mark.parametrize("v2", [False, True])
def test_go_runc_can_decode_it(tmp_path: Path, v2: bool) -> None:
    if v2:
        places = [place(tmp_path, "", V2, v2=True)]
    else:
        v1 = {"cpu": CPU, "cpuacct": CPUACCT, "memory": MEMORY, "pids": PIDS, "blkio": {**BLKIO, **BFQ}}
        places = [place(tmp_path, name, files) for name, files in {**v1, "hugetlb": HUGETLB}.items()]
    data = cgroup_stats(places)
    assert undecodable(data, GO_RUNC) == []
    data["memory"]["raw"]["x"] = -1
    data["pids"]["current"] = 1.5
    assert undecodable(data, GO_RUNC) == ["/memory/raw/x", "/pids/current"]  # that is: this test can fail


@pytest.mark.parametrize(("limit", "swap"), [("max", "max"), ("max", "1000"), ("1000", "max")])
def test_without_a_limit_memory_and_swap_together_have_none(tmp_path: Path, limit: str, swap: str) -> None:
    """runc adds the two, and 2**64 - 1 and 1000 are 999 to it."""
    files = {**V2, "memory.max": limit + "\n", "memory.swap.max": swap + "\n"}
    memory = cgroup_stats([place(tmp_path, "", files, v2=True)])["memory"]
    assert memory["swap"]["limit"] == UNLIMITED
    assert memory["usage"]["limit"] == (UNLIMITED if limit == "max" else 1000)


def test_on_a_hybrid_host_each_controller_counts_where_it_is(tmp_path: Path) -> None:
    unified = {
        "cgroup.controllers": "hugetlb\n",
        "cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
        **{name: V2[name] for name in V2 if name.startswith("hugetlb.") or name.endswith(".pressure")},
    }
    places = [
        place(tmp_path, "memory", MEMORY),
        place(tmp_path, "cpuacct", CPUACCT),
        place(tmp_path, "cpu", CPU),
        place(tmp_path, "unified", unified, v2=True),
    ]
    data = cgroup_stats(places)
    assert data["cpu"]["usage"]["total"] == 18685299
    assert data["cpu"]["throttling"]["periods"] == 12
    assert data["memory"]["events"]["oom_kill"] == 4
    assert data["hugetlb"] == {"2MB": {"usage": 4194304, "failcnt": 8}}
    assert data["cpu"]["psi"] == data["memory"]["psi"] == data["blkio"]["psi"] == PSI


def test_the_v2_tree_counts_cpu_time_where_no_v1_hierarchy_does(tmp_path: Path) -> None:
    unified = {"cgroup.controllers": "\n", "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\n"}
    places = [place(tmp_path, "cpu", CPU), place(tmp_path, "unified", unified, v2=True)]
    cpu = cgroup_stats(places)["cpu"]
    assert cpu["usage"] == {"total": 7000, "kernel": 3000, "user": 4000}
    assert cpu["throttling"]["throttledTime"] == 230000


def test_a_kernel_with_the_least_of_files(tmp_path: Path) -> None:
    """Neither peaks nor swap nor pressure; nothing is made up."""
    least = "cpu.stat memory.stat memory.current memory.max pids.current pids.max".split()
    files = {name: V2[name] for name in least} | {"cgroup.controllers": "cpu memory pids io hugetlb\n"}
    data = cgroup_stats([place(tmp_path, "", files, v2=True)])
    assert data["pids"] == {"current": 3, "limit": 0}
    assert data["memory"]["usage"] == {"limit": 1000000, "usage": 300000, "failcnt": 0}
    assert set(data["memory"]) == {"cache", "usage", "raw"}
    assert (data["blkio"], data["hugetlb"]) == ({}, {})
    assert "psi" not in data["cpu"]


def test_processes_are_counted_where_no_controller_does(tmp_path: Path) -> None:
    unified = {"cgroup.controllers": "\n", "cpu.stat": "usage_usec 1\n", "cgroup.procs": "12\n13\n"}
    assert cgroup_stats([place(tmp_path, "", unified, v2=True)])["pids"] == {"current": 2}


BFQ = {
    f"blkio.bfq.{name}": f"8:0 {value}\n" for value, name in enumerate("sectors_recursive time_recursive".split(), 1)
} | {
    f"blkio.bfq.{name}": f"8:0 Sync {value}\nTotal {value}\n"
    for value, name in enumerate(
        "io_service_time_recursive io_wait_time_recursive io_merged_recursive io_queued_recursive"
        " io_serviced_recursive io_service_bytes_recursive".split(),
        3,
    )
}


def test_the_io_schedulers_own_counts_come_first(tmp_path: Path) -> None:
    def operation(value: int) -> list[dict[str, Any]]:
        return [{"major": 8, "op": "Sync", "value": value}]

    assert cgroup_stats([place(tmp_path, "blkio", {**BLKIO, **BFQ})])["blkio"] == {
        "sectorsRecursive": [{"major": 8, "value": 1}],
        "ioTimeRecursive": [{"major": 8, "value": 2}],
        "ioServiceTimeRecursive": operation(3),
        "ioWaitTimeRecursive": operation(4),
        "ioMergedRecursive": operation(5),
        "ioQueueRecursive": operation(6),
        "ioServicedRecursive": operation(7),
        "ioServiceBytesRecursive": operation(8),
    }


def test_io_that_only_the_cgroup_itself_counts(tmp_path: Path) -> None:
    files = {"blkio.throttle.io_serviced": "8:0 Read 1\n", "blkio.throttle.io_service_bytes": "8:0 Read 512\n"}
    assert set(cgroup_stats([place(tmp_path, "blkio", files)])["blkio"]) == {
        "ioServicedRecursive",
        "ioServiceBytesRecursive",
    }


# A cgroup that is gone


@pytest.mark.parametrize(("name", "v2"), [("memory", False), ("pids", False), ("unified", True)])
def test_a_cgroup_that_is_gone_is_named(tmp_path: Path, name: str, v2: bool) -> None:
    one = place(tmp_path, name, {}, v2=v2)
    with pytest.raises(FileNotFoundError) as caught:  # the folder is there, and nothing in it: removed in this moment
        cgroup_stats([one])
    assert caught.value.filename == one[4]
    Path(one[4]).rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        cgroup_stats([one])
    assert caught.value.filename == one[4]


def test_what_counts_nothing_is_not_looked_at(tmp_path: Path) -> None:
    gone = [
        ("freezer", ("freezer",), False, "/nowhere", "/nowhere/c"),
        ("systemd", ("name=systemd",), False, "", "/no"),
    ]
    assert cgroup_stats([*gone, place(tmp_path, "pids", PIDS)])["pids"]["current"] == 7


# Reading


def test_a_file_longer_than_a_page_is_read_whole(tmp_path: Path) -> None:
    lines = "".join(f"a_long_name_of_a_counter_{number} {number}\n" for number in range(1000))
    (tmp_path / "memory.stat").write_text(lines)
    with Folder(str(tmp_path)) as folder:
        assert folder.pairs("memory.stat")["a_long_name_of_a_counter_999"] == 999


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    cgroup_stats([place(tmp_path, "", V2, v2=True), place(tmp_path, "memory", MEMORY)])
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_file_that_cannot_be_read_is_an_error_and_no_zero(tmp_path: Path) -> None:
    one = place(tmp_path, "pids", PIDS)
    (Path(one[4]) / "pids.peak").unlink()
    (Path(one[4]) / "pids.peak").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        cgroup_stats([one])
    assert caught.value.filename == f"{one[4]}/pids.peak"


@pytest.mark.parametrize(
    ("text", "expected"), [("\n", []), ("3\n", [3]), ("0-2,5,8-9\n", [0, 1, 2, 5, 8, 9])], ids=["none", "one", "many"]
)
def test_lists_of_cpus(text: str, expected: list[int]) -> None:
    assert ranges(text.encode()) == expected


def test_values_that_are_none_are_left_out() -> None:
    assert keyed(b"8:0 rbytes=1 odd\n8:16\n") == {"8:0": {"rbytes": "1"}}
    assert keyed(None) == {}


def test_the_whole_is_json(tmp_path: Path) -> None:
    from ocirt.state.document import dumps

    data = cgroup_stats([place(tmp_path, "", V2, v2=True)])
    assert json.loads(dumps(data)) == data
