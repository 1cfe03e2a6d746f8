"""The state directory: a folder per container, whose lock is the folder itself.

    ROOT/ID/state.json   what is known of the container; written first of all, as an intent
    ROOT/ID/config.json  a copy of its configuration
    ROOT/ID/managed.json its cgroups, if not we ourselves make them: they do not follow from the configuration
    ROOT/ID/start        the FIFO that init waits at; it has this name once `create` is done

Files are replaced, never changed, so reading needs no lock.
"""

from __future__ import annotations

import posix
from errno import ELOOP
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from ocirt.errors import ContainerError, Error, NotFoundError, UsageError, from_os_error
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "state.json"
CONFIG = "config.json"
MANAGED = "managed.json"
START = "start"
UNFINISHED_START = "start.unfinished"
LOCK_PATIENCE = 10.0
"""Seconds that a command waits for another one on the same container."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def check_id(container_id: str) -> None:
    """Ids are file names: letters, digits and _ + - . with no dot first, at most 255 of them."""
    if not 0 < len(container_id) <= 255 or not _LETTERS.issuperset(container_id) or container_id[0] == ".":
        raise UsageError(
            f'"{container_id}" is not a container id', hint="letters, digits and _ + - . (not first), at most 255"
        )


class Entry:
    """A container's folder, locked until `close`."""

    def __init__(self, folder: str, fd: int) -> None:
        self.folder = folder
        self.fd = fd

    def write(self, name: str, content: bytes) -> None:
        """Put a file into place, whole or not at all."""
        temporary = f"{self.folder}/.{name}"
        try:
            fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
            try:
                view = memoryview(content)
                while view:
                    view = view[posix.write(fd, view) :]
            finally:
                posix.close(fd)
            posix.rename(temporary, f"{self.folder}/{name}")
        except OSError as error:
            raise from_os_error(error, f"write {self.folder}/{name}") from None

    def write_state(self, state: dict[str, Any]) -> None:
        self.write(STATE, dumps(state).encode())

    def remove(self) -> None:
        """Remove the folder. Its state goes last, so that a removal that is cut short can be done again."""
        try:
            names = [name for name in posix.listdir(self.folder) if name != STATE]
            for name in [*names, STATE]:
                try:
                    posix.unlink(f"{self.folder}/{name}")
                except FileNotFoundError:
                    continue
            posix.rmdir(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise from_os_error(error, f"remove {self.folder}") from None

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store:
    """All containers below one root directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def folder(self, container_id: str) -> str:
        return f"{self.root}/{container_id}"

    def create(self, container_id: str) -> Entry:
        """A new container's folder, locked. Raises ContainerError if there is one already."""
        check_id(container_id)
        self._make_root()
        folder = self.folder(container_id)
        try:
            posix.mkdir(folder, 0o700)
        except FileExistsError:
            raise ContainerError(
                f'a container with id "{container_id}" exists already', hint=f"ocirt delete {container_id}"
            ) from None
        except OSError as error:
            raise from_os_error(error, f"create {folder}") from None
        try:
            return self._lock(container_id, folder)
        except BaseException:
            posix.rmdir(folder)
            raise

    def _make_root(self) -> None:
        made = ""
        for part in self.root.strip("/").split("/"):
            made += "/" + part
            try:
                posix.mkdir(made, 0o700 if made == self.root else 0o755)
            except FileExistsError:
                continue
            except OSError as error:
                raise from_os_error(error, f"create the state directory {made}", hint="see --root") from None

    def lock(self, container_id: str) -> Entry:
        """An existing container's folder, locked. Raises NotFoundError if there is none."""
        folder = self.folder(container_id)
        try:
            check_id(container_id)
            return self._lock(container_id, folder)
        except UsageError:
            raise _unknown(container_id) from None

    def _lock(self, container_id: str, folder: str) -> Entry:
        try:
            # Not through a link: what is in the folder is going to be removed.
            fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown(container_id) from None
        except OSError as error:
            if error.errno == ELOOP:
                raise _unknown(container_id) from None
            raise from_os_error(error, f"open {folder}") from None
        until = monotonic() + LOCK_PATIENCE
        while True:
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    posix.close(fd)
                    raise ContainerError(
                        f'another command has been working on "{container_id}" for {LOCK_PATIENCE:.0f} s',
                        hint=f"fuser {folder} shows which",
                    ) from None
                sleep(0.002)
        # Was it deleted while we waited, or even made anew?
        try:
            now, then = posix.lstat(folder), posix.fstat(fd)
            same = (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)
        except FileNotFoundError:
            same = False
        if not same:
            posix.close(fd)
            raise _unknown(container_id)
        if then.st_uid != posix.geteuid():  # its state says what to kill and to remove
            posix.close(fd)
            raise ContainerError(
                f"{folder} belongs to the user {then.st_uid}, not to you", hint="that user's ocirt may change it"
            )
        return Entry(folder, fd)

    def read(self, container_id: str) -> dict[str, Any]:
        """What is known of a container. Raises NotFoundError; Error if its state cannot be read."""
        try:
            check_id(container_id)
        except UsageError:
            raise _unknown(container_id) from None
        folder = self.folder(container_id)
        try:
            if not _is_folder(folder):
                raise _unknown(container_id)
            fd = posix.open(f"{folder}/{STATE}", posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except FileNotFoundError:
            if _is_folder(folder):
                return unfinished(container_id)
            raise _unknown(container_id) from None
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
        and are_cgroups(value["cgroups"])
        and all(type(folder) is str for folder in value["resctrl"])
        and all(type(device) is dict for device in value["netDevices"])
        and all(type(kind) is str for kind in value["hooks"])
    )


def are_cgroups(value: Any) -> bool:
    """Is it what cgroups.manager.Cgroups.to_state returns?"""
    return (
        type(value) is dict
        and type(value.get("places")) is list
        and type(value.get("made")) is list
        and all(type(folder) is str for folder in value["made"])
        and all(
            type(place) is list and list(map(type, place)) == [str, list, bool, str, str] for place in value["places"]
        )
        and _is_managed(value)
    )


def _is_managed(cgroups: dict[str, Any]) -> bool:
    """Is it known who made them (cgroups.manager)? Without a word it was we."""
    manager = cgroups.get("manager", "cgroupfs")
    if manager == "systemd":
        return all(type(cgroups.get(key)) is str for key in ("unit", "slice", "bus", "description"))
    return manager in ("cgroupfs", "disabled")


def _unknown(container_id: str) -> NotFoundError:
    return NotFoundError(f'container "{container_id}" does not exist')


def _is_folder(path: str) -> bool:
    """Itself, and no link to one."""
    try:
        return posix.lstat(path).st_mode & 0o170000 == 0o040000
    except (FileNotFoundError, NotADirectoryError):
        return False
