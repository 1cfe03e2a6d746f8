"""Folders full of what somebody else made: removed, copied and counted by descriptors, without following a link.

Nothing here depends on how deep a tree is: a program in a container can make one that no path reaches.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from itertools import islice

from ocirt import _sys
from ocirt.manager.errors import LimitError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 60  # folders within each other that are open at once
_BATCH = 4096
# linux/fs.h
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_IMMUTABLE_FL, _FS_APPEND_FL = 0x10, 0x20


def remove(folder: int, name: str | bytes) -> bool:
    """Take away what is at a name in a folder, with all below it. True if it was a folder; nothing there is no error.

    Raises OSError.
    """
    try:
        _unlink(folder, name)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        pass
    else:
        return False
    top = os.open(name, FOLDER, dir_fd=folder)
    try:
        _free(top)
        _empty(top, top, 0)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)
    return True


def _empty(folder: int, top: int, depth: int) -> None:
    """Remove all that is in a folder. What is too deep is moved up to the top, which looks again until it is empty."""
    while True:
        with os.scandir(folder) as entries:
            batch = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, _BATCH)]
        if not batch:
            return
        for name, is_folder in batch:
            if not is_folder:
                _unlink(folder, name)
            elif depth < _DEEPEST:
                inner = os.open(name, FOLDER, dir_fd=folder)
                try:
                    _free(inner)
                    _empty(inner, top, depth + 1)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=folder)
            else:
                _move_up(folder, name, top)


def _move_up(folder: int, name: str, top: int) -> None:
    number = 0
    while True:
        try:
            os.rename(name, f".ocim-{number}", src_dir_fd=folder, dst_dir_fd=top)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            number += 1


def _unlink(folder: int, name: str | bytes) -> None:
    """Raises IsADirectoryError for a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except PermissionError:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        if not stat.S_ISREG(mode):
            raise
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not _free(descriptor):
                raise
        finally:
            os.close(descriptor)
        os.unlink(name, dir_fd=folder)


def _free(descriptor: int) -> bool:
    """Take away "immutable" and "append only" (ioctl_iflags(2)), with which a container can keep its files. True where
    there was such a flag.
    """
    try:
        (flags,) = struct.unpack("L", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8)))
    except OSError:
        return False  # a file system without flags
    if not flags & (_FS_IMMUTABLE_FL | _FS_APPEND_FL):
        return False
    fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("L", flags & ~(_FS_IMMUTABLE_FL | _FS_APPEND_FL)))
    return True


# Walking.

RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x04, 0x08  # linux/openat2.h
_LONGEST = 4096


class Found:
    """path: below the top, b"" for none; name: its last component, in the folder that the descriptor is of; about: what
    lstat(2) says.
    """

    __slots__ = ("about", "folder", "name", "path")

    def __init__(self, path: bytes, folder: int, name: bytes, about: os.stat_result) -> None:
        self.path = path
        self.folder = folder
        self.name = name
        self.about = about


def walk(top: int) -> Iterator[Found]:
    """Everything below a folder, a folder before what is in it, names in the order of their bytes. Whoever works there
    meanwhile can neither lead out of it nor make this fail by removing things.

    Raises LimitError where a tree is deeper than a path can say, and OSError.
    """
    waiting = [(b"", name) for name in _names(top)]
    last, folder = b"", os.dup(top)
    try:
        while waiting:
            parent, name = waiting.pop()
            try:
                if parent != last:
                    os.close(folder)
                    folder = -1
                    folder = beneath(top, parent)
                    last = parent
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                path = parent + b"/" + name if parent else name
                yield Found(path, folder, name, about)
                if stat.S_ISDIR(about.st_mode):
                    inner = os.open(name, FOLDER, dir_fd=folder)
                    os.close(folder)
                    folder, last = inner, path
                    waiting += [(path, inside) for inside in _names(folder)]
            except (FileNotFoundError, NotADirectoryError):
                if folder < 0:
                    last, folder = b"", os.dup(top)
    finally:
        if folder >= 0:
            os.close(folder)


def _names(folder: int) -> list[bytes]:
    """The last first."""
    return sorted(map(os.fsencode, os.listdir(folder)), reverse=True)


def beneath(top: int, path: bytes) -> int:
    """A folder below another, through folders only. Raises NotADirectoryError, FileNotFoundError, LimitError."""
    if len(path) >= _LONGEST:
        raise LimitError(f"{path[:100].decode(errors='replace')}…: a folder deeper than a path can say")
    try:
        return _sys.openat2(top, path or b".", FOLDER, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno == errno.ELOOP:  # it was a folder a moment ago
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        raise


def usage(top: int) -> int:
    """Bytes that a tree takes on disk; a file of several names once."""
    total = 0
    linked: set[tuple[int, int]] = set()
    for found in walk(top):
        about = found.about
        if about.st_nlink > 1 and not stat.S_ISDIR(about.st_mode):
            if (about.st_dev, about.st_ino) in linked:
                continue
            linked.add((about.st_dev, about.st_ino))
        total += about.st_blocks * 512
    return total
