"""Flags of bind mounts that stay as they are: those of the source's mount, in a mount namespace of fewer rights.

What an ordinary user copies keeps ro, nosuid, nodev, noexec and the way of access times (mount_namespaces(7)).
Imported only for a caller without CAP_SYS_ADMIN.
"""

from __future__ import annotations

import posix

from ocirt.plan.kernel import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirt.config.read import Config

ST_NOATIME, ST_NODIRATIME, ST_RELATIME = 1024, 2048, 4096
_FLAGS = (
    (1, MOUNT_ATTR_RDONLY),
    (2, MOUNT_ATTR_NOSUID),
    (4, MOUNT_ATTR_NODEV),
    (8, MOUNT_ATTR_NOEXEC),
    (ST_NOATIME, MOUNT_ATTR_NOATIME),
    (ST_NODIRATIME, MOUNT_ATTR_NODIRATIME),
)
"""statvfs(3)'s f_flag → mount_setattr(2)'s."""


def kept_flags(config: Config, sources: Iterable[str]) -> dict[str, int]:
    """source → the MOUNT_ATTR_* of the mount that it is on."""
    return {
        source: attributes(posix.statvfs(source if source.startswith("/") else f"{config.bundle}/{source}").f_flag)
        for source in sources
    }


def attributes(flags: int) -> int:
    found = 0
    for flag, attribute in _FLAGS:
        if flags & flag:
            found |= attribute
    if not flags & (ST_NOATIME | ST_RELATIME):
        found |= MOUNT_ATTR_STRICTATIME
    return found
