"""The options of a mount, as mount(8) writes them, sorted by what they become."""

from __future__ import annotations

from ocirt.errors import ConfigError
from ocirt.plan.kernel import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_DIRSYNC,
    MS_I_VERSION,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_PRIVATE,
    MS_SHARED,
    MS_SILENT,
    MS_SLAVE,
    MS_SYNCHRONOUS,
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
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}
"""Of the mount. With an "r" before it: of all that is mounted below it, too."""
_SUPERBLOCK = {  # option → (MS_* flags set, flags cleared)
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "lazytime": (MS_LAZYTIME, 0),
    "nolazytime": (0, MS_LAZYTIME),
    "mand": (MS_MANDLOCK, 0),
    "nomand": (0, MS_MANDLOCK),
    "iversion": (MS_I_VERSION, 0),
    "noiversion": (0, MS_I_VERSION),
    "silent": (MS_SILENT, 0),
    "loud": (0, MS_SILENT),
}
"""Of the file system, whatever its type."""
_KEYS = (  # flag, what fsconfig(2) calls it, and its absence
    (MS_SYNCHRONOUS, "sync", "async"),
    (MS_DIRSYNC, "dirsync", None),
    (MS_LAZYTIME, "lazytime", "nolazytime"),
    (MS_MANDLOCK, "mand", "nomand"),
)
PROPAGATION = {
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "unbindable": (MS_UNBINDABLE, False),
    "runbindable": (MS_UNBINDABLE, True),
}
"""option → (MS_* flag, for all that is mounted below, too?)"""
_SWITCHES = {
    "bind": "bind",
    "rbind": "bind",
    "remount": "remount",
    "tmpcopyup": "copy_up",
    "copy-symlink": "copy_symlink",
    "src-nofollow": "source_nofollow",
    "dest-nofollow": "target_nofollow",
}
"""option → the attribute of Options that it makes true"""
_IDMAPS = ("idmap", "ridmap")
MAX_VALUE = 255
"""fsconfig(2) takes no longer string; mount(2) takes MAX_DATA bytes of all options together."""
MAX_DATA = 4095


def recognized() -> list[str]:
    """The options that are ours, and not a file system's own."""
    below = [f"r{name}" for name in _ATTRIBUTES]
    return [*_ATTRIBUTES, *below, *_SUPERBLOCK, *PROPAGATION, *_SWITCHES, *_IDMAPS, "defaults"]


class Options:
    """What the options of one mount ask for.

    set, clear            attributes of the mount itself
    below_set, below_clear    attributes of the mount and of all that is mounted below it
    flags, flags_clear    MS_* flags of the file system
    data                  what is left for the file system: (key, value or None)
    propagation           changes in their order: (MS_* flag, for all below it too?)
    recursive             "rbind": what is mounted below the source too
    """

    __slots__ = (
        "below_clear",
        "below_set",
        "bind",
        "clear",
        "copy_symlink",
        "copy_up",
        "data",
        "flags",
        "flags_clear",
        "idmap",
        "idmap_below",
        "propagation",
        "recursive",
        "remount",
        "set",
        "source_nofollow",
        "target_nofollow",
    )

    def __init__(self) -> None:
        self.set = self.clear = self.below_set = self.below_clear = self.flags = self.flags_clear = 0
        self.bind = self.recursive = self.remount = self.copy_up = False
        self.copy_symlink = self.source_nofollow = self.target_nofollow = self.idmap = self.idmap_below = False
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[tuple[str, str | None]] = []

    def parameters(self) -> list[tuple[str, str | None]]:
        """The file system's options and flags as fsconfig(2) takes them."""
        if not self.flags and not self.flags_clear:
            return self.data
        keys = [on for flag, on, _ in _KEYS if self.flags & flag]
        keys += [off for flag, _, off in _KEYS if self.flags_clear & flag and off]
        return [*((key, None) for key in keys), *self.data]

    def needs_mount2(self, source: str) -> bool:
        """Is there something that fsconfig(2) cannot say?"""
        if self.flags & (MS_I_VERSION | MS_SILENT):
            return True
        for key, value in (*self.data, ("source", source)):
            text = value or key
            if len(text) > MAX_VALUE // 4 and len(text.encode()) > MAX_VALUE:
                return True
        return False

    def for_mount2(self) -> str:
        """The file system's options as mount(2) takes them."""
        return ",".join(key if value is None else f"{key}={_quoted(key, value)}" for key, value in self.data)


def parse_options(options: Sequence[str], pointer: str) -> Options:
    """Raises ConfigError for what cannot go together."""
    parsed = Options()
    for option in options:
        if option in _ATTRIBUTES:
            put, clear = _ATTRIBUTES[option]
            parsed.set = parsed.set & ~clear | put
            parsed.clear = parsed.clear & ~put | clear
        elif option in PROPAGATION:
            parsed.propagation.append(PROPAGATION[option])
        elif option in _SWITCHES:
            setattr(parsed, _SWITCHES[option], True)
            parsed.recursive = parsed.recursive or option == "rbind"
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            put, clear = _ATTRIBUTES[option[1:]]
            parsed.below_set = parsed.below_set & ~clear | put
            parsed.below_clear = parsed.below_clear & ~put | clear
        elif option in _SUPERBLOCK:
            put, clear = _SUPERBLOCK[option]
            parsed.flags = parsed.flags & ~clear | put
            parsed.flags_clear = parsed.flags_clear & ~put | clear
        elif option.startswith(("idmap", "ridmap")) and option.partition("=")[0] in _IDMAPS:
            parsed.idmap = True
            parsed.idmap_below = option[0] == "r"
        elif option != "defaults" and option:
            parsed.data += _file_systems(option)
    if not parsed.bind and not parsed.remount:  # a new mount has nothing below it
        parsed.set = parsed.set & ~parsed.below_clear | parsed.below_set
        parsed.clear = parsed.clear & ~parsed.below_set | parsed.below_clear
        parsed.below_set = parsed.below_clear = 0
    if parsed.bind and parsed.data:
        _check_bind(options, pointer)
    for name in ("copy-symlink", "src-nofollow", "dest-nofollow"):
        if not parsed.bind and name in options:
            raise _misplaced(options, name, "is for bind mounts", pointer)
    if parsed.copy_up and (parsed.bind or parsed.remount):
        raise _misplaced(options, "tmpcopyup", "is for tmpfs", pointer)
    if parsed.copy_symlink and (parsed.source_nofollow or parsed.target_nofollow):
        raise _misplaced(options, "copy-symlink", 'excludes "src-nofollow" and "dest-nofollow"', pointer)
    return parsed


def ignored_by_bind(options: Sequence[str]) -> list[int]:
    """The places of a file system's flags and values: what is bound is mounted already, so mount(2) ignores them, too.

    runc refuses values since 1.2, but the specification's own test suite has a bind mount with mode=755.
    """
    return [
        at
        for at, option in enumerate(options)
        if _SUPERBLOCK.get(option, (0, 0))[0] & ~MS_SILENT or ("=" in option and not _maps(option))
    ]


def _maps(option: str) -> bool:
    return option.partition("=")[0] in _IDMAPS


def _check_bind(options: Sequence[str], pointer: str) -> None:
    """A word that nobody knows is no value of a file system: it is meant for the mount, and "RO" would leave it
    writable."""
    known = {*recognized(), ""}
    for at, option in enumerate(options):
        if option not in known and not _maps(option) and ("=" not in option or "," in option):
            several = "one option in each string: " if "," in option else ""
            raise ConfigError(
                f'a bind mount has no option "{option}"',
                pointer=f"{pointer}/options/{at}",
                hint=f"{several}what is bound is mounted already, so options of its file system change nothing",
            )


def _file_systems(option: str) -> list[tuple[str, str | None]]:
    """Several in one string, as mount(2) would take them apart; not within quotes, or where a comma is escaped."""
    if "," in option and '"' not in option and "\\" not in option:
        return [pair for part in option.split(",") for pair in _file_systems(part)] if option.strip(",") else []
    key, equals, value = option.partition("=")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return [(key, value if equals else None)] if option else []


def _quoted(key: str, value: str) -> str:
    """An SELinux context's categories have commas, which mount(2) would take for the next option's."""
    return f'"{value}"' if key.endswith("context") else value


def _misplaced(options: Sequence[str], name: str, why: str, pointer: str) -> ConfigError:
    return ConfigError(f'the mount option "{name}" {why}', pointer=f"{pointer}/options/{options.index(name)}")
