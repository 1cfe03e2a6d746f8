"""The namespaces that a container joins, and those that only carry an id map: what only the host can look at or make.

Imported only for a configuration that has one of these.
"""

from __future__ import annotations

import posix
from fcntl import ioctl

from ocirt._sys import clone_paused
from ocirt.config.names import NAMESPACES
from ocirt.errors import ConfigError, UnsupportedError, from_os_error
from ocirt.host.idmap import map_text, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any

NS_GET_NSTYPE = 0xB703
"""ioctl_ns(2), Linux 4.11: the CLONE_NEW* flag of the namespace that a descriptor is open on."""
NS_GET_USERNS = 0xB701
"""ioctl_ns(2), Linux 4.9: a descriptor of the user namespace that owns it."""
_NAMES = {"network": "net", "mount": "mnt"}
DETACHED_MOUNTS = (6, 15)
"""Linux 6.15 mounts on trees that are mounted nowhere, which is what a container without a mount namespace gets."""


def open_joined(namespaces: Sequence[dict[str, Any]], descriptors: dict[str, int]) -> tuple[list[str], list[str]]:
    """(kinds to join, kinds that are the caller's own). Puts a descriptor of each to join into `descriptors`.

    Raises ConfigError for a path that is no namespace, or one of another kind.
    """
    joined, shared = [], []
    for index, namespace in enumerate(namespaces):
        path, kind = namespace.get("path"), namespace["type"]
        if not path:
            continue
        fd = _open(path, kind, f"/linux/namespaces/{index}/path")
        status, own = posix.fstat(fd), posix.stat(f"/proc/self/ns/{_NAMES.get(kind, kind)}")
        if (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
            posix.close(fd)
            shared.append(kind)
        else:
            descriptors[f"{kind} namespace"] = fd
            joined.append(kind)
    return joined, shared


def _open(path: str, kind: str, pointer: str) -> int:
    try:
        regular = posix.stat(path).st_mode & 0o170000 == 0o100000  # to open anything else could block, or do something
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK) if regular else -1
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", pointer=pointer, errno=error.errno or 0) from None
    try:
        found = ioctl(fd, NS_GET_NSTYPE) if regular else 0
    except OSError:
        found = 0
    if found != NAMESPACES[kind]:
        if fd >= 0:
            posix.close(fd)
        got = next((f"a {name} namespace" for name, flag in NAMESPACES.items() if flag == found), "something else")
        raise ConfigError(f"expected a {kind} namespace, {path} is {got}", pointer=pointer)
    return fd


def not_owned() -> tuple[str, ...]:
    """Of our own namespaces those that belong to an outer user namespace: what shows them cannot be mounted anew."""
    own = posix.stat("/proc/self/ns/user")
    return tuple(kind for kind in ("pid", "network", "ipc") if not _is_owned(kind, (own.st_dev, own.st_ino)))


def _is_owned(kind: str, own: tuple[int, int]) -> bool:
    fd = posix.open(f"/proc/self/ns/{_NAMES.get(kind, kind)}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        owner = ioctl(fd, NS_GET_USERNS)
    except PermissionError:  # an outer one, which we may not even look at
        return False
    finally:
        posix.close(fd)
    status = posix.fstat(owner)
    posix.close(owner)
    return (status.st_dev, status.st_ino) == own


def first_closed(path: str) -> str:
    """The first folder on the way to `path` through which only capabilities lead us; "" if there is none.

    In a user namespace of its own a container's init has those no more (path_resolution(7)), only our ids. `podman run
    --uidmap` of an ordinary user gives the folder above the root file system to an id of the range.
    """
    ids = posix.geteuid(), {posix.getegid(), *posix.getgroups()}
    folder = ""
    for part in path.split("/")[1:-1]:
        folder += f"/{part}"
        status = posix.stat(folder)
        shift = 6 if status.st_uid == ids[0] else 3 if status.st_gid in ids[1] else 0
        if not status.st_mode >> shift & 1:
            return folder
    return ""


def check_mounts(own: Container[str], pointer: str) -> None:
    """What a container without a mount namespace of its own needs. Raises UnsupportedError or ConfigError."""
    if "user" in own:
        raise ConfigError(
            "a user namespace needs a mount namespace of its own",
            pointer=pointer,
            hint='add {"type": "mount"}: the host\'s mounts cannot be changed from there',
        )
    release = posix.uname().release
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if (int(major), int(minor)) < DETACHED_MOUNTS:
        raise UnsupportedError(
            f"without a mount namespace of its own a container needs Linux 6.15, this is {release}",
            pointer=pointer,
            hint='add {"type": "mount"}',
        )


def open_user_namespace(uids: Sequence[dict[str, int]], gids: Sequence[dict[str, int]], pointer: str) -> int:
    """A descriptor of a user namespace with these maps and no process in it: what mount_setattr(2) wants for an
    idmapped mount. `pointer` is what an error names."""
    try:
        pid = clone_paused(NAMESPACES["user"])
    except OSError as error:
        raised = from_os_error(error, "make a user namespace", hint="see user.max_user_namespaces in sysctl(8)")
        raised.pointer = pointer
        raise raised from None
    try:
        write(f"/proc/{pid}/gid_map", map_text(gids), pointer)
        write(f"/proc/{pid}/uid_map", map_text(uids), pointer)
        return posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
    finally:
        posix.kill(pid, 9)
        posix.waitpid(pid, 0)
