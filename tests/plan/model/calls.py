"""The system calls of a plan, as far as they decide what the program ends up with. Each is named after its man page.

A call raises Refused as the kernel would; what reaches the host, or could be led there by an image, is noted in
`Kernel.harmed`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from plan.model.machine import ALL_CAPABILITIES, Done, Kernel, Opened, Pointer, text_of
from plan.model.world import PRIVATE, SHARED, SLAVE, Mount, Place, Refused, new_tree, walk

from ocirt.plan import kernel as k
from ocirt.plan.step import Buffer, Program, Vector

CAP = {"SETGID": 6, "SETUID": 7, "SETPCAP": 8, "CHROOT": 18, "ADMIN": 21, "RESOURCE": 24, "MKNOD": 27}
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
CONTROLLERS = (
    "blkio cpu cpuacct cpuset devices freezer hugetlb memory misc net_cls net_prio perf_event pids rdma".split()
)  # fmt: skip
TOGETHER = [{"cpu", "cpuacct"}]
"""Controllers that the host has in one hierarchy."""
SAYS_NOTHING = ("source", "newinstance", "none")
"""Options that make no difference: every devpts is a new instance (since Linux 4.7)."""
LOCKABLE = k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC


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


# Paths and files.


def _start(m: Kernel, fd: Any, path: str) -> Place:
    if path.startswith("/"):
        return m.root
    return m.cwd if fd == k.AT_FDCWD else m.place(fd)


def _find(m: Kernel, fd: Any, path: Any, flags: int = 0) -> Place:
    """What `fd` and `path` name, for calls that know AT_EMPTY_PATH."""
    text = text_of(path)
    if text == "":
        if not flags & k.AT_EMPTY_PATH:
            raise Refused(errno.ENOENT)
        return m.cwd if fd == k.AT_FDCWD else m.place(fd)
    return walk(_start(m, fd, text), text, m.root)


def is_hosts(m: Kernel, place: Place) -> bool:
    """A file of the host, outside the container's root file system?"""
    return place.mount.tree.kind == "host" and not (place.path + "/").startswith(m.rootfs + "/")


def openat2(m: Kernel, fd: int, path: Any, how: Any, size: int) -> int:
    if not isinstance(how, bytes) or size != k.OPEN_HOW.size or len(how) < size:
        raise Refused(errno.EINVAL)
    flags, mode, resolve = k.OPEN_HOW.unpack(how[:24])
    text = text_of(path)
    if resolve & ~0x3F or mode or flags & ~(k.O_PATH | k.O_CLOEXEC | k.O_NONBLOCK | k.O_NOCTTY | 0o600003):
        raise Refused(errno.EINVAL)
    base = m.cwd if fd == k.AT_FDCWD else m.place(fd)
    inside = resolve & (k.RESOLVE_IN_ROOT | k.RESOLVE_BENEATH)
    if inside == k.RESOLVE_IN_ROOT | k.RESOLVE_BENEATH:
        raise Refused(errno.EINVAL)
    if resolve & k.RESOLVE_BENEATH and (text.startswith("/") or ".." in text.split("/")):
        raise Refused(errno.EXDEV)
    linked = not resolve & k.RESOLVE_NO_SYMLINKS and not _is_outside(m, base)
    if not inside and fd != k.AT_FDCWD and linked and not _pivoted(m):
        # Once we are in the image's root, its symlinks only lead to what is its own.
        m.harm("follows an image's symlink")
    if text == "":
        raise Refused(errno.ENOENT)
    start = base if inside or not text.startswith("/") else m.root
    found = walk(start, text, base if inside else m.root, cross=not resolve & k.RESOLVE_NO_XDEV)
    what = "path" if flags & k.O_PATH else "file"
    if what == "file" and not _is_outside(m, base) and found.mount.tree.kind == "host":
        m.harm("opens whatever the image has there")
    return m.new_fd(Opened(what, found, {"linked": linked}, cloexec=bool(flags & k.O_CLOEXEC)))


def _is_outside(m: Kernel, place: Place) -> bool:
    """Where no image has a say: the host's own folders, and file systems of the kernel's."""
    return is_hosts(m, place) or place.mount.tree.kind in ("proc", "sysfs")


def _pivoted(m: Kernel) -> bool:
    return m.root.mount.tree.kind == "host" and m.root.path == m.rootfs


def openat(m: Kernel, fd: int, path: Any, flags: int = 0, mode: int = 0) -> int:
    text = text_of(path)
    parts = text.split("/")
    opened = None if fd == k.AT_FDCWD else m.opened(fd)
    is_procfs = opened is not None and opened.place is not None and opened.place.mount.tree.kind == "proc"
    if is_procfs and parts[:2] == ["self", "fd"] and len(parts) == 3 and parts[2].isdigit():
        source = m.opened(int(parts[2]))
        return m.new_fd(source.duplicate(cloexec=bool(flags & k.O_CLOEXEC)))
    found = _find(m, fd, path)
    if not _is_outside(m, found) and not _pivoted(m):
        m.harm("opens by a path what the image may have changed")
    return m.new_fd(Opened("file", found, cloexec=bool(flags & k.O_CLOEXEC)))


def _make(m: Kernel, fd: int, path: Any, node: object) -> int:
    """Of the calls that make a file: the parent is found by the kernel, following what the image has there."""
    text = text_of(path)
    head, _, name = text.rstrip("/").rpartition("/")
    parent = walk(_start(m, fd, text), head, m.root)
    if name in ("", ".", ".."):
        raise Refused(errno.EEXIST)
    if parent.node() != "d":
        raise Refused(errno.ENOTDIR)
    if parent.mount.tree.kind in ("proc", "sysfs", "devpts", "cgroup", "cgroup2"):
        raise Refused(errno.EPERM)
    at = Place(parent.mount, f"{parent.path}/{name}".lstrip("/"))
    if at.node() is not None or at.path in at.mount.children:
        raise Refused(errno.EEXIST)
    if parent.mount.attributes & k.MOUNT_ATTR_RDONLY:
        raise Refused(errno.EROFS)
    if is_hosts(m, at):
        m.harm(f"makes a file on the host: /{at.path}")
    elif (head or text.startswith("/")) and not _pivoted(m):
        m.harm("makes a file by a path that the image may have changed")
    at.mount.tree.nodes[at.path] = node
    return 0


def mkdirat(m: Kernel, fd: int, path: Any, mode: int) -> int:
    return _make(m, fd, path, "d")


def mknodat(m: Kernel, fd: int, path: Any, mode: int, device: int) -> int:
    kind = mode & k.S_IFMT
    if kind in (k.S_IFCHR, 0o060000):
        m.may(CAP["MKNOD"])
        if m.in_user:
            raise Refused(errno.EPERM)
        return _make(m, fd, path, ("c" if kind == k.S_IFCHR else "b", mode & 0o7777, device & 0xFFFFFFFF))
    if kind not in (0, k.S_IFREG, k.S_IFIFO, 0o140000):
        raise Refused(errno.EINVAL)
    return _make(m, fd, path, "f")


def symlinkat(m: Kernel, content: Any, fd: int, path: Any) -> int:
    text_of(content)
    return _make(m, fd, path, "l")


def unlinkat(m: Kernel, fd: int, path: Any, flags: int) -> int:
    found = _find(m, fd, path)
    if is_hosts(m, found):
        m.harm(f"removes a file of the host: /{found.path}")
    if found.node() == "d" and not flags & 0x200:
        raise Refused(errno.EISDIR)
    if found.mount.attributes & k.MOUNT_ATTR_RDONLY:
        raise Refused(errno.EROFS)
    if found.is_mount_root():
        raise Refused(errno.EBUSY)
    found.mount.tree.nodes.pop(found.path, None)
    return 0


def statx(m: Kernel, fd: int, path: Any, flags: int, mask: int, buffer: Any) -> int:
    node = _find(m, fd, path, flags).node()
    if not isinstance(buffer, Buffer):
        raise Refused(errno.EFAULT)
    content = bytearray(max(buffer.size, k.STATX_SIZE))
    mode = {"d": 0o040755, "f": k.S_IFREG | 0o644, "l": 0o120777}.get(node, 0) if isinstance(node, str) else 0
    if isinstance(node, tuple):
        mode = (k.S_IFCHR if node[0] == "c" else 0o060000) | node[1]
        device = node[2]
        content[k.STATX_RDEV_MAJOR_AT : k.STATX_RDEV_MAJOR_AT + 4] = (device >> 8 & 0xFFF).to_bytes(4, "little")
        content[k.STATX_RDEV_MINOR_AT : k.STATX_RDEV_MINOR_AT + 4] = (device & 0xFF).to_bytes(4, "little")
    content[k.STATX_MODE_AT : k.STATX_MODE_AT + 2] = mode.to_bytes(2, "little")
    m.memory[id(buffer)] = content
    return 0


def faccessat2(m: Kernel, fd: int, path: Any, mode: int, flags: int) -> int:
    if mode & ~7 or flags & ~(k.AT_EACCESS | k.AT_SYMLINK_NOFOLLOW | k.AT_EMPTY_PATH):
        raise Refused(errno.EINVAL)
    _find(m, fd, path, flags)
    return 0


def chdir(m: Kernel, path: Any) -> int:
    found = _find(m, k.AT_FDCWD, path)
    if found.node() != "d":
        raise Refused(errno.ENOTDIR)
    m.cwd = found
    return 0


def fchdir(m: Kernel, fd: int) -> int:
    found = m.place(fd)
    if found.node() != "d":
        raise Refused(errno.ENOTDIR)
    m.cwd = found
    return 0


def getcwd(m: Kernel, buffer: Any, size: int) -> int:
    """The answer begins with "(unreachable)" if the directory is not below the root."""
    if not isinstance(buffer, Buffer):
        raise Refused(errno.EFAULT)
    text = b"/here\0" if reachable(m.cwd, m.root) else b"(unreachable)/\0"
    m.memory[id(buffer)] = bytearray(text.ljust(buffer.size, b"\0"))
    return len(text)


def reachable(place: Place, root: Place) -> bool:
    """Does ".." lead from it to the root?"""
    here = place
    while True:
        if here.mount is root.mount:
            return root.path == "" or here.path == root.path or here.path.startswith(root.path + "/")
        if here.mount.parent is None:
            return False
        here = Place(here.mount.parent, here.mount.at)


def chroot(m: Kernel, path: Any) -> int:
    m.may(CAP["CHROOT"])
    m.root = _find(m, k.AT_FDCWD, path)
    return 0


def write(m: Kernel, fd: int, content: Any, size: int) -> int:
    opened = m.opened(fd)
    if opened.what != "file":
        raise Refused(errno.EBADF)
    return size


# Mounts.


def fsopen(m: Kernel, kind: Any, flags: int) -> int:
    m.may(CAP["ADMIN"])
    name = text_of(kind)
    if flags & ~1:
        raise Refused(errno.EINVAL)
    if name not in ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"):
        raise Refused(errno.ENODEV)
    return m.new_fd(Opened("context", context={"kind": name, "options": [], "made": False}, cloexec=bool(flags)))


def fsconfig(m: Kernel, fd: int, command: int, key: Any, value: Any, more: Any) -> int:
    opened = m.opened(fd)
    if opened.what != "context":
        raise Refused(errno.EINVAL)
    context = opened.context
    if command == k.FSCONFIG_CMD_CREATE:
        if context["made"] or key or value:
            raise Refused(errno.EBUSY)
        if context["kind"] == "cgroup":
            _check_hierarchy({one[0] for one in context["options"]})
        if context["kind"] == "mqueue" and m.in_user and not m.own(k.CLONE_NEWIPC):
            raise Refused(errno.EPERM)
        context["made"] = True
        return 0
    if command not in (k.FSCONFIG_SET_FLAG, k.FSCONFIG_SET_STRING) or context["made"]:
        raise Refused(errno.EINVAL)
    name = text_of(key)
    text = text_of(value) if command == k.FSCONFIG_SET_STRING else None
    known = {
        "proc": ("source", "subset", "hidepid", "gid"),
        "tmpfs": ("source", "mode", "size", "nr_inodes", "uid", "gid"),
        "devpts": ("source", "newinstance", "ptmxmode", "mode", "gid", "uid", "max"),
        "cgroup": ("source", "none", "name", *CONTROLLERS),
    }.get(context["kind"], ("source",))
    if name not in known or (name == "source" and any(one[0] == "source" for one in context["options"])):
        raise Refused(errno.EINVAL)
    if name in ("mode", "ptmxmode", "uid", "gid", "max") and not (text or "").isdigit():
        raise Refused(errno.EINVAL)
    context["options"].append((name, text))
    return 0


def _check_hierarchy(keys: set[str]) -> None:
    """cgroups(7): what is mounted together on the host cannot be mounted alone, and something has to be named."""
    if not keys & {*CONTROLLERS, "name"}:
        raise Refused(errno.EINVAL)
    for pair in TOGETHER:
        if 0 < len(keys & pair) < len(pair):
            raise Refused(errno.EBUSY)


def fsmount(m: Kernel, fd: int, flags: int, attributes: int) -> int:
    opened = m.opened(fd)
    if opened.what != "context" or not opened.context["made"]:
        raise Refused(errno.EINVAL)
    if flags & ~1 or attributes & ~0x2000FF or attributes & 0x70 not in (0, 0x10, 0x20):
        raise Refused(errno.EINVAL)
    if opened.context.get("mounted"):
        raise Refused(errno.EBUSY)
    m.may(CAP["ADMIN"])
    opened.context["mounted"] = True
    options = tuple(sorted((key, value or "") for key, value in opened.context["options"] if key not in SAYS_NOTHING))
    kind = opened.context["kind"]
    if kind == "tmpfs":
        options = tuple(one for one in options if one != ("mode", "1777"))  # as it is without
    owned = m.own(k.CLONE_NEWPID) if kind == "proc" else m.own(k.CLONE_NEWNET) if kind == "sysfs" else True
    tree = new_tree(kind, options)
    mount = Mount(tree, "", attributes)
    if not owned:
        mount.tree.options += (("of the host", ""),)
    if kind == "cgroup" and not (m.own(k.CLONE_NEWCGROUP) and m.cgroup_root_known):
        mount.tree.options += (("of the host", ""),)
    return m.new_fd(Opened("tree", Place(mount, ""), cloexec=bool(flags)))


def open_tree(m: Kernel, fd: int, path: Any, flags: int) -> int:
    if flags & ~(1 | k.O_CLOEXEC | k.AT_EMPTY_PATH | k.AT_RECURSIVE | k.AT_SYMLINK_NOFOLLOW | 0x800):
        raise Refused(errno.EINVAL)
    if flags & k.AT_RECURSIVE and not flags & k.OPEN_TREE_CLONE:
        raise Refused(errno.EINVAL)
    found = _find(m, fd, path, flags)
    if not flags & k.OPEN_TREE_CLONE:
        return m.new_fd(Opened("path", found, cloexec=bool(flags & k.O_CLOEXEC)))
    m.may(CAP["ADMIN"])
    if m.cloned and m.own(k.CLONE_NEWNS) and _root_of(found.mount) is m.world:
        raise Refused(errno.EINVAL)  # of another mount namespace
    copied = found.mount.copy(recursive=bool(flags & k.AT_RECURSIVE), root=found.path)
    return m.new_fd(Opened("tree", Place(copied, copied.root), cloexec=bool(flags & k.O_CLOEXEC)))


def _root_of(mount: Mount) -> Mount:
    while mount.parent:
        mount = mount.parent
    return mount


def _is_hosts_mount(m: Kernel, mount: Mount) -> bool:
    return mount.on_host and _root_of(mount) is m.world


def move_mount(m: Kernel, fd: int, path: Any, to: int, to_path: Any, flags: int) -> int:
    m.may(CAP["ADMIN"])
    if flags & ~0x177:
        raise Refused(errno.EINVAL)
    source = _find(m, fd, path, k.AT_EMPTY_PATH if flags & k.MOVE_MOUNT_F_EMPTY_PATH else 0)
    target = _find(m, to, to_path, k.AT_EMPTY_PATH if flags & k.MOVE_MOUNT_T_EMPTY_PATH else 0).top()
    raw = text_of(to_path) != ""
    if not source.is_mount_root() or source.mount is m.namespace:
        raise Refused(errno.EINVAL)
    if _is_inside(target.mount, source.mount):
        raise Refused(errno.ELOOP)
    top = _root_of(target.mount)
    if top is not m.namespace and top.on_host and m.own(k.CLONE_NEWNS):
        raise Refused(errno.EINVAL)  # of another mount namespace
    if source.mount.parent and source.mount.parent.propagation == SHARED:
        raise Refused(errno.EINVAL)
    is_folder = source.node() == "d"
    if is_folder != (target.node() == "d"):
        raise Refused(errno.ENOTDIR if is_folder else errno.EINVAL)
    if raw and not _pivoted(m):
        m.harm("mounts on a raw path")
    if fd_is_linked(m, to) and source.mount.tree.kind in ("proc", "sysfs") and not source.mount.root:
        m.harm("mounts procfs or sysfs where a symlink of the image leads")
    if _is_hosts_mount(m, target.mount) or target.mount.propagation == SHARED:
        m.harm("mounts something on the host")
    source.mount.detach()
    target.mount.attach(target.path, source.mount)
    return 0


def fd_is_linked(m: Kernel, fd: Any) -> bool:
    return fd in m.fds and bool(m.fds[fd].context.get("linked"))


def _is_inside(mount: Mount, of: Mount) -> bool:
    here: Mount | None = mount
    while here:
        if here is of:
            return True
        here = here.parent
    return False


def mount_setattr(m: Kernel, fd: int, path: Any, flags: int, attributes: Any, size: int) -> int:
    if not isinstance(attributes, bytes) or size != k.MOUNT_ATTR.size or len(attributes) < size:
        raise Refused(errno.EINVAL)
    if flags & ~(k.AT_EMPTY_PATH | k.AT_RECURSIVE | k.AT_SYMLINK_NOFOLLOW | 0x800):
        raise Refused(errno.EINVAL)
    put, clear, propagation, namespace = k.MOUNT_ATTR.unpack(attributes[:32])
    known = 0x2000FF | k.MOUNT_ATTR_IDMAP
    if (put | clear) & ~known or put & k.MOUNT_ATTR_IDMAP or (namespace and not put & k.MOUNT_ATTR_IDMAP):
        raise Refused(errno.EINVAL)
    kinds = {0: None, k.MS_PRIVATE: PRIVATE, k.MS_SLAVE: SLAVE, k.MS_SHARED: SHARED, k.MS_UNBINDABLE: PRIVATE}
    if propagation not in kinds or (put & 0x70 and clear & 0x70 != 0x70):
        raise Refused(errno.EINVAL)
    if clear & 0x70 not in (0, 0x70):
        raise Refused(errno.EINVAL)
    m.may(CAP["ADMIN"])
    place = _find(m, fd, path, flags)
    if not place.is_mount_root():
        raise Refused(errno.EINVAL)
    for mount in place.mount.below() if flags & k.AT_RECURSIVE else (place.mount,):
        if _is_hosts_mount(m, mount):
            m.harm("changes a mount of the host")
        mount.attributes = mount.attributes & ~clear | put
        kind = kinds[propagation]
        if kind is not None and not (kind == SLAVE and mount.propagation == PRIVATE):
            mount.propagation = kind
    return 0


def pivot_root(m: Kernel, new: Any, old: Any) -> int:
    m.may(CAP["ADMIN"])
    to, put = _find(m, k.AT_FDCWD, new).top(), _find(m, k.AT_FDCWD, old).top()
    if not to.is_mount_root() or to.mount is m.namespace or to.mount.parent is None:
        raise Refused(errno.EINVAL)
    if SHARED in (to.mount.propagation, to.mount.parent.propagation, m.root.mount.propagation):
        raise Refused(errno.EINVAL)
    if not m.own(k.CLONE_NEWNS):
        m.harm("changes the root of the host's processes")
    if _root_of(to.mount) is not m.namespace:
        raise Refused(errno.EINVAL)
    before = m.namespace
    to.mount.detach()
    m.namespace = to.mount
    # The old root ends up on top of the new one, whose root and working directory we have.
    put = Place(to.mount, to.mount.root).top() if put.same(to) else put
    put.mount.attach(put.path, before)
    m.root = m.cwd = Place(to.mount, to.mount.root)
    return 0


def umount2(m: Kernel, path: Any, flags: int) -> int:
    m.may(CAP["ADMIN"])
    if flags & ~0xF:
        raise Refused(errno.EINVAL)
    found = _find(m, k.AT_FDCWD, path)
    if text_of(path).strip("/") in ("", "."):
        found = found.top()
    if not found.is_mount_root() or found.mount is m.namespace or found.mount.parent is None:
        raise Refused(errno.EINVAL)
    if not flags & k.MNT_DETACH and (found.mount.children or m.cwd.mount is found.mount):
        raise Refused(errno.EBUSY)
    if _is_hosts_mount(m, found.mount) or found.mount.parent.propagation == SHARED:
        m.harm("unmounts something of the host")
    found.mount.detach()
    return 0


# The end.


def execve(m: Kernel, program: Any, arguments: Any, environment: Any) -> int:
    if not isinstance(arguments, Vector) or not isinstance(environment, Vector):
        raise Refused(errno.EFAULT)
    if _find(m, k.AT_FDCWD, program).node() != "f":
        raise Refused(errno.EACCES)
    for fd in [fd for fd, opened in m.fds.items() if opened.cloexec]:
        del m.fds[fd]
    c = m.creds
    # "Transformation of capabilities during execve()" and "Capabilities and execution of programs by root".
    is_root = 0 in c.uids[:2]
    permitted = (c.inheritable | c.bounding) if is_root else c.ambient
    if c.no_new_privs and permitted & ~c.permitted:
        permitted &= c.permitted
    effective = permitted if c.uids[1] == 0 or not is_root else c.ambient
    if is_root:
        c.ambient = 0
    c.permitted, c.effective = permitted, effective
    c.uids, c.gids = (*c.uids[:2], c.uids[1]), (*c.gids[:2], c.gids[1])
    raise Done


def nothing(m: Kernel, *args: Any) -> int:
    """Calls that give and take nothing that the judge looks at."""
    return 0


CALLS: dict[str, Callable[..., Any]] = {
    name: globals()[name]
    for name in (
        *"capset chdir chroot close close_range dup3 execve faccessat2 fchdir fsconfig fsmount fsopen getcwd".split(),
        *"ioctl keyctl mkdirat mknodat mount_setattr move_mount open_tree openat openat2 pivot_root prctl".split(),
        *"prlimit64 seccomp setgroups setns setresgid setresuid setsid socket statx symlinkat umount2".split(),
        *"unlinkat unshare write".split(),
    )
}
CALLS |= dict.fromkeys(("fchown", "fchownat", "rt_sigaction", "umask"), nothing)
CALLS |= {"sethostname": names(k.CLONE_NEWUTS), "setdomainname": names(k.CLONE_NEWUTS)}
__all__ = ["CALLS", "Pointer", "clone", "is_hosts", "reachable"]
