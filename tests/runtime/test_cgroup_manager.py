"""--cgroup-manager: disabled, and systemd where there is none."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Runtime, cgroup_folders, traces

from ocirt.cgroups.systemd import bus

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]
no_systemd = pytest.mark.skipif(
    Path("/run/dbus/system_bus_socket").exists() or Path("/run/systemd/private").exists(), reason="systemd is here"
)


@pytest.fixture
def free(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle without limits for the container c; deleted at the end."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.config["linux"]["resources"] = {}
    yield bundle.write()
    runtime("delete", "--force", "c")


def disabled(runtime: Runtime, *args: Any) -> Any:
    return runtime("--cgroup-manager", "disabled", *args)


def own(pid: int | str = "self") -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_the_container_stays_in_its_callers_cgroups(runtime: Runtime, free: Bundle) -> None:
    before = cgroup_folders()
    assert disabled(runtime, "create", "-b", free.path, "c").code == 0
    pid = runtime.state("c")["pid"]
    assert own(pid) == own()
    assert cgroup_folders() == before
    # The state knows it: no other verb is told.
    assert runtime("start", "c").code == 0
    assert runtime.state("c")["status"] == "running"
    assert runtime("delete", "c").code == 1
    assert runtime("kill", "c", "KILL").code == 0
    while runtime.state("c")["status"] == "running":
        pass
    assert runtime("delete", "c").code == 0


def test_run_and_its_exit_code(runtime: Runtime, free: Bundle) -> None:
    free.config["process"]["args"] = ["/bin/sh", "-c", "sleep 1000 & exit 7"]
    assert disabled(runtime, "run", "-b", free.write().path, "c").code == 7
    assert runtime("state", "c").code == 1


@pytest.mark.parametrize("namespace", [True, False], ids=["cgroup namespace", "the host's"])
def test_a_cgroup_mount_shows_the_callers_own(runtime: Runtime, free: Bundle, namespace: bool) -> None:
    if not namespace:
        free.config["linux"]["namespaces"] = [
            one for one in free.config["linux"]["namespaces"] if one["type"] != "cgroup"
        ]
    free.config["process"]["args"] = ["/bin/sh", "-c", "ls /sys/fs/cgroup; cat /proc/self/cgroup"]
    done = disabled(runtime, "run", "-b", free.write().path, "c")
    assert done.code == 0, done.err
    names = done.out.split()
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        assert "cgroup.procs" in names
    else:
        assert {path.name for path in Path("/sys/fs/cgroup").iterdir()} <= set(names)


def test_a_forced_delete_ends_it(runtime: Runtime, free: Bundle) -> None:
    assert disabled(runtime, "create", "-b", free.path, "c").code == 0
    assert runtime("delete", "--force", "c").code == 0


def test_a_damaged_state_is_forgotten(runtime: Runtime, free: Bundle) -> None:
    """No cgroup leads to its process then, which waits for a start that never comes, until the test ends it."""
    assert disabled(runtime, "create", "-b", free.path, "c").code == 0
    pid = runtime.state("c")["pid"]
    fd = os.pidfd_open(pid)
    try:
        (runtime.root / "c" / "state.json").write_text("{")
        assert runtime("delete", "--force", "c").code == 0
        assert not (runtime.root / "c").exists()
    finally:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"memory": {"limit": 1 << 26}}, "memory/limit"),
        ({"cpu": {"shares": 0, "quota": 1000}}, "cpu/quota"),
        ({"pids": {"limit": 0}}, "pids/limit"),
        ({"unified": {"memory.max": "5"}}, "unified/memory.max"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, "hugepageLimits/0"),
        ({"blockIO": {"weight": 100}}, "blockIO/weight"),
        ({"network": {"classID": 5}}, "network/classID"),
        ({"rdma": {"a/b": {"hcaHandles": 1}}}, "rdma/a~1b/hcaHandles"),
    ],
    ids=str,
)
def test_a_limit_is_refused_at_its_place(
    runtime: Runtime, free: Bundle, resources: dict[str, Any], pointer: str
) -> None:
    free.config["linux"]["resources"] = resources
    done = disabled(runtime, "create", "-b", free.write().path, "c")
    assert done.code == 1
    assert f": /linux/resources/{pointer}: a limit needs a cgroup, and the container is to have none" in done.err
    assert runtime("state", "c").code == 1
    checked = disabled(runtime, "check", free.path)
    assert checked.code == 1 and f"/linux/resources/{pointer}: a limit needs a cgroup" in checked.out


def test_what_is_unset_is_no_limit_and_device_rules_are_a_warning(runtime: Runtime, free: Bundle) -> None:
    """Engines send zeros for what is not set, and their device rules always."""
    free.config["linux"]["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 0, "swap": -1, "checkBeforeUpdate": True},
        "cpu": {"shares": 0, "quota": 0, "cpus": ""},
        "pids": {"limit": -1},
        "blockIO": {"weight": 0, "weightDevice": []},
    }
    done = disabled(runtime, "--debug", "create", "-b", free.write().path, "c")
    assert done.code == 0, done.err
    assert "/linux/resources/devices: not enforced: the container has no cgroup of its own" in done.err


def test_explain_shows_no_cgroup(runtime: Runtime, free: Bundle) -> None:
    shown = disabled(runtime, "explain", free.path).out
    assert "make the cgroups" not in shown and "device rules" not in shown
    assert "leave init in our own cgroups" in shown
    assert json.loads(disabled(runtime, "explain", "--json", free.path).out)["cgroups"] == []


# systemd where there is none


@no_systemd
@pytest.mark.parametrize("flags", [["--systemd-cgroup"], ["--cgroup-manager", "systemd"]], ids=str)
@pytest.mark.parametrize("verb", ["create", "run", "explain"])
def test_without_a_bus_there_is_one_line_and_nothing_is_left(
    runtime: Runtime, free: Bundle, flags: list[str], verb: str
) -> None:
    before = traces(runtime.root, free.rootfs)
    done = runtime(*flags, verb, *((free.path,) if verb == "explain" else ("-b", free.path, "c")))
    assert done.code == 1 and not done.out
    (line,) = done.err.splitlines()
    assert line == (
        f"ocirt: connect to the system's systemd over D-Bus: {bus._SYSTEM_BUS}: No such file or directory;"
        f" {bus._SYSTEM_PRIVATE}: No such file or directory"
        " (is systemd running? `--cgroup-manager cgroupfs` does without it)"
    )
    assert traces(runtime.root, free.rootfs) == before


@no_systemd
def test_check_needs_no_bus(runtime: Runtime, free: Bundle) -> None:
    free.config["linux"]["cgroupsPath"] = "system.slice:ocirt:c"
    free.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "5"}
    assert runtime("--systemd-cgroup", "check", free.write().path).code == 0
    free.config["linux"]["cgroupsPath"] = "/a/b"
    free.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "five"}
    done = runtime("--systemd-cgroup", "check", free.write().path)
    assert done.code == 1
    assert 'error: /linux/cgroupsPath: expected SLICE:PREFIX:NAME, got "/a/b"' in done.out
    assert "error: /annotations/org.systemd.property.TimeoutStopSec: 'five': expected a value" in done.out


def test_without_the_flag_a_path_with_colons_is_a_path(runtime: Runtime, free: Bundle) -> None:
    free.config["linux"]["cgroupsPath"] = "/system.slice:ocirt:c"
    free.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "five"}
    assert runtime("create", "-b", free.write().path, "c").code == 0
    assert any(line.endswith("/system.slice:ocirt:c") for line in own(runtime.state("c")["pid"]).splitlines())


def test_two_managers_are_one_too_many(runtime: Runtime, free: Bundle) -> None:
    done = runtime("--systemd-cgroup", "--cgroup-manager", "disabled", "create", "-b", free.path, "c")
    assert done.code == 1
    assert "--systemd-cgroup and --cgroup-manager disabled exclude each other" in done.err


def test_an_unknown_manager_is_refused(runtime: Runtime) -> None:
    done = runtime("--cgroup-manager", "docker", "list")
    assert done.code == 1
    assert '--cgroup-manager: expected cgroupfs or systemd or disabled, got "docker"' in done.err
