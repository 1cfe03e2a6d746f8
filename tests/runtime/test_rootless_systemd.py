"""--systemd-cgroup as an ordinary user: a scope of that user's own systemd, with limits that are in force.

Needs a host with pure v2 and systemd where a user "test" may have a manager of their own that lingers: tests/vm/run.sh.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.ordinary import Ordinary, until, users
from runtime.systemd_host import MARKS, MIB, PURE_V2

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME, UID = "test", 1000
MANAGER = Path("/run/user/1000/systemd/private")
SYSTEMD = "--systemd-cgroup"
pytestmark = [*MARKS, pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")]


@pytest.fixture
def user() -> Iterator[Ordinary]:
    yield from users(NAME)


@pytest.fixture(scope="module")
def lingering() -> Iterator[None]:
    """The user's manager is there, although the user has no session."""
    subprocess.run(["loginctl", "enable-linger", NAME], check=True)
    try:
        until(MANAGER.exists)
        yield
    finally:
        subprocess.run(["loginctl", "disable-linger", NAME], check=True)
        subprocess.run(["systemctl", "stop", f"user@{UID}.service", f"user-{UID}.slice"], check=True)


def test_without_a_manager_of_their_own_they_are_told_how_to_get_one(user: Ordinary) -> None:
    assert not MANAGER.exists()
    done = user.run("true", SYSTEMD)
    assert done.code == 1
    assert "there is no user's systemd to make cgroups" in done.err
    assert f"`loginctl enable-linger {UID}`" in done.err
    # Without systemd it goes on without a cgroup, and says the same.
    done = user.run("true", "--debug")
    assert done.code == 0, done.err
    assert f"the container has no cgroup of its own: the user {UID} may not write to /sys/fs/cgroup" in done.err
    assert f"`loginctl enable-linger {UID}`, and then `--systemd-cgroup`" in done.err
    user.bundle.config["linux"]["resources"] = {"pids": {"limit": 10}}
    done = user.run("true")
    assert done.code == 1
    assert ": /linux/resources/pids/limit: a limit needs a cgroup, and the container can have none" in done.err


def file(name: str) -> str:
    """Of the cgroup of the container c."""
    (path,) = Path("/sys/fs/cgroup/user.slice/user-1000.slice").glob("user@1000.service/user.slice/ocirt-c.scope")
    return (path / name).read_text().strip()


@pytest.mark.usefixtures("lingering")
def test_its_limits_are_in_force_and_all_verbs_work(user: Ordinary) -> None:
    user.bundle.config["linux"]["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 20},
    }
    user.started("while :; do sleep 0.1; done", SYSTEMD)
    pid = json.loads(user("state", "c").out)["pid"]
    scope = "/user.slice/user-1000.slice/user@1000.service/user.slice/ocirt-c.scope"
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{scope}\n"
    assert (file("memory.max"), file("pids.max"), file("cpu.weight")) == (str(64 * MIB), "20", "59")
    assert file("cpu.max") == "50000 100000"
    show = ["systemctl", "--user", "show", "-P", "TasksMax", "ocirt-c.scope"]
    told = user.command(*show, env={"XDG_RUNTIME_DIR": f"/run/user/{UID}"})
    assert told.out == "20\n", told.err
    assert user("pause", "c").code == 0
    assert json.loads(user("state", "c").out)["status"] == "paused"
    assert user("resume", "c").code == 0
    done = user("update", "--pids-limit", "30", "--memory", str(65 * MIB), "--memory-swap", str(65 * MIB), "c")
    assert done.code == 0, done.err
    assert (file("pids.max"), file("memory.max")) == ("30", str(65 * MIB))
    inside = user("--debug", "exec", "c", "/bin/cat", "/proc/self/cgroup")
    assert (inside.code, inside.out) == (0, "0::/\n"), inside.err
    assert "our own cgroup" not in inside.err
    assert pid in json.loads(user("ps", "--format", "json", "c").out)
    stats = json.loads(user("events", "--stats", "c").out)["data"]
    assert (stats["pids"]["limit"], stats["memory"]["usage"]["limit"]) == (30, 65 * MIB)
    assert user("kill", "--all", "c", "KILL").code == 0
    until(lambda: json.loads(user("state", "c").out)["status"] == "stopped")
    assert user("delete", "c").code == 0


@pytest.mark.usefixtures("lingering")
def test_root_of_a_user_namespace_has_the_users_manager(user: Ordinary) -> None:
    """As under rootless podman, which is root of a namespace with the user's ranges of ids."""
    user.before = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")
    user.bundle.config["linux"]["resources"] = {"pids": {"limit": 20}, "devices": [{"allow": False, "access": "rwm"}]}
    user.started("while :; do sleep 0.1; done", SYSTEMD)
    assert file("pids.max") == "20"
    user.before = ()  # the next would be another namespace, which has no right to this one; the user has
    inside = user("exec", "c", "/bin/cat", "/proc/self/cgroup")
    assert (inside.code, inside.out) == (0, "0::/\n"), inside.err
    assert user("delete", "--force", "c").code == 0


@pytest.mark.usefixtures("lingering")
@pytest.mark.parametrize(
    ("resources", "script", "status"),
    [
        ({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}, "tail -c 100m /dev/zero; exit 5", (137, 5)),
        ({"pids": {"limit": 3}}, "(sleep 9 & sleep 9 & sleep 9 & sleep 9 & wait) || exit 6; exit 7", (2, 6)),
    ],
    ids=["memory", "pids"],
)
def test_a_payload_meets_its_limits(
    user: Ordinary, resources: dict[str, Any], script: str, status: tuple[int, ...]
) -> None:
    user.bundle.config["linux"]["resources"] = resources
    done = user.run(script, SYSTEMD)
    assert done.code in status, done.err
    assert ("can't fork" in done.err) == ("pids" in resources), done.err


@pytest.mark.usefixtures("lingering")
def test_what_the_manager_has_not_been_given_is_refused_at_its_place(user: Ordinary) -> None:
    user.bundle.config["linux"]["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    done = user.run("true", SYSTEMD)
    assert done.code == 1
    assert ": /linux/resources/hugepageLimits/0: the hugetlb controller is not delegated to the user 1000" in done.err
    assert "add it to Delegate= of user@1000.service" in done.err
