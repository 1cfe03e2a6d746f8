"""A step's arguments in words, call by call, and what is in the kernel's structures.

Only `explain` needs this; nothing of it runs when a container is made.
"""

from __future__ import annotations

from struct import iter_unpack

from ocirt.config.names import CAPABILITIES, RLIMITS
from ocirt.config.names_scheduling import EXECUTION_DOMAINS
from ocirt.plan import decode_scheduling, kernel, tags
from ocirt.plan.notation import (
    bits,
    constants,
    errno_name,
    number,
    one,
    plain,
    pointer,
    quoted,
    structure,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.notation import Decoder
    from ocirt.plan.step import Argument

INFINITY = 2**64 - 1
S_IFBLK = 0o060000

_AT_FLAGS = constants("AT_", without=("AT_EACCESS",))
_OPEN_FLAGS = {kernel.O_PATH: "O_PATH"} | constants("O_")
_RESOLVE = constants("RESOLVE_")
_MOUNT_FLAGS = constants("MOUNT_ATTR_", without=("MOUNT_ATTR__ATIME",))
_PROPAGATION = constants("MS_")
_CLONE = constants("CLONE_", without=("CLONE_ARGS",))
_CAPABILITY = {number: name for name, number in CAPABILITIES.items()}
_RLIMIT = {number: name for name, number in RLIMITS.items()}
_AMBIENT = constants("PR_CAP_AMBIENT_")
_PRCTL = constants("PR_", without=("PR_CAP_AMBIENT_",))
_IOCTL = constants("TIOC", "SIOC")
_FILE_TYPES = {S_IFBLK: "S_IFBLK"} | constants("S_IF", without=("S_IFMT",))


def descriptor(value: Argument, args: tuple[Argument, ...]) -> str:
    return "AT_FDCWD" if value == kernel.AT_FDCWD and type(value) is int else plain(value)


def last_descriptor(value: Argument, args: tuple[Argument, ...]) -> str:
    return "~0U" if value == kernel.LAST_DESCRIPTOR else plain(value)


def mode(value: Argument, args: tuple[Argument, ...]) -> str:
    """Permissions in octal, with the file type's name before them if there is one."""
    if type(value) is not int:
        return plain(value)
    kind = value & kernel.S_IFMT
    permissions = f"0{value & 0o7777:o}" if value & 0o7777 else "0"
    return f"{_FILE_TYPES.get(kind, oct(kind))}|{permissions}" if kind else permissions


def open_flags(value: Argument, args: tuple[Argument, ...]) -> str:
    """The access mode is a number of two bits, which an O_PATH descriptor has no use for."""
    if type(value) is not int:
        return plain(value)
    access = value & 3
    rest = bits(value & ~3, _OPEN_FLAGS, "")
    if access == 0 and value & kernel.O_PATH:
        return rest
    name = ("O_RDONLY", "O_WRONLY", "O_RDWR")[access] if access < 3 else "0x3"
    return f"{name}|{rest}" if rest else name


def device(value: Argument, args: tuple[Argument, ...]) -> str:
    """mknodat(2)'s last argument: the reverse of `kernel.makedev`, if a device is made."""
    kind = args[2] if len(args) > 2 else 0
    if type(value) is not int or type(kind) is not int or kind & kernel.S_IFMT not in (kernel.S_IFCHR, S_IFBLK):
        return plain(value)
    return f"makedev({value >> 8 & 0xFFF}, {value & 0xFF | value >> 12 & 0xFFF00})"


def open_how(value: Argument, args: tuple[Argument, ...]) -> str:
    if not isinstance(value, bytes) or len(value) != kernel.OPEN_HOW.size:
        return plain(value)
    flags, created, resolve = kernel.OPEN_HOW.unpack(value)
    shown = ["flags=" + open_flags(flags, ())]
    if created:
        shown.append("mode=" + mode(created, ()))
    shown.append("resolve=" + bits(resolve, _RESOLVE))
    return "{" + ", ".join(shown) + "}"


def mount_attributes(value: int) -> str:
    """Attributes; the three bits of the access time are one number, whose mask clears them all."""
    if value & kernel.MOUNT_ATTR__ATIME == kernel.MOUNT_ATTR__ATIME:
        rest = bits(value & ~kernel.MOUNT_ATTR__ATIME, _MOUNT_FLAGS, "")
        return "|".join(part for part in ("MOUNT_ATTR__ATIME", rest) if part)
    return bits(value, _MOUNT_FLAGS)


def mount_flags(value: Argument, args: tuple[Argument, ...]) -> str:
    return mount_attributes(value) if type(value) is int else plain(value)


def mount_attr(value: Argument, args: tuple[Argument, ...]) -> str:
    """struct mount_attr: the members that are not zero."""
    if not isinstance(value, bytes) or len(value) != kernel.MOUNT_ATTR.size:
        return plain(value)
    put, clear, propagation, userns = kernel.MOUNT_ATTR.unpack(value)
    shown = []
    if put or not (clear or propagation):
        shown.append("attr_set=" + mount_attributes(put))
    if clear:
        shown.append("attr_clr=" + mount_attributes(clear))
    if propagation:
        shown.append("propagation=" + bits(propagation, _PROPAGATION))
    if userns:
        shown.append(f"userns_fd={userns}")
    return "{" + ", ".join(shown) + "}"


def rlimit(value: Argument, args: tuple[Argument, ...]) -> str:
    if not isinstance(value, bytes) or len(value) != kernel.RLIMIT.size:
        return pointer(value, args)
    soft, hard = ("RLIM_INFINITY" if limit == INFINITY else str(limit) for limit in kernel.RLIMIT.unpack(value))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}"


def sigaction(value: Argument, args: tuple[Argument, ...]) -> str:
    return "{SIG_DFL}" if value == bytes(kernel.SIGACTION_SIZE) else plain(value)


def capability_set(value: int) -> str:
    return bits(value, {1 << number: name for number, name in _CAPABILITY.items()})


def capability_header(value: Argument, args: tuple[Argument, ...]) -> str:
    if not isinstance(value, bytes) or len(value) != kernel.CAP_HEADER.size:
        return plain(value)
    version, pid = kernel.CAP_HEADER.unpack(value)
    name = "_LINUX_CAPABILITY_VERSION_3" if version == kernel.LINUX_CAPABILITY_VERSION_3 else hex(version)
    return f"{{version={name}, pid={pid}}}"


def capability_data(value: Argument, args: tuple[Argument, ...]) -> str:
    if not isinstance(value, bytes) or len(value) != kernel.CAP_DATA.size:
        return plain(value)
    words = kernel.CAP_DATA.unpack(value)
    sets = ("effective", "permitted", "inheritable")
    return (
        "{" + ", ".join(f"{name}={capability_set(words[i] | words[i + 3] << 32)}" for i, name in enumerate(sets)) + "}"
    )


def groups(value: Argument, args: tuple[Argument, ...]) -> str:
    if not isinstance(value, bytes) or len(value) % 4:
        return pointer(value, args)
    return "[" + ", ".join(str(gid) for (gid,) in iter_unpack("<I", value)) + "]"


def prctl_argument(value: Argument, args: tuple[Argument, ...]) -> str:
    """What prctl(2)'s second argument is depends on the first."""
    option = args[0] if args else None
    if type(value) is int and option == kernel.PR_CAPBSET_DROP:
        return _CAPABILITY.get(value, str(value))
    if type(value) is int and option == kernel.PR_CAP_AMBIENT:
        return _AMBIENT.get(value, str(value))
    return plain(value)


def prctl_ambient(value: Argument, args: tuple[Argument, ...]) -> str:
    """The third argument: the capability that is raised."""
    if type(value) is int and args[:2] == (kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE):
        return _CAPABILITY.get(value, str(value))
    return plain(value)


def ioctl_argument(value: Argument, args: tuple[Argument, ...]) -> str:
    request = args[1] if len(args) > 1 else None
    if request == kernel.TIOCGPTPEER:
        return open_flags(value, args)
    if isinstance(value, bytes) and request == kernel.TIOCSWINSZ and len(value) == kernel.WINSIZE.size:
        rows, columns, _, _ = kernel.WINSIZE.unpack(value)
        return f"{{ws_row={rows}, ws_col={columns}}}"
    if isinstance(value, bytes) and request == kernel.SIOCSIFFLAGS and len(value) == kernel.IFREQ_FLAGS.size:
        name, flags = kernel.IFREQ_FLAGS.unpack(value)
        shown = quoted(name.rstrip(b"\0").decode("utf-8", "surrogateescape"))
        return f"{{ifr_name={shown}, ifr_flags={bits(flags, constants('IFF_'))}}}"
    if isinstance(value, bytes) and len(value) == 4:
        return f"&{int.from_bytes(value, 'little')}"
    return plain(value)


_TAGS = {
    prefix: {value: name for name, value in vars(tags).items() if name.startswith(prefix) and isinstance(value, int)}
    for prefix in ("SYNC_", "FD_")
}


def sync_tag(value: Argument, args: tuple[Argument, ...]) -> str:
    """SYNC_COPY and SYNC_MAKE carry a mount's index."""
    for name in ("SYNC_MAKE", "SYNC_COPY"):
        first = getattr(tags, name)
        if type(value) is int and value >= first:
            return f"{name}+{value - first}"
    return _TAGS["SYNC_"].get(value, str(value)) if type(value) is int else plain(value)


def expectation(value: Argument, mask: int, want: int, width: int) -> tuple[str, str, str]:
    """(value, mask, wanted value) of an EXPECT step."""
    text, wanted = plain(value), str(want)
    if width == 1 and 32 < want < 127:
        wanted = f"'{chr(want)}'"
    elif width == 8 and (content := want.to_bytes(8, "little").rstrip(b"\0")) and content.isascii():
        wanted = quoted(content.decode())  # of a symlink's content
    elif want > 4096:
        wanted = _FILE_TYPES.get(want, hex(want)) if mask == kernel.S_IFMT else hex(want)
    full = (1 << 8 * width) - 1
    masked = "~0" if mask & full == full else "S_IFMT" if mask == kernel.S_IFMT else hex(mask)
    return text, masked, wanted


_PATH: tuple[Decoder, ...] = (descriptor, plain)

SIGNATURES: dict[str, tuple[Decoder, ...]] = {
    "capset": (capability_header, capability_data),
    "chdir": (plain,),
    "chroot": (plain,),
    "clone3": (word(_CLONE), plain),
    "close": (plain,),
    "close_range": (plain, last_descriptor, word(constants("CLOSE_RANGE_"))),
    "dup3": (plain, plain, word({kernel.O_CLOEXEC: "O_CLOEXEC"})),
    "execve": (plain, plain, plain),
    "exit_group": (plain,),
    "expect": (plain, plain, plain, plain, plain),
    "faccessat2": (*_PATH, one({kernel.F_OK: "F_OK", kernel.X_OK: "X_OK"}), word({kernel.AT_EACCESS: "AT_EACCESS"})),
    "fchdir": (plain,),
    "fchown": (plain, plain, plain),
    "fchownat": (*_PATH, plain, plain, word(_AT_FLAGS)),
    "fcntl": (plain, plain, plain),
    "fsconfig": (plain, one(constants("FSCONFIG_")), pointer, pointer, plain),
    "fsmount": (plain, word(constants("FSMOUNT_")), mount_flags),
    "fspick": (*_PATH, word(constants("FSPICK_"))),
    "fsopen": (plain, word(constants("FSOPEN_"))),
    "getcwd": (plain, plain),
    "ioctl": (plain, one(_IOCTL), ioctl_argument),
    "ioprio_set": (one(constants("IOPRIO_WHO_")), plain, number(decode_scheduling.io_priority)),
    "keyctl": (one(constants("KEYCTL_")), plain, plain, plain, plain),
    "load": (plain,),
    "mount": (plain, plain, plain, word(constants("MS_")), pointer),
    "readlinkat": (*_PATH, plain, plain),
    "mkdirat": (*_PATH, mode),
    "mknodat": (*_PATH, mode, device),
    "mount_setattr": (*_PATH, word(_AT_FLAGS), mount_attr, plain),
    "mmap": (
        *(plain, plain, word({kernel.PROT_READ: "PROT_READ", kernel.PROT_WRITE: "PROT_WRITE"})),
        *(word({kernel.MAP_SHARED: "MAP_SHARED"}), plain, plain),
    ),
    "move_mount": (*_PATH, *_PATH, word(constants("MOVE_MOUNT_", without=("MOVE_MOUNT_BY_",)))),
    "open_tree": (*_PATH, word(constants("OPEN_TREE_") | _AT_FLAGS)),
    "openat": (*_PATH, open_flags, mode),
    "openat2": (*_PATH, open_how, plain),
    "personality": (one({number: "PER_" + name for name, number in EXECUTION_DOMAINS.items()}),),
    "pivot_root": (plain, plain),
    "prctl": (one(_PRCTL), prctl_argument, prctl_ambient, plain, plain),
    "prlimit64": (plain, one(_RLIMIT), rlimit, pointer),
    "report to": (plain,),
    "rt_sigaction": (plain, sigaction, pointer, plain),
    "seccomp": (
        one({kernel.SECCOMP_SET_MODE_FILTER: "SECCOMP_SET_MODE_FILTER"}),
        word(constants("SECCOMP_FILTER_FLAG_")),
        plain,
    ),
    "sched_setaffinity": (plain, plain, structure(decode_scheduling.number_set)),
    "sched_setattr": (plain, structure(decode_scheduling.attributes, kernel.SCHED_ATTR.size), plain),
    "send descriptor": (plain, one(_TAGS["FD_"])),
    "set_mempolicy": (
        number(decode_scheduling.memory_policy),
        structure(decode_scheduling.number_set),
        plain,
    ),
    "setdomainname": (plain, plain),
    "setgroups": (plain, groups),
    "sethostname": (plain, plain),
    "setns": (plain, word(_CLONE)),
    "setresgid": (plain, plain, plain),
    "setresuid": (plain, plain, plain),
    "setsid": (),
    "socket": (
        one(constants("AF_")),
        word(constants("SOCK_")),
        plain,
    ),
    "statx": (*_PATH, word(_AT_FLAGS), one({kernel.STATX_BASIC_STATS: "STATX_BASIC_STATS"}), plain),
    "symlinkat": (plain, *_PATH),
    "sync": (sync_tag,),
    "umask": (mode,),
    "umount2": (plain, word(constants("MNT_") | constants("UMOUNT_"))),
    "unlinkat": (*_PATH, word(_AT_FLAGS)),
    "wait": (plain, plain, plain),
    "unshare": (word(_CLONE),),
    "write": (plain, plain, plain),
}
"""call → how each of its arguments is read. A call that is not here shows its arguments as they are."""


def arguments(call: str, args: tuple[Argument, ...]) -> list[str]:
    """The decoded arguments of one step."""
    if call == "expect" and len(args) == 5:
        value, mask, want, width, errno = args
        assert isinstance(mask, int) and isinstance(want, int) and isinstance(width, int) and isinstance(errno, int)
        shown, masked, wanted = expectation(value, mask, want, width)
        return [shown, masked, wanted, str(width), errno_name(errno)]
    decoders = SIGNATURES.get(call, ())
    return [(decoders[i] if i < len(decoders) else plain)(value, args) for i, value in enumerate(args)]
