"""The default seccomp profile, as data, in the format of docker's profiles.

What is not named here is refused with EPERM: what makes or enters namespaces, mounts, loads code into the kernel, sets
clocks, reaches other containers' processes or the host's devices, and old interfaces that hardly anybody uses and that
have been the way into kernels (keyrings, userfaultfd, io_uring, bpf, perf). What a capability stands for is allowed to
who has it. The groups are by purpose, so that a reader can see what is missing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 lchown lchown32
link linkat lseek _llseek lstat lstat64 mkdir mkdirat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 splice
stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs
tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
_newselect ioctl mknod mknodat statmount listmount cachestat file_getattr file_setattr
fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr removexattr
setxattr getxattrat listxattrat removexattrat setxattrat
fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch name_to_handle_at
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4 pipe pipe2
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_MEMORY = """
brk madvise membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync
munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages map_shadow_stack
"""
_PROCESSES = """
alarm capget capset execve execveat exit exit_group fork vfork wait4 waitid waitpid getpgid getpgrp getpid getppid
getsid gettid setpgid setsid getpriority setpriority getrlimit setrlimit ugetrlimit prlimit64 getrusage times
getcpu sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield ioprio_get ioprio_set prctl arch_prctl set_tid_address get_thread_area set_thread_area
get_robust_list set_robust_list rseq pidfd_open pidfd_send_signal pidfd_getfd process_madvise process_vm_readv
process_vm_writev ptrace seccomp landlock_add_rule landlock_create_ruleset landlock_restrict_self uname sysinfo
getrandom restart_syscall
futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
lsm_get_self_attr lsm_set_self_attr lsm_list_modules
"""
_IDENTITIES = """
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid getresuid32
getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""
_SIGNALS = """
kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal sigpending sigprocmask sigreturn sigsuspend
tgkill tkill
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64
"""
_MESSAGES = """
ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
"""
_NETWORK = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketpair
"""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, Linux32, UNAME26 with each, and the query
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET: linux/sched.h
_AF_ALG, _AF_VSOCK = 38, 40  # linux/socket.h
_SYS_SOCKET = 1  # the socketcall(2) that is socket(2): linux/net.h
_ENOSYS = 38


def _allow(names: str, *args: tuple[int, int, str, int], **only: Any) -> dict[str, Any]:
    """A rule. args: (index, value, operator, second value)."""
    rule: dict[str, Any] = {"names": names.split(), "action": "SCMP_ACT_ALLOW"}
    if args:
        rule["args"] = [
            {"index": index, "value": value, "op": f"SCMP_CMP_{operator}"} | ({"valueTwo": two} if two else {})
            for index, value, operator, two in args
        ]
    return rule | only


def _with(capability: str) -> dict[str, Any]:
    return {"includes": {"caps": [f"CAP_{capability}"]}}


PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64"},
    ],
    "syscalls": [
        _allow(_FILES),
        _allow(_WAITING),
        _allow(_MEMORY),
        _allow(_PROCESSES.replace("", "")),
        _allow(_IDENTITIES),
        _allow(_SIGNALS),
        _allow(_TIME),
        _allow(_MESSAGES),
        _allow(_NETWORK),
        # All families but AF_ALG (the kernel's ciphers: CVE-2026-31431) and AF_VSOCK (the hypervisor and its other
        # guests, whatever the network namespace). Of socketcall(2), whose arguments lie in memory, everything but
        # socket(2): libraries then take the call of its own.
        _allow("socket", (0, _AF_ALG, "LT", 0)),
        _allow("socket", (0, 39, "EQ", 0)),
        _allow("socket", (0, _AF_VSOCK, "GT", 0)),
        _allow("socketcall", (0, _SYS_SOCKET, "GT", 0), includes={"arches": ["amd64", "x86"]}),
        *(_allow("personality", (0, value, "EQ", 0)) for value in _PERSONALITIES),
        _allow("modify_ldt", includes={"arches": ["amd64", "x86"]}),
        _allow("breakpoint cacheflush set_tls get_tls", includes={"arches": ["arm", "arm64"]}),
        _allow("riscv_flush_icache riscv_hwprobe", includes={"arches": ["riscv64"]}),
        # Threads and processes, but no new namespaces. The flags of clone3(2) lie in memory: "there is no such call"
        # has libraries take clone(2).
        _allow("clone", (0, _NEW_NAMESPACES, "MASKED_EQ", 0), excludes={"caps": ["CAP_SYS_ADMIN"]}),
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": _ENOSYS,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        _allow(
            "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr"
            " move_mount open_tree open_tree_attr perf_event_open"
            " quotactl quotactl_fd setdomainname sethostname setns syslog"
            " umount umount2 unshare",
            **_with("SYS_ADMIN"),
        ),
        _allow("bpf", **_with("BPF")),
        _allow("perf_event_open", **_with("PERFMON")),
        _allow("open_by_handle_at", **_with("DAC_READ_SEARCH")),
        _allow("chroot", **_with("SYS_CHROOT")),
        _allow("delete_module finit_module init_module", **_with("SYS_MODULE")),
        _allow("acct", **_with("SYS_PACCT")),
        _allow("kcmp", **_with("SYS_PTRACE")),
        _allow("ioperm iopl", includes={"caps": ["CAP_SYS_RAWIO"], "arches": ["amd64", "x86"]}),
        _allow("clock_settime clock_settime64 settimeofday stime", **_with("SYS_TIME")),
        _allow("vhangup", **_with("SYS_TTY_CONFIG")),
        _allow("get_mempolicy mbind move_pages set_mempolicy set_mempolicy_home_node", **_with("SYS_NICE")),
        _allow("syslog", **_with("SYSLOG")),
        _allow("reboot", **_with("SYS_BOOT")),
    ],
}
