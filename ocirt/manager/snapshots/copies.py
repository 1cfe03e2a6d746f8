"""A tree copied into another: everything that a layer can hold, by descriptors, hard links as such."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ocirt.manager.snapshots import trees

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_AT_ONCE = 1 << 30


def copy(source: int, target: int) -> None:
    """Copy all that is in a folder into another one, which is empty, and what the folder itself is like.

    Raises OSError.
    """
    _Copy(target).folder(source, target)


class _Copy:
    """linked: where a file with several names was copied to, by device and inode. Names are of layers, so a path of
    them is no longer than one can be.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._linked: dict[tuple[int, int], str] = {}

    def folder(self, source: int, target: int, path: str = "") -> None:
        """What is in it first: that changes its times."""
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            self._one(source, target, name, f"{path}{name}")
        _like(os.fstat(source), f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", follow=True)

    def _one(self, source: int, target: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            inner = os.open(name, trees.FOLDER, dir_fd=source)
            try:
                made = os.open(name, trees.FOLDER, dir_fd=target)
                try:
                    self.folder(inner, made, path + "/")
                finally:
                    os.close(made)
            finally:
                os.close(inner)
            return
        if found.st_nlink > 1:
            first = self._linked.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
                return
        if stat.S_ISREG(found.st_mode):
            _file(source, target, name, found.st_size)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        _like(found, f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", follow=False)


def _file(source: int, target: int, name: str, size: int) -> None:
    """Its content: shared where the file system can do that, and holes stay holes."""
    ours = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            try:
                fcntl.ioctl(made, _FICLONE, ours)
            except OSError:
                _content(ours, made, size)
        finally:
            os.close(made)
    finally:
        os.close(ours)


def _content(source: int, target: int, size: int) -> None:
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            done = os.sendfile(target, source, None, min(end - start, _AT_ONCE))
            if not done:
                return
            start += done


def _like(found: os.stat_result, source: str, target: str, *, follow: bool) -> None:
    """Owner, mode, attributes and times, in the order in which none undoes another. The paths are of descriptors, and
    of their last component in a folder that nobody else works in.
    """
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=follow)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source, follow_symlinks=follow):
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=follow)
