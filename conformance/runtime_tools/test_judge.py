"""suite_judge.py complains of what is not as configured: other configurations judge what one container saw."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from suite_judge import complaints

if TYPE_CHECKING:
    from suite_container import SuiteContainer

pytestmark = pytest.mark.root

OTHERWISE: dict[str, Any] = {
    "/process/cwd": "/elsewhere",
    "/process/args": ["/bin/sh"],
    "/process/env": ["PATH=/elsewhere"],
    "/process/noNewPrivileges": True,
    "/process/user": {"uid": 1, "gid": 0},
    "/process/user/gid": 1,
    "/process/user/additionalGids": [5],
    "/process/user/umask": 0o123,
    "/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1025}],
    "/process/oomScoreAdj": 321,
    "/hostname": "elsewhere",
    "/root/readonly": True,
    "/linux/seccomp": None,
    "/linux/sysctl": {"net.ipv4.ip_forward": "2"},
    "/linux/maskedPaths": ["/inside.sh"],
    "/linux/uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    "/linux/gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    "/linux/devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 4}],
    **{
        f"/process/capabilities/{name}": [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
    },
}
"""JSON pointer → a value that the container did not get."""

DAMAGED = {
    "writable=/inside.sh": "yes",
    "link=/dev/fd": "/proc/1/fd",
    "stat=/dev/tty": "",
    "stat=/dev/zero": "61b6 0 0 0 0",
    "stat=/dev/full": "21b6 1 8 0 0",
}
"""Section of inside.sh's output → what it says where a default is wrong."""


def changed(config: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    other = copy.deepcopy(config)
    *folders, name = pointer[1:].split("/")
    place = other
    for folder in folders:
        place = place[folder]
    place[name] = value
    return other


def test_the_judge_complains(container: SuiteContainer) -> None:
    container.linux["readonlyPaths"] = ["/inside.sh"]
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    facts = container.is_as_configured()
    config = container.config
    shared = changed(config, "/linux/rootfsPropagation", "shared")
    judged = {
        **{pointer: complaints(changed(config, pointer, value), facts) for pointer, value in OTHERWISE.items()},
        **{name: complaints(config, {**facts, name: text}) for name, text in DAMAGED.items()},
        "order of mounts": complaints({**config, "mounts": config["mounts"][::-1]}, facts),
        "one mount more": complaints({**config, "mounts": [*config["mounts"], {"destination": "/srv"}]}, facts),
        "propagation": complaints(shared, {**facts, "propagation=/": "hidden"}),
    }
    assert [name for name, found in judged.items() if not found] == []
