"""System calls of processes, credentials, limits and descriptors.

Each is named after its man page. It raises Refused as the kernel would; what reaches the host, or an image
could lead there, is noted in `Kernel.harmed`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from plan.model.machine import ALL_CAPABILITIES, CAP, Kernel, Opened, text_of
from plan.model.world import Mount, Place, Refused

from ocirt.plan import kernel as k
from ocirt.plan.step import Program

NEW = {
    k.CLONE_NEWTIME,
    k.CLONE_NEWNS,
    k.CLONE_NEWCGROUP,
    k.CLONE_NEWUTS,
    k.CLONE_NEWIPC,
    k.CLONE_NEWUSER,
    k.CLONE_NEWPID,
    k.CLONE_NEWNET,
}
ALL_NEW = sum(NEW)
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD = 0x100, 0x200, 0x400, 0x800, 0x10000


# Processes and namespaces.


def clone(m: Kernel, flags: int, cgroup: int) -> int:
    """clone3(2); the parent reports the pid and ends."""
    if (flags & CLONE_FS and flags & (k.CLONE_NEWNS | k.CLONE_NEWUSER)) or flags & CLONE_THREAD:
        raise Refused(errno.EINVAL)
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        raise Refused(errno.EINVAL)
    if flags & k.CLONE_INTO_CGROUP:
        m.opened(cgroup)
        m.attached = True
    if flags & ALL_NEW & ~k.CLONE_NEWUSER and not flags & k.CLONE_NEWUSER:
        m.may(CAP["ADMIN"])
    if flags & (CLONE_VM | CLONE_FILES):
        m.harm("shares memory or descriptors with a process outside")
    if not flags & k.CLONE_PARENT:
        raise Refused(errno.ECHILD)  # the host waits for a child that it has not got
    if m.cloned:
        raise Refused(errno.ECHILD)  # the second pid is nobody's the host knows
    m.cloned = True
    _enter(m, flags & ALL_NEW)
    return 0


def _enter(m: Kernel, flags: int) -> None:
    if flags & k.CLONE_NEWUSER:
        m.creds.effective = m.creds.permitted = m.creds.bounding = ALL_CAPABILITIES
        m.in_user = True
    if flags & k.CLONE_NEWNS:
        _copy_namespace(m)
    m.namespaces |= flags


def _copy_namespace(m: Kernel) -> None:
    """A copy of all mounts, as peers of the originals; root and working directory go along (unshare(2))."""
    old = m.namespace
    pairs: list[tuple[Mount, Mount]] = []

    def copy(mount: Mount) -> Mount:
        copied = Mount(mount.tree, mount.root, mount.attributes, mount.propagation)
        pairs.append((mount, copied))
        for at, child in mount.children.items():
            copied.attach(at, copy(child))
        return copied

    m.namespace = copy(old)
    for name in ("root", "cwd"):
        place: Place = getattr(m, name)
        for before, after in pairs:
            if place.mount is before:
                setattr(m, name, Place(after, place.path))


def unshare(m: Kernel, flags: int) -> int:
    if flags & ~ALL_NEW:
        raise Refused(errno.EINVAL)
    if not flags & k.CLONE_NEWUSER:
        m.may(CAP["ADMIN"])
    if flags & k.CLONE_NEWCGROUP and not m.attached:
        m.cgroup_root_known = False
    _enter(m, flags & ~k.CLONE_NEWPID if not m.cloned else flags)
    return 0


def setns(m: Kernel, fd: int, flags: int) -> int:
    opened = m.opened(fd)
    leads = opened.context.get("namespaces", 0)
    if not leads or flags & ~leads or not flags:
        raise Refused(errno.EINVAL)
    m.may(CAP["ADMIN"])
    if m.dumpable:
        m.harm("can be traced from inside what it enters")
    if flags & k.CLONE_NEWPID and m.cloned:
        flags &= ~k.CLONE_NEWPID  # of children only
    if flags & k.CLONE_NEWUSER:
        m.creds.effective = m.creds.permitted = ALL_CAPABILITIES
        m.in_user = m.mapped = True
    if flags & k.CLONE_NEWNS:
        m.namespace = opened.context["mounts"]
        m.root = m.cwd = Place(m.namespace, m.namespace.root)
    m.namespaces |= flags
    return 0


def setsid(m: Kernel) -> int:
    m.session = m.cloned
    return 1


def keyctl(m: Kernel, operation: int, name: Any = 0, *more: Any) -> int:
    if operation != k.KEYCTL_JOIN_SESSION_KEYRING:
        raise Refused(errno.EINVAL)
    m.keyring = True
    return 1


def names(namespace: int) -> Callable[..., int]:
    def call(m: Kernel, name: Any, size: int) -> int:
        m.may(CAP["ADMIN"])
        text_of(name)
        if not 0 <= size <= 64:
            raise Refused(errno.EINVAL)
        if not m.own(namespace):
            m.harm("sets the host's name")
        return 0

    return call


def prlimit64(m: Kernel, pid: int, resource: int, new: Any, old: Any) -> int:
    if not 0 <= resource < 16:
        raise Refused(errno.EINVAL)
    if pid:
        if not (m.own(k.CLONE_NEWPID) and m.cloned):
            m.harm("limits another process")
            return 0
        raise Refused(errno.ESRCH)
    if new == 0:
        return 0
    if not isinstance(new, bytes) or len(new) < k.RLIMIT.size:
        raise Refused(errno.EFAULT)
    soft, hard = k.RLIMIT.unpack(new[: k.RLIMIT.size])
    if soft > hard:
        raise Refused(errno.EINVAL)
    before = m.limits.get(resource)
    if hard > (k.RLIMIT.unpack(before)[1] if before else 1 << 20) and not m.in_user:
        m.may(CAP["RESOURCE"])
    m.limits[resource] = new
    return 0


# Credentials.


def _ids(m: Kernel, ids: tuple[Any, ...]) -> tuple[int, int, int]:
    if m.in_user and not m.mapped:
        raise Refused(errno.EINVAL)
    numbers = tuple(one & 0xFFFFFFFF for one in ids)
    # In a user namespace only mapped ids are ids at all (65536 of them, as subordinate ranges are).
    if m.in_user and any(one >= 65536 and one != 0xFFFFFFFF for one in numbers):
        raise Refused(errno.EINVAL)
    return numbers  # type: ignore[return-value]


def setresgid(m: Kernel, *ids: int) -> int:
    wanted = _ids(m, ids)
    if any(one not in (*m.creds.gids, 0xFFFFFFFF) for one in wanted):
        m.may(CAP["SETGID"])
    m.creds.gids = tuple(  # type: ignore[assignment]
        old if new == 0xFFFFFFFF else new for old, new in zip(m.creds.gids, wanted, strict=True)
    )
    return 0


def setresuid(m: Kernel, *ids: int) -> int:
    wanted = _ids(m, ids)
    c = m.creds
    if any(one not in (*c.uids, 0xFFFFFFFF) for one in wanted):
        m.may(CAP["SETUID"])
    before = c.uids
    c.uids = tuple(  # type: ignore[assignment]
        old if new == 0xFFFFFFFF else new for old, new in zip(before, wanted, strict=True)
    )
    # "Effect of user ID changes on capabilities", capabilities(7).
    if 0 in before and 0 not in c.uids and not c.keep:
        c.permitted = c.effective = c.ambient = 0
    if before[1] == 0 and c.uids[1] != 0:
        c.effective = 0
    elif before[1] != 0 and c.uids[1] == 0:
        c.effective = c.permitted
    return 0


def setgroups(m: Kernel, count: int, groups: Any) -> int:
    m.may(CAP["SETGID"])
    if m.in_user and not m.mapped:
        raise Refused(errno.EPERM)
    if not 0 <= count <= 65536:
        raise Refused(errno.EINVAL)
    if not count:
        m.creds.groups = ()
        return 0
    if not isinstance(groups, bytes):
        raise Refused(errno.EFAULT)
    data = groups + bytes(4 * count)  # what lies behind it in the plan
    m.creds.groups = tuple(int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(count))
    return 0


def prctl(m: Kernel, option: int, two: Any = 0, three: Any = 0, four: Any = 0, five: Any = 0) -> int:
    c = m.creds
    if option == k.PR_CAPBSET_DROP:
        m.may(CAP["SETPCAP"])
        if not 0 <= two <= 40:
            raise Refused(errno.EINVAL)
        c.bounding &= ~(1 << two)
    elif option == k.PR_SET_KEEPCAPS:
        if two not in (0, 1):
            raise Refused(errno.EINVAL)
        c.keep = bool(two)
    elif option == k.PR_SET_NO_NEW_PRIVS:
        if two != 1 or three or four or five:
            raise Refused(errno.EINVAL)
        c.no_new_privs = True
    elif option == k.PR_CAP_AMBIENT:
        _ambient(m, two, three)
    elif option == k.PR_SET_DUMPABLE:
        if two not in (0, 1):
            raise Refused(errno.EINVAL)
        m.dumpable = bool(two)
    elif option in (3, 7, 21, 23, 27, 39):  # PR_GET_*
        return 0
    else:
        raise Refused(errno.EINVAL)
    return 0


def _ambient(m: Kernel, what: int, capability: int) -> None:
    c = m.creds
    if what == k.PR_CAP_AMBIENT_CLEAR_ALL:
        if capability:
            raise Refused(errno.EINVAL)
        c.ambient = 0
        return
    if not 0 <= capability <= 40 or what not in (1, 2, 3):
        raise Refused(errno.EINVAL)
    bit = 1 << capability
    if what == k.PR_CAP_AMBIENT_RAISE:
        if not c.permitted & c.inheritable & bit:
            raise Refused(errno.EPERM)
        c.ambient |= bit
    elif what == 3:
        c.ambient &= ~bit


def capset(m: Kernel, header: Any, data: Any) -> int:
    if not isinstance(header, bytes) or not isinstance(data, bytes) or len(data) < k.CAP_DATA.size:
        raise Refused(errno.EFAULT)
    version, pid = k.CAP_HEADER.unpack(header[:8])
    if version != k.LINUX_CAPABILITY_VERSION_3:
        raise Refused(errno.EINVAL)
    if pid:
        raise Refused(errno.EPERM)
    words = k.CAP_DATA.unpack(data[: k.CAP_DATA.size])
    effective, permitted, inheritable = ((words[i] | words[i + 3] << 32) & ALL_CAPABILITIES for i in range(3))
    c = m.creds
    if permitted & ~c.permitted or effective & ~permitted:
        raise Refused(errno.EPERM)
    if inheritable & ~(c.inheritable | c.permitted) and not c.effective >> CAP["SETPCAP"] & 1:
        raise Refused(errno.EPERM)
    if inheritable & ~(c.inheritable | c.bounding):
        raise Refused(errno.EPERM)
    c.effective, c.permitted, c.inheritable = effective, permitted, inheritable
    c.ambient &= permitted & inheritable
    return 0


def seccomp(m: Kernel, operation: int, flags: int, program: Any) -> int:
    if operation != k.SECCOMP_SET_MODE_FILTER or flags & ~0x3F or not isinstance(program, Program):
        raise Refused(errno.EINVAL)
    if not m.creds.no_new_privs:
        m.may(CAP["ADMIN"])
    if not program.instructions or len(program.instructions) % 8 or len(program.instructions) // 8 > 4096:
        raise Refused(errno.EINVAL)
    if flags & k.SECCOMP_FILTER_FLAG_NEW_LISTENER:
        raise Refused(errno.EBUSY)  # nobody fetches it: the next call that asks it waits for ever
    m.filter = (program.instructions, flags & k.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
    return 0


# Descriptors.


def close(m: Kernel, fd: int) -> int:
    m.opened(fd)
    del m.fds[fd]
    return 0


def close_range(m: Kernel, first: int, last: int, flags: int) -> int:
    if flags & ~6 or first & 0xFFFFFFFF > last & 0xFFFFFFFF:
        raise Refused(errno.EINVAL)
    for fd in [fd for fd in m.fds if first & 0xFFFFFFFF <= fd <= last & 0xFFFFFFFF]:
        if flags & k.CLOSE_RANGE_CLOEXEC:
            m.fds[fd].cloexec = True
        else:
            del m.fds[fd]
    return 0


def dup3(m: Kernel, old: int, new: int, flags: int) -> int:
    opened = m.opened(old)
    if old == new or flags & ~k.O_CLOEXEC:
        raise Refused(errno.EINVAL)
    if type(new) is not int or not 0 <= new < 1 << 20:
        raise Refused(errno.EBADF)
    m.fds[new] = opened.duplicate(cloexec=bool(flags & k.O_CLOEXEC))
    return new


def socket(m: Kernel, domain: int, kind: int, protocol: int) -> int:
    if kind & ~(0xF | k.O_CLOEXEC | k.O_NONBLOCK) or kind & 0xF not in (1, 2) or not 0 <= domain < 46 or protocol:
        raise Refused(errno.EINVAL)
    return m.new_fd(Opened("socket", context={"own": m.own(k.CLONE_NEWNET)}, cloexec=bool(kind & k.O_CLOEXEC)))


def ioctl(m: Kernel, fd: int, request: int, argument: Any = 0) -> int:
    opened = m.opened(fd)
    if request != k.SIOCSIFFLAGS or opened.what != "socket" or not isinstance(argument, bytes):
        raise Refused(errno.ENOTTY)
    if argument[:3] != b"lo\0":
        raise Refused(errno.ENODEV)
    m.may(CAP["ADMIN"])
    if not opened.context["own"]:
        m.harm("changes the host's network")
    return 0
