"""--systemd-cgroup on a host whose pid 1 is systemd, pure v2 and hybrid: where containers are, and what stays of
them. Runs in the virtual machine (tests/vm)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runtime.systemd_host import (
    MARKS,
    PURE_V2,
    RESOURCES,
    ROOT,
    UNIT,
    cgroup_of,
    created,
    folders,
    on_v2,
    refusal,
    run,
    settled,
    shown,
    units,
)
from support import OCIRT, Bundle, Runtime

pytestmark = MARKS


# Where it is


@pytest.mark.parametrize(
    ("cgroups_path", "unit", "slice", "folder"),
    [
        (None, "ocirt-c.scope", "system.slice", "/system.slice/ocirt-c.scope"),
        ("system.slice:ocirt:web", "ocirt-web.scope", "system.slice", "/system.slice/ocirt-web.scope"),
        (":ocirt-x:c", "ocirt-x-c.scope", "system.slice", "/system.slice/ocirt-x-c.scope"),
        ("-:ocirt:c", "ocirt-c.scope", "-.slice", "/ocirt-c.scope"),
        ("-.slice:ocirt:c", "ocirt-c.scope", "-.slice", "/ocirt-c.scope"),
        ("::ocirt", "ocirt.scope", "system.slice", "/system.slice/ocirt.scope"),
    ],
)
def test_the_container_is_in_its_scope_on_every_hierarchy(
    runtime: Runtime, scoped: Bundle, cgroups_path: str | None, unit: str, slice: str, folder: str
) -> None:
    if cgroups_path:
        scoped.config["linux"]["cgroupsPath"] = cgroups_path
    pid = created(runtime, scoped)
    assert cgroup_of(pid) == {folder}
    assert shown("ActiveState", "Slice", "ControlGroup", "Delegate", unit=unit) == ["active", slice, folder, "yes"]
    assert shown("Description", "CollectMode", unit=unit) == ["ocirt container c", "inactive-or-failed"]
    assert runtime("start", "c").code == 0
    assert runtime.state("c")["status"] == "running"
    assert cgroup_of(pid) == {folder}


def test_a_slice_of_its_own_is_made_and_stays_systemds(runtime: Runtime, scoped: Bundle) -> None:
    """An empty slice is the administrator's to stop: other units may be on their way into it."""
    scoped.config["linux"]["cgroupsPath"] = "ocirttest-a.slice:p:n"
    try:
        pid = created(runtime, scoped)
        assert cgroup_of(pid) == {"/ocirttest.slice/ocirttest-a.slice/p-n.scope"}
        assert runtime("delete", "--force", "c").code == 0
        assert shown("ActiveState", unit="p-n.scope") == ["inactive"]
        assert shown("ActiveState", unit="ocirttest-a.slice") == ["active"]
        if PURE_V2:
            assert (ROOT / "ocirttest.slice/ocirttest-a.slice").is_dir()
    finally:
        subprocess.run(["systemctl", "stop", "ocirttest.slice"], check=True)


def test_a_slice_itself_can_be_the_containers(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["cgroupsPath"] = "::ocirttest.slice"
    pid = created(runtime, scoped, pids={"limit": 9})
    assert cgroup_of(pid) == {"/ocirttest.slice"}
    assert shown("ActiveState", "TasksMax", unit="ocirttest.slice") == ["active", "9"]
    assert runtime("delete", "--force", "c").code == 0
    assert shown("ActiveState", unit="ocirttest.slice") == ["inactive"]
    assert not any((ROOT / name / "ocirttest.slice").exists() for name in os.listdir(ROOT))
    assert not (ROOT / "ocirttest.slice").exists()


@pytest.mark.parametrize(
    ("cgroups_path", "words"),
    [
        ("/system.slice/c", 'expected SLICE:PREFIX:NAME, got "/system.slice/c" (with the systemd manager it is SLICE:'),
        ("system.slice:a", "expected SLICE:PREFIX:NAME"),
        ("system:ocirt:c", '"system" is no slice'),
        ("a--b.slice:ocirt:c", '"a--b.slice" is no slice'),
        ("../x.slice:ocirt:c", '".." has no place in a cgroup path'),
        ("system.slice:..:/c", "is no unit name: '/'"),
        ("system.slice:ocirt:", "has no NAME"),
    ],
)
def test_what_is_no_name_of_a_unit_is_refused(runtime: Runtime, scoped: Bundle, cgroups_path: str, words: str) -> None:
    scoped.config["linux"]["cgroupsPath"] = cgroups_path
    message = refusal(runtime, scoped)
    assert "/linux/cgroupsPath: " in message and words in message
    checked = runtime("--systemd-cgroup", "check", scoped.path)
    assert checked.code == 1 and words.split(" (")[0] in checked.out


# Units that are there already, and none that stay


def test_a_unit_of_the_same_name_is_left_alone(runtime: Runtime, scoped: Bundle) -> None:
    with subprocess.Popen(["systemd-run", "--quiet", "--scope", f"--unit={UNIT}", "sleep", "1000"]) as other:
        try:
            while shown("ActiveState") != ["active"]:
                time.sleep(0.05)
            message = refusal(runtime, scoped)
            assert f"/linux/cgroupsPath: systemd has a unit {UNIT} already: it is active (give each" in message
            scoped.config["linux"]["cgroupsPath"] = "-:ocirt:c"
            assert f"systemd has a unit {UNIT} already" in refusal(runtime, scoped)
            assert other.poll() is None and shown("ActiveState") == ["active"]
        finally:
            subprocess.run(["systemctl", "stop", UNIT], check=True)


def test_a_second_container_of_the_same_name_under_another_root(
    runtime: Runtime, scoped: Bundle, tmp_path: Path
) -> None:
    pid = created(runtime, scoped)
    second = Runtime(tmp_path / "second")
    assert f"systemd has a unit {UNIT} already" in refusal(second, scoped)
    assert second("delete", "--force", "c").code == 0
    assert cgroup_of(pid) == {f"/system.slice/{UNIT}"}


def test_a_unit_that_failed_is_forgotten_for_the_new_one(runtime: Runtime, scoped: Bundle) -> None:
    command_ = ["systemd-run", "--quiet", "--scope", f"--unit={UNIT}", "-p", "RuntimeMaxSec=1", "sleep", "1000"]
    subprocess.run(command_, check=False)
    until = time.monotonic() + 30
    while shown("ActiveState") != ["failed"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    created(runtime, scoped)
    assert shown("ActiveState", "Description") == ["active", "ocirt container c"]


def test_a_program_that_ended_by_itself(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["process"]["args"] = ["/bin/true"]
    created(runtime, scoped)
    assert runtime("start", "c").code == 0
    while runtime.state("c")["status"] != "stopped":
        os.sched_yield()
    assert runtime("delete", "c").code == 0


def test_what_is_left_without_a_pid_namespace_goes_with_the_container(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["namespaces"] = [one for one in scoped.config["linux"]["namespaces"] if one["type"] != "pid"]
    assert run(runtime, scoped, "sleep 1000 >/dev/null 2>&1 & exit 4").code == 4


def test_a_creation_that_was_killed_at_any_moment_is_undone(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["resources"].update(RESOURCES)
    scoped.write()
    started = time.monotonic()
    created(runtime, scoped)
    usual = time.monotonic() - started
    runtime("delete", "--force", "c")
    for _ in range(25):
        args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(scoped.path), "c"]
        with subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as one:
            time.sleep(random.uniform(0, usual))
            one.send_signal(signal.SIGKILL)
        done = runtime("delete", "--force", "c")
        assert done.code == 0, done.err
        assert not settled(units, set())


def test_a_creation_that_is_interrupted_leaves_nothing(runtime: Runtime, scoped: Bundle) -> None:
    scoped.write()
    for _ in range(10):
        args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(scoped.path), "c"]
        with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
            time.sleep(random.uniform(0.2, 1))
            one.send_signal(signal.SIGTERM)
        if one.returncode == 0:  # it had been faster
            assert runtime("delete", "--force", "c").code == 0
        assert not (runtime.root / "c").exists()
        assert not settled(units, set())


def test_the_unit_goes_with_a_container_whose_state_is_damaged(runtime: Runtime, scoped: Bundle) -> None:
    pid = created(runtime, scoped)
    (runtime.root / "c" / "state.json").write_text("{")
    done = runtime("delete", "--force", "c")
    assert done.code == 0, done.err
    assert not Path(f"/proc/{pid}").exists() or (Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z")


# Beside other things


def test_a_hook_in_the_container_is_in_its_cgroup(runtime: Runtime, scoped: Bundle, tmp_path: Path) -> None:
    scoped.config["hooks"] = {
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat /proc/self/cgroup >{tmp_path}/hook"]}]
    }
    created(runtime, scoped)
    seen = {line.split(":", 2)[2] for line in (tmp_path / "hook").read_text().splitlines()}
    assert len(seen) == 1 and seen <= {"/", f"/system.slice/{UNIT}"}


MAPS = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]


@pytest.mark.parametrize("namespace", [True, False], ids=["cgroup namespace", "the host's"])
def test_a_user_namespace(runtime: Runtime, scoped: Bundle, namespace: bool) -> None:
    linux = scoped.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux.update(uidMappings=MAPS, gidMappings=MAPS)
    if not namespace:
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "cgroup"]
    for folder in (scoped.path, *scoped.path.parents):
        folder.chmod(0o755)
    for folder, names, files in os.walk(scoped.rootfs):
        for name in [*names, *files, ""]:
            os.lchown(os.path.join(folder, name), 100_000, 100_000)
    scoped.config["linux"]["resources"]["pids"] = {"limit": 20}
    place = "" if PURE_V2 else "pids/"
    done = run(runtime, scoped, f"cat /proc/self/cgroup; cat /sys/fs/cgroup/{place}pids.max")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[-1] == "20"
    assert {line.split(":", 2)[2] for line in lines[:-1]} == {"/" if namespace else f"/system.slice/{UNIT}"}


@on_v2
def test_a_writable_cgroup_belongs_to_the_user_but_for_its_limits(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    for mount in scoped.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
    created(runtime, scoped, pids={"limit": 20})
    folder = ROOT / "system.slice" / UNIT
    owners = {name: (folder / name).stat().st_uid for name in ("", "cgroup.procs", "pids.max", "memory.max")}
    assert owners == {"": 1000, "cgroup.procs": 1000, "pids.max": 0, "memory.max": 0}


def test_run_in_the_foreground_and_detached(runtime: Runtime, scoped: Bundle) -> None:
    assert run(runtime, scoped, "exit 7").code == 7
    assert not settled(units, set())
    scoped.config["process"]["args"] = ["/bin/sleep", "1000"]
    done = runtime("--cgroup-manager", "systemd", "run", "-d", "-b", scoped.write().path, "c")
    assert done.code == 0, done.err
    assert shown("ActiveState") == ["active"]
    assert runtime("kill", "c", "KILL").code == 0


def test_no_connection_to_the_bus_stays_while_a_container_runs(runtime: Runtime, scoped: Bundle) -> None:
    scoped.write()
    args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "run", "-b", str(scoped.path), "c"]
    with subprocess.Popen(args, stdin=subprocess.DEVNULL) as one:
        while runtime("state", "c").code or runtime.state("c")["status"] != "running":
            time.sleep(0.05)
        links = [os.readlink(entry) for entry in Path(f"/proc/{one.pid}/fd").iterdir()]
        assert runtime("kill", "c", "KILL").code == 0
    assert not any(link.startswith("socket:") for link in links[3:]), links


def test_explain_shows_what_systemd_is_asked_for(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["resources"].update(RESOURCES)
    scoped.config["linux"]["cgroupsPath"] = "system.slice:ocirt:c"
    shown_ = runtime("--systemd-cgroup", "explain", scoped.write().path).out
    assert f"on the host: start the scope {UNIT} over D-Bus, with init in it" in shown_
    assert "▸  Slice=system.slice" in shown_ and "▸  TasksMax=20" in shown_
    assert f"at delete: stop the unit {UNIT}" in shown_


def test_three_dozen_containers_half_of_them_killed(runtime: Runtime, scoped: Bundle) -> None:
    scoped.config["linux"]["resources"].update(RESOURCES)
    before = folders()
    names = [f"ocirt-leak-{number}" for number in range(36)]
    running = []
    for name in names:
        scoped.config["linux"]["cgroupsPath"] = f"system.slice:ocirt:{name}"
        scoped.write()
        if len(running) % 2:
            args = [OCIRT, "--root", str(runtime.root), "--systemd-cgroup", "create", "-b", str(scoped.path), name]
            with subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as one:
                time.sleep(random.uniform(0, 1.5))
                one.kill()
        else:
            assert runtime("--systemd-cgroup", "create", "-b", scoped.path, name).code == 0
        running.append(name)
    for name in running:
        done = runtime("delete", "--force", name)
        assert done.code == 0, done.err
    # The first one's delete could not remove what it had made for the slice where systemd makes nothing, and none
    # after it had made that. It is empty, or this fails.
    for folder in sorted(folders() - before):
        assert folder.endswith("/system.slice")
        os.rmdir(folder)
