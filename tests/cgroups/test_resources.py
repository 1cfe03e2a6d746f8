"""linux.resources → files and values: on v1, on v2 and between, without any cgroup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroups.block_io import io_weight
from ocirt.cgroups.cpu import weight
from ocirt.cgroups.resources import Resources
from ocirt.cgroups.setting import Setting, apply
from ocirt.errors import ConfigError, KernelError

Compile = Callable[[dict[str, Any]], Resources]
V1 = ("cpuset", "cpu,cpuacct", "memory", "pids", "blkio", "hugetlb", "net_cls,net_prio", "rdma")


@pytest.fixture
def v1(tmp_path: Path) -> Compile:
    """All controllers, some in one hierarchy."""
    places = [(name, tuple(name.split(",")), False, str(tmp_path), f"{tmp_path}/{name}/c") for name in V1]
    return lambda wanted: Resources(places, wanted)


@pytest.fixture
def v2(tmp_path: Path) -> Compile:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    return lambda wanted: Resources([("", (), True, str(tmp_path), f"{tmp_path}/c")], wanted)


@pytest.fixture
def hybrid(tmp_path: Path) -> Compile:
    """Memory on v1, huge pages on v2."""
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    places = [
        ("memory", ("memory",), False, str(tmp_path), f"{tmp_path}/memory/c"),
        ("unified", (), True, str(tmp_path), f"{tmp_path}/c"),
    ]
    return lambda wanted: Resources(places, wanted)


def written(resources: Resources) -> dict[str, str]:
    """File → value, in the order of writing; a file that is written twice has both."""
    found: dict[str, str] = {}
    for one in [*resources.early, *resources.late, *resources.unified]:
        found[one.file] = f"{found[one.file]}; {one.value}" if one.file in found else one.value
    return found


BOTH: list[tuple[dict[str, Any], dict[str, str], dict[str, str]]] = [
    # resources, what v1 gets, what v2 gets
    ({"memory": {"limit": 1000}}, {"memory.limit_in_bytes": "1000"}, {"memory.max": "1000"}),
    ({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, {}, {}),
    (
        {"memory": {"limit": 1000, "swap": 3000}},
        {"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "3000"},
        {"memory.swap.max": "2000", "memory.max": "1000"},
    ),
    (
        {"memory": {"limit": 1000, "swap": 1000}},
        {"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "1000"},
        {"memory.swap.max": "0", "memory.max": "1000"},
    ),
    (
        {"memory": {"limit": -1}},
        {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"},
        {"memory.swap.max": "max", "memory.max": "max"},
    ),
    (
        {"memory": {"limit": 5, "swap": -1, "reservation": -1}},
        {"memory.limit_in_bytes": "5", "memory.memsw.limit_in_bytes": "-1", "memory.soft_limit_in_bytes": "-1"},
        {"memory.swap.max": "max", "memory.max": "5", "memory.low": "max"},
    ),
    ({"memory": {"reservation": 7}}, {"memory.soft_limit_in_bytes": "7"}, {"memory.low": "7"}),
    ({"memory": {"disableOOMKiller": False}}, {"memory.oom_control": "0"}, {}),
    ({"memory": {"useHierarchy": True}}, {"memory.use_hierarchy": "1"}, {}),
    ({"memory": {"checkBeforeUpdate": True}}, {}, {}),
    ({"memory": {"kernelTCP": 9}}, {"memory.kmem.tcp.limit_in_bytes": "9"}, {}),
    ({"cpu": {"shares": 1024}}, {"cpu.shares": "1024"}, {"cpu.weight": "100"}),
    ({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "realtimePeriod": 0}}, {}, {}),
    ({"cpu": {"quota": 5000}}, {"cpu.cfs_quota_us": "5000"}, {"cpu.max": "5000 100000"}),
    ({"cpu": {"period": 5000}}, {"cpu.cfs_period_us": "5000"}, {"cpu.max": "max 5000"}),
    (
        {"cpu": {"quota": -1, "period": 5000}},
        {"cpu.cfs_period_us": "5000", "cpu.cfs_quota_us": "-1"},
        {"cpu.max": "max 5000"},
    ),
    (
        {"cpu": {"quota": 5000, "burst": 100}},
        {"cpu.cfs_quota_us": "5000", "cpu.cfs_burst_us": "100"},
        {"cpu.max": "5000 100000", "cpu.max.burst": "100"},
    ),
    ({"cpu": {"idle": 0, "shares": 2}}, {"cpu.shares": "2", "cpu.idle": "0"}, {"cpu.weight": "1", "cpu.idle": "0"}),
    ({"cpu": {"idle": 1, "shares": 2}}, {"cpu.idle": "1"}, {"cpu.idle": "1"}),
    ({"cpu": {"cpus": "0-1", "mems": "0"}}, *([{"cpuset.cpus": "0-1", "cpuset.mems": "0"}] * 2)),
    ({"pids": {"limit": 0}}, {"pids.max": "0"}, {"pids.max": "0"}),
    ({"pids": {"limit": -1}}, {"pids.max": "max"}, {"pids.max": "max"}),
    ({"pids": {"limit": 7}}, {"pids.max": "7"}, {"pids.max": "7"}),
    ({"pids": {"limit": None}}, {}, {}),
    ({"blockIO": {"weight": 0}}, {}, {}),
    ({"blockIO": {"weight": 500}}, {"blkio.bfq.weight": "500"}, {"io.bfq.weight": "500"}),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 100}]}},
        {"blkio.bfq.weight_device": "8:16 100"},
        {"io.bfq.weight": "8:16 100"},
    ),
    (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 1, "rate": 2}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
            }
        },
        {"blkio.throttle.read_bps_device": "8:0 1; 8:1 2", "blkio.throttle.write_iops_device": "8:0 0"},
        {"io.max": "8:0 rbps=1 wiops=max; 8:1 rbps=2"},
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
        {"hugetlb.2MB.limit_in_bytes": "4", "hugetlb.2MB.rsvd.limit_in_bytes": "4"},
        {"hugetlb.2MB.max": "4", "hugetlb.2MB.rsvd.max": "4"},
    ),
    (
        {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "rxe3": {"hcaObjects": 0}}},
        *([{"rdma.max": "mlx5_1 hca_handle=3 hca_object=10; rxe3 hca_object=0"}] * 2),
    ),
    ({name: {} for name in ("cpu", "memory", "pids", "blockIO", "network", "rdma", "unified")}, {}, {}),
]


@pytest.mark.parametrize(("wanted", "expected"), [(wanted, on_v1) for wanted, on_v1, _ in BOTH], ids=str)
def test_what_v1_is_told(v1: Compile, wanted: dict[str, Any], expected: dict[str, str]) -> None:
    assert list(written(v1(wanted)).items()) == list(expected.items())


@pytest.mark.parametrize(("wanted", "expected"), [(wanted, on_v2) for wanted, _, on_v2 in BOTH], ids=str)
def test_what_v2_is_told(v2: Compile, wanted: dict[str, Any], expected: dict[str, str]) -> None:
    assert list(written(v2(wanted)).items()) == list(expected.items())


ONLY_V1: list[tuple[dict[str, Any], dict[str, str], str]] = [
    # resources, what v1 gets, what v2 says
    ({"memory": {"swappiness": 0}}, {"memory.swappiness": "0"}, "/memory/swappiness: cgroup v2 has no"),
    ({"memory": {"disableOOMKiller": True}}, {"memory.oom_control": "1"}, "/memory/disableOOMKiller: cgroup v2 cannot"),
    ({"memory": {"useHierarchy": False}}, {"memory.use_hierarchy": "0"}, "/memory/useHierarchy: cgroup v2 always"),
    (
        {"cpu": {"realtimeRuntime": 5, "realtimePeriod": 9}},
        {"cpu.rt_period_us": "9", "cpu.rt_runtime_us": "5"},
        "/cpu/realtimePeriod: cgroup v2 has no budget",
    ),
    ({"blockIO": {"leafWeight": 10}}, {"blkio.leaf_weight": "10"}, "/blockIO/leafWeight: cgroup v2 has no"),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}},
        {"blkio.leaf_weight_device": "8:0 10"},
        "/blockIO/weightDevice/0/leafWeight: cgroup v2 has no",
    ),
    ({"network": {"classID": 5}}, {"net_cls.classid": "5"}, "/network/classID: cgroup v2 has no net_cls"),
    (
        {"network": {"priorities": [{"name": "lo", "priority": 5}, {"name": "eth0", "priority": 6}]}},
        {"net_prio.ifpriomap": "lo 5; eth0 6"},
        "/network/priorities/0: cgroup v2 has no net_prio",
    ),
    ({"memory": {"swap": 9}}, {"memory.memsw.limit_in_bytes": "9"}, "/memory/swap: swap is memory and swap together"),
]


@pytest.mark.parametrize(("wanted", "expected", "refusal"), ONLY_V1, ids=str)
def test_what_only_v1_has_is_refused_on_v2(
    v1: Compile, v2: Compile, wanted: dict[str, Any], expected: dict[str, str], refusal: str
) -> None:
    assert list(written(v1(wanted)).items()) == list(expected.items())
    with pytest.raises(ConfigError) as caught:
        v2(wanted)
    assert str(caught.value).startswith(f"/linux/resources{refusal}")


def test_unified_goes_last_and_line_by_line(v2: Compile, v1: Compile) -> None:
    wanted = {"unified": {"memory.high": "5", "x.y": "a\nb\n"}, "memory": {"limit": 9}, "pids": {"limit": 1}}
    resources = v2(wanted)
    assert list(written(resources)) == ["memory.max", "pids.max", "memory.high", "x.y"]
    with pytest.raises(ConfigError, match=r"/linux/resources/unified/memory\.high: this host has no cgroup v2"):
        v1(wanted)


def test_a_hybrid_host_has_each_controller_where_it_is(hybrid: Compile, tmp_path: Path) -> None:
    resources = hybrid(
        {
            "memory": {"limit": 9},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "unified": {"hugetlb.1GB.max": "0"},
        }
    )
    assert [f"{one.folder}/{one.file}" for one in [*resources.late, *resources.unified]] == [
        f"{tmp_path}/memory/c/memory.limit_in_bytes",
        f"{tmp_path}/c/hugetlb.2MB.max",
        f"{tmp_path}/c/hugetlb.2MB.rsvd.max",
        f"{tmp_path}/c/hugetlb.1GB.max",
    ]


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        ({"cpu": {"quota": 5000}}, "/cpu/quota: this host has no cpu controller (mount it"),
        ({"cpu": {"cpus": "0"}}, "/cpu/cpus: this host has no cpuset controller"),
        ({"pids": {"limit": 0}}, "/pids/limit: this host has no pids controller"),
        ({"blockIO": {"weight": 10}}, "/blockIO/weight: this host has no blkio controller"),
        ({"network": {"classID": 1}}, "/network/classID: this host has no net_cls controller"),
        ({"rdma": {"a~b": {"hcaHandles": 1}}}, "/rdma/a~0b: this host has no rdma controller"),
    ],
)
def test_a_controller_that_the_host_has_not_is_refused(hybrid: Compile, wanted: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hybrid(wanted)
    assert str(caught.value).startswith(f"/linux/resources{refusal}")


def test_values_that_are_the_kernels_own_need_no_controller(hybrid: Compile) -> None:
    nothing = {
        "cpu": {"shares": 1024, "burst": 0, "idle": 0, "quota": -1},
        "pids": {"limit": -1},
        "blockIO": {"weight": 0},
    }
    assert written(hybrid(nothing | {"network": {"classID": 0, "priorities": []}})) == {}


def test_obsolete_kernel_limits_are_warned_of(v1: Compile, v2: Compile) -> None:
    assert v1({"memory": {"kernel": 5, "kernelTCP": 5}}).warnings == [
        "/linux/resources/memory/kernel: deprecated: kernels since 5.16 do not limit it"
    ]
    assert [text.partition(": ")[0] for text in v2({"memory": {"kernel": 5, "kernelTCP": 5}}).warnings] == [
        "/linux/resources/memory/kernel",
        "/linux/resources/memory/kernelTCP",
    ]
    assert v2({"memory": {"kernel": 0}}).warnings == []


@pytest.mark.parametrize("shares", [1, 262145, 2**64 - 1])
def test_shares_beyond_v1s_range_are_refused_there_and_bounded_on_v2(v1: Compile, v2: Compile, shares: int) -> None:
    with pytest.raises(ConfigError, match="expected 2 to 262144"):
        v1({"cpu": {"shares": shares}})
    assert written(v2({"cpu": {"shares": shares}})) == {"cpu.weight": "1" if shares == 1 else "10000"}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        *((1, 1), (2, 1), (3, 2), (10, 4), (100, 17), (256, 35), (512, 59), (1024, 100), (2048, 174), (10240, 639)),
        *((262143, 10000), (262144, 10000), (300000, 10000)),
    ],
)
def test_shares_become_a_weight_by_the_curve(shares: int, expected: int) -> None:
    assert weight(shares) == expected


def test_more_shares_are_never_less_weight() -> None:
    weights = [weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)


@pytest.mark.parametrize(("v1_weight", "expected"), [(1, 1), (10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_block_weights_become_io_weights(v1_weight: int, expected: int) -> None:
    assert io_weight(v1_weight) == expected


# Writing


def setting(folder: Path, file: str, value: object, **how: Any) -> Setting:
    made = Setting(f"/linux/resources/{file}", file, value, **how)
    made.folder = str(folder)
    return made


def test_a_file_that_is_missing_has_another_name_or_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    apply(
        [
            setting(tmp_path, "new", 1, instead=("old", "2")),
            setting(tmp_path, "absent", 0, default=True),
            setting(tmp_path, "gone", 5, obsolete=True),
        ]
    )
    assert (tmp_path / "old").read_text() == "2"
    with pytest.raises(KernelError) as caught:
        apply([setting(tmp_path, "absent", 1)])
    assert str(caught.value) == (
        f'/linux/resources/absent: write "1" to {tmp_path}/absent: No such file or directory '
        "(this kernel has no such file)"
    )


def test_a_limit_below_what_is_in_use_is_refused_before_it_kills(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.max").write_text("")
    apply([setting(tmp_path, "memory.max", 5000, beyond="memory.current")])
    with pytest.raises(KernelError, match="less than the 5000 bytes that are in use"):
        apply([setting(tmp_path, "memory.max", 4999, beyond="memory.current")])
    assert (tmp_path / "memory.max").read_text() == "5000"
