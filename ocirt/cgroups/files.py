"""Writing the files of a cgroup, and removing cgroups."""

from __future__ import annotations

import posix
from time import sleep

from ocirt.cgroups.layout import read
from ocirt.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def write(path: str, value: str) -> None:
    """One write(2): the kernel takes a value whole or not at all."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        posix.close(fd)


def processes(path: str) -> list[int]:
    """The pids in a cgroup and in all below it; none if it does not exist."""
    pids: list[int] = []
    try:
        fd = posix.open(path, _FOLDER)
    except OSError:
        return pids
    left: list[list[str]] = [[]]  # what is still to be seen, of each folder on the way
    try:
        while True:
            try:
                left[-1] = [*_folders(fd)]
                pids += [int(line) for line in read(f"/proc/self/fd/{fd}/cgroup.procs").split()]
            except OSError:
                pass  # it is gone; or a threaded one, whose processes one above it has
            while True:
                while not left[-1]:
                    left.pop()
                    if not left:
                        return pids
                    fd = _go(fd, "..")
                try:
                    fd = _go(fd, left[-1].pop())
                    break
                except FileNotFoundError:
                    continue
            left.append([])
    finally:
        posix.close(fd)


def check_there(path: str) -> None:
    """Raises ContainerError if a container's cgroup is not there: somebody has moved its processes and removed it."""
    try:
        posix.stat(path)
    except FileNotFoundError:
        raise ContainerError(f"the cgroup {path} is gone", hint="only kill and delete work without it") from None


def remove(path: str, *, patience: float = 10.0) -> None:
    """rmdir(2) a cgroup and those below it. A cgroup stays busy for a moment after its last process has gone.

    Raises OSError if it is still busy after `patience` seconds.
    """
    delay = 0.001
    while True:
        try:
            posix.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            try:
                _clear(path)
                posix.rmdir(path)
                return
            except OSError:
                if patience <= 0:
                    raise
        sleep(delay)
        patience -= delay
        delay = min(delay * 2, 0.1)


def _clear(path: str) -> None:
    """Remove all below. Raises OSError for the first that is busy."""
    fd = posix.open(path, _FOLDER)
    way: list[str] = []
    try:
        while True:
            name = next(_folders(fd), "")
            if name:
                fd = _go(fd, name)
                way.append(name)
            elif way:
                fd = _go(fd, "..")
                posix.rmdir(way.pop(), dir_fd=fd)
            else:
                return
    finally:
        posix.close(fd)


_FOLDER = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def _go(fd: int, name: str) -> int:
    """Into the folder below, or "..": a container can nest cgroups deeper than paths, stacks and descriptors reach."""
    there = posix.open(name, _FOLDER, dir_fd=fd)
    posix.close(fd)
    return there


def _folders(fd: int) -> Iterator[str]:
    with posix.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name
