"""The state directory: a folder per container, whose lock is the folder itself.

    ROOT/ID/state.json   what is known of the container; written first of all, as an intent
    ROOT/ID/config.json  a copy of its configuration
    ROOT/ID/resources.json  its linux.resources, once they have been changed
    ROOT/ID/managed.json its cgroups, if not we ourselves make them: they do not follow from the configuration
    ROOT/ID/start        the FIFO that init waits at; it has this name once `create` is done

Files are replaced, never changed, so reading needs no lock.
"""

from __future__ import annotations

import posix

from ocirt.errors import ELOOP, Error, NotFoundError, UsageError, from_os_error
from ocirt.state.place import check_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.state.entry import Entry as Entry

STATE = "state.json"
CONFIG = "config.json"
RESOURCES = "resources.json"
MANAGED = "managed.json"
START = "start"
UNFINISHED_START = "start.unfinished"
_CHUNK = 65536

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

    def read(self, container_id: str, *, listed: bool = False) -> dict[str, Any]:
        """What is known of a container. Raises NotFoundError; Error if its state cannot be read.

        listed: `ids` has just named it, so nobody has to look again whether it is a folder.
        """
        try:
            check_id(container_id)
        except UsageError:
            raise unknown(container_id) from None
        folder = self.folder(container_id)
        if listed:
            try:
                check_own(posix.lstat(folder), folder)
            except FileNotFoundError:
                raise unknown(container_id) from None
            content = _content(f"{folder}/{STATE}", None, folder)
        else:
            fd = open_folder(folder, container_id)
            try:
                content = _content(STATE, fd, folder)
            finally:
                posix.close(fd)
        if content is None:
            return unfinished(container_id)
        return _parsed(content, f"{folder}/{STATE}")

    def open(self, container_id: str) -> int:
        """A descriptor of a container's folder, as `read` looks at it. Raises NotFoundError, Error."""
        return open_folder(self.folder(container_id), container_id)

    def ids(self) -> list[str]:
        """The ids of all containers, sorted."""
        try:
            return sorted(entry.name for entry in posix.scandir(self.root) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, f"read {self.root}") from None


def open_folder(folder: str, container_id: str) -> int:
    """A descriptor of it. Raises NotFoundError if there is none, ContainerError if it is not ours alone."""
    try:
        # Not through a link: what is in the folder is going to be believed, and to be removed.
        fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise unknown(container_id) from None
    except OSError as error:
        if error.errno == ELOOP:
            raise unknown(container_id) from None
        raise from_os_error(error, f"open {folder}") from None
    try:
        check_own(posix.fstat(fd), folder)
    except Error:
        posix.close(fd)
        raise
    return fd


def _content(path: str, at: int | None, folder: str) -> bytes | None:
    """What state.json holds, opened from the descriptor `at`; None if there is none. Raises Error."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=at)
    except FileNotFoundError:
        if at is None and not _is_folder(folder):
            raise unknown(folder.rpartition("/")[2]) from None
        return None
    except OSError as error:
        error.filename = None
        raise from_os_error(error, f"read {folder}/{STATE}") from None
    try:
        status = posix.fstat(fd)
        check_own(status, f"{folder}/{STATE}")
        if status.st_mode & 0o170000 != 0o100000:
            return b""  # nothing that we wrote
        content = chunk = posix.read(fd, _CHUNK)
        while len(chunk) == _CHUNK:  # less is all that there is, of a file that nobody changes
            chunk = posix.read(fd, _CHUNK)
            content += chunk
        return content
    finally:
        posix.close(fd)


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


_TYPES = tuple((key, type(example)) for key, example in unfinished("").items())
_PLACE = [str, list, bool, str, str]
_TEXT, _NUMBER, _OBJECT = {str}, {int}, {dict}
_scan: Callable[[str, int], tuple[Any, int]] | None = None


def _parsed(content: bytes, path: str) -> dict[str, Any]:
    global _scan
    if _scan is None:
        from _json import make_scanner

        from ocirt.state.document import Scanner

        _scan = make_scanner(Scanner())  # type: ignore[arg-type]
    try:
        value, end = _scan(content.decode(), 0)
        if (end == len(content) or not content[end:].strip()) and _is_state(value):
            return value  # type: ignore[no-any-return]
    except (ValueError, StopIteration, SystemError, RecursionError):
        pass
    raise Error(f"{path} is damaged", hint="`ocirt delete --force` still removes the container")


def _is_state(value: Any) -> bool:
    """Does it have every property that a state has, each of its type? `list` asks that a thousand times."""
    if type(value) is not dict:
        return False
    get = value.get
    for key, kind in _TYPES:
        if type(get(key)) is not kind:
            return False
    creator = value["creator"]
    return (
        len(creator) == 2
        and _NUMBER.issuperset(map(type, creator))
        and are_cgroups(value["cgroups"])
        and _TEXT.issuperset(map(type, value["resctrl"]))
        and _OBJECT.issuperset(map(type, value["netDevices"]))
        and _TEXT.issuperset(map(type, value["hooks"]))
        and type(get("config", "")) is str
    )


def are_cgroups(value: Any) -> bool:
    """Is it what cgroups.manager.Cgroups.to_state returns?"""
    if type(value) is not dict:
        return False
    places, made = value.get("places"), value.get("made")
    if type(places) is not list or type(made) is not list:
        return False
    for place in places:
        if type(place) is not list or [*map(type, place)] != _PLACE:
            return False
    return _TEXT.issuperset(map(type, made)) and type(value.get("paused", "")) is str and _is_managed(value)


def _is_managed(cgroups: dict[str, Any]) -> bool:
    """Is it known who made them (cgroups.manager)? Without a word it was we."""
    manager = cgroups.get("manager", "cgroupfs")
    if manager == "systemd":
        return all(type(cgroups.get(key)) is str for key in ("unit", "slice", "bus", "description"))
    return manager in ("cgroupfs", "disabled")


def unknown(container_id: str) -> NotFoundError:
    return NotFoundError(f'container "{container_id}" does not exist')


def _is_folder(path: str) -> bool:
    """Itself, and no link to one."""
    try:
        return posix.lstat(path).st_mode & 0o170000 == 0o040000
    except (FileNotFoundError, NotADirectoryError):
        return False
