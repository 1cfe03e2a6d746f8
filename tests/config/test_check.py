"""config.check: each rule with what breaks it, and the pointer that the message has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ocirt.config.check import check_meaning
from ocirt.config.read import Config
from ocirt.config.shape import check_shape
from ocirt.errors import ConfigError
from ocirt.runtime.spec import default_spec

Change = Callable[[dict[str, Any]], object]


def checked(change: Change) -> Config:
    spec = copy.deepcopy(default_spec())
    change(spec)
    check_shape(spec)
    config = Config(spec, "", "/bundle")
    check_meaning(config)
    return config


def refusal(change: Change) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        checked(change)
    return refused.value


def process(**values: Any) -> Change:
    return lambda spec: spec["process"].update(values)


def linux(**values: Any) -> Change:
    return lambda spec: spec["linux"].update(values)


def mount(**values: Any) -> Change:
    return lambda spec: spec["mounts"].append({"destination": "/x", **values})


UTS = [{"type": "uts"}, {"type": "mount"}]
USER = {"type": "user"}
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def user(uids: list[dict[str, int]], **process: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        linux(namespaces=[*UTS, USER], uidMappings=uids, gidMappings=MAP)(spec)
        spec["process"]["user"] |= process

    return change


def time(offsets: dict[str, Any]) -> Change:
    return linux(namespaces=[*UTS, {"type": "time"}], timeOffsets=offsets)


def rule(**values: Any) -> Change:
    return linux(resources={"devices": [{"allow": True, **values}]})


def limit(*limits: tuple[str, int, int]) -> Change:
    return process(rlimits=[{"type": name, "soft": soft, "hard": hard} for name, soft, hard in limits])


WRONG: dict[str, tuple[Change, str, str]] = {
    "no version": (lambda spec: spec.update(ociVersion=""), "/ociVersion", "expected a version"),
    "half a version": (lambda spec: spec.update(ociVersion="1.2"), "/ociVersion", "expected a version"),
    "a version in other digits": (lambda spec: spec.update(ociVersion="1.².0"), "/ociVersion", "expected a version"),
    "a later version": (lambda spec: spec.update(ociVersion="2.0.0"), "/ociVersion", "expected a version 1.x"),
    "no root": (lambda spec: spec.pop("root"), "/root", "expected an object"),
    "no rootfs": (lambda spec: spec["root"].update(path=""), "/root/path", "empty string"),
    "a very long rootfs": (lambda spec: spec["root"].update(path="é" * 2048), "/root/path", "4095 bytes"),
    "no process": (lambda spec: spec.pop("process"), "/process", "expected an object"),
    "no linux": (lambda spec: spec.pop("linux"), "/linux", "expected an object"),
    "a relative cwd": (process(cwd="tmp"), "/process/cwd", "absolute"),
    "an empty cwd": (process(cwd=""), "/process/cwd", "absolute"),
    "no args": (process(args=[]), "/process/args", "must not be empty"),
    "null args": (process(args=None), "/process/args", "must not be empty"),
    "an empty program": (process(args=["", "x"]), "/process/args/0", "expected a program"),
    "a variable without =": (process(env=["A=1", "B"]), "/process/env/1", "NAME=value"),
    "a variable without a name": (process(env=["=x"]), "/process/env/0", "NAME=value"),
    "an unknown limit": (limit(("RLIMIT_NOFILES", 1, 1)), "/process/rlimits/0/type", "RLIMIT_NOFILES"),
    "a limit twice": (limit(("RLIMIT_CORE", 0, 0), ("RLIMIT_CORE", 0, 0)), "/process/rlimits/1/type", "twice"),
    "soft above hard": (limit(("RLIMIT_CORE", 2, 1)), "/process/rlimits/0/soft", "above the hard limit"),
    "a bind mount of nothing": (mount(options=["bind"]), "/mounts/7/source", "needs a source"),
    "a mount of no type": (mount(source="x"), "/mounts/7/type", "needs a type"),
    "a bind mount by type alone": (mount(type="bind", source="/"), "/mounts/7/options", "does not make a bind"),
    "an empty destination": (mount(destination="", type="tmpfs"), "/mounts/7/destination", "empty string"),
    "an unknown namespace": (linux(namespaces=[{"type": "net"}]), "/linux/namespaces/0/type", '"net"'),
    "a namespace twice": (
        lambda spec: spec["linux"]["namespaces"].append({"type": "pid"}),
        "/linux/namespaces/6/type",
        "a second pid namespace, after /linux/namespaces/0",
    ),
    "a user namespace without maps": (linux(namespaces=[*UTS, USER]), "/linux/uidMappings", "needs uidMappings"),
    "maps without a user namespace": (linux(gidMappings=MAP), "/linux/gidMappings", "without a user namespace"),
    "no map of the groups": (
        linux(namespaces=[*UTS, USER], uidMappings=MAP),
        "/linux/gidMappings",
        "needs gidMappings",
    ),
    "root is not mapped": (user([{**MAP[0], "containerID": 1}]), "/linux/uidMappings", "id 0 is not mapped"),
    "an empty mapping": (user([{**MAP[0], "size": 0}]), "/linux/uidMappings/0/size", "no ids"),
    "overlapping ids": (
        user([MAP[0], {"containerID": 70000, "hostID": 100005, "size": 3}]),
        "/linux/uidMappings/1/hostID",
        "overlaps /linux/uidMappings/0/hostID",
    ),
    "a range beyond the last id": (
        user([{"containerID": 0, "hostID": 4294967290, "size": 10}]),
        "/linux/uidMappings/0/hostID",
        "ends above",
    ),
    "too many mappings": (
        user([{"containerID": 2 * n, "hostID": 2 * n, "size": 1} for n in range(341)]),
        "/linux/uidMappings",
        "more than 340",
    ),
    "a user that is not mapped": (user(MAP, uid=65536), "/process/user/uid", "65536 is not mapped"),
    "a group that is not mapped": (user(MAP, gid=65536), "/process/user/gid", "65536 is not mapped"),
    "an additional group that is not mapped": (
        user(MAP, additionalGids=[5, 65536]),
        "/process/user/additionalGids/1",
        "65536 is not mapped",
    ),
    "a relative namespace": (
        linux(namespaces=[{"type": "pid", "path": "ns/pid"}]),
        "/linux/namespaces/0/path",
        "absolute",
    ),
    "clocks without a time namespace": (
        linux(timeOffsets={"boottime": {"secs": 1}}),
        "/linux/timeOffsets",
        "new time namespace",
    ),
    "clocks of a joined time namespace": (
        linux(namespaces=[*UTS, {"type": "time", "path": "/x"}], timeOffsets={"boottime": {"secs": 1}}),
        "/linux/timeOffsets",
        "new time namespace",
    ),
    "an unknown clock": (time({"realtime": {"secs": 1}}), "/linux/timeOffsets/realtime", "unknown clock"),
    "too many nanoseconds": (
        time({"boottime": {"nanosecs": 10**9}}),
        "/linux/timeOffsets/boottime/nanosecs",
        "less than 10^9",
    ),
    "a hostname for the host": (linux(namespaces=[{"type": "mount"}]), "/hostname", "uts namespace"),
    "a long hostname": (lambda spec: spec.update(hostname="é" * 33), "/hostname", "64 bytes"),
    "a long domainname": (lambda spec: spec.update(domainname="x" * 65), "/domainname", "64 bytes"),
    "a relative masked path": (linux(maskedPaths=["proc"]), "/linux/maskedPaths/0", "absolute"),
    "a relative readonly path": (linux(readonlyPaths=["/a", ""]), "/linux/readonlyPaths/1", "absolute"),
    "a cgroup above": (linux(cgroupsPath="/a/../../b"), "/linux/cgroupsPath", ".."),
    "an unknown device type": (rule(type="x"), "/linux/resources/devices/0/type", '"x"'),
    "an unknown access": (rule(access="rx"), "/linux/resources/devices/0/access", '"rx"'),
    "a negative major": (rule(major=-2), "/linux/resources/devices/0/major", "-2"),
    "a minor of 33 bits": (rule(minor=2**32), "/linux/resources/devices/0/minor", "2^32"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_rule_that_is_broken_is_named_with_its_place(what: str) -> None:
    change, pointer, words = WRONG[what]
    error = refusal(change)
    assert error.pointer == pointer
    assert words in error.message
    assert "\n" not in str(error)


@pytest.mark.parametrize("platform", ["windows", "solaris", "vm", "zos", "freebsd"])
def test_a_bundle_for_another_platform_is_named(platform: str) -> None:
    def change(spec: dict[str, Any]) -> None:
        del spec["linux"]
        spec[platform] = {"a": 1}

    error = refusal(change)
    assert error.pointer == f"/{platform}"


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0-rc.1+git"])
def test_every_version_1_is_taken(version: str) -> None:
    checked(lambda spec: spec.update(ociVersion=version))


def test_an_unknown_capability_is_an_error_up_to_1_0_and_a_warning_since() -> None:
    def change(version: str) -> Change:
        def apply(spec: dict[str, Any]) -> None:
            spec["ociVersion"] = version
            spec["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_NETADMIN"]

        return apply

    error = refusal(change("1.0.2"))
    assert error.pointer == "/process/capabilities/bounding/1"
    assert error.hint == "did you mean CAP_NET_ADMIN?"
    (warning,) = checked(change("1.1.0")).warnings
    assert warning.startswith("/process/capabilities/bounding/1: unknown capability")


def test_a_relative_destination_is_a_warning() -> None:
    (warning,) = checked(mount(destination="x", type="tmpfs")).warnings
    assert warning.startswith("/mounts/7/destination")


@pytest.mark.parametrize("null", ["namespaces", "cgroupsPath"])
def test_null_lists_do_no_harm(null: str) -> None:
    if null == "namespaces":
        checked(lambda spec: (linux(namespaces=None)(spec), spec.pop("hostname")))
    else:
        checked(linux(maskedPaths=None, readonlyPaths=None, resources={"devices": None}))


def test_device_rules_of_every_kind_are_taken() -> None:
    for kind in ("a", "b", "c", "u", ""):
        checked(rule(type=kind, major=-1, minor=2**32 - 1, access="mwr"))


def test_a_guess_is_made_where_one_is_near() -> None:
    assert refusal(limit(("RLIMIT_NOFILES", 1, 1))).hint == "did you mean RLIMIT_NOFILE?"
    assert refusal(linux(namespaces=[{"type": "nett"}])).hint
