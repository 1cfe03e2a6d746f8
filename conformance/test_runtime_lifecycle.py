"""runtime.md: "Lifecycle"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_changes_of_the_configuration_after_create_have_no_effect(container: Container) -> None:
    """runtime.md, Lifecycle 2: later updates of config.json MUST NOT affect the container."""
    container.process["args"] = ["/bin/sh", "-c", "echo first > /tmp/said"]
    assert container.create().code == 0
    container.process["args"] = ["/bin/sh", "-c", "echo second > /tmp/said"]
    container.config["hostname"] = "changed"
    container.write()
    assert container.start().code == 0
    container.wait_for("stopped")
    assert (container.rootfs / "tmp/said").read_text() == "first\n"


def test_the_program_does_not_run_before_start(container: Container) -> None:
    """runtime.md, Create: the user-specified program MUST NOT run at this time."""
    assert container.sleeping().create().code == 0
    assert not (container.rootfs / "tmp/ready").exists()
    assert container.start().code == 0
    container.wait_for_program()


def test_a_container_stops_when_its_process_exits_and_waits_for_delete(container: Container) -> None:
    """runtime.md, Lifecycle 9 and 10."""
    container.process["args"] = ["/bin/true"]
    assert container.create().code == 0
    assert container.start().code == 0
    container.wait_for("stopped")
    assert container.delete().code == 0
    assert container("state", container.id).code != 0


def test_what_a_failed_create_made_is_removed(container: Container) -> None:
    """runtime.md, Lifecycle: if create cannot be done the container goes to the stopped state's end, deleted."""
    container.process["args"] = ["/bin/does-not-exist"]
    assert container.create().code != 0
    assert container("state", container.id).code != 0
    assert container.sleeping().create().code == 0
