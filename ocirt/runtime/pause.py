"""pause and resume: stop all of a container's processes, and let them go on (cgroup freezer)."""

from __future__ import annotations

from ocirt.cgroups.manager import Cgroups
from ocirt.errors import ContainerError
from ocirt.state.status import CREATED, PAUSED, RUNNING, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.cgroups.freezer import Freezer


def pause(root: str, container_id: str) -> None:
    """Returns when every process has stopped. Raises ContainerError unless it is created or running, KernelError, with
    nothing stopped, if one of them does not stop."""
    store = Store(root)
    with store.lock(container_id) as entry:
        known = store.read(container_id)
        status = status_of(known, entry.folder)
        if status == PAUSED:
            raise ContainerError(f'"{container_id}" is paused already')
        if status not in (CREATED, RUNNING):
            raise ContainerError(f'container not running: "{container_id}" is {status}')
        _freezer(known).freeze()


def resume(root: str, container_id: str) -> None:
    """Raises ContainerError unless it is paused."""
    store = Store(root)
    with store.lock(container_id) as entry:
        known = store.read(container_id)
        status = status_of(known, entry.folder)
        if status != PAUSED:
            raise ContainerError(f'container not paused: "{container_id}" is {status}')
        freezer = _freezer(known)
        freezer.thaw()
        if freezer.is_held_from_above():
            raise ContainerError(
                f"a cgroup above {freezer.folder} is frozen as well", hint="the container goes on when that is thawed"
            )


def _freezer(known: dict[str, Any]) -> Freezer:
    freezer = Cgroups.from_state(known["cgroups"]).freezer
    if freezer is None:
        raise ContainerError(
            f'"{known["id"]}" is in no cgroup that can be frozen', hint="cgroup v2, or v1's freezer controller"
        )
    return freezer
