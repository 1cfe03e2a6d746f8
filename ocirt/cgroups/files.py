"""Writing the files of a cgroup, and removing cgroups."""

from __future__ import annotations

import posix
from time import sleep

from ocirt.cgroups.layout import read


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
    try:
        pids = [int(line) for line in read(path + "/cgroup.procs").split()]
        children = [entry.path for entry in posix.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, OSError):
        return []
    for child in children:
        pids += processes(child)
    return pids


def remove(path: str, *, patience: float = 2.0) -> None:
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
            if patience <= 0:
                raise
        for entry in list(posix.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                remove(entry.path, patience=0.2)
        sleep(delay)
        patience -= delay
        delay = min(delay * 2, 0.1)
