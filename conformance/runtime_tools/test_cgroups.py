"""The suite's programs about cgroups, on hosts with cgroup v1: a test has its program's name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from suite_container import v1_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from suite_container import SuiteContainer

pytestmark = pytest.mark.root

ABSOLUTE = "/cgrouptest"
RELATIVE = "testdir/cgrouptest/container"
CPU_FILES = {
    "shares": ("cpu", "cpu.shares"),
    "period": ("cpu", "cpu.cfs_period_us"),
    "quota": ("cpu", "cpu.cfs_quota_us"),
    "cpus": ("cpuset", "cpuset.cpus"),
    "mems": ("cpuset", "cpuset.mems"),
}
DEVICES = [("c", 10, 229, "rwm"), ("b", 8, 20, "rw"), ("b", 10, 200, "r")]


def folder_of(container: SuiteContainer, controller: str) -> Path:
    """An absolute path counts from the mount point, a relative one from where the runtime chose."""
    root, path = v1_folder(controller), container.linux["cgroupsPath"]
    if path.startswith("/"):
        return root / path[1:]
    for line in Path(f"/proc/{container.state()['pid']}/cgroup").read_text().splitlines():
        _, names, place = line.split(":", 2)
        if controller in names.split(","):
            assert place.endswith(f"/{path}")
            return root / place[1:]
    raise AssertionError(f"in no cgroup of {controller}")


def content(container: SuiteContainer, controller: str, file: str) -> str:
    return (folder_of(container, controller) / file).read_text().strip()


def cpu_values(container: SuiteContainer) -> dict[str, Any]:
    found = {name: content(container, *place) for name, place in CPU_FILES.items()}
    return {name: value if name in ("cpus", "mems") else int(value) for name, value in found.items()}


def test_linux_cgroups_cpus(make_container: Callable[[], SuiteContainer]) -> None:
    """shares, quota, period, cpus and mems in every combination; the runtime MUST attach to the given place."""
    all_cpus = (v1_folder("cpuset") / "cpuset.cpus").read_text().strip()
    first = all_cpus.split(",")[0].split("-")[0]
    for shares, period, quota, cpus in itertools.product(
        (1024, 2048), (100000, 500000), (50000, 200000), (first, all_cpus)
    ):
        container = make_container()
        wanted = {"shares": shares, "period": period, "quota": quota, "cpus": cpus, "mems": "0"}
        container.linux["cgroupsPath"] = ABSOLUTE
        container.linux["resources"]["cpu"] = wanted
        container.created()
        assert cpu_values(container) == wanted


def test_linux_cgroups_cpus_without_any(container: SuiteContainer) -> None:
    """An empty `cpu` changes nothing: all is as in the root."""
    container.linux["cgroupsPath"] = ABSOLUTE
    container.linux["resources"]["cpu"] = {}
    container.created()
    for controller, file in CPU_FILES.values():
        assert content(container, controller, file) == (v1_folder(controller) / file).read_text().strip(), file


def test_linux_cgroups_relative_cpus(container: SuiteContainer) -> None:
    """The same in a cgroup whose path is relative."""
    all_cpus = (v1_folder("cpuset") / "cpuset.cpus").read_text().strip()
    wanted = {"shares": 1024, "period": 100000, "quota": 50000, "cpus": all_cpus, "mems": "0"}
    container.linux["cgroupsPath"] = RELATIVE
    container.linux["resources"]["cpu"] = wanted
    container.created()
    assert cpu_values(container) == wanted


def rules_come_first(container: SuiteContainer, path: str) -> None:
    """After the initial denial of all, devices.list begins with the configured rules."""
    v1_folder("devices")
    container.linux["cgroupsPath"] = path
    container.linux["resources"]["devices"] += [
        {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
        for kind, major, minor, access in DEVICES
    ]
    container.created()
    listed = content(container, "devices", "devices.list").splitlines()
    assert listed[: len(DEVICES)] == [f"{kind} {major}:{minor} {access}" for kind, major, minor, access in DEVICES]


def test_linux_cgroups_devices(container: SuiteContainer) -> None:
    """The runtime MUST apply entries in the listed order."""
    rules_come_first(container, ABSOLUTE)


def test_linux_cgroups_relative_devices(container: SuiteContainer) -> None:
    """The same in a cgroup whose path is relative."""
    rules_come_first(container, RELATIVE)


def limits_pids(container: SuiteContainer, path: str) -> None:
    v1_folder("pids")
    container.linux["cgroupsPath"] = path
    container.linux["resources"]["pids"] = {"limit": 1000}
    container.created()
    assert content(container, "pids", "pids.max") == "1000"


def test_linux_cgroups_pids(container: SuiteContainer) -> None:
    """pids.limit is written."""
    limits_pids(container, ABSOLUTE)


def test_linux_cgroups_relative_pids(container: SuiteContainer) -> None:
    """The same in a cgroup whose path is relative."""
    limits_pids(container, RELATIVE)
