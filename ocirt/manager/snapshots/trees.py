"""Folders full of what somebody else made: removed, copied and counted by descriptors, without following a link.

Nothing here depends on how deep a tree is: a program in a container can make one that no path reaches.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from itertools import islice

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
