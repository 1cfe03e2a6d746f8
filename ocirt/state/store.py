"""The state directory: a folder per container, whose lock is the folder itself.

    ROOT/ID/state.json   what is known of the container; written first of all, as an intent
    ROOT/ID/config.json  a copy of its configuration
    ROOT/ID/resources.json  its linux.resources, once they have been changed
    ROOT/ID/start        the FIFO that init waits at; it has this name once `create` is done

Files are replaced, never changed, so reading needs no lock.
"""

from __future__ import annotations

import posix

from ocirt.errors import Error, NotFoundError, UsageError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.state.entry import Entry as Entry

STATE = "state.json"
CONFIG = "config.json"
RESOURCES = "resources.json"
START = "start"
UNFINISHED_START = "start.unfinished"

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def check_id(container_id: str) -> None:
    """Ids are file names: letters, digits and _ + - . with no dot first, at most 255 of them."""
    if not 0 < len(container_id) <= 255 or not _LETTERS.issuperset(container_id) or container_id[0] == ".":
        raise UsageError(
            f'"{container_id}" is not a container id', hint="letters, digits and _ + - . (not first), at most 255"
        )


class Store:
    """All containers below one root directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def folder(self, container_id: str) -> str:
        return f"{self.root}/{container_id}"

    def create(self, container_id: str) -> Entry:
        """A new container's folder, locked. Raises ContainerError if there is one already."""
        check_id(container_id)
        from ocirt.state.entry import make

        return make(self.root, self.folder(container_id), container_id)

    def lock(self, container_id: str) -> Entry:
        """An existing container's folder, locked. Raises NotFoundError if there is none."""
        from ocirt.state.entry import lock

        try:
            check_id(container_id)
        except UsageError:
            raise unknown(container_id) from None
        return lock(self.folder(container_id), container_id)

    def read(self, container_id: str) -> dict[str, Any]:
        """What is known of a container. Raises NotFoundError; Error if its state cannot be read."""
        try:
            check_id(container_id)
        except UsageError:
            raise unknown(container_id) from None
        folder = self.folder(container_id)
        try:
            if not _is_folder(folder):
                raise unknown(container_id)
            fd = posix.open(f"{folder}/{STATE}", posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except FileNotFoundError:
            if _is_folder(folder):
                return unfinished(container_id)
            raise unknown(container_id) from None
        except OSError as error:
            raise from_os_error(error, f"read {folder}/{STATE}") from None
        try:
            content = b""
            while chunk := posix.read(fd, 65536):
                content += chunk
        finally:
            posix.close(fd)
        return _parsed(content, f"{folder}/{STATE}")

    def ids(self) -> list[str]:
        """The ids of all containers, sorted."""
        try:
            return sorted(entry.name for entry in posix.scandir(self.root) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, f"read {self.root}") from None


def unfinished(container_id: str) -> dict[str, Any]:
    """The state of a container whose `create` was killed before it could write one."""
    return {
        "id": container_id,
        "pid": 0,
        "pidStart": 0,
        "creator": [0, 0],
        "bundle": "",
        "rootfs": "",
        "created": "",
        "owner": 0,
        "ociVersion": "",
        "annotations": {},
        "cgroups": {"places": [], "made": []},
        "resctrl": [],
        "netDevices": [],
        "privatePids": False,
        "hooks": [],
        "last": [],
    }


def _parsed(content: bytes, path: str) -> dict[str, Any]:
    from _json import make_scanner

    from ocirt.state.document import Scanner

    try:
        value, end = make_scanner(Scanner())(  # type: ignore[arg-type]
            content.decode(), 0
        )
        if not content[end:].strip() and _is_state(value):
            return value  # type: ignore[no-any-return]
    except (ValueError, StopIteration, SystemError, RecursionError):
        pass
    raise Error(f"{path} is damaged", hint="`ocirt delete --force` still removes the container")


def _is_state(value: Any) -> bool:
    """Does it have every property that a state has, each of its type?"""
    if type(value) is not dict:
        return False
    for key, example in unfinished("").items():
        if type(value.get(key)) is not type(example):
            return False
    return (
        len(value["creator"]) == 2
        and all(type(number) is int for number in value["creator"])
        and type(value["cgroups"].get("places")) is list
        and type(value["cgroups"].get("made")) is list
        and type(value["cgroups"].get("paused", "")) is str
        and type(value.get("config", "")) is str
        and all(type(folder) is str for folder in [*value["cgroups"]["made"], *value["resctrl"]])
        and all(type(device) is dict for device in value["netDevices"])
        and all(type(kind) is str for kind in value["hooks"])
        and all(
            type(place) is list and list(map(type, place)) == [str, list, bool, str, str]
            for place in value["cgroups"]["places"]
        )
    )


def unknown(container_id: str) -> NotFoundError:
    return NotFoundError(f'container "{container_id}" does not exist')


def _is_folder(path: str) -> bool:
    """Itself, and no link to one."""
    try:
        return posix.lstat(path).st_mode & 0o170000 == 0o040000
    except (FileNotFoundError, NotADirectoryError):
        return False
