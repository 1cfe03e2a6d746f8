"""System calls that find, make, open and execute files.

Each is named after its man page. It raises Refused as the kernel would; what reaches the host, or an image
could lead there, is noted in `Kernel.harmed`.
"""

from __future__ import annotations

import errno
from typing import Any

from plan.model.machine import CAP, Done, Kernel, Opened, text_of
from plan.model.world import Place, Refused, walk

from ocirt.plan import kernel as k
from ocirt.plan.step import Buffer, Vector

# Paths and files.


def _start(m: Kernel, fd: Any, path: str) -> Place:
    if path.startswith("/"):
        return m.root
    return m.cwd if fd == k.AT_FDCWD else m.place(fd)


def find(m: Kernel, fd: Any, path: Any, flags: int = 0) -> Place:
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
    if not inside and fd != k.AT_FDCWD and linked and not is_pivoted(m):
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


def is_pivoted(m: Kernel) -> bool:
    return m.root.mount.tree.kind == "host" and m.root.path == m.rootfs


def openat(m: Kernel, fd: int, path: Any, flags: int = 0, mode: int = 0) -> int:
    text = text_of(path)
    parts = text.split("/")
    opened = None if fd == k.AT_FDCWD else m.opened(fd)
    is_procfs = opened is not None and opened.place is not None and opened.place.mount.tree.kind == "proc"
    if is_procfs and parts[:2] == ["self", "fd"] and len(parts) == 3 and parts[2].isdigit():
        source = m.opened(int(parts[2]))
        return m.new_fd(source.duplicate(cloexec=bool(flags & k.O_CLOEXEC)))
    found = find(m, fd, path)
    if not _is_outside(m, found) and not is_pivoted(m):
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
    elif (head or text.startswith("/")) and not is_pivoted(m):
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
    found = find(m, fd, path)
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
    node = find(m, fd, path, flags).node()
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
    find(m, fd, path, flags)
    return 0


def chdir(m: Kernel, path: Any) -> int:
    found = find(m, k.AT_FDCWD, path)
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
    m.root = find(m, k.AT_FDCWD, path)
    return 0


def write(m: Kernel, fd: int, content: Any, size: int) -> int:
    opened = m.opened(fd)
    if opened.what != "file":
        raise Refused(errno.EBADF)
    return size


def execve(m: Kernel, program: Any, arguments: Any, environment: Any) -> int:
    if not isinstance(arguments, Vector) or not isinstance(environment, Vector):
        raise Refused(errno.EFAULT)
    if find(m, k.AT_FDCWD, program).node() != "f":
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
