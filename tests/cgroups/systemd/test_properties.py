"""cgroups.systemd.properties and unified: linux.resources and annotations as unit properties."""

from __future__ import annotations

from typing import Any

import pytest

from ocirt.cgroups.systemd import properties, unified
from ocirt.cgroups.systemd.properties import INFINITY, annotated, early, late, mask, pointer_of
from ocirt.errors import ConfigError

NEW = 255
MIB = 1 << 20


def told(found: list[properties.Property]) -> dict[str, Any]:
    return {one.name: one.value for one in found}


@pytest.mark.parametrize(
    ("resources", "on_v2", "on_v1"),
    [
        ({}, {}, {}),
        ({"memory": {"limit": 5}}, {"MemoryMax": 5}, {"MemoryLimit": 5}),
        ({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, {}, {}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}, {"MemoryLimit": INFINITY}),
        (
            {"memory": {"limit": 5, "swap": 7, "reservation": 3}},
            {"MemoryMax": 5, "MemorySwapMax": 2, "MemoryLow": 3},
            {"MemoryLimit": 5},
        ),
        ({"memory": {"reservation": -1}}, {"MemoryLow": INFINITY}, {}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}, {"CPUShares": 1024}),
        ({"cpu": {"shares": 1024, "idle": 0}}, {"CPUWeight": 100}, {"CPUShares": 1024}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}, {"CPUShares": 1024}),
        *(
            ({"cpu": cpu}, wanted, wanted)
            for cpu, wanted in (
                ({"quota": 50_000}, {"CPUQuotaPerSecUSec": 500_000}),
                ({"quota": 0, "period": 0}, {}),
                ({"quota": -1}, {"CPUQuotaPerSecUSec": INFINITY}),
                ({"period": 50_000}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50_000}),
                ({"quota": 25_500, "period": 50_000}, {"CPUQuotaPerSecUSec": 510_000, "CPUQuotaPeriodUSec": 50_000}),
                ({"quota": 33_333}, {"CPUQuotaPerSecUSec": 340_000}),
                ({"quota": 1000, "period": 1_000_000}, {"CPUQuotaPerSecUSec": 10_000, "CPUQuotaPeriodUSec": 1_000_000}),
            )
        ),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}, {"TasksMax": INFINITY}),
        ({"pids": {"limit": 9}}, {"TasksMax": 9}, {"TasksMax": 9}),
        ({"pids": {}}, {}, {}),
        ({"blockIO": {"weight": 10}}, {"IOWeight": 1}, {"BlockIOWeight": 10}),
    ],
    ids=str,
)
def test_what_systemd_is_told(resources: dict[str, Any], on_v2: dict[str, Any], on_v1: dict[str, Any]) -> None:
    assert told(late(resources, v2=True, version=NEW)) == on_v2
    assert told(late(resources, v2=False, version=NEW)) == on_v1


def test_every_limit_has_its_pointer() -> None:
    resources = {
        "memory": {"limit": 5, "swap": 7, "reservation": 3},
        "cpu": {"shares": 2, "quota": 5000},
        "pids": {"limit": 5},
        "unified": {"memory.high": "9"},
    }
    assert {one.name: one.pointer for one in late(resources, v2=True, version=NEW)} == {
        "MemoryMax": "/linux/resources/memory/limit",
        "MemorySwapMax": "/linux/resources/memory/swap",
        "MemoryLow": "/linux/resources/memory/reservation",
        "CPUWeight": "/linux/resources/cpu/shares",
        "CPUQuotaPerSecUSec": "/linux/resources/cpu/quota",
        "TasksMax": "/linux/resources/pids/limit",
        "MemoryHigh": "/linux/resources/unified/memory.high",
    }


def test_an_old_systemd_is_not_told_what_it_does_not_know() -> None:
    cpu = {"idle": 1, "period": 50_000, "quota": 50_000, "cpus": "0"}
    assert told(late({"cpu": cpu}, v2=True, version=241)) == {"CPUQuotaPerSecUSec": 1_000_000}
    assert told(early({"cpu": cpu}, v2=True, version=243)) == {}


def test_processors_are_a_mask_and_known_at_the_start() -> None:
    resources = {"cpu": {"cpus": "0-2,9", "mems": "0"}, "unified": {"memory.oom.group": "1"}}
    assert told(early(resources, v2=True, version=252)) == {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x01"}
    assert told(early(resources, v2=True, version=253))["OOMPolicy"] == "kill"
    assert early(resources, v2=False, version=NEW) == []
    assert early({"cpu": {"cpus": "2-1"}}, v2=True, version=NEW) == []  # the kernel says what is wrong


@pytest.mark.parametrize(
    ("ranges", "bits"), [("0", {0}), ("7,8", {7, 8}), (" 1 - 3 , 5,", {1, 2, 3, 5}), ("63-65", {63, 64, 65})]
)
def test_a_mask_has_the_least_byte_first(ranges: str, bits: set[int]) -> None:
    found = mask(ranges)
    assert {at for at in range(len(found) * 8) if found[at // 8] >> at % 8 & 1} == bits
    assert found[-1]


@pytest.mark.parametrize("ranges", ["a", "1-", "-1", "3-1", "0-99999"])
def test_what_is_no_list_is_none(ranges: str) -> None:
    with pytest.raises(ValueError):
        mask(ranges)


def test_block_devices_have_the_names_of_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(major: int, minor: int) -> str:
        return f"/dev/d{major}.{minor}" if major < 9 else ""

    monkeypatch.setattr(properties, "disk", name)
    monkeypatch.setattr(unified, "disk", name)
    device = {"major": 8, "minor": 0}
    gone = {"major": 9, "minor": 0, "rate": 5}
    block = {
        "weightDevice": [{**device, "weight": 1000}, {"major": 9, "minor": 1, "weight": 10}, device],
        "throttleReadBpsDevice": [{**device, "rate": 5}, gone],
        "throttleWriteIOPSDevice": [{**device, "rate": 0}],
    }
    assert told(late({"blockIO": block}, v2=True, version=NEW)) == {
        "IODeviceWeight": [("/dev/d8.0", 10000)],
        "IOReadBandwidthMax": [("/dev/d8.0", 5)],
        "IOWriteIOPSMax": [("/dev/d8.0", INFINITY)],
    }
    assert told(late({"blockIO": block}, v2=False, version=NEW)) == {
        "BlockIODeviceWeight": [("/dev/d8.0", 1000)],
        "BlockIOReadBandwidth": [("/dev/d8.0", 5)],
    }
    files = {"io.max": "8:0 rbps=7 wiops=max\n8:1 rbps=9\n9:0 rbps=1", "io.weight": "default 50\n8:0 60"}
    assert told(late({"unified": files}, v2=True, version=NEW)) == {
        "IOReadBandwidthMax": [("/dev/d8.0", 7), ("/dev/d8.1", 9)],
        "IOWriteIOPSMax": [("/dev/d8.0", INFINITY)],
        "IOWeight": 50,
        "IODeviceWeight": [("/dev/d8.0", 60)],
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "max", "memory.min": "4096\n"}, {"MemoryMax": INFINITY, "MemoryMin": 4096}),
        ({"memory.high": "1M", "memory.low": "2k"}, {"MemoryHigh": MIB, "MemoryLow": 2048}),
        ({"memory.swap.max": "0", "memory.zswap.max": "5"}, {"MemorySwapMax": 0, "MemoryZSwapMax": 5}),
        ({"pids.max": "0"}, {"TasksMax": 1}),
        ({"pids.max": "max"}, {"TasksMax": INFINITY}),
        ({"cpu.max": "max"}, {"CPUQuotaPerSecUSec": INFINITY}),
        ({"cpu.max": "5000 50000"}, {"CPUQuotaPerSecUSec": 100_000, "CPUQuotaPeriodUSec": 50_000}),
        ({"cpu.weight": "7"}, {"CPUWeight": 7}),
        ({"cpu.weight": "7", "cpu.idle": "1"}, {"CPUWeight": 0}),
        ({"cpu.idle": "1", "cpu.weight": "7"}, {"CPUWeight": 0}),
        ({"cpu.idle": "0"}, {}),
        ({"cpuset.cpus": "1"}, {"AllowedCPUs": b"\x02"}),
        ({"memory.max": "lots", "pids.max": "", "cpu.max": "x", "io.max": "8:0 z=1", "cpuset.mems": "x"}, {}),
        ({"hugetlb.2MB.max": "5", "cgroup.freeze": "1"}, {}),
    ],
    ids=str,
)
def test_unified_files_that_systemd_writes_too(files: dict[str, str], expected: dict[str, Any]) -> None:
    assert told(late({"unified": files}, v2=True, version=NEW)) == expected
    assert late({"unified": files}, v2=False, version=NEW) == []


def test_unified_comes_last() -> None:
    resources = {"pids": {"limit": 5}, "unified": {"pids.max": "6"}}
    assert told(late(resources, v2=True, version=NEW)) == {"TasksMax": 6}


@pytest.mark.parametrize(
    ("key", "text", "name", "signature", "value"),
    [
        ("CollectMode", "'inactive'", "CollectMode", "s", "inactive"),
        ("TimeoutStopSec", "7", "TimeoutStopUSec", "t", 7_000_000),
        ("TimeoutStopSec", "uint64 7", "TimeoutStopUSec", "t", 7_000_000),
        ("TimeoutStopSec", "0.5", "TimeoutStopUSec", "t", 500_000),
        ("TimeoutStopUSec", "uint64 7", "TimeoutStopUSec", "t", 7),
        ("After", "['a.service']", "After", "as", ["a.service"]),
    ],
)
def test_an_annotation_is_a_property(key: str, text: str, name: str, signature: str, value: Any) -> None:
    (found,) = annotated({f"org.systemd.property.{key}": text, "another": "'", "org.systemd.propertyX": "'"})
    assert (found.name, found.signature, found.value) == (name, signature, value)
    assert found.pointer == f"/annotations/org.systemd.property.{key}"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("A", "'"),
        ("A", "text"),
        ("", "1"),
        ("A b", "1"),
        ("Ä", "1"),
        ("A/b", "1"),
        ("PIDs", "[uint32 1]"),
        ("Slice", "'a.slice'"),
        ("Delegate", "false"),
        ("TimeoutStopSec", "'7'"),
        ("TimeoutStopSec", "-7"),
        ("TimeoutStopSec", "uint64 18446744073709551615"),
        ("TimeoutStopSec", "true"),
        ("TimeoutStopSec", "inf"),
        ("TimeoutStopSec", "nan"),
    ],
)
def test_a_wrong_annotation_is_refused_at_its_place(key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        annotated({f"org.systemd.property.{key}": text})
    assert caught.value.pointer == "/annotations/org.systemd.property." + key.replace("/", "~1")


def test_an_error_of_systemds_is_due_to_the_property_that_it_names() -> None:
    found = late({"memory": {"limit": 5, "swap": 7}, "cpu": {"quota": 5, "period": 7}}, v2=True, version=NEW)
    assert pointer_of("CPUQuotaPeriodUSec= value out of range", found) == "/linux/resources/cpu/quota"
    assert pointer_of("MemoryMax= is too small", found) == "/linux/resources/memory/limit"
    assert pointer_of("something else", found) == "/linux/cgroupsPath"


def test_a_property_is_shown_as_a_unit_file_has_it() -> None:
    resources = {"cpu": {"cpus": "0-1,9"}, "pids": {"limit": -1}}
    found = early(resources, v2=True, version=NEW) + late(resources, v2=True, version=NEW)
    assert list(map(str, found)) == ["AllowedCPUs=0 1 9", "TasksMax=infinity"]
    assert str(properties.Property("Delegate", "b", True)) == "Delegate=yes"
    assert str(properties.Property("DeviceAllow", "a(ss)", [("/dev/a", "r"), ("b", "w")])) == "DeviceAllow=/dev/a r b w"
