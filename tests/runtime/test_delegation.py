"""Cgroups of an ordinary user: none without delegation, with all verbs that are left then; and in what is delegated, on
v1 (some hierarchies), hybrid and v2. Which ones the host has, tests/isolate says (KEEP_UNIFIED=1, PURE_V2=1)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.ordinary import ROOT, UID, Ordinary, ordinary_users, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PURE_V2 = (ROOT / "cgroup.controllers").exists()
V2 = ROOT if PURE_V2 else ROOT / "unified"
DENY = [{"allow": False, "access": "rwm"}]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]
on_v1 = pytest.mark.skipif(not (ROOT / "pids").is_dir(), reason="the host has no v1 hierarchies")
on_v2 = pytest.mark.skipif(not (V2 / "cgroup.controllers").exists(), reason="the host has no v2 tree")
pure_v2 = pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")


@pytest.fixture
def user() -> Iterator[Ordinary]:
    yield from ordinary_users()


def delegate(*folders: Path) -> None:
    """As systemd does for Delegate= (systemd's CGROUP_DELEGATION)."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        os.chown(folder, UID, UID)
        for name in ("cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"):
            if (folder / name).exists():
                os.chown(folder / name, UID, UID)


@pytest.fixture
def theirs(user: Ordinary) -> Iterator[Callable[..., list[Path]]]:
    """Makes folders in hierarchies ("": pure v2) and delegates them; gone at the end."""
    made: list[Path] = []

    def make(*names: str) -> list[Path]:
        folders = [ROOT / name / "theirs" for name in names]
        made.extend(folders)
        delegate(*folders)
        return folders

    yield make
    user("delete", "--force", "c")
    for folder in made:
        for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            below.rmdir()
        folder.rmdir()


def limits(user: Ordinary, **resources: Any) -> None:
    user.bundle.config["linux"]["resources"] = {"devices": DENY, **resources}


# Without delegation


def test_nothing_delegated_is_no_cgroup_and_one_warning_that_says_what_would_help(user: Ordinary) -> None:
    done = user.run("echo $(cat /proc/self/cgroup | wc -l)", "--debug")
    assert done.code == 0, done.err
    about = [line for line in done.err.splitlines() if "cgroup" in line]
    assert len(about) == 1, done.err
    assert f"warning: the container has no cgroup of its own: the user {UID} may not write to {ROOT}" in about[0]
    assert "give it to you" in about[0] or "Delegate=" in about[0] or "--systemd-cgroup" in about[0]
    assert "/linux/resources/devices" not in done.err


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"pids": {"limit": 10}}, "pids/limit"),
        ({"memory": {"limit": 1 << 26}}, "memory/limit"),
        ({"unified": {"memory.high": "1"}}, "unified/memory.high"),
    ],
    ids=str,
)
def test_a_limit_is_refused_at_its_place_with_what_would_help(
    user: Ordinary, resources: dict[str, Any], pointer: str
) -> None:
    limits(user, **resources)
    done = user.run("true")
    assert done.code == 1
    assert (
        f": /linux/resources/{pointer}: a limit needs a cgroup, and the container can have none: the user" in done.err
    )
    assert "remove the value" in done.err
    assert json.loads(user("list", "--format", "json").out or "null") in (None, [])


def test_what_is_unset_is_no_limit(user: Ordinary) -> None:
    limits(user, memory={"limit": 0, "swap": -1}, cpu={"shares": 0, "cpus": ""}, pids={"limit": -1})
    assert user.run("exit 3").code == 3


@pytest.mark.parametrize("path", ["/ocirt-asked", "asked"])
def test_a_path_that_is_asked_for_and_is_not_theirs_is_an_error(user: Ordinary, path: str) -> None:
    user.bundle.config["linux"]["cgroupsPath"] = path
    done = user.run("true")
    assert done.code == 1
    assert f': /linux/cgroupsPath: no cgroup "{path}": the user {UID} may not write to {ROOT}' in done.err
    assert "leave it out" in done.err


def test_without_a_cgroup_all_verbs_work_or_say_why_not(user: Ordinary) -> None:
    user.started("trap 'exit 5' TERM; (sleep 1000; true) & while :; do sleep 0.05; done")
    pids = until(lambda: len(found := json.loads(user("ps", "--format", "json", "c").out)) >= 3 and found)
    assert json.loads(user("state", "c").out)["pid"] in pids
    inside = user("exec", "c", "/bin/sh", "-c", "exit 9")
    assert inside.code == 9, inside.err
    for verb, *more in (["pause"], ["update", "--memory", "100m"], ["events", "--stats"]):
        done = user(verb, *more, "c")
        assert done.code == 1 and "cgroup" in done.err, verb
    assert user("kill", "--all", "c", "TERM").code == 0
    until(lambda: json.loads(user("state", "c").out)["status"] == "stopped")
    assert json.loads(user("ps", "--format", "json", "c").out or "null") in (None, [])
    assert user("kill", "--all", "c", "KILL").code == 0
    assert user("delete", "c").code == 0


def test_kill_all_signals_each_process_of_the_pid_namespace(user: Ordinary) -> None:
    """Also what `exec` brought, whose parent is not in it."""
    # What waits in `wait` runs the trap at once, and has no child that is just being made.
    script = "trap 'touch /tmp/{0}' USR1; touch /tmp/{0}-ready; while :; do sleep 1000 & wait; done"
    user.bundle.config["root"]["readonly"] = False
    tmp = user.bundle.rootfs / "tmp"
    user.started(f"({script.format('child')}) & {script.format('first')}")
    assert user("exec", "-d", "c", "/bin/sh", "-c", script.format("guest")).code == 0
    names = ("first", "child", "guest")
    until(lambda: all((tmp / f"{name}-ready").exists() for name in names))
    assert user("kill", "--all", "c", "USR1").code == 0
    until(lambda: all((tmp / name).exists() for name in names))
    assert user("delete", "--force", "c").code == 0


@pytest.mark.parametrize("way", [["kill", "--all", "c", "KILL"], ["delete", "--force", "c"]], ids=lambda way: way[0])
def test_without_a_pid_namespace_the_descendants_are_killed(user: Ordinary, way: list[str]) -> None:
    linux = user.bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "pid"]
    user.started("sleep 1000 & (sleep 1000; true) & wait")
    pids = until(lambda: len(found := json.loads(user("ps", "--format", "json", "c").out)) >= 4 and found)
    done = user("--debug", *way)
    assert done.code == 0, done.err
    assert ("neither a cgroup nor a pid namespace" in done.err) == (way[0] == "kill")
    until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# Root of a user namespace


def in_a_user_namespace(user: Ordinary) -> None:
    user.root = True
    mounts = user.bundle.config["mounts"]
    user.bundle.config["mounts"] = [one for one in mounts if one["type"] != "devpts"]  # its group is not mapped here


def test_root_of_a_user_namespace_is_no_root_of_the_host(user: Ordinary) -> None:
    in_a_user_namespace(user)
    done = user.run("echo yes", "--debug")
    assert (done.code, done.out) == (0, "yes\n"), done.err
    assert done.err.count("cgroup of its own") == 1
    assert f"the user {UID} may not write" in done.err and "/linux/resources/devices" not in done.err


@pytest.mark.parametrize("hierarchy", ["pids", "unified", ""])
def test_root_of_a_user_namespace_uses_what_is_delegated(user: Ordinary, theirs: Any, hierarchy: str) -> None:
    if not (ROOT / hierarchy / "cgroup.procs").exists():
        pytest.skip("the host has no such hierarchy")
    (folder,) = theirs(hierarchy)
    delegate(folder / "leaf")
    user.cgroups = (folder / "leaf",)
    in_a_user_namespace(user)
    user.bundle.config["linux"]["cgroupsPath"] = "/theirs/c"
    user.started("while :; do sleep 0.1; done")
    pid = json.loads(user("state", "c").out)["pid"]
    assert (folder / "c/cgroup.procs").read_text().split()[:1] == [str(pid)]
    assert user("delete", "--force", "c").code == 0


# Delegated on v1: each hierarchy by itself


@on_v1
def test_of_v1_hierarchies_those_are_used_that_are_delegated(user: Ordinary, theirs: Any) -> None:
    pids, freezer = theirs("pids", "freezer")
    user.bundle.config["linux"]["cgroupsPath"] = "/theirs/c"
    limits(user, pids={"limit": 20})
    user.started("while :; do sleep 0.1; done", "--debug")
    pid = json.loads(user("state", "c").out)["pid"]
    assert (pids / "c/pids.max").read_text() == "20\n"
    own = {line.split(":")[1]: line.split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    assert own["pids"] == own["freezer"] == "/theirs/c"
    assert own["devices"] == own["cpu"] == "/"
    assert user("pause", "c").code == 0
    assert json.loads(user("state", "c").out)["status"] == "paused"
    assert user("resume", "c").code == 0
    assert user("update", "--pids-limit", "30", "c").code == 0
    assert (pids / "c/pids.max").read_text() == "30\n"
    refused = user("update", "--memory", "100m", "c")
    assert refused.code == 1 and "--memory: no cgroup with the memory controller is delegated to" in refused.err
    stats = user("events", "--stats", "c")
    assert json.loads(stats.out)["data"]["pids"]["limit"] == 30, stats.err
    assert user("exec", "c", "/bin/cat", "/proc/self/cgroup").code == 0
    assert pid in json.loads(user("ps", "--format", "json", "c").out)
    assert user("kill", "--all", "c", "KILL").code == 0
    until(lambda: json.loads(user("state", "c").out)["status"] == "stopped")
    assert user("delete", "c").code == 0
    assert not (pids / "c").exists() and not (freezer / "c").exists()


@on_v1
def test_a_limit_of_a_v1_hierarchy_that_is_not_delegated_is_refused(user: Ordinary, theirs: Any) -> None:
    theirs("pids")
    user.bundle.config["linux"]["cgroupsPath"] = "/theirs/c"
    limits(user, pids={"limit": 20}, memory={"limit": 1 << 26})
    done = user.run("true")
    assert done.code == 1
    assert ": /linux/resources/memory/limit: no cgroup with the memory controller is delegated to the user" in done.err


@on_v1
def test_below_the_callers_own_cgroup_without_a_path(user: Ordinary, theirs: Any) -> None:
    user.cgroups = tuple(theirs("pids", "cpuset"))
    for name in ("cpus", "mems"):
        (ROOT / f"cpuset/theirs/cpuset.{name}").write_text((ROOT / f"cpuset/cpuset.{name}").read_text())
    limits(user, pids={"limit": 3})
    done = user.run("sleep 1 & sleep 1 & sleep 1 & wait; grep -E 'pids|cpuset' /proc/1/cgroup")
    assert "can't fork" in done.err or done.code != 0  # the third
    done = user.run("cat /proc/1/cgroup")
    assert done.code == 0, done.err
    done = user("explain", user.bundle.path)
    assert "/sys/fs/cgroup/pids/theirs/bundle/pids.max ← 3" in done.out, done.err
    assert "device rules" not in done.out


@on_v1
def test_a_damaged_state_still_leads_to_what_was_made(user: Ordinary, theirs: Any) -> None:
    """It does not follow from the configuration: who deletes it may be in other cgroups than who made it."""
    (folder,) = theirs("pids")
    user.cgroups = (folder,)
    user.started("while :; do sleep 0.1; done")
    assert (folder / "c").is_dir()
    (user.home / "state/c/state.json").write_text("{")
    done = user("delete", "--force", "c", cgroups=())
    assert done.code == 0, done.err
    assert not (folder / "c").exists()


# Delegated on v2


@pure_v2
def test_in_a_delegated_v2_tree_limits_are_those_of_its_controllers(user: Ordinary, theirs: Any) -> None:
    (folder,) = theirs("")
    names = (ROOT / "cgroup.controllers").read_text().split()
    (ROOT / "cgroup.subtree_control").write_text(" ".join("+" + name for name in names))
    delegate(folder / "leaf")
    user.cgroups = (folder / "leaf",)
    size = next(path.name.split(".")[1] for path in folder.glob("hugetlb.*.max"))
    limits(user, hugepageLimits=[{"pageSize": size, "limit": 0}])
    user.started("while :; do sleep 0.1; done")  # beside our own cgroup
    pid = json.loads(user("state", "c").out)["pid"]
    assert Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1] == "0::/theirs/c"
    assert (folder / f"c/hugetlb.{size}.max").read_text() == "0\n"
    assert user("pause", "c").code == 0
    assert user("resume", "c").code == 0
    inside = user("--debug", "exec", "c", "/bin/cat", "/proc/self/cgroup")
    assert (inside.code, "our own cgroup" in inside.err) == (0, False), inside.err
    # From outside of the tree nothing may be moved into it: the process is made all the same.
    outside = user("--debug", "exec", "c", "/bin/true", cgroups=())
    assert outside.code == 0, outside.err
    assert "warning: the process stays in our own cgroup" in outside.err
    assert user("delete", "--force", "c").code == 0
    if "pids" not in names:
        limits(user, pids={"limit": 10})
        done = user.run("true")
        assert done.code == 1
        assert "/linux/resources/pids/limit: the pids controller is not delegated to the user" in done.err


@pure_v2
def test_below_a_v2_cgroup_of_its_own_there_are_no_limits(user: Ordinary, theirs: Any) -> None:
    (folder,) = theirs("")
    names = (ROOT / "cgroup.controllers").read_text().split()
    (ROOT / "cgroup.subtree_control").write_text(" ".join("+" + name for name in names))
    user.cgroups = (folder,)
    done = user.run("cat /proc/1/cgroup")
    assert (done.code, done.out.splitlines()[-1:]) == (0, ["0::/"]), done.err
    shown = user("explain", "--json", user.bundle.path)
    assert json.loads(shown.out)["cgroups"][0]["path"] == f"{folder}/bundle"
    size = next(path.name.split(".")[1] for path in folder.glob("hugetlb.*.max"))
    limits(user, hugepageLimits=[{"pageSize": size, "limit": 0}])
    done = user.run("true")
    assert done.code == 1
    assert f"/linux/resources/hugepageLimits/0: {folder} cannot hand down its hugetlb controller" in done.err


@pure_v2
def test_a_v2_tree_is_of_no_use_from_outside(user: Ordinary, theirs: Any) -> None:
    """Who moves a process has to have cgroup.procs of what both places have in common."""
    theirs("")
    user.bundle.config["linux"]["cgroupsPath"] = "/theirs/c"
    done = user.run("true")
    assert done.code == 1
    assert f'/linux/cgroupsPath: no cgroup "/theirs/c": the user {UID} may not write to {ROOT}/cgroup.procs' in done.err


@on_v2
def test_device_rules_are_skipped_where_only_root_of_the_host_could_enforce_them(user: Ordinary, theirs: Any) -> None:
    (folder,) = theirs("" if PURE_V2 else "unified")
    delegate(folder / "leaf")
    user.cgroups = (folder / "leaf",)
    user.bundle.config["linux"]["cgroupsPath"] = "/theirs/c"
    limits(user)
    done = user.run("echo here > /dev/null && echo yes", "--debug")
    assert (done.code, done.out) == (0, "yes\n"), done.err
    assert "device" not in done.err
