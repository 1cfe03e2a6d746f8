"""The configuration that every program of runtime-tools starts from, as its generator makes it.

The seccomp profile is of the suite's kind, and hard on a runtime in the same places: what is not named is forbidden;
names of other architectures and old ones are among the allowed, newer system calls are not (among them what a
runtime likes to use last, such as close_range); one rule has three conditions on the same argument.
"""

from __future__ import annotations

import copy
from typing import Any

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT"
        " KILL AUDIT_WRITE"
    ).split()
]

ALLOWED = {
    "files": "access chdir chmod chown close copy_file_range creat dup dup2 dup3 faccessat fadvise64 fallocate fchdir"
    " fchmod fchmodat fchown fchownat fcntl fdatasync flock fstat fstatfs fsync ftruncate futimesat getcwd getdents"
    " getdents64 lchown link linkat lseek lstat mkdir mkdirat mknod mknodat newfstatat open openat pread64 preadv"
    " pwrite64 pwritev read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile splice stat"
    " statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat"
    " utimes vmsplice write writev",
    "attributes": "fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr"
    " lsetxattr removexattr setxattr",
    "waiting": "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd eventfd2 inotify_add_watch"
    " inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit pipe pipe2 poll"
    " ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime",
    "memory": "brk madvise memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall"
    " munmap remap_file_pages",
    "processes": "execve execveat exit exit_group fork futex get_robust_list get_thread_area getpgid getpgrp getpid"
    " getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kill prctl prlimit64 restart_syscall"
    " sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler"
    " sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield"
    " set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid tgkill tkill vfork wait4"
    " waitid",
    "signals": "alarm getitimer pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn"
    " rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo setitimer sigaltstack",
    "credentials": "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid"
    " setgroups setregid setresgid setresuid setreuid setuid",
    "sockets": "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg"
    " sendmmsg sendmsg sendto setsockopt shutdown socket socketpair",
    "messages": "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd"
    " semctl semget semop semtimedop shmat shmctl shmdt shmget",
    "time": "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time timer_create timer_delete"
    " timer_getoverrun timer_gettime timer_settime times",
    "others": "getcpu getrandom ioctl seccomp sysinfo syslog uname",
    "of 32-bit machines": "_llseek _newselect chown32 fadvise64_64 fchown32 fcntl64 fstat64 fstatat64 fstatfs64"
    " ftruncate64 getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32 ipc lchown32 lstat64 mmap2"
    " recv send sendfile64 setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32"
    " setuid32 sigreturn socketcall stat64 statfs64 truncate64 ugetrlimit waitpid",
    "never used": "epoll_ctl_old epoll_wait_old",
}
NEW_NAMESPACES = 0x7C020000
"""The CLONE_NEW* flags of clone(2), without those of cgroup and time namespaces."""


def seccomp_profile() -> dict[str, Any]:
    """SCMP_ACT_ERRNO but for what is listed."""
    any_personality = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (0, 8, 0xFFFFFFFF)]
    no_namespaces = [{"index": 0, "value": NEW_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            _allow(" ".join(ALLOWED.values())),
            _allow("personality", any_personality),
            _allow("chroot"),
            _allow("clone", no_namespaces),
            _allow("arch_prctl"),
            _allow("modify_ldt"),
        ],
    }


def suite_config() -> dict[str, Any]:
    """A fresh copy."""
    return copy.deepcopy(_CONFIG)


def _allow(names: str, conditions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names.split(), "action": "SCMP_ACT_ALLOW"}
    return {**rule, "args": conditions} if conditions else rule


def _mount(destination: str, type: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": type, "source": source, "options": list(options)}


_CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "/inside.sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
    },
    "root": {"path": "."},
    "hostname": "mrsdalloway",
    "mounts": [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        "seccomp": seccomp_profile(),
    },
}
