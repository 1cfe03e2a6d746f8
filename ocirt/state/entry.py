"""A container's folder, made or locked: what changes a container, and not what only looks, needs this."""

from __future__ import annotations

import posix
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from ocirt.errors import ContainerError, NotFoundError, from_os_error
from ocirt.state.document import dumps
from ocirt.state.place import STICKY, check_root
from ocirt.state.store import NOTIFY, STATE, open_folder, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK_PATIENCE = 10.0
"""Seconds that a command waits for another one on the same container."""


class Entry:
    """A container's folder, locked until `close`. folder: its path, for messages; fd: through it all is done, so that
    it does not matter what the path leads to by then."""

    def __init__(self, folder: str, fd: int) -> None:
        self.folder = folder
        self.fd = fd

    def write(self, name: str, content: bytes) -> None:
        """Put a file into place, whole or not at all."""
        temporary = f".{name}"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
        try:
            fd = posix.open(temporary, flags, 0o600 | STICKY, dir_fd=self.fd)
            try:
                view = memoryview(content)
                while view:
                    view = view[posix.write(fd, view) :]
            finally:
                posix.close(fd)
            posix.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            error.filename = None
            raise from_os_error(error, f"write {self.folder}/{name}") from None

    def make_fifo(self, name: str, mode: int) -> int:
        """Make a FIFO; returns an O_PATH descriptor of it. Raises KernelError."""
        try:
            posix.mkfifo(name, mode, dir_fd=self.fd)
            fd = posix.open(name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd)
            # chmod(2) of the one that was opened: the umask has had its part in the mode.
            posix.chmod(f"/proc/self/fd/{fd}", mode | STICKY)
            return fd
        except OSError as error:
            error.filename = None
            raise from_os_error(error, f"create {self.folder}/{name}") from None

    def open_fifo(self, name: str) -> int:
        """Open a FIFO for reading, without waiting for a writer. Raises ContainerError for anything else, OSError."""
        flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(name, flags, dir_fd=self.fd)
        status = posix.fstat(fd)
        if status.st_mode & 0o170000 != 0o010000 or status.st_uid != posix.geteuid():
            posix.close(fd)
            raise ContainerError(f"{self.folder}/{name} is not the FIFO that `create` made")
        return fd

    def make_folder(self, name: str, mode: int) -> int:
        """Make a folder; returns a descriptor of it. Raises OSError."""
        posix.mkdir(name, mode | STICKY, dir_fd=self.fd)
        fd = self.open_folder(name)
        posix.chmod(fd, mode | STICKY)  # whatever the umask is
        return fd

    def open_folder(self, name: str) -> int:
        """A descriptor of one that is there. Raises OSError."""
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        return posix.open(name, flags, dir_fd=self.fd)

    def rename(self, old: str, new: str) -> None:
        """Raises OSError."""
        posix.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Raises OSError."""
        posix.unlink(name, dir_fd=self.fd)

    def write_state(self, state: dict[str, Any]) -> None:
        self.write(STATE, dumps(state).encode())

    def remove(self) -> None:
        """Remove the folder. Its state goes last, so that a removal that is cut short can be done again."""
        try:
            names = [name for name in posix.listdir(self.fd) if name != STATE]
            for name in [*names, STATE]:
                try:
                    if name == NOTIFY:
                        self._remove_folder(name)
                    else:
                        posix.unlink(name, dir_fd=self.fd)
                except FileNotFoundError:
                    continue
            posix.rmdir(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise from_os_error(error, f"remove {self.folder}") from None

    def _remove_folder(self, name: str) -> None:
        fd = self.open_folder(name)
        try:
            for inside in posix.listdir(fd):
                posix.unlink(inside, dir_fd=fd)
        finally:
            posix.close(fd)
        posix.rmdir(name, dir_fd=self.fd)

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
    while True:
        try:
            posix.mkdir(folder, 0o700 | STICKY)
        except FileExistsError:
            raise ContainerError(
                f'a container with id "{container_id}" exists already', hint=f"ocirt delete {container_id}"
            ) from None
        except OSError as error:
            raise from_os_error(error, f"create {folder}") from None
        try:
            return lock(folder, container_id)
        except NotFoundError:
            continue  # `gc` or `delete --force` has had the lock first, and found an empty folder
        except BaseException:
            posix.rmdir(folder)
            raise


def _make_root(root: str) -> None:
    made, us = "", posix.geteuid()
    try:
        for part in root.strip("/").split("/"):
            made += "/" + part
            try:
                posix.mkdir(made, 0o700 | STICKY if made == root else 0o755 if us == 0 else 0o700)
            except FileExistsError:
                continue
        check_root(root)
    except OSError as error:
        hint = "see --root and XDG_RUNTIME_DIR" if us else "see --root"
        raise from_os_error(error, f"create the state directory {made}", hint=hint) from None


def lock(folder: str, container_id: str, *, patience: float = LOCK_PATIENCE) -> Entry:
    """Raises NotFoundError if there is none; ContainerError if another command keeps it for `patience` seconds, or it
    is not ours alone."""
    fd = open_folder(folder, container_id)
    until = monotonic() + patience
    while True:
        try:
            flock(fd, LOCK_EX | LOCK_NB)
            break
        except BlockingIOError:
            if monotonic() > until:
                posix.close(fd)
                raise ContainerError(
                    f'another command has been working on "{container_id}" for {patience:.0f} s',
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
    return Entry(folder, fd)
