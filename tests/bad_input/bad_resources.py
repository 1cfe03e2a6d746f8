"""Cases: values of linux.resources that are wrong on every host."""

from __future__ import annotations

from typing import Any

from bad_values import Case, case, put

AT = "/linux/resources"


def bad(what: str, pointer: str, value: Any, *words: str, at: str | None = None) -> Case:
    """The value at `pointer`, below linux.resources, whose parents are made, is wrong."""
    top = pointer.split("/")[1]
    whole: Any = value
    for part in reversed(pointer.split("/")[2:]):
        whole = [whole] if part == "0" else {part: whole}
    return Case(what, put(f"{AT}/{top}", whole), f"{AT}{at or pointer}", words)


_DEVICE = {"major": 8, "minor": 0}
_READS = "/blockIO/throttleReadBpsDevice"

RESOURCES = [
    bad("a limit in words", "/memory/limit", "10M", "expected an integer", 'got "10M"'),
    bad("a limit true", "/memory/limit", True, "expected an integer", "got true"),
    bad("a limit beyond 64 bits", "/memory/limit", 2**63, "expected an integer", "got 9223372036854775808"),
    bad("a limit of -2", "/memory/limit", -2, "-1 (no limit)", "got -2"),
    bad("a reservation of -5", "/memory/reservation", -5, "-1 (no limit)", "got -5"),
    case("swap below memory", AT + "/memory", {"limit": 4096000, "swap": 4095000}, "at least the limit of 4096000",
         "memory and swap together", at=AT + "/memory/swap"),
    bad("swappiness 101", "/memory/swappiness", 101, "from 0 to 100", "got 101"),
    bad("swappiness -1", "/memory/swappiness", -1, "expected an integer from 0"),
    bad("the OOM killer a number", "/memory/disableOOMKiller", 1, "expected true or false", "got 1"),
    bad("shares a float", "/cpu/shares", 1024.0, "expected an integer", "got 1024.0"),
    bad("shares negative", "/cpu/shares", -1, "expected an integer from 0"),
    bad("cpus a number", "/cpu/cpus", 0, "expected a string", "got 0"),
    bad("cpus in words", "/cpu/cpus", "all", 'such as "0-3,7"', 'got "all"'),
    bad("cpus backwards", "/cpu/cpus", "3-1", 'such as "0-3,7"', 'got "3-1"'),
    bad("mems with a gap", "/cpu/mems", "0,,1", 'such as "0-3,7"', 'got "0,,1"'),
    case("a burst above the quota", AT + "/cpu", {"quota": 5000, "burst": 5001}, "at most the quota of 5000",
         "got 5001", at=AT + "/cpu/burst"),
    bad("idle 2", "/cpu/idle", 2, "expected 0 or 1", "got 2"),
    bad("pids -2", "/pids/limit", -2, "-1 (no limit)", "got -2"),
    bad("pids in words", "/pids/limit", "max", "expected an integer", 'got "max"'),
    bad("a weight beyond 16 bits", "/blockIO/weight", 2**16, "from 0 to 65535", "got 65536"),
    bad("a weight too large", "/blockIO/weight", 1001, "from 10 to 1000", "got 1001"),
    bad("a weight for no device", "/blockIO/weightDevice/0", {"weight": 100}, "required",
        at="/blockIO/weightDevice/0/major"),
    bad("a device without weight", "/blockIO/weightDevice/0", _DEVICE, "weight or leafWeight", "neither"),
    bad("a rate of a device -1", _READS + "/0", {"major": -1, "minor": 0, "rate": 1}, "a device's number", "got -1",
        at=_READS + "/0/major"),
    bad("no rate", _READS + "/0", _DEVICE, "required", at=_READS + "/0/rate"),
    case("a rate twice", AT + "/blockIO", {"throttleReadBpsDevice": [{**_DEVICE, "rate": 1}, {**_DEVICE, "rate": 2}]},
         "8:0 stands twice", AT + _READS + "/0", at=AT + _READS + "/1"),
    bad("a page size in bytes", "/hugepageLimits/0", {"pageSize": "2097152", "limit": 1}, 'such as "64KB"',
        at="/hugepageLimits/0/pageSize"),
    bad("a page size with a path", "/hugepageLimits/0", {"pageSize": "../2MB", "limit": 1}, 'such as "64KB"',
        at="/hugepageLimits/0/pageSize"),
    bad("no page limit", "/hugepageLimits/0", {"pageSize": "2MB"}, "required", at="/hugepageLimits/0/limit"),
    case("a page size twice", AT + "/hugepageLimits", [{"pageSize": "2MB", "limit": 1}] * 2,
         "2MB pages stand twice", AT + "/hugepageLimits/0", at=AT + "/hugepageLimits/1/pageSize"),
    bad("a class beyond 32 bits", "/network/classID", 2**32, "from 0 to 4294967295"),
    bad("a priority for two interfaces", "/network/priorities/0", {"name": "a b", "priority": 1},
        "an interface's name", at="/network/priorities/0/name"),
    bad("a device of rdma without limits", "/rdma/mlx5_1", {}, "hcaHandles or hcaObjects", "neither"),
    bad("a device of rdma with a space", "/rdma", {"a b": {"hcaHandles": 1}}, "a device's name", at="/rdma/a b"),
    bad("handles beyond 32 bits", "/rdma/mlx5_1/hcaHandles", 2**32, "from 0 to 4294967295"),
    bad("a unified path", "/unified", {"../x/memory.max": "1"}, "the name of a file of a cgroup",
        at="/unified/..~1x~1memory.max"),
    bad("a unified parent", "/unified", {"..": "1"}, "the name of a file of a cgroup", at="/unified/.."),
    bad("a unified number", "/unified", {"memory.max": 1}, "expected a string", "got 1", at="/unified/memory.max"),
    case("resources an array", AT, [1], "expected an object", "got an array"),
]  # fmt: skip
