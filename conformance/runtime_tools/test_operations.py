"""The suite's programs about operations and states: a test has its program's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container import wait_until
from suite_container import fails, v1_folder

if TYPE_CHECKING:
    from suite_container import SuiteContainer

pytestmark = pytest.mark.root


def test_create(container: SuiteContainer) -> None:
    """create MUST create a new container, and generate an error without an ID or if the ID is not unique."""
    container.args("ls").write()
    assert fails(container("create", "--bundle", container.bundle))
    container.created()
    assert container.state()["id"] == container.id
    assert fails(container.create())


def test_state(container: SuiteContainer) -> None:
    """state MUST generate an error without an ID and for an unknown one, and return the state as specified."""
    assert fails(container("state"))
    assert fails(container("state", container.id))
    container.args("true").created()
    state = container.state()
    assert {name: state[name] for name in ("id", "status", "bundle")} == {
        "id": container.id,
        "status": "created",
        "bundle": str(container.bundle),
    }
    assert state["ociVersion"].startswith("1.")
    assert Path(f"/proc/{state['pid']}").exists()
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
    assert container.delete().code == 0
    assert fails(container("state", container.id))


def test_delete_without_an_id(container: SuiteContainer) -> None:
    """delete MUST generate an error if it is not provided the container ID."""
    assert fails(container("delete"))


@pytest.mark.parametrize("status", ["created", "running"])
def test_delete(container: SuiteContainer, status: str) -> None:
    """delete of a container that is not stopped MUST generate an error and MUST have no effect on the container."""
    container.args("sleep", "60").created()
    if status == "running":
        assert container.start().code == 0
    pid = container.state()["pid"]
    assert fails(container.delete())
    assert (container.status, container.state()["pid"]) == (status, pid)
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
    assert container.delete().code == 0


def test_delete_only_create_resources(container: SuiteContainer) -> None:
    """Resources that are associated with the container, but were not created by it, MUST NOT be deleted."""
    folder = v1_folder("pids") / "of-somebody-else"
    folder.mkdir()
    try:
        container.args("true").created()
        (folder / "cgroup.procs").write_text(str(container.state()["pid"]))
        assert container.start().code == 0
        container.wait_for("stopped")
        assert container.delete().code == 0
        assert folder.is_dir()
    finally:
        folder.rmdir()


def test_delete_resources(container: SuiteContainer) -> None:
    """delete MUST delete the resources that were created during create."""
    folder = v1_folder("pids") / "cgrouptest"
    container.linux["cgroupsPath"] = "/cgrouptest"
    container.linux["resources"]["pids"] = {"limit": 1000}
    container.args("true").created()
    assert (folder / "pids.max").read_text() == "1000\n"
    assert container.start().code == 0
    container.wait_for("stopped")
    assert container.delete().code == 0
    assert not folder.exists()


def test_config_updates_without_affect(container: SuiteContainer) -> None:
    """Any updates to config.json after create MUST NOT affect the container."""
    container.linux["maskedPaths"] = ["/proc/kcore"]
    container.linux["readonlyPaths"] = ["/proc/fs"]
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    container.linux["rootfsPropagation"] = "shared"
    container.process["oomScoreAdj"] = 100
    container.asks().created()
    (container.bundle / "config.json").write_text('{"ociVersion": "1.0.0"}')
    assert container.start().code == 0
    container.wait_for("stopped")
    container.judge()
    assert container.delete().code == 0


def test_kill_without_a_container(container: SuiteContainer) -> None:
    """kill MUST generate an error without an ID, and for a container that does not exist."""
    assert fails(container("kill", "KILL"))
    assert fails(container.kill("KILL"))


@pytest.mark.parametrize("status", ["created", "running"])
def test_kill(container: SuiteContainer, status: str) -> None:
    """kill MUST send the specified signal to the container process; to a stopped container it MUST be an error."""
    container.args("sleep", "60").created()
    if status == "running":
        assert container.start().code == 0
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
    assert fails(container.kill("KILL"))


def test_kill_no_effect(container: SuiteContainer) -> None:
    """kill of a container that is neither created nor running MUST have no effect on the container."""
    container.args("true").stopped()
    before = container.state()
    container.kill("KILL")
    assert container.state() == before


@pytest.mark.parametrize("signal", ["TERM", "USR1", "USR2"])
def test_killsig(container: SuiteContainer, signal: str) -> None:
    """kill MUST send the specified signal to the container process."""
    container.args("sh", "-c", f"trap 'touch /{signal}' {signal}; touch /ready; sleep 10 & wait $!").started()
    wait_until((container.bundle / "ready").exists)
    assert container.kill(signal).code == 0
    container.wait_for("stopped")
    assert (container.bundle / signal).exists()
