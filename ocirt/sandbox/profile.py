"""The sandbox's seccomp profile: what is not listed is refused.

Three kinds: ALLOWED happens; DENIED asks our listener (seccomp_unotify(2)), which notes the name and answers EPERM;
everything else, which is what neither list names, fails with ENOSYS where it is newer than both, and EPERM otherwise.
Only a refused call pays for the listener.

Allowed is what compilers, interpreters and servers use on their own files, memory, threads, sockets and children. Not
allowed is what changes the kernel, its mounts and namespaces, its clock; what looks into other processes; and what has
been the way out of containers: io_uring, bpf, userfaultfd, keyrings, nested user namespaces.
"""

from __future__ import annotations

from typing import Any

NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW* (clone(2)): each of them, CLONE_NEWTIME too."""
AF_UNIX = 1
FAMILIES = (AF_UNIX, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6 (socket(2))."""
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
"""Linux, 32 bits, their uname26 forms, ADDR_NO_RANDOMIZE for debuggers, and the question what it is."""
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX (ioctl_tty(2), ioctl_console(2)): to type for whoever owns the terminal."""
ENOSYS = 38

ALLOWED = tuple(
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek open openat openat2 creat
    close close_range dup dup2 dup3 pipe pipe2 fcntl fcntl64 flock fsync fdatasync sync syncfs sync_file_range
    truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead copy_file_range sendfile
    sendfile64 splice tee vmsplice stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx statfs statfs64
    fstatfs fstatfs64 access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir mkdir
    mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod mknodat chmod fchmod
    fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat umask utime utimes utimensat
    utimensat_time64 futimesat getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr
    flistxattr removexattr lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl
    epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
    timerfd_create timerfd_settime timerfd_settime64 timerfd_gettime timerfd_gettime64 io_setup io_destroy io_submit
    io_cancel io_getevents io_pgetevents io_pgetevents_time64
    mmap mmap2 munmap mremap mprotect pkey_alloc pkey_free pkey_mprotect madvise msync mincore mlock mlock2 munlock
    mlockall munlockall brk membarrier memfd_create mseal map_shadow_stack get_mempolicy remap_file_pages cachestat
    fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill pidfd_open pidfd_send_signal
    getpid getppid gettid getpgid setpgid getpgrp getsid setsid getpriority setpriority nice ioprio_get ioprio_set
    sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler
    sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
    sched_rr_get_interval_time64 sched_getattr sched_setattr set_tid_address set_robust_list get_robust_list futex
    futex_time64 futex_waitv futex_wait futex_wake futex_requeue rseq getcpu arch_prctl set_thread_area
    get_thread_area set_tls get_tls cacheflush riscv_flush_icache riscv_hwprobe prctl capget capset seccomp
    landlock_create_ruleset landlock_add_rule landlock_restrict_self getrlimit ugetrlimit setrlimit prlimit64
    getrusage times sysinfo uname getrandom
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigtimedwait_time64 rt_sigqueueinfo
    rt_tgsigqueueinfo rt_sigsuspend rt_sigreturn sigreturn sigaction sigprocmask sigpending sigsuspend signal
    sigaltstack pause alarm setitimer getitimer restart_syscall
    time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
    clock_nanosleep_time64 nanosleep timer_create timer_settime timer_settime64 timer_gettime timer_gettime64
    timer_getoverrun timer_delete
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32
    getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid
    setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
    bind listen accept accept4 connect getsockname getpeername getsockopt setsockopt shutdown send sendto
    sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
    shmget shmat shmdt shmctl semget semop semtimedop semtimedop_time64 semctl msgget msgsnd msgrcv msgctl ipc
    mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr
    """.split()
)

DENIED = tuple(
    """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime create_module delete_module fanotify_init
    fanotify_mark finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl listmount lookup_dcookie mbind
    memfd_secret migrate_pages modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl
    open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root process_madvise process_mrelease
    process_vm_readv process_vm_writev ptrace query_module quotactl quotactl_fd reboot request_key
    set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday statmount stime swapoff swapon
    _sysctl sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old
    """.split()
)


def _rule(names: tuple[str, ...], action: str, *conditions: tuple[int, str, int, int]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": action}
    if conditions:
        rule["args"] = [
            {"index": index, "value": value, "valueTwo": second, "op": op} for index, op, value, second in conditions
        ]
    return rule


def profile(listener: str) -> dict[str, Any]:
    """linux.seccomp of a sandbox (config-linux.md, "Seccomp"). listener: what it has as listenerPath."""
    allow, ask = "SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY"
    rules = [
        _rule(ALLOWED, allow),
        # Without CLONE_NEW*, whose flags clone3 has in memory that no filter sees: C libraries then use clone.
        _rule(("clone",), allow, (0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, 0)),
        {**_rule(("clone3",), "SCMP_ACT_ERRNO"), "errnoRet": ENOSYS},
        *(_rule(("ioctl",), ask, (1, "SCMP_CMP_MASKED_EQ", 0xFFFFFFFF, number)) for number in TERMINAL_INPUT),
        _rule(("ioctl",), allow),
        *(_rule(("socket",), allow, (0, "SCMP_CMP_EQ", family, 0)) for family in FAMILIES),
        _rule(("socketpair",), allow, (0, "SCMP_CMP_EQ", AF_UNIX, 0)),  # any other makes a socket before it fails
        *(_rule(("personality",), allow, (0, "SCMP_CMP_EQ", value, 0)) for value in PERSONALITIES),
        _rule(("clone", "socket", "socketpair"), ask),
        _rule(DENIED, ask),
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "listenerPath": listener,
        "architectures": [],
        "syscalls": rules,
    }
