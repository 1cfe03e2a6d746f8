"""Where the kernel's errno misleads, what it means here."""

from __future__ import annotations

from errno import (
    E2BIG,
    EACCES,
    EBUSY,
    EEXIST,
    EINVAL,
    ELOOP,
    EMFILE,
    ENODEV,
    ENOENT,
    ENOEXEC,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    EPERM,
    EROFS,
)

_OWNER = "owner and mode of what is on the way do not let the container's root do it: is the owner mapped?"
_HINTS = {
    ("clone3", ENOSPC): "a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces",
    ("clone3", EPERM): "making namespaces needs CAP_SYS_ADMIN: are you root? In a chroot no user namespace can be made",
    ("clone3", ENOMEM): "the pid namespace or the memory cgroup is at its limit",
    ("clone3", 11): "a limit on processes is reached: pids.max of the cgroup, or RLIMIT_NPROC",
    ("clone3", EBUSY): "the cgroup hands controllers down, so it cannot have processes",
    ("clone3", 95): "the cgroup is threaded or not in a domain",
    ("fsopen", ENODEV): "the kernel does not know this file system: is its module loaded?",
    ("chdir", ENOTDIR): "a working directory must be a directory",
    ("fsopen", EPERM): "mounting needs CAP_SYS_ADMIN",
    ("fsconfig", EINVAL): "the file system does not take these options",
    ("fsconfig", EPERM): "in a user namespace few file systems can be mounted, and proc and sysfs only where no part of"
    " the host's is hidden",
    ("fsconfig", EBUSY): "the file system or the cgroup hierarchy is mounted with other options",
    ("mount", EINVAL): "the file system does not take these options: see dmesg",
    ("mount", ENODEV): "the kernel does not know this file system: is its module loaded?",
    ("mount_setattr", EINVAL): "nothing is mounted there, or its file system has no such thing as an id map",
    ("fspick", EINVAL): "nothing is mounted there",
    ("open_tree", EINVAL): "in a user namespace what is mounted below a folder cannot be left out: rbind",
    ("open_tree", ENOENT): "it has to exist: the source of a bind mount, and with dest-nofollow the destination",
    ("readlinkat", EINVAL): "what is there is no symlink",
    ("expect", EEXIST): "the symlink that is there says something else",
    ("move_mount", EINVAL): "source and destination must both be directories, or neither",
    ("move_mount", ENOTDIR): "source and destination must both be directories, or neither",
    ("move_mount", ELOOP): "a mount cannot go below itself",
    ("openat2", ELOOP): "the path goes through a symlink where none may be, or through too many",
    ("openat2", ENOENT): "there is nothing, or a dangling symlink",
    ("openat2", ENOTDIR): "a part of the path is a file",
    ("openat2", ENOSYS): "ocirt needs Linux 5.14 or newer",
    ("openat2", EACCES): _OWNER,
    ("mkdirat", EACCES): _OWNER,
    ("mknodat", EACCES): _OWNER,
    ("fsconfig", EACCES): _OWNER,
    ("mount", EACCES): _OWNER,
    ("mkdirat", ENOENT): "the kernel's own file systems (proc, sysfs, cgroup …) take no new files",
    ("mknodat", ENOENT): "the kernel's own file systems (proc, sysfs, cgroup …) take no new files",
    ("mkdirat", EROFS): "the place is on a readonly file system: create it beforehand",
    ("mknodat", EROFS): "the place is on a readonly file system: create it beforehand",
    ("mknodat", EPERM): "device nodes need CAP_MKNOD and a device cgroup that lets them be made",
    ("pivot_root", EINVAL): "the root of the host is no mount point (initramfs), or the new one is shared",
    ("sethostname", EINVAL): "at most 64 bytes",
    ("prlimit64", EPERM): "raising a hard limit needs CAP_SYS_RESOURCE",
    ("prlimit64", EINVAL): "the soft limit is above the hard limit",
    ("sched_setattr", EPERM): "this policy needs CAP_SYS_NICE, and on cgroup v1 a cpu.rt_runtime_us of its cgroup",
    ("sched_setattr", EINVAL): "the kernel does not know this policy or flag (no kernel has SCHED_ISO)",
    ("sched_setattr", EBUSY): "so much processor time is not left for SCHED_DEADLINE",
    ("ioprio_set", EPERM): "IOPRIO_CLASS_RT needs CAP_SYS_NICE",
    ("set_mempolicy", EINVAL): "these nodes do not exist, or their cpuset forbids them; or the kernel has no such mode",
    ("set_mempolicy", ENOSYS): "this kernel is built without NUMA",
    ("setgroups", EINVAL): "at most 65536 groups, each mapped in the user namespace",
    ("setresgid", EINVAL): "the gid is not mapped in the user namespace",
    ("setresuid", EINVAL): "the uid is not mapped in the user namespace",
    ("setresuid", 11): "RLIMIT_NPROC of this user is reached",
    ("faccessat2", EACCES): "no execute permission for this user, or on a file system mounted noexec",
    ("execve", ENOENT): "the script's interpreter or the dynamic loader is missing in the container",
    ("execve", ENOEXEC): "no executable format that this kernel knows: wrong architecture, or a script without #!",
    ("execve", EACCES): "not executable, or on a file system mounted noexec",
    ("execve", E2BIG): "arguments and environment are too large",
    ("execve", ENOMEM): "the memory limit is too small for the program",
    ("socket", EMFILE): "RLIMIT_NOFILE of the caller is too low",
}

_HINTS_AT = {
    ("/linux/sysctl/", "openat2", ENOENT): "this kernel, or this namespace, has no such parameter",
    ("/process/apparmorProfile", "write", ENOENT): "no such profile is loaded: see apparmor_parser(8)",
    ("/process/apparmorProfile", "write", EINVAL): "this is no name of a profile",
    ("/process/selinuxLabel", "write", EINVAL): "the loaded policy has no such context",
    ("/process/selinuxLabel", "write", EACCES): "the policy does not let the caller set it",
    ("/linux/devices", "expect", ENODEV): "something else is at this path already",
    (
        "/linux/devices/",
        "open_tree",
        ENOENT,
    ): "in a user namespace devices are taken from the host, which has none there",
    ("/linux/sysctl/", "openat2", EACCES): "a user namespace's root may not set it: the System V ones since Linux 6.11",
    ("/linux/seccomp", "capset", EPERM): "the profile forbids capset: let it happen, or set noNewPrivileges to true",
    ("/hooks/", "execve", ENOENT): "it, its script's interpreter or its dynamic loader is not there",
    ("/linux/sysctl/", "write", EINVAL): "the parameter does not take this value",
    ("/linux/sysctl/", "expect", EINVAL): "the parameter takes fewer values",
}
"""Of a call's errors, what they mean for the values below this pointer."""


def hint_for(call: str, errno: int, pointer: str = "") -> str:
    """The hint for a call that failed with this errno, or ""."""
    for (place, *failure), hint in _HINTS_AT.items():
        if failure == [call, errno] and pointer.startswith(place):
            return hint
    return _HINTS.get((call, errno), "")
