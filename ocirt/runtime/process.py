"""Which process `exec` is to run: a process object of its own, or the container's with what the caller changes."""

from __future__ import annotations

from ocirt.config.check import check_process
from ocirt.config.read import Config, placed
from ocirt.config.shape import PROCESS, check_shape
from ocirt.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_INHERITED = (
    *("capabilities", "apparmorProfile", "selinuxLabel", "noNewPrivileges", "rlimits", "oomScoreAdj"),
    *("scheduler", "ioPriority", "execCPUAffinity"),
)
"""What a process object that leaves it out has from the container: nobody gets more rights by saying less."""


class Request:
    """`process`: a process object (config.md, "Process"), of which everything but args may be missing with `changes`.

    changes       it is what to change of the container's own: env and additionalGids are added to, capabilities too
    text, place   the JSON that it was read from, and where that is: for the line in an error
    names         otherwise, the pointer of a value → what the user calls it, such as "--cwd"
    """

    def __init__(
        self,
        process: dict[str, Any],
        *,
        changes: bool = False,
        text: str = "",
        place: str = "",
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.process = process
        self.changes = changes
        self.text = text
        self.place = place
        self.names = names or {}

    def applied_to(self, config: Config) -> Config:
        """The container's configuration with the process to run. Raises ConfigError for what is wrong with it."""
        own = config.spec["process"]
        if self.changes:
            process = _changed(own, self.process)
            check_shape(process, PROCESS, ("process",))
        else:
            check_shape(self.process, PROCESS, ("process",))
            process = dict(self.process)
            for name in _INHERITED:
                if not process.get(name) and process.get(name) is not False and own.get(name) is not None:
                    process[name] = own[name]
            umask = own["user"].get("umask")
            if umask is not None and process["user"].get("umask") is None:
                process["user"] = {**process["user"], "umask": umask}
        result = Config({**config.spec, "process": process}, config.text, config.bundle, config.path)
        check_process(result)
        return result

    def named(self, error: Error, config: Config) -> Error:
        """The error, with the place of its value: in what the caller said, or in the container's configuration."""
        pointer = error.pointer
        if pointer is None or error.place:
            return error
        parts = pointer.split("/")
        name = parts[2] if len(parts) > 2 else ""
        if parts[1] != "process" or (name not in self.process and name in _INHERITED):
            return placed(error, config.path, config.text)
        if not self.changes:
            error.pointer = pointer[len("/process") :]
            return placed(error, self.place, self.text)
        error.place, error.pointer = next((self.names[at] for at in _around(pointer) if at in self.names), ""), None
        return error


def _around(pointer: str) -> list[str]:
    """The pointer, and those of what is around its value."""
    found = [pointer]
    while "/" in pointer[1:]:
        pointer = pointer.rpartition("/")[0]
        found.append(pointer)
    return found


def _changed(own: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    process = {**own, **changes}
    if "env" in changes:
        process["env"] = [*(own.get("env") or ()), *changes["env"]]
    if "user" in changes:
        both = own["user"], changes["user"]
        gids = [gid for user in both for gid in user.get("additionalGids") or ()]
        process["user"] = {**both[0], **both[1], "additionalGids": gids}
    if "capabilities" in changes:
        sets = {name: list(members or ()) for name, members in (own.get("capabilities") or {}).items()}
        for name, members in changes["capabilities"].items():
            sets[name] = list(dict.fromkeys([*sets.get(name, ()), *members]))
        process["capabilities"] = sets
    return process
