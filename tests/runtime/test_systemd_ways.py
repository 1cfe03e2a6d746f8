"""The systemd driver, and the ways in which it reaches systemd: without a bus, a user's own, and none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.systemd_host import MARKS, PURE_V2, UNIT, cgroup_of, created, file, on_v2, shown
from support import OCIRT, Bundle, Runtime, command

from ocirt.cgroups.layout import detect
from ocirt.cgroups.systemd import bus as bus_module
from ocirt.cgroups.systemd.scope import SystemdCgroups
from ocirt.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = MARKS


# The driver alone: other ways to systemd


def lives_in_a_scope(cgroups: SystemdCgroups, resources: dict[str, Any]) -> str:
    """Give a sleep a life in the unit of these cgroups; returns the cgroup that it had."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        cgroups.limit(resources)
        cgroups.plan()
        cgroups.create()
        cgroups.attach(process.pid)
        (path,) = cgroup_of(process.pid)
        again = SystemdCgroups.from_state(json.loads(json.dumps(cgroups.to_state())))
        again.tell_manager({"pids": {"limit": 33}})
        assert again.processes() == [process.pid]
    finally:
        cgroups.remove()
        process.wait()
    return path


def test_without_a_bus_systemd_is_reached_at_its_own_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_SYSTEM_BUS", "/run/no/such/socket")
    cgroups = SystemdCgroups.for_unit(detect(), "", "c", {})
    assert lives_in_a_scope(cgroups, {"pids": {"limit": 20}}) == f"/system.slice/{UNIT}"


def test_update_tells_systemd(runtime: Runtime, scoped: Bundle) -> None:
    created(runtime, scoped, pids={"limit": 20})
    known = json.loads((runtime.root / "c/state.json").read_text())
    SystemdCgroups.from_state(known["cgroups"]).tell_manager({"pids": {"limit": 30}, "cpu": {"shares": 2048}})
    assert shown("TasksMax", "CPUWeight" if PURE_V2 else "CPUShares") == ["30", "174" if PURE_V2 else "2048"]
    assert file("pids", "pids.max") == "30"


AS_USER = """
import json, os, sys
from ocirt.cgroups.layout import detect
from ocirt.cgroups.systemd.scope import SystemdCgroups
import subprocess
cgroups = SystemdCgroups.for_unit(detect(), "", "c", {})
process = subprocess.Popen(["sleep", "1000"])
try:
    cgroups.limit({"pids": {"limit": 20}, "memory": {"limit": 1 << 26}})
    cgroups.plan(); cgroups.create(); cgroups.attach(process.pid)
    where = open(f"/proc/{process.pid}/cgroup").read().strip()
    private = cgroups.bus._private
    cgroups.tell_manager({"pids": {"limit": 20}, "memory": {"limit": 1 << 26}})
    cgroups.resources.set_late()
    limit = open(cgroups.unified() + "/pids.max").read().strip()
    show = ["systemctl", "--user", "show", "-P", "TasksMax", "ocirt-c.scope"]
    shown = subprocess.run(show, capture_output=True, text=True).stdout.strip()
finally:
    cgroups.remove()
    process.wait()
print(json.dumps([where, limit, shown, cgroups.bus.address, private, os.path.exists(cgroups.unified())]))
"""


def as_user(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as the user "test"."""
    environment |= {"HOME": "/home/test", "PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
    who: dict[str, Any] = {"user": "test", "group": "test", "extra_groups": [], "cwd": "/", "env": environment}
    return subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=False, timeout=120, **who)


BUS_UNITS = {
    "dbus.socket": "[Socket]\nListenStream=%t/bus\n",
    "dbus.service": "[Service]\nExecStart=/usr/bin/dbus-daemon --config-file=%t/bus.conf --address=systemd: --nofork\n",
}
BUS_CONFIGURATION = """<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen>
<auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""


@pytest.fixture(params=["its own socket", "its bus"])
def users_manager(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """A systemd of the user "test", without a bus or with one; its folder, and its cgroup."""
    folder, unit = Path("/run/ocirt-test-user"), "test-manager.service"
    folder.mkdir(mode=0o700)
    if request.param == "its bus":
        (folder / "systemd/user").mkdir(parents=True)
        for name, content in BUS_UNITS.items():
            (folder / "systemd/user" / name).write_text(content)
        (folder / "bus.conf").write_text(BUS_CONFIGURATION)
    for one in (folder, *folder.rglob("*")):
        shutil.chown(one, "test", "test")
    how = ["--quiet", f"--unit={unit}", "--uid=test", "-p", "Delegate=yes", "-p", "Type=notify"]
    how += ["-E", f"XDG_RUNTIME_DIR={folder}"]
    subprocess.run(["systemd-run", *how, "/lib/systemd/systemd", "--user"], check=True)
    try:
        if request.param == "its bus":
            start = "import subprocess; subprocess.run(['systemctl', '--user', 'start', 'dbus.socket'], check=True)"
            assert as_user(start, XDG_RUNTIME_DIR=str(folder)).returncode == 0
        yield folder, shown("ControlGroup", unit=unit)[0]
    finally:
        subprocess.run(["systemctl", "stop", unit], check=True)
        shutil.rmtree(folder)


@on_v2
def test_a_users_own_systemd(users_manager: tuple[Path, str], request: pytest.FixtureRequest) -> None:
    """Without a bus by the manager's own socket, whose place follows from the bus's."""
    folder, root = users_manager
    assert (folder / "bus").exists() == ("its bus" in request.node.name)
    done = as_user(AS_USER, XDG_RUNTIME_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    where, limit, told, address, private, left = json.loads(done.stdout)
    assert where == f"0::{root}/user.slice/ocirt-c.scope"
    assert private == ("its own socket" in request.node.name)
    assert (limit, told, address, left) == ("20", "20", f"unix:path={folder}/bus", False)


def test_a_user_without_a_systemd_is_told_so() -> None:
    script = (
        "from ocirt.cgroups.layout import detect\nfrom ocirt.cgroups.systemd.scope import SystemdCgroups\n"
        "from ocirt.errors import Error\n"
        "try: SystemdCgroups.for_unit(detect(), '', 'c', {})\nexcept Error as error: print(error)"
    )
    out = as_user(script, XDG_RUNTIME_DIR="").stdout
    assert out.startswith("there is no user's systemd to make cgroups") and "enable-linger" in out
    out = as_user(script, XDG_RUNTIME_DIR="/run/user/4711").stdout
    assert "/run/user/4711/bus: No such file or directory" in out or "pure cgroup v2 only" in out


def test_who_may_not_is_told_what_to_do() -> None:
    """Of the system's manager a user may ask what there is, and start nothing."""
    script = (
        "from ocirt.cgroups.systemd import bus, scope\nfrom ocirt.cgroups.layout import detect\n"
        "from ocirt.errors import Error\nimport os, subprocess\nscope.own_address = lambda: bus.SYSTEM\n"
        "cgroups = scope.SystemdCgroups.for_unit(detect(), '', 'c', {})\ncgroups.plan()\n"
        "process = subprocess.Popen(['sleep', '99'])\n"
        "try: cgroups.attach(process.pid)\nexcept Error as error: print(error)\nfinally: process.kill()"
    )
    done = as_user(script)
    assert "loginctl enable-linger" in done.stdout, done
    assert done.stdout.startswith(f"/linux/cgroupsPath: start the unit {UNIT}: ")


def test_a_bus_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_SYSTEM_BUS", "/run/no/such/socket")
    monkeypatch.setattr(bus_module, "_SYSTEM_PRIVATE", "/run/no/other/one")
    with pytest.raises(Error, match=r"connect to the system's systemd over D-Bus: /run/no/such/socket: No such file"):
        SystemdCgroups.for_unit(detect(), "", "c", {})


def test_the_command_says_so_too(runtime: Runtime, scoped: Bundle) -> None:
    assert command(OCIRT, "--systemd-cgroup", "--cgroup-manager", "disabled", "run", scoped.path).code == 1
