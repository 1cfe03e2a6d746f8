"""Where CRIU restores a container: a mount namespace of its own, in which the root file system is a mount point.

Nothing of it is seen on the host, and all of it goes when CRIU has ended, however that comes about.
"""

from __future__ import annotations

import os
from fcntl import ioctl
from socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket

from ocirt._sys import mount, openat2, setns, umount2, unshare
from ocirt.errors import from_os_error
from ocirt.host.criu_mounts import IN_ROOT, is_bind, on_tmpfs, source_of
from ocirt.host.dangling import make
from ocirt.plan.kernel import CLONE_NEWNET, CLONE_NEWNS, MNT_DETACH, MS_SHARED, MS_SLAVE, O_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

MS_BIND, MS_REC = 0x1000, 0x4000
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1


def in_own_mounts(rootfs: str, mounts: Sequence[dict[str, Any]], bundle: str, start: Callable[[], T]) -> T:
    """Call `start`, which starts a process, in a new mount namespace where `rootfs` is a mount point, as CRIU wants its
    --root, and has the mount points of the configuration's `mounts`. We ourselves are back afterwards.

    Raises KernelError.
    """
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        try:
            unshare(CLONE_NEWNS)
        except OSError as error:
            raise from_os_error(error, "make a mount namespace for CRIU") from None
        try:
            try:
                # What the host mounts meanwhile is seen, what is mounted here is not.
                mount("none", "/", MS_REC | MS_SLAVE)
                mount(rootfs, rootfs, MS_BIND | MS_REC)
                # A root that was a slave, of rootfsPropagation, becomes one again of this: so it needs peers to join.
                mount("none", rootfs, MS_REC | MS_SHARED)
            except OSError as error:
                raise from_os_error(error, f"bind {rootfs} for CRIU") from None
            _make_points(rootfs, mounts, bundle)
            return start()
        finally:
            setns(here, CLONE_NEWNS)  # to its root
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(folder)
    finally:
        for fd in (here, folder, root):
            os.close(fd)


def _make_points(rootfs: str, mounts: Sequence[dict[str, Any]], bundle: str) -> None:
    """As at `create`: a root file system that comes from another host may lack them. Each bind is mounted meanwhile,
    for others may be below it."""
    done: list[int] = []
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, one in enumerate(mounts):
            if one.get("type") == "cgroup" or on_tmpfs(one["destination"], mounts):
                continue
            source = source_of(one, bundle) if is_bind(one) else ""
            pointer = f"/mounts/{index}"
            directory = not source or os.path.isdir(source)
            make(root, one["destination"], pointer, os.getpid(), directory=directory)
            if not source or "copy-symlink" in (one.get("options") or ()):
                continue
            try:
                at = openat2(root, one["destination"], O_PATH, IN_ROOT)
                try:
                    mount(source, f"/proc/self/fd/{at}", MS_BIND | MS_REC)
                finally:
                    os.close(at)
                done.append(openat2(root, one["destination"], O_PATH, IN_ROOT))
            except OSError as error:
                raise from_os_error(error, f"bind {source} for CRIU", pointer=pointer) from None
    finally:
        for fd in reversed(done):
            umount2(f"/proc/self/fd/{fd}", MNT_DETACH)
            os.close(fd)
        os.close(root)


def bring_loopback_up(pid: int) -> None:
    """In the network namespace of this process: CRIU makes an empty one, as the kernel does, with "lo" down
    (netdevice(7))."""
    try:
        with _socket_in(pid) as connection:
            request = b"lo".ljust(16, b"\0") + bytes(24)
            answer = ioctl(connection, SIOCGIFFLAGS, request)
            flags = int.from_bytes(answer[16:18], "little") | IFF_UP
            ioctl(connection, SIOCSIFFLAGS, request[:16] + flags.to_bytes(2, "little") + bytes(22))
    except OSError as error:
        raise from_os_error(error, "bring the loopback device up") from None


def _socket_in(pid: int) -> socket:
    """A socket of that namespace: we go there only to make it."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        finally:
            setns(here, CLONE_NEWNET)
    finally:
        os.close(here)
