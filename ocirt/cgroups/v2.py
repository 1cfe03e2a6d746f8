"""One cgroup of the unified hierarchy (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import posix

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import exists, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cgroups.rules import Rule

BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4
PROGRAM = "ocirt_devices"
"""The name of the program, by which it is found again."""


def enable_controllers(mount: str, path: str) -> None:
    """Give the cgroup at `path` every controller that its ancestors may hand down.

    One that is not ours refuses, and one that has processes of its own is not asked: what it could hand down would make
    it a threaded domain, in whose children nothing can run ("Threads"). That is an error only for a limit that needs
    the controller, and it shows when the limit's file is written.
    """
    folder = mount
    for part in path[len(mount) :].strip("/").split("/"):
        handed = read(folder + "/cgroup.subtree_control").split()
        missing = [name for name in read(folder + "/cgroup.controllers").split() if name not in handed]
        if missing and not has_processes(folder):
            for controller in missing:
                try:
                    write(folder + "/cgroup.subtree_control", "+" + controller)
                except OSError:
                    continue
        folder += "/" + part


def has_processes(folder: str) -> bool:
    """Of its own, so that it may hand no controllers down ("No Internal Process Constraint")? The kernel's root may all
    the same; it is the one without a type."""
    if not exists(folder + "/cgroup.type"):
        return False
    try:
        return bool(read(folder + "/cgroup.procs"))
    except OSError:
        return True  # a threaded one, whose processes one above it has


def set_devices(path: str, rules: Sequence[Rule]) -> None:
    """Attach the rules as a program of the cgroup; it stays as long as the cgroup does.

    One of ours that is there already goes in the same moment: there is none in which both or neither hold. Another's,
    such as systemd's, stays: a device is allowed if all programs allow it.
    """
    from ocirt import _sys
    from ocirt.cgroups.ebpf import program

    code = program(rules)
    loaded = _sys.bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, code, "Apache-2.0", PROGRAM)
    replaced = folder = -1
    try:
        folder = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        replaced = _sys.bpf_prog_find(folder, BPF_CGROUP_DEVICE, PROGRAM)
        flags = BPF_F_ALLOW_MULTI | (BPF_F_REPLACE if replaced >= 0 else 0)
        _sys.bpf_prog_attach(folder, loaded, BPF_CGROUP_DEVICE, flags, max(replaced, 0))
    finally:
        for fd in (loaded, folder, replaced):
            if fd >= 0:
                posix.close(fd)
