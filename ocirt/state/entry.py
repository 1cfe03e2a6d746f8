"""A container's folder, made or locked: what changes a container, and not what only looks, needs this."""

from __future__ import annotations

import posix
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from ocirt.errors import ELOOP, ContainerError, from_os_error
from ocirt.state.document import dumps
from ocirt.state.store import STATE, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK_PATIENCE = 10.0
"""Seconds that a command waits for another one on the same container."""


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


def make(root: str, folder: str, container_id: str) -> Entry:
    """A new one. Raises ContainerError if there is one already."""
    _make_root(root)
    try:
        posix.mkdir(folder, 0o700)
    except FileExistsError:
        raise ContainerError(
            f'a container with id "{container_id}" exists already', hint=f"ocirt delete {container_id}"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"create {folder}") from None
    try:
        return lock(folder, container_id)
    except BaseException:
        posix.rmdir(folder)
        raise


def _make_root(root: str) -> None:
    made = ""
    for part in root.strip("/").split("/"):
        made += "/" + part
        try:
            posix.mkdir(made, 0o700 if made == root else 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise from_os_error(error, f"create the state directory {made}", hint="see --root") from None


def lock(folder: str, container_id: str) -> Entry:
    """Raises NotFoundError if there is none; ContainerError if another command keeps it, or it is another user's."""
    try:
        # Not through a link: what is in the folder is going to be removed.
        fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise unknown(container_id) from None
    except OSError as error:
        if error.errno == ELOOP:
            raise unknown(container_id) from None
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
        raise unknown(container_id)
    if then.st_uid != posix.geteuid():  # its state says what to kill and to remove
        posix.close(fd)
        raise ContainerError(
            f"{folder} belongs to the user {then.st_uid}, not to you", hint="that user's ocirt may change it"
        )
    return Entry(folder, fd)
