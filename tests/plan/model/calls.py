"""The system calls that the model kernel knows: name → what is called with the kernel and the arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plan.model import calls_files, calls_mounts, calls_process
from plan.model.calls_files import nothing
from plan.model.calls_process import names

from ocirt.plan import kernel as k

_FILES = "chdir chroot execve faccessat2 fchdir getcwd mkdirat mknodat openat openat2 statx symlinkat unlinkat write"
_MOUNTS = "fsconfig fsmount fsopen mount_setattr move_mount open_tree pivot_root umount2"
_PROCESS = (
    "capset close close_range dup3 ioctl keyctl prctl prlimit64 seccomp setgroups setns setresgid setresuid setsid"
    " socket unshare"
)
CALLS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module, listed in ((calls_files, _FILES), (calls_mounts, _MOUNTS), (calls_process, _PROCESS))
    for name in listed.split()
}
CALLS |= dict.fromkeys(("fchown", "fchownat", "rt_sigaction", "umask"), nothing)
CALLS |= {"sethostname": names(k.CLONE_NEWUTS), "setdomainname": names(k.CLONE_NEWUTS)}
