"""config.shape: every property of the specification has one type, and no other type is taken for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ocirt.config.shape import ID, U16, U32, U64, Mismatch, check_shape, pointer_to, shown, string
from ocirt.errors import ConfigError
from ocirt.runtime.spec import default_spec

RATES = tuple(f"throttle{way}{unit}Device" for way in ("Read", "Write") for unit in ("Bps", "IOPS"))
# Where each property is in this document, and of which type it is. Written down anew, from the specification.
FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 0, "gid": 0, "umask": 0o22, "additionalGids": [1, 2]},
        "args": ["sh"],
        "env": ["A=1"],
        "cwd": "/",
        "capabilities": {
            name: ["CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
        },
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 0}],
        "noNewPrivileges": True,
        "oomScoreAdj": 0,
        "apparmorProfile": "a",
        "selinuxLabel": "b",
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 0,
            "priority": 0,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 1,
            "deadline": 2,
            "period": 3,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        "execCPUAffinity": {"initial": "0", "final": "1"},
    },
    "hostname": "a",
    "domainname": "b",
    "mounts": [
        {
            "destination": "/a",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["ro"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        }
    ],
    "annotations": {"key": "value"},
    "linux": {
        "namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 3}},
        "cgroupsPath": "/a",
        "resources": {
            "devices": [{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "memory": {
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness"), 1),
                **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), True),
            },
            "cpu": {
                **dict.fromkeys(("shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "idle"), 1),
                **dict.fromkeys(("cpus", "mems"), "0-1"),
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 10}],
                **{name: [{"major": 8, "minor": 0, "rate": 1}] for name in RATES},
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 1}},
            "unified": {"memory.high": "1"},
        },
        "netDevices": {"eth0": {"name": "eth1"}},
        "intelRdt": {
            **dict.fromkeys(("closID", "l3CacheSchema", "memBwSchema"), "a"),
            **dict.fromkeys(("enableMonitoring", "enableCMT", "enableMBM"), True),
            "schemata": ["L3:0=f"],
        },
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "devices": [
            {"path": "/a", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0},
        ],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "personality": {"domain": "LINUX", "flags": ["a"]},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
    },
}
REQUIRED = {
    "/ociVersion",
    "/root/path",
    "/process/cwd",
    "/process/user",
    "/process/user/uid",
    "/process/user/gid",
    "/process/consoleSize/height",
    "/process/consoleSize/width",
    "/process/rlimits/0/type",
    "/process/rlimits/0/hard",
    "/process/rlimits/0/soft",
    "/mounts/0/destination",
    "/linux/namespaces/0/type",
    *(f"/mounts/0/{kind}Mappings/0/{name}" for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")),
    *(f"/linux/{kind}Mappings/0/{name}" for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")),
    "/linux/resources/devices/0/allow",
    "/linux/devices/0/path",
    "/linux/devices/0/type",
    "/process/scheduler/policy",
    "/process/ioPriority/class",
    "/process/ioPriority/priority",
    "/linux/personality/domain",
    "/linux/memoryPolicy/mode",
    "/linux/resources/blockIO/weightDevice/0/major",
    "/linux/resources/blockIO/weightDevice/0/minor",
    *(f"/linux/resources/blockIO/{name}/0/{key}" for name in RATES for key in ("major", "minor", "rate")),
    *(f"/linux/resources/hugepageLimits/0/{name}" for name in ("pageSize", "limit")),
    *(f"/linux/resources/network/priorities/0/{name}" for name in ("name", "priority")),
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        found += places(member, (*path, key))
    return found


def parts_of(pointer: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in pointer[1:].split("/")]


def parent_of(document: Any, path: list[str | int]) -> Any:
    for part in path[:-1]:
        document = document[part]
    return document


def with_value(path: list[str | int], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    parent_of(document, path)[path[-1]] = value
    return document


def refusal(document: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_shape(document)
    return refused.value


PLACES = [list(path) for path in places(FULL)]
ANY_JSON: dict[type, SearchStrategy[Any]] = {
    str: st.text(),
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(),
    list: st.lists(st.integers(), max_size=2),
    dict: st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
}


def test_the_full_document_and_the_default_have_the_right_shape() -> None:
    check_shape(FULL)
    check_shape(default_spec())


@given(st.data())
def test_no_value_of_another_type_is_taken_for_the_right_one(data: st.DataObject) -> None:
    """Neither "1" for 1, nor 1 for true, nor 1.0 for 1, nor {} for []."""
    path = data.draw(st.sampled_from(PLACES))
    right = type(parent_of(FULL, path)[path[-1]])
    wrong = data.draw(st.sampled_from([kind for kind in ANY_JSON if kind is not right]))
    value = data.draw(ANY_JSON[wrong])
    error = refusal(with_value(path, value))
    assert error.pointer == pointer_to(path)
    assert "expected" in error.message


@pytest.mark.parametrize("path", PLACES, ids=pointer_to)
def test_null_stands_for_an_absent_array_or_object_and_for_nothing_else(path: list[str | int]) -> None:
    document = with_value(path, None)
    pointer = pointer_to(path)
    is_container = isinstance(parent_of(FULL, path)[path[-1]], list | dict)
    is_member = isinstance(path[-1], int)  # of an array: there it stands for nothing
    if pointer not in REQUIRED and is_container and not is_member:
        check_shape(document)
    else:
        assert refusal(document).pointer == pointer


@pytest.mark.parametrize("path", [path for path in PLACES if isinstance(path[-1], str)], ids=pointer_to)
def test_what_is_required_may_not_be_absent_and_all_else_may(path: list[str | int]) -> None:
    document = copy.deepcopy(FULL)
    del parent_of(document, path)[path[-1]]
    if pointer_to(path) in REQUIRED:
        error = refusal(document)
        assert error.pointer == pointer_to(path)
        assert "required" in error.message
    else:
        check_shape(document)


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [(U16, 0, 2**16 - 1), (U32, 0, 2**32 - 1), (U64, 0, 2**64 - 1), (ID, 0, 2**32 - 2)],
)
def test_numbers_have_bounds(shape: Any, low: int, high: int) -> None:
    shape(low)
    shape(high)
    for value in (low - 1, high + 1, 10**30, -(10**30)):
        with pytest.raises(Mismatch):
            shape(value)


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "x\udfffy"])
def test_a_string_that_the_kernel_could_not_be_given_is_refused(text: str) -> None:
    with pytest.raises(Mismatch):
        string(text)
    assert refusal(with_value(["hostname"], text)).pointer == "/hostname"


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    assert refusal(document).pointer == ""


def test_unknown_properties_are_ignored() -> None:
    document = copy.deepcopy(FULL)
    document["x-extension"] = {"a": [1, None, {"b": 0.5}]}
    document["linux"]["unknown"] = 1
    check_shape(document)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/commandLine", {"neither": 1}),
        ("/process/user/username", 7),
        ("/linux/intelRdt/enableCMT", True),
        ("/linux/intelRdt/enableMBM", False),
    ],
)
def test_properties_of_other_platforms_and_of_older_versions_are_ignored(pointer: str, value: Any) -> None:
    """Windows' two, whatever they are; and the two that 1.3 removed, whose type is still known."""
    spec = default_spec()
    spec["linux"]["intelRdt"] = {}
    *parents, last = pointer.split("/")[1:]
    place: Any = spec
    for name in parents:
        place = place[name]
    place[last] = value
    check_shape(spec)


def test_an_empty_annotation_key_is_refused() -> None:
    assert refusal(with_value(["annotations"], {"": "x"})).pointer == "/annotations/"


def test_a_pointer_escapes_its_two_characters() -> None:
    assert pointer_to(["a/b", "c~d", 0]) == "/a~1b/c~0d/0"


@given(st.one_of(*ANY_JSON.values(), st.none()))
def test_a_value_is_shown_on_one_short_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
