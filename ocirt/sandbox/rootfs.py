"""The root file systems of sandboxes, mounted in the keeper's own mount namespace: the host sees none of them.

A writable layer is a tmpfs, above it an overlay whose lower layer is an idmapped copy of the folder
(mount_setattr(2), MOUNT_ATTR_IDMAP): the root of the sandbox owns what root owns there, and is nobody on the host.
Once a container has taken its copy of the tree, all of this is unmounted; the layer goes with the container.
"""

from __future__ import annotations

import ctypes
import os

from ocirt._sys import mount as bind_mount
from ocirt._sys import umount2
from ocirt.errors import from_os_error
from ocirt.host.namespaces import open_user_namespace
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_PRIVATE,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from ocirt.sandbox.options import IDS
from ocirt.sandbox.spec import FIRST_ID

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
"""Their numbers, the same on every architecture."""
MS_NOSUID, MS_NODEV, MS_REC = 2, 4, 16384
LAYERED = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Of the host's root: programs and libraries, with a writable layer over them; most are links into usr."""
SHOWN = ("etc", "opt")
"""Read-only, and as the host's user nobody sees them: what is not for everyone there stays unreadable."""
EMPTY = ("dev", "home", "proc", "root", "run", "srv", "tmp", "var", "var/cache", "var/lib", "var/log")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, doing: str, hint: str = "") -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise from_os_error(OSError(errno, os.strerror(errno)), doing, hint=hint)
    return result


def _mount(kind: str, target: str, data: str) -> None:
    arguments = (kind.encode(), target.encode(), kind.encode(), MS_NOSUID | MS_NODEV, data.encode())
    _check(_libc.mount(*arguments), f"mount {kind} for a sandbox")


class Roots:
    """place: a folder of the host that the keeper's namespace has a tmpfs on, and nobody else."""

    def __init__(self, place: str) -> None:
        self.place = place
        os.makedirs(place, mode=0o700, exist_ok=True)
        bind_mount("none", "/", MS_SLAVE | MS_REC)
        _mount("tmpfs", place, "mode=0700")
        ids = [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]
        self._ids = open_user_namespace(ids, ids, "/linux/uidMappings")

    def make(self, name: str, rootfs: str | None, *, overlay: bool, size: int) -> str:
        """A root file system; returns its path. rootfs: the folder, None for the host's programs. size: of the writable
        layer, bytes. Raises KernelError; then nothing of it is left."""
        top = f"{self.place}/{name}"
        os.mkdir(top, 0o700)
        try:
            _mount("tmpfs", top, f"mode=0700,size={size}")
            root = self._folder(f"{top}/root")
            if rootfs is not None:
                self._layer(top, rootfs, root, "root", overlay=overlay)
            else:
                self._host(top, root, overlay=overlay)
        except BaseException:
            self.drop(name)
            raise
        return root

    def drop(self, name: str) -> None:
        """What a container has of it, it keeps."""
        top = f"{self.place}/{name}"
        try:
            umount2(top, MNT_DETACH)
        except OSError:
            pass  # it was not mounted yet
        os.rmdir(top)

    def _folder(self, path: str, mode: int = 0o755) -> str:
        """One that belongs to the sandbox's root."""
        os.mkdir(path)
        os.chmod(path, mode)
        os.chown(path, FIRST_ID, FIRST_ID)
        return path

    def _host(self, top: str, root: str, *, overlay: bool) -> None:
        for name in EMPTY:
            self._folder(f"{root}/{name}", 0o1777 if name == "tmp" else 0o700 if name == "root" else 0o755)
        self._folder(f"{root}/var/tmp", 0o1777)
        for name in LAYERED:
            if os.path.islink(f"/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
            elif os.path.isdir(f"/{name}"):
                self._layer(top, f"/{name}", self._folder(f"{root}/{name}"), name, overlay=overlay)
        for name in SHOWN:
            if os.path.isdir(f"/{name}"):
                self._clone(f"/{name}", self._folder(f"{root}/{name}"), idmap=False)

    def _layer(self, top: str, source: str, target: str, name: str, *, overlay: bool) -> None:
        """A folder of the host on `target`: below a writable layer, or read-only."""
        if not overlay:
            self._clone(source, target, idmap=False)
            return
        lower = self._folder(f"{top}/{name}.lower")
        self._clone(source, lower, idmap=True)
        upper, work = self._folder(f"{top}/{name}.upper"), self._folder(f"{top}/{name}.work")
        _mount("overlay", target, f"lowerdir={lower},upperdir={upper},workdir={work}")

    def _clone(self, source: str, target: str, *, idmap: bool) -> None:
        """A read-only mount of the folder alone, without what is mounted below it."""
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
        tree = _check(_libc.syscall(OPEN_TREE, AT_FDCWD, source.encode(), flags), f"open {source}")
        try:
            wanted = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (MOUNT_ATTR_IDMAP if idmap else 0)
            attributes = MOUNT_ATTR.pack(wanted, 0, MS_PRIVATE, self._ids if idmap else 0)
            hint = "its file system may know no id maps: overlay=False shows it read-only" if idmap else ""
            arguments = (tree, b"", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size)
            _check(_libc.syscall(MOUNT_SETATTR, *arguments), f"map the ids of {source}", hint)
            arguments = (tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
            _check(_libc.syscall(MOVE_MOUNT, *arguments), f"attach {source}")
        finally:
            os.close(tree)
