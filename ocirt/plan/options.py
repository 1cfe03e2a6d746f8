"""The options of a mount, as mount(8) writes them, sorted by what they become."""

from __future__ import annotations

from ocirt.errors import ConfigError, UnsupportedError
from ocirt.plan.kernel import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTRIBUTES = {  # option → (attributes set, attributes cleared)
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    # One field of three bits, so each value clears the others (mount_setattr(2)).
    "relatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    "norelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    "atime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
}
_PROPAGATION = {
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "unbindable": (MS_UNBINDABLE, False),
    "runbindable": (MS_UNBINDABLE, True),
}
_LATER = frozenset(
    (
        "iversion noiversion lazytime nolazytime loud silent mand nomand symfollow nosymfollow remount"
        " tmpcopyup idmap ridmap copy-symlink src-nofollow dest-nofollow rro rrw rnosuid rsuid rnodev rdev"
        " rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime rnoatime ratime rstrictatime"
        " rnostrictatime rnosymfollow rsymfollow"
    ).split()
)
_FLAGS = ("bind", "rbind", "defaults", "async", "sync", "dirsync")


def recognized() -> list[str]:
    """The options that are ours, and not a file system's own."""
    return [*_ATTRIBUTES, *_PROPAGATION, *_FLAGS]


class Options:
    """attributes to set and to clear, propagation changes in order, and what is left for the file system."""

    __slots__ = ("bind", "clear", "data", "propagation", "recursive", "set")

    def __init__(self) -> None:
        self.set = 0
        self.clear = 0
        self.bind = False
        self.recursive = False
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[tuple[str, str | None]] = []


def parse_options(options: Sequence[str], pointer: str) -> Options:
    """Raises ConfigError for what a bind mount cannot have, UnsupportedError for what ocirt cannot do yet."""
    parsed = Options()
    for index, option in enumerate(options):
        if option in _ATTRIBUTES:
            put, clear = _ATTRIBUTES[option]
            parsed.set = parsed.set & ~clear | put
            parsed.clear = parsed.clear & ~put | clear
        elif option in ("bind", "rbind"):
            parsed.bind = True
            parsed.recursive = parsed.recursive or option == "rbind"
        elif option in _PROPAGATION:
            parsed.propagation.append(_PROPAGATION[option])
        elif option in _LATER:
            raise UnsupportedError(
                f'the mount option "{option}" is not implemented yet', pointer=f"{pointer}/options/{index}"
            )
        elif option in ("sync", "dirsync"):
            parsed.data.append((option, None))
        elif option not in ("defaults", "async", ""):
            key, equals, value = option.partition("=")
            parsed.data.append((key, value if equals else None))
    if parsed.bind and parsed.data:
        name = parsed.data[0][0]
        index = next(i for i, option in enumerate(options) if option.partition("=")[0] == name)
        raise ConfigError(
            f'a bind mount cannot have the option "{options[index]}"',
            pointer=f"{pointer}/options/{index}",
            hint="it belongs to the file system, which is mounted already",
        )
    return parsed
