"""What this host offers: kernel, cgroups, namespaces, security modules, seccomp, file systems. For `features --host`.

What can be read is read; what cannot is tried, on things that nobody else sees: a process of our own, mounts that are
never attached. `None` stands for what could not be found out.
"""

from __future__ import annotations

import ctypes
import os

from ocirt.cgroups.layout import detect, exists, read
from ocirt.config.names import CAPABILITIES
from ocirt.config.seccomp import FLAGS, NEW_LISTENER
from ocirt.errors import Error
from ocirt.host.facts import permitted_capabilities
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    MOUNT_ATTR,
    OPEN_HOW,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    RESOLVE_IN_ROOT,
)
from ocirt.plan.syscalls import MACHINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOWEST_KERNEL = (5, 14)
MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100
_SECCOMP_SET_MODE_FILTER = 1
_EFAULT = 14

_CLONE_NEWUSER = 0x10000000


def offers() -> dict[str, Any]:
    """The document. Changes nothing."""
    return {
        "kernel": kernel(),
        "capabilities": capabilities(),
        "cgroup": cgroup(),
        "namespaces": namespaces(),
        "lsm": security_modules(),
        "seccomp": seccomp(),
        "filesystems": filesystems(),
        "idmap": idmap(),
        "intelRdt": resctrl(),
        "memoryNodes": text_of("/sys/devices/system/node/online"),
    }


def text_of(path: str) -> str | None:
    """A kernel file's text, without the newline at its end; None if it cannot be read."""
    try:
        return read(path).rstrip("\n")
    except OSError:
        return None


def words_of(path: str) -> list[str] | None:
    text = text_of(path)
    return None if text is None else text.replace(",", " ").split()


def number_of(path: str) -> int | None:
    text = text_of(path)
    return int(text) if text is not None and text.isdigit() else None


def kernel() -> dict[str, Any]:
    name = os.uname()
    numbers = tuple(int(part) for part in name.release.split("-")[0].split(".")[:2] if part.isdigit())
    return {"release": name.release, "machine": name.machine, "newEnough": numbers >= LOWEST_KERNEL}


def capabilities() -> dict[str, Any]:
    """Those that the kernel has, and those that whoever calls us has."""
    last = number_of("/proc/sys/kernel/cap_last_cap")
    mine = permitted_capabilities()
    return {
        "kernel": [name for name, number in CAPABILITIES.items() if last is not None and number <= last],
        "permitted": [name for name, number in CAPABILITIES.items() if mine >> number & 1],
    }


def cgroup() -> dict[str, Any]:
    """mode: v1, hybrid (v1 with the unified hierarchy beside it), v2, or none."""
    try:
        layout = detect()
    except Error:
        return {"mode": "none", "v1": [], "v2": []}
    unified = next((one.mount for one in layout.hierarchies if one.v2), None)
    v1 = [name for one in layout.hierarchies for name in one.controllers if not name.startswith("name=")]
    return {
        "mode": "v2" if layout.pure_v2 else "hybrid" if unified else "v1",
        "v1": sorted(v1),
        "v2": words_of(f"{unified}/cgroup.controllers") or [] if unified else [],
        "systemd": exists("/run/systemd/system"),
    }


def namespaces() -> dict[str, Any]:
    """Each type that the kernel has → how many there may be (None: without a limit)."""
    names = {"mnt": "mount", "net": "network"}
    kinds = [kind for kind in os.listdir("/proc/self/ns") if not kind.endswith("_for_children")]
    limits = {names.get(kind, kind): number_of(f"/proc/sys/user/max_{kind}_namespaces") for kind in sorted(kinds)}
    restricted = number_of("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    cloning = number_of("/proc/sys/kernel/unprivileged_userns_clone")
    return {"limits": limits, "unprivilegedUser": not restricted and cloning != 0 and limits.get("user") != 0}


def security_modules() -> dict[str, Any]:
    """active: None where securityfs is not mounted."""
    return {
        "active": words_of("/sys/kernel/security/lsm"),
        "apparmor": text_of("/sys/module/apparmor/parameters/enabled") == "Y",
        "selinux": exists("/sys/fs/selinux/enforce"),
    }


def seccomp() -> dict[str, Any]:
    actions = words_of("/proc/sys/kernel/seccomp/actions_avail")
    return {"enabled": actions is not None, "actions": actions, "flags": seccomp_flags()}


def seccomp_flags() -> list[str]:
    """The flags that this kernel takes: it looks at them before it looks for the filter, which is not there."""
    number = MACHINES[os.uname().machine][1]["seccomp"]
    known = []
    for name, flag in FLAGS.items():
        # Of no meaning, and EINVAL, without a listener.
        flags = flag | NEW_LISTENER if name.endswith("_WAIT_KILLABLE_RECV") else flag
        try:
            _call(number, _SECCOMP_SET_MODE_FILTER, flags, None)
        except OSError as error:
            if error.errno == _EFAULT:
                known.append(name)
    return known


def filesystems() -> list[str]:
    """What can be mounted without a module being loaded."""
    return sorted(line.rpartition("\t")[2] for line in read("/proc/filesystems").splitlines())


def resctrl() -> dict[str, Any]:
    """mount: where resctrl is; resources: what it can divide or watch."""
    mount = mounts_by_type().get("resctrl")
    return {
        "supported": "resctrl" in filesystems(),
        "mount": mount,
        "resources": sorted(os.listdir(f"{mount}/info")) if mount else [],
    }


def mounts_by_type() -> dict[str, str]:
    """File system type → a place where one is mounted."""
    found: dict[str, str] = {}
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        found.setdefault(after.split(" ")[0], before.split(" ")[4].encode().decode("unicode_escape"))
    return found


def idmap() -> dict[str, Any]:
    """filesystems: each type that is mounted here → can a mount of it be id-mapped? None and a reason if untried."""
    pid, held, errno = _in_a_user_namespace()
    try:
        if errno:
            return {"filesystems": None, "reason": f"no user namespace can be made: {os.strerror(errno)}"}
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write("0 1000 1\n")
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return {"filesystems": None, "reason": f"a user namespace cannot be mapped: {error.strerror}"}
    finally:
        os.close(held)
        os.waitpid(pid, 0)
    try:
        tried = {kind: _can_idmap(path, namespace) for kind, path in sorted(mounts_by_type().items())}
    except OSError as error:
        return {"filesystems": None, "reason": f"a mount cannot be copied: {error.strerror}"}
    finally:
        os.close(namespace)
    return {"filesystems": {kind: can for kind, can in tried.items() if can is not None}, "reason": ""}


def _in_a_user_namespace() -> tuple[int, int, int]:
    """A child that is in a user namespace of its own: its pid; a descriptor, it ends when that is closed; the errno
    if it could make none."""
    unshare: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).unshare
    answer, tell = os.pipe()
    wait, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(held)
        os.write(tell, bytes([ctypes.get_errno() if unshare(_CLONE_NEWUSER) else 0]))
        os.read(wait, 1)
        os.kill(os.getpid(), 9)  # whatever is above us is the parent's
    os.close(tell)
    os.close(wait)
    errno = os.read(answer, 1)
    os.close(answer)
    return pid, held, errno[0] if errno else 1


def _can_idmap(path: str, namespace: int) -> bool | None:
    """Try it on a copy of the mount that is never attached. None: the mount cannot be reached."""
    numbers = MACHINES[os.uname().machine][1]
    try:
        mount = _call(numbers["open_tree"], _AT_FDCWD, path.encode(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    except OSError as error:
        if error.errno == 1:  # EPERM: of none
            raise
        return None
    attributes = MOUNT_ATTR.pack(MOUNT_ATTR_IDMAP, 0, 0, namespace)
    try:
        _call(numbers["mount_setattr"], mount, b"", AT_EMPTY_PATH, attributes, len(attributes))
    except OSError:
        return False
    finally:
        os.close(mount)
    return True


def found_in(root: str, path: str) -> bool:
    """Is there something at `path` for a process whose root `root` is? Links lead nowhere else."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    how = OPEN_HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    try:
        os.close(_call(MACHINES[os.uname().machine][1]["openat2"], folder, path.encode(), how, len(how)))
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def _call(number: int, *args: int | bytes | None) -> int:
    """A system call by its number."""
    function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    result = function(ctypes.c_long(number), *(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args))
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result
