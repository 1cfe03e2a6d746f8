"""A container's root file system as one descriptor, with its volumes in their places: for cp, export and the like.

What has to be mounted for that is mounted in a mount namespace of its own, by a thread that lives as long as the
descriptor is needed (mount_namespaces(7)): nothing is left behind, whatever ends us, and a container that is started
or removed meanwhile finds nothing in its way. It is what the host has there, without the container's own mounts: what
a program in it mounts is not to be seen (and so nobody reads its /proc).
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ocirt import _sys
from ocirt.manager.errors import ManagerError

CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10


Bind = tuple[str, str, bool]
"""Path of the host, path in the container, and whether it may be written to."""


@contextmanager
def opened(rootfs: Path, mount: Callable[[], None], binds: Sequence[Bind]) -> Iterator[int]:
    """The descriptor. mount: has the file system at `rootfs`, where it may be already; binds: see `Snapshots.root`.

    Raises ManagerError.
    """
    done = threading.Event()
    ready = threading.Event()
    result: list[int | BaseException] = []

    def hold() -> None:
        try:
            _sys.unshare(CLONE_NEWNS)
            _sys.mount("none", "/", _MS_REC | _MS_PRIVATE)
            mount()
            descriptor = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            result.append(descriptor)
            for source, target, writable in binds:
                _bind(descriptor, source, target, writable)
        except BaseException as error:  # the caller's to raise
            result.append(error)
        ready.set()
        done.wait()

    thread = threading.Thread(target=hold, name="root")
    thread.start()
    try:
        ready.wait()
        problem = result[-1]
        if isinstance(problem, OSError):
            raise ManagerError(f"open {rootfs}: {problem.strerror}", errno=problem.errno or 0) from problem
        if isinstance(problem, BaseException):
            raise problem
        yield problem
    finally:
        for one in result:
            if isinstance(one, int):
                os.close(one)
        done.set()
        thread.join()


def _bind(root: int, source: str, target: str, writable: bool) -> None:
    """Have the source at a path of the container, which leads nowhere else; where it has no such path, nothing."""
    try:
        place = _sys.openat2(root, target, os.O_PATH, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    except OSError:
        return
    try:
        ours = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        os.close(place)
        return
    try:
        if stat.S_ISDIR(os.fstat(ours).st_mode) == stat.S_ISDIR(os.fstat(place).st_mode):
            _sys.mount(f"/proc/self/fd/{ours}", f"/proc/self/fd/{place}", _MS_BIND | _MS_REC)
            if not writable:
                _seal(root, target)
    finally:
        os.close(ours)
        os.close(place)


def _seal(root: int, target: str) -> None:
    """Make what was just mounted there read-only, keeping the flags that it has (mount_namespaces(7): locked ones)."""
    mounted = _sys.openat2(root, target, os.O_PATH, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    try:
        path = f"/proc/self/fd/{mounted}"
        flags = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
        _sys.mount("none", path, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)
    finally:
        os.close(mounted)
