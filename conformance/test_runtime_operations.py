"""runtime.md: "Operations"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_state_of_an_unknown_id_is_an_error(container: Container) -> None:
    """runtime.md, Query State: an id that does not exist MUST generate an error."""
    done = container("state", "unknown")
    assert done.code != 0
    assert "does not exist" in done.err


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete"])
def test_an_operation_without_an_id_is_an_error(container: Container, verb: str) -> None:
    """runtime.md: each operation MUST generate an error if it is not given the id."""
    assert container(verb).code != 0


def test_create_without_an_id_is_an_error(container: Container) -> None:
    """runtime.md, Create."""
    container.write()
    assert container("create", "--bundle", container.bundle).code != 0


def test_an_id_is_unique(container: Container) -> None:
    """runtime.md, Create: an id that is in use MUST generate an error."""
    assert container.sleeping().create().code == 0
    before = container.state()
    assert container.create().code != 0
    assert container.state() == before


def test_start_of_a_container_that_is_not_created_is_an_error_and_changes_nothing(container: Container) -> None:
    """runtime.md, Start: it MUST have no effect on the container and generate an error."""
    assert container("start", "unknown").code != 0
    assert container.sleeping().create().code == 0
    assert container.start().code == 0
    pid = container.state()["pid"]
    assert container.start().code != 0
    assert (container.status, container.state()["pid"]) == ("running", pid)
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
    assert container.start().code != 0
    assert container.status == "stopped"


def test_start_without_a_process_is_an_error(container: Container) -> None:
    """runtime.md, Start: MUST generate an error if process was not set. Create may do it before."""
    del container.config["process"]
    created = container.create()
    assert created.code != 0 or container.start().code != 0


def test_kill_sends_the_signal_to_the_container_process(container: Container) -> None:
    """runtime.md, Kill."""
    script = "trap 'echo > /tmp/got; exit' USR1; echo > /tmp/ready; while :; do sleep 0.05; done"
    container.process["args"] = ["/bin/sh", "-c", script]
    assert container.create().code == 0
    assert container.start().code == 0
    container.wait_for_program()
    assert container.kill("USR1").code == 0
    container.wait_for("stopped")
    assert (container.rootfs / "tmp/got").exists()


def test_kill_reaches_a_created_container(container: Container) -> None:
    """runtime.md, Kill: created or running."""
    assert container.sleeping().create().code == 0
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")


def test_kill_of_a_stopped_container_is_an_error(container: Container) -> None:
    """runtime.md, Kill: neither created nor running MUST generate an error."""
    assert container.sleeping().create().code == 0
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
    assert container.kill("KILL").code != 0
    assert container.status == "stopped"


def test_delete_of_a_running_container_is_an_error_and_changes_nothing(container: Container) -> None:
    """runtime.md, Delete: not stopped MUST have no effect and generate an error."""
    assert container.sleeping().create().code == 0
    assert container.start().code == 0
    assert container.delete().code != 0
    assert container.status == "running"


def test_after_delete_the_id_can_be_used_again(container: Container) -> None:
    """runtime.md, Delete."""
    for _ in range(2):
        assert container.sleeping().create().code == 0
        assert container.kill("KILL").code == 0
        container.wait_for("stopped")
        assert container.delete().code == 0


def test_errors_are_words_on_stderr_and_a_code(container: Container) -> None:
    """runtime.md, Errors."""
    done = container("start", "unknown")
    assert done.code != 0
    assert done.err.strip()
    assert done.out == ""
