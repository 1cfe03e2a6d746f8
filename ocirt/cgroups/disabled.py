"""No cgroups: the container stays in those of its caller, as podman's --cgroups=disabled wants it.

Nothing is made, joined or limited, and no process can be found by its cgroup: a container ends with its first process
and the pid namespace that goes with that. Without a pid namespace of its own its other processes are out of reach.
"""

from __future__ import annotations

from ocirt.cgroups.manager import Cgroups
from ocirt.cgroups.setting import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.cgroups.layout import Layout

POINTER = "/linux/resources"
HINT = "remove it, or use --cgroup-manager cgroupfs or systemd"
_NO_LIMIT = ("checkBeforeUpdate", "useHierarchy")


class DisabledCgroups(Cgroups):
    """layout: the caller's own cgroups, which a cgroup mount shows.

    lacking: why there are none, if it is not what the caller asks for: one that is not root of the host may make them
    nowhere.
    """

    manager = "disabled"

    def __init__(self, layout: Layout | None = None, *, lacking: str = "") -> None:
        super().__init__(())
        self._lacking = lacking
        self._own = [
            (one.name, one.controllers, one.v2, one.mount, one.mount + one.own.rstrip("/"))
            for one in (layout.hierarchies if layout else ())
        ]

    def to_state(self) -> dict[str, Any]:
        return {**super().to_state(), "manager": self.manager}

    def joins(self, pure_v2: bool) -> tuple[bool, bool]:
        """init meets the host all the same: that its cgroups are the right ones is the host's to say (verify)."""
        return False, True

    def shown(self) -> Sequence[tuple[str, tuple[str, ...], bool, str, str]]:
        return self._own

    def limit(self, wanted: dict[str, Any]) -> list[str]:
        pointer = _first_limit({name: value for name, value in wanted.items() if name != "devices"}, POINTER)
        if self._lacking:
            return self._without(pointer, wanted)
        if pointer:
            raise refuse(pointer, "a limit needs a cgroup, and the container is to have none", HINT)
        if wanted.get("devices"):
            return [f"{POINTER}/devices: not enforced: the container has no cgroup of its own"]
        return []

    def _without(self, pointer: str, wanted: dict[str, Any]) -> list[str]:
        from ocirt.cgroups.delegation import fix, unprivileged

        if pointer:
            words = f"a limit needs a cgroup, and the container can have none: {self._lacking}"
            raise refuse(pointer, words, f"{fix()}; or remove the value")
        warnings = [f"the container has no cgroup of its own: {self._lacking} ({fix()})"]
        if wanted.get("devices") and not unprivileged():
            warnings.append(f"{POINTER}/devices: not enforced: the container has no cgroup of its own")
        return warnings

    def set_late(self, devices: Sequence[dict[str, Any]]) -> None:
        pass


def _first_limit(value: Any, pointer: str) -> str:
    """The pointer of the first value that asks for something, or "". 0 is unset, but for pids; -1 is no limit."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name not in _NO_LIMIT:
                below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
                if found := _first_limit(member, below):
                    return found
        return ""
    if isinstance(value, list):
        return f"{pointer}/0" if value else ""
    if pointer == POINTER + "/pids/limit":
        return pointer if value is not None and value >= 0 else ""
    return pointer if value and value != -1 else ""
