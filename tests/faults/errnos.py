"""Which errnos each system call can fail with: those of its man page that a host can be in the mood for.

Left out are what only a wrong argument would bring (EBADF, EFAULT, ENAMETOOLONG …): arguments are another test's; and
EINTR, which comes with signals. EIO is any call's that may touch a file system.
"""

from __future__ import annotations

import re
import subprocess
from errno import errorcode
from functools import cache

_OPEN = "EMFILE ENFILE ENOMEM EIO EACCES ENOSPC"
_LOOK = "EIO ENOMEM EACCES ELOOP"
_MAKE = "ENOSPC ENOMEM EIO EACCES EROFS EDQUOT"
_MOUNT = "ENOMEM EPERM EINVAL EIO"
_TABLE = {
    "open openat openat2": _OPEN,
    "read pread64 getdents64 readv": "EIO",
    "write pwrite64 writev": "ENOSPC EIO EDQUOT ENOMEM EPERM",
    "ftruncate": "EIO ENOSPC",
    "lseek": "EINVAL",
    "stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat": _LOOK,
    "getcwd": "ENOMEM EACCES",
    "chdir fchdir chroot": "EACCES EIO ENOMEM",
    "mkdir mkdirat mknod mknodat symlink symlinkat link linkat": _MAKE,
    "rename renameat renameat2": "ENOSPC EIO EACCES ENOMEM EROFS",
    "unlink unlinkat rmdir": "EIO EBUSY ENOMEM EACCES EROFS",
    "chmod fchmod fchmodat chown fchown fchownat lchown utimensat": "EPERM EIO ENOMEM EROFS",
    "fcntl": "EMFILE EPERM EBUSY",
    "dup dup2 dup3 pipe2": "EMFILE ENFILE",
    "flock": "ENOLCK ENOMEM",
    "ioctl": "EIO ENOTTY ENOMEM",
    "memfd_create": "EMFILE ENFILE ENOMEM",
    "socket socketpair": "EMFILE ENFILE ENOMEM ENOBUFS",
    "connect": "ECONNREFUSED EACCES",
    "sendmsg sendto recvmsg recvfrom": "ENOMEM ENOBUFS",
    "clone clone3 fork vfork": "EAGAIN ENOMEM EPERM ENOSPC",
    "execve execveat": "ENOMEM EACCES EIO ETXTBSY",
    "wait4": "ECHILD",
    "kill tkill tgkill pidfd_send_signal": "EPERM",
    "pidfd_open": "EMFILE ENFILE ENOMEM",
    "pidfd_getfd": "EMFILE EPERM",
    "poll ppoll epoll_create1 epoll_ctl": "ENOMEM",
    "mmap mremap mprotect": "ENOMEM",
    "brk": "",  # it fails by not moving the end, which nothing can be injected for; mmap is what is tried next
    "mount umount2 fsconfig fsmount move_mount mount_setattr": _MOUNT,
    "open_tree fsopen fspick": f"EMFILE ENFILE {_MOUNT}",
    "rt_sigtimedwait": "",  # but EINTR
    "pivot_root": "EBUSY EINVAL EPERM",
    "setns unshare": "EPERM ENOMEM EINVAL ENOSPC",
    "sethostname setdomainname setsid": "EPERM",
    "setresuid setresgid setuid setgid": "EAGAIN EPERM",
    "setgroups": "ENOMEM EPERM",
    "capset capget": "EPERM",
    "prctl": "EINVAL EPERM",
    "prlimit64 getrlimit setrlimit": "EPERM EINVAL",
    "personality sched_setaffinity sched_setattr ioprio_set set_mempolicy": "EPERM EINVAL",
    "sched_getaffinity": "EINVAL",
    "seccomp": "ENOMEM EINVAL EACCES",
    "bpf": "EPERM ENOMEM",
    "keyctl add_key request_key": "EDQUOT ENOMEM EACCES",
    "close_range": "EMFILE ENOMEM",
    "getxattr lgetxattr fgetxattr": "EIO ENOMEM",
}
ERRNOS = {name: errnos.split() for names, errnos in _TABLE.items() for name in names.split()}
"""System call → names of errnos."""
OTHERS = ["ENOMEM"]
"""Those of a call that is not in the table: another libc's, or kernel's."""
NUMBERS = {name: number for number, name in errorcode.items()}
"""Name of an errno → its number."""


@cache
def call_names() -> dict[int, str]:
    """System call's number → its name, as this architecture has them."""
    command = ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", done.stdout, re.MULTILINE)
    return {int(number): name for name, number in found}
