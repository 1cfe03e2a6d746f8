"""runtime.md: "State"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_the_state_has_the_required_properties(container: Container) -> None:
    """runtime.md, State: ociVersion, id, status, pid and bundle."""
    assert container.sleeping().create().code == 0
    state = container.state()
    assert isinstance(state["ociVersion"], str)
    assert state["id"] == container.id
    assert state["status"] == "created"
    assert isinstance(state["pid"], int)
    assert state["bundle"] == str(container.bundle)


def test_the_pid_is_that_of_the_container_process_as_the_host_sees_it(container: Container) -> None:
    """runtime.md, State: pid is the ID of the container process, from outside its pid namespace."""
    assert container.sleeping().create().code == 0
    assert container.start().code == 0
    with open(f"/proc/{container.state()['pid']}/cmdline") as file:
        assert file.read().startswith("/bin/sh\0")


@pytest.mark.parametrize("annotations", [{"a.b": "c", "d": ""}, {}, None])
def test_the_state_has_the_annotations(container: Container, annotations: dict[str, str] | None) -> None:
    """runtime.md, State: annotations is a map; without any it may be absent or empty."""
    if annotations is not None:
        container.config["annotations"] = annotations
    assert container.sleeping().create().code == 0
    found = container.state().get("annotations") or {}
    assert {name: found.get(name) for name in annotations or {}} == (annotations or {})


def test_the_state_is_one_json_object(container: Container) -> None:
    """runtime.md, State: serialized as JSON by the schema's names."""
    assert container.sleeping().create().code == 0
    assert isinstance(container.state(), dict)


def test_the_status_goes_from_created_over_running_to_stopped(container: Container) -> None:
    """runtime.md, State: the three statuses that last."""
    assert container.sleeping().create().code == 0
    assert container.status == "created"
    assert container.start().code == 0
    assert container.status == "running"
    assert container.kill("KILL").code == 0
    container.wait_for("stopped")
