"""gc: what engines and commands left when they were killed; found by what was recorded before it was made.

A container that runs, waits or has stopped is its engine's, and is left alone. What is removed was looked at under the
container's lock, so no command is at work on it, and nothing is touched that no record of ours names.
"""

from __future__ import annotations

import posix
from time import time

from ocirt.errors import ContainerError, Error, NotFoundError, UsageError
from ocirt.host.filters import PATIENCE, folder_path
from ocirt.runtime.delete import clear, salvaged
from ocirt.state.entry import Entry, lock
from ocirt.state.process import is_alive
from ocirt.state.status import CREATING, RUNNING, STOPPED, status_of
from ocirt.state.store import START, STATE, UNFINISHED_START, Store, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CREATION = "creation"
"""A container whose `create` or `run` was killed before it was there: its folder, cgroups, unit, init."""
FIFO = "fifo"
"""The one that a container waited at which runs by now: its `start` was killed."""
TEMPORARY = "temporary"
"""A file that was being written by a command that was killed."""
STOPPED_CONTAINER = "stopped"
"""Nothing that was left, but for its engine: only shown, and only if that is asked for."""
DAMAGED = "damaged"
"""A state that nobody can read: only shown."""


class Finding:
    """kind: one of those above; id: of the container, or ""; removed: is it gone by now?"""

    __slots__ = ("id", "kind", "path", "removed", "why")

    def __init__(self, kind: str, container_id: str, path: str, why: str) -> None:
        self.kind = kind
        self.id = container_id
        self.path = path
        self.why = why
        self.removed = False

    def document(self) -> dict[str, str | bool]:
        return {"kind": self.kind, "id": self.id, "path": self.path, "why": self.why, "removed": self.removed}


def collect(root: str, *, force: bool = False, stopped: bool = False) -> tuple[list[Finding], list[str]]:
    """What is found below a state root and among the caller's compiled filters, and warnings for what would not go.

    force: remove it. stopped: also show containers that have stopped, which are never removed here.
    """
    store = Store(root)
    found: list[Finding] = []
    warnings: list[str] = []
    for container_id in store.ids():
        try:
            check_id(container_id)
            with lock(store.folder(container_id), container_id, patience=0) as entry:
                for finding in _of_container(store, entry, container_id, stopped=stopped):
                    found.append(finding)
                    if force:
                        warnings += _remove(store, entry, finding)
        except (NotFoundError, UsageError):
            continue  # it was deleted in this moment, or can be no container's
        except Error as error:
            # A command is at work on it, or it is nothing of ours: that is no garbage.
            if not isinstance(error, ContainerError):
                warnings.append(str(error))
    found += _filters(force, warnings)
    return found, warnings


def _of_container(store: Store, entry: Entry, container_id: str, *, stopped: bool) -> Iterator[Finding]:
    """What is left of it, or in its folder. entry: locked."""
    try:
        known = store.read(container_id)
    except Error as error:
        yield Finding(DAMAGED, container_id, f"{entry.folder}/{STATE}", error.message)
        return
    status = status_of(known, entry.folder)
    why = _unfinished(known, status, entry)
    if why:
        yield Finding(CREATION, container_id, entry.folder, why)
        return  # all in it goes with it
    if status == STOPPED and stopped:
        yield Finding(STOPPED_CONTAINER, container_id, entry.folder, "it is its engine's, or yours, to delete")
    if status == RUNNING and _exists(entry, START):
        yield Finding(FIFO, container_id, f"{entry.folder}/{START}", "the container has been started")
    for name in sorted(posix.listdir(entry.fd)):
        if name.startswith("."):  # state.entry.Entry.write, which nobody does without the lock
            yield Finding(TEMPORARY, container_id, f"{entry.folder}/{name}", "whoever wrote it has ended")


def _unfinished(known: dict[str, Any], status: str, entry: Entry) -> str:
    """Why its creation can never be finished; "" if it is, or may be."""
    if is_alive(*known["creator"]):
        return ""
    if not known["created"]:
        return "its creation was killed before it began"
    creator = known["creator"][0]
    if status == CREATING or (status == STOPPED and (not known["pid"] or _exists(entry, UNFINISHED_START))):
        return f"its creation was killed: process {creator} is gone"
    return ""


def _exists(entry: Entry, name: str) -> bool:
    try:
        posix.stat(name, dir_fd=entry.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(store: Store, entry: Entry, finding: Finding) -> list[str]:
    """Returns warnings, also why it is still there."""
    try:
        if finding.kind == CREATION:
            known = store.read(finding.id)
            if not known["created"]:  # nothing says what it holds but the copy of its configuration
                known = salvaged(entry, finding.id, force=False)
            warnings = clear(known, entry, status_of(known, entry.folder), kill=True)
        elif finding.kind in (FIFO, TEMPORARY):
            entry.unlink(finding.path.rpartition("/")[2])
            warnings = []
        else:
            return []
        finding.removed = True
        return warnings
    except Error as error:
        return [str(error)]
    except OSError as error:
        return [f"remove {finding.path}: {error.strerror}"]


def _filters(force: bool, warnings: list[str]) -> Iterator[Finding]:
    """Files in the cache of filters whose writers were killed (host.filters)."""
    folder = folder_path()
    try:
        fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return  # there is none
    try:
        if posix.fstat(fd).st_uid != posix.geteuid():
            return
        for name in sorted(posix.listdir(fd)):
            if not name.startswith(".") or not _is_old(name, fd):
                continue
            finding = Finding(TEMPORARY, "", f"{folder}/{name}", "whoever wrote it has ended")
            if force:
                try:
                    posix.unlink(name, dir_fd=fd)
                    finding.removed = True
                except FileNotFoundError:
                    continue
                except OSError as error:
                    warnings.append(f"remove {finding.path}: {error.strerror}")
            yield finding
    finally:
        posix.close(fd)


def _is_old(name: str, folder: int) -> bool:
    try:
        return time() - posix.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > PATIENCE
    except FileNotFoundError:
        return False
