"""delete: remove what a container holds (runtime.md, "Delete")."""

from __future__ import annotations

import posix
import select

from ocirt.cgroups.manager import Cgroups
from ocirt.errors import ContainerError, Error, NotFoundError
from ocirt.runtime.kill import SIGKILL, kill_members, signal_process
from ocirt.state.process import is_alive, open_process
from ocirt.state.status import CREATED, STOPPED, status_of
from ocirt.state.store import CONFIG, MANAGED, Store, are_cgroups, unfinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.state.store import Entry

KILL_PATIENCE_MS = 10_000
UNHINDERED_MS = 20
"""In which a process ends whom nothing keeps: no freezer, and no quota that leaves it next to no time."""


def delete(root: str, container_id: str, *, force: bool = False, strict: bool = False) -> list[str]:
    """Returns warnings. Raises ContainerError for a running container without `force`, which kills it.

    A created one may be deleted without `force`, because engines do that; `strict` is the specification's word
    ("MUST generate an error if the container is not stopped"). With `force` an unknown id is no error, and a container
    whose `create` was killed at any moment is cleaned up.
    """
    store = Store(root)
    try:
        entry = store.lock(container_id)
    except NotFoundError:
        if force:
            return []
        raise
    with entry:
        known = _known(store, entry, container_id, force)
        status = status_of(known, entry.folder)
        if status != STOPPED and not force and (strict or status != CREATED):
            raise ContainerError(
                f'cannot delete "{container_id}": it is {status}, not stopped', hint="--force kills it first"
            )
        return clear(known, entry, status, kill=force or not known["privatePids"])


def clear(known: dict[str, Any], entry: Entry, status: str, *, kill: bool) -> list[str]:
    """End it, if it has not stopped, and remove all of it. Returns warnings."""
    if known["netDevices"]:  # its creation was killed
        from ocirt.host.netdevices import recover

        recover(known["netDevices"], known["pid"] if status != STOPPED else 0)
    if status != STOPPED:
        end(known)
    return destroy(known, entry, kill=kill)


def destroy(known: dict[str, Any], entry: Entry, *, kill: bool) -> list[str]:
    """Remove what a container whose first process is gone holds, run its poststop hooks, and forget it. Returns
    warnings: a hook that fails keeps nothing."""
    cgroups = Cgroups.from_state(known["cgroups"])
    cgroups.remove(kill=kill)
    if known["resctrl"]:
        from ocirt.host.resctrl import remove

        remove(known["resctrl"], known["id"])
    warnings: list[str] = []
    if "poststop" in known["hooks"] and known["pid"]:
        from ocirt.runtime.hooks import hooks_of

        try:
            warnings = hooks_of(entry, known, cgroups).run_all("poststop")
        except Error as error:  # the copy of the configuration cannot be read
            warnings.append(str(error))
    entry.remove()
    return warnings


def _known(store: Store, entry: Entry, container_id: str, force: bool) -> dict[str, Any]:
    try:
        known = store.read(container_id)
        if known["created"]:
            return known
    except NotFoundError:
        raise
    except Error:
        if not force:
            raise
    return salvaged(entry, container_id, force=force)


def salvaged(entry: Entry, container_id: str, *, force: bool) -> dict[str, Any]:
    """The state of a container whose state.json is damaged or missing: its cgroups, where its processes are, follow
    from the copy of its configuration, or are noted beside it. Without these `create` came to none of them."""
    known = unfinished(container_id)
    cgroups = _cgroups_of(entry, container_id)
    if cgroups is None:
        return known
    if not force and cgroups.processes():
        raise ContainerError(
            f'the state of "{container_id}" is missing, and there are processes in its cgroups',
            hint="--force kills them",
        )
    known["cgroups"] = cgroups.to_state()
    return known


def _cgroups_of(entry: Entry, container_id: str) -> Cgroups | None:
    from ocirt.cgroups.layout import detect
    from ocirt.config.read import parse, read_json

    try:
        noted = parse(read_json(f"{entry.folder}/{MANAGED}", folder=entry.fd))
        if are_cgroups(noted):
            return Cgroups.from_state(noted)
    except Error:
        pass
    try:
        spec = parse(read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd))
        path = (spec.get("linux") or {}).get("cgroupsPath") or ""
    except (Error, AttributeError):
        return None
    if not path.strip("/.") and path:
        return None  # a hierarchy's root is nobody's
    return Cgroups.for_container(detect(), path, container_id)


def end(known: dict[str, Any]) -> None:
    """SIGKILL the first process and wait until it is gone. Raises ContainerError if it does not go."""
    pid = known["pid"]
    try:
        fd = open_process(pid) if pid else -1
    except ProcessLookupError:
        return
    if fd < 0:
        return
    try:
        if not known["privatePids"] and not known["cgroups"]["places"]:
            kill_members(known, SIGKILL)  # afterwards nobody would know them
        if signal_process(known, SIGKILL):
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if poller.poll(UNHINDERED_MS):
                return
            # For a quota the kernel looks at every cgroup of the host: not without need.
            cgroups = Cgroups.from_state(known["cgroups"])
            cgroups.unhinder()
            if not poller.poll(KILL_PATIENCE_MS) and is_alive(pid, known["pidStart"]):
                freezer = cgroups.freezer
                held = freezer is not None and freezer.is_held_from_above()
                raise ContainerError(
                    f"process {pid} has not ended {KILL_PATIENCE_MS // 1000} s after SIGKILL",
                    hint=f"thaw the cgroup above {freezer.folder}"
                    if freezer and held
                    else "it may wait for a device: see /proc/PID/stack",
                )
    finally:
        posix.close(fd)
