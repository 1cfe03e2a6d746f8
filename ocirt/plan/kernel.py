"""The kernel's constants and structures, by the kernel's own names (include/uapi/linux).

Only values that are the same on every architecture in `syscalls.MACHINES`: O_DIRECTORY and O_NOFOLLOW are not,
so no plan uses them.
"""

from _struct import Struct

# openat2(2), open(2)
O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_NOCTTY = 0o400
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000
O_PATH = 0o10000000
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
AT_FDCWD = -100
AT_EACCESS = 0x200
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
X_OK = 1
F_OK = 0

# clone3(2), unshare(2)
CLONE_NEWTIME = 0x00000080
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# open_tree(2), fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = O_CLOEXEC
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_BY_DESCRIPTOR = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

# prctl(2), capabilities(7), setresuid(2)
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522

# close_range(2)
CLOSE_RANGE_CLOEXEC = 4
LAST_DESCRIPTOR = 0xFFFFFFFF

# sigaction(2), nptl(7): SIGCANCEL and SIGSETXID
THREAD_SIGNALS = (32, 33)
SIGACTION_SIZE = 32
SIGSET_SIZE = 8

# ioctl_tty(2), netdevice(7)
TIOCSCTTY = 0x540E
TIOCSWINSZ = 0x5414
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
AF_INET = 2
SOCK_DGRAM = 2
SOCK_CLOEXEC = O_CLOEXEC

# mknod(2), stat(2)
S_IFMT = 0o170000
S_IFIFO = 0o010000
S_IFCHR = 0o020000
S_IFREG = 0o100000

# keyctl(2)
KEYCTL_JOIN_SESSION_KEYRING = 1

# ioprio_set(2), sched_setattr(2)
IOPRIO_WHO_PGRP = 2
IOPRIO_CLASS_SHIFT = 13
SCHED_CAPACITY_SCALE = 1024

# statx(2): the places of fields in struct statx
STATX_BASIC_STATS = 0x7FF
STATX_SIZE = 256
STATX_MODE_AT = 0x1C
STATX_RDEV_MAJOR_AT = 0x80
STATX_RDEV_MINOR_AT = 0x84

# errno(3)
EPERM = 1
ENOENT = 2
EBADF = 9
EACCES = 13
EBUSY = 16
EEXIST = 17
ENODEV = 19
ENOTDIR = 20
EISDIR = 21
EINVAL = 22
EMFILE = 24
ENOSPC = 28
EROFS = 30
ENAMETOOLONG = 36
ENOSYS = 38
ELOOP = 40
EOPNOTSUPP = 95
EDQUOT = 122

OPEN_HOW = Struct("<QQQ")  # flags, mode, resolve
MOUNT_ATTR = Struct("<QQQQ")  # attr_set, attr_clr, propagation, userns_fd
RLIMIT = Struct("<QQ")  # rlim_cur, rlim_max
IFREQ_FLAGS = Struct("<16sH22x")  # ifr_name, ifr_flags
WINSIZE = Struct("<HHHH")  # rows, columns, x pixels, y pixels
SCHED_ATTR = Struct("<IIQiIQQQII")  # size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
CAP_HEADER = Struct("<II")  # version, pid
CAP_DATA = Struct("<IIIIII")  # effective, permitted, inheritable: low words, then high words


def makedev(major: int, minor: int) -> int:
    """A device number as mknodat(2) takes it (the kernel's new_encode_dev, 32 bits)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12
