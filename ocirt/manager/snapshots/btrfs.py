"""The driver for btrfs: snapshots and containers are subvolumes, each a snapshot of what is below it, which costs
nothing (btrfs-ioctl(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from ocirt.manager.errors import ManagerError
from ocirt.manager.snapshots import trees
from ocirt.manager.snapshots.vfs import Whole

# linux/btrfs.h
_FS_INFO = 0x8400941F
_SUBVOL_CREATE, _SNAP_CREATE_V2, _SNAP_DESTROY = 0x5000940E, 0x50009417, 0x5000940F
_ARGUMENTS = struct.Struct("q4088s")  # btrfs_ioctl_vol_args
_ARGUMENTS_V2 = struct.Struct("qQQ32s4040s")  # btrfs_ioctl_vol_args_v2
_ROOT_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID: a subvolume's own folder


class Btrfs(Whole):
    """See `drivers.Driver`. In a container's folder: rootfs, a subvolume."""

    name = "btrfs"
    chained = True
    opaque = ""
    copied = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, path: Path, below: str) -> None:
        """See `Driver`."""
        _subvolume(path, below)

    def drop(self, path: Path) -> None:
        """See `Driver`."""
        _destroy(path)

    def prepare(self, container: Path, below: Sequence[Path]) -> None:
        """See `Driver`."""
        rootfs = container / "rootfs"
        _destroy(rootfs)
        _subvolume(rootfs, str(below[-1]) if below else "")

    def release(self, container: Path) -> None:
        """See `Driver`."""
        if container.is_dir():
            _destroy(container / "rootfs")


def works(folder: Path) -> bool:
    """Whether the folder is on btrfs."""
    descriptor = os.open(folder, trees.FOLDER)
    try:
        fcntl.ioctl(descriptor, _FS_INFO, bytearray(1024))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _subvolume(path: Path, below: str) -> None:
    """Make one, empty or as another. Raises FileExistsError, ManagerError."""
    parent = os.open(path.parent, trees.FOLDER)
    name = os.fsencode(path.name)
    try:
        if not below:
            _call(parent, _SUBVOL_CREATE, _ARGUMENTS.pack(0, name), path)
            os.chmod(path, 0o755)
            return
        source = os.open(below, trees.FOLDER)
        try:
            _call(parent, _SNAP_CREATE_V2, _ARGUMENTS_V2.pack(source, 0, 0, bytes(32), name), path)
        finally:
            os.close(source)
    finally:
        os.close(parent)


def _destroy(path: Path) -> None:
    """Remove a subvolume, or a folder; where there is nothing, nothing. What a container made in it, other subvolumes,
    goes first: their folders cannot be removed with it.
    """
    parent = os.open(path.parent, trees.FOLDER)
    name = os.fsencode(path.name)
    try:
        try:
            about = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if about.st_ino == _ROOT_INODE:
            try:
                fcntl.ioctl(parent, _SNAP_DESTROY, bytearray(_ARGUMENTS.pack(0, name)))
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EPERM):
                    raise
        trees.remove(parent, name)  # rmdir(2) takes an empty subvolume, too
    finally:
        os.close(parent)


def _call(descriptor: int, request: int, argument: bytes, path: Path) -> None:
    try:
        fcntl.ioctl(descriptor, request, bytearray(argument))  # bytes may be 1024 at most
    except FileExistsError:
        raise
    except OSError as error:
        raise ManagerError(
            f"make the subvolume {path}: {error.strerror}",
            errno=error.errno or 0,
            call="ioctl",
            hint="is the store on btrfs? OCIM_DRIVER=overlay works there too",
        ) from error
