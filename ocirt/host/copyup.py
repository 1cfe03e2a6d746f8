"""Fill a tmpfs from the directory that it is about to be mounted on: "tmpcopyup", or just the directory's mode.

init hands over both as descriptors, and waits. So this works in the container's mount namespace without entering it.
Each directory is opened in its parent, by one name that is not followed if it is a symlink, and compared with what was
listed: nothing that an image holds, and nothing that changes meanwhile, leads out of the directory.

But the image may say which directory it is, by a symlink at the destination. So no more is copied than the container
could read itself, and nothing of the kernel's own file systems, where reading can do something.
"""

from __future__ import annotations

import posix

from ocirt.errors import Error, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

S_IFMT, S_IFDIR, S_IFREG, S_IFLNK = 0o170000, 0o040000, 0o100000, 0o120000
SEEK_DATA, SEEK_HOLE = 3, 4
ENXIO, EACCES, EOPNOTSUPP = 6, 13, 95
MAX_DEPTH = 128
"""Folders in folders: each holds two descriptors."""
_LOOK = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC
_MAKE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
KERNELS_OWN = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x73636673: "securityfs",
    0xF97CFF8C: "selinuxfs",
    0x6165676C: "pstore",
    0xDE5E81E4: "efivarfs",
    0xCAFE4A11: "bpf",
    0x62656570: "configfs",
    0x42494E4D: "binfmt_misc",
    0x07655821: "resctrl",
}
"""statfs(2), f_type: what linux/magic.h has of them."""


def fill(mount: dict[str, Any], pointer: str, pid: int, directory: int, tmpfs: int) -> None:
    """`directory` and `tmpfs` are O_PATH descriptors, `pid` is init's, or 0: we are in its user namespace.

    Raises KernelError with `pointer`."""
    if posix.fstat(directory).st_mode & S_IFMT != S_IFDIR:
        return  # the kernel refuses to mount on it, in a moment
    options = mount.get("options") or ()
    given = {option.partition("=")[0] for entry in options for option in entry.split(",")}
    try:
        source = posix.open(f"/proc/self/fd/{directory}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            target = posix.open(f"/proc/self/fd/{tmpfs}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            try:
                if "tmpcopyup" in options:
                    owners = Owners(pid)
                    with owners.creating():
                        _Copy(owners, source, target).everything(given)
                else:
                    posix.fchmod(target, posix.fstat(source).st_mode & 0o7777)
            finally:
                posix.close(target)
        finally:
            posix.close(source)
    except OSError as error:
        error.filename = None  # a descriptor's
        raise from_os_error(error, f"prepare the tmpfs for {mount['destination']}", pointer=pointer) from None
    except Error as error:
        error.pointer = pointer
        raise


class Owners:
    """The container's user namespace: whom a file may belong to (user_namespaces(7))."""

    def __init__(self, pid: int) -> None:
        """pid: a process in it. 0: ourselves, so that we see the ids that it has inside."""
        process = pid or "self"
        self.uids = _read_map(f"/proc/{process}/uid_map")
        self.gids = _read_map(f"/proc/{process}/gid_map")
        if not pid or _is_ours(pid):  # of one's own namespace the kernel tells what is outside
            self.uids = [(first, first, size) for first, _, size in self.uids]
            self.gids = [(first, first, size) for first, _, size in self.gids]

    def of(self, status: posix.stat_result) -> tuple[int, int]:
        """The copy's owner: the same, or who the container takes for the owner if it does not know it."""
        return _known(self.uids, status.st_uid), _known(self.gids, status.st_gid)

    def may(self, wanted: int, status: posix.stat_result) -> bool:
        """Has the container's root, or who it may become, these rights (of rwx)? We have them over every file, but what
        belongs to none of its owners is the host's (user_namespaces(7), "Capabilities and user namespaces")."""
        return (
            _is_in(self.uids, status.st_uid)
            or status.st_mode & wanted == wanted
            or (status.st_mode >> 3 & wanted == wanted and _is_in(self.gids, status.st_gid))
        )

    def creating(self) -> AbstractContextManager[None]:
        """Who creates a file must be known to the file system, which belongs to the container's user namespace."""
        from contextlib import contextmanager

        @contextmanager
        def as_root() -> Iterator[None]:
            uid, gid = _known(self.uids, posix.geteuid(), (0,)), _known(self.gids, posix.getegid(), (0,))
            if (uid, gid) == (posix.geteuid(), posix.getegid()):
                yield
                return
            from ctypes import CDLL

            libc = CDLL(None, use_errno=True)  # of this thread alone: setfsuid(2), capabilities(7)
            before = libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0)
            # Or the change of the user would take the rights over files away.
            libc.prctl(PR_SET_SECUREBITS, before | SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
            try:
                libc.setfsgid(gid)
                libc.setfsuid(uid)
                yield
            finally:
                libc.setfsuid(posix.geteuid())
                libc.setfsgid(posix.getegid())
                libc.prctl(PR_SET_SECUREBITS, before, 0, 0, 0)

        return as_root()


PR_GET_SECUREBITS, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 27, 28, 4
NOT_MAPPED = "its owner is not mapped in the user namespace"
OVERFLOW = 65534
"""Whom a namespace takes for the owner whom it does not know."""


def _is_ours(pid: int) -> bool:
    """Is the process in our own user namespace?"""
    try:
        return posix.readlink(f"/proc/{pid}/ns/user") == posix.readlink("/proc/self/ns/user")
    except OSError:  # it may not be looked into, as nobody may who is in another one
        return False


def _read_map(path: str) -> list[tuple[int, int, int]]:
    """(first id inside, first id outside, how many) of each line."""
    with open(path, encoding="ascii") as file:
        return [(int(first), int(outside), int(size)) for first, outside, size in map(str.split, file)]


def _is_in(ranges: Sequence[tuple[int, int, int]], number: int) -> bool:
    return any(outside <= number < outside + size for _, outside, size in ranges)


def _known(ranges: Sequence[tuple[int, int, int]], number: int, instead: Sequence[int] = (OVERFLOW, 0)) -> int:
    """This id, if the namespace knows it; else the first that it knows of the container's own ids in `instead`."""
    if _is_in(ranges, number):
        return number
    for wanted in instead:
        for inside, outside, size in ranges:
            if inside <= wanted < inside + size:
                return outside + wanted - inside
    return number


class _Copy:
    """`source` and `target` are descriptors of the two directories."""

    def __init__(self, owners: Owners, source: int, target: int) -> None:
        self.owners = owners
        self.source = source
        self.target = target
        self.path: list[str] = []
        self._links: dict[tuple[int, int], str] = {}
        self._devices: set[int] = set()

    def everything(self, given: set[str]) -> None:
        """The content; then the directory's own attributes, but for those that the mount's options give."""
        status = posix.fstat(self.source)
        self._check(self.source, status)
        self._content(self.source, self.target)
        uid, gid = self.owners.of(status)
        posix.chown(self.target, -1 if "uid" in given else uid, -1 if "gid" in given else gid)
        if "mode" not in given:
            posix.fchmod(self.target, status.st_mode & 0o7777)
        _copy_attributes(f"/proc/self/fd/{self.source}/.", f"/proc/self/fd/{self.target}/.")
        posix.utime(self.target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _content(self, source: int, target: int) -> None:
        if len(self.path) >= MAX_DEPTH:
            raise KernelError(f"copy {'/'.join(self.path)[:80]}…: more than {MAX_DEPTH} folders in one another")
        for name in posix.listdir(source):
            self.path.append(name)
            try:
                self._entry(name, source, target)
            except OSError as error:
                error.filename = None
                raise from_os_error(error, f"copy {'/'.join(self.path)} into the tmpfs", hint=_hint(error)) from None
            self.path.pop()

    def _entry(self, name: str, source: int, target: int) -> None:
        status = posix.stat(name, dir_fd=source, follow_symlinks=False)
        kind = status.st_mode & S_IFMT
        key = status.st_dev, status.st_ino
        if kind != S_IFDIR and status.st_nlink > 1:
            first = self._links.setdefault(key, "/".join(self.path))
            if len(first) < 4096 and first != "/".join(self.path):
                posix.link(first, name, src_dir_fd=self.target, dst_dir_fd=target, follow_symlinks=False)
                return
        if kind == S_IFDIR:
            posix.mkdir(name, 0o700, dir_fd=target)
            self._opened(name, source, target, status, self._content)
        elif kind == S_IFREG:
            self._opened(name, source, target, status, _copy_data)
        elif kind == S_IFLNK:
            posix.symlink(posix.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            posix.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
        posix.chown(name, *self.owners.of(status), dir_fd=target, follow_symlinks=False)
        if kind != S_IFLNK:
            posix.chmod(name, status.st_mode & 0o7777, dir_fd=target)
        _copy_attributes(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
        posix.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _opened(self, name: str, source: int, target: int, listed: posix.stat_result, copy: Any) -> None:
        """Open both sides and copy the one into the other. The source is opened when it is seen to be what was listed:
        to open a device can do something."""
        found = posix.open(name, _LOOK, dir_fd=source)
        try:
            status = posix.fstat(found)
            kind = status.st_mode & S_IFMT
            if (status.st_dev, status.st_ino, kind) != (listed.st_dev, listed.st_ino, listed.st_mode & S_IFMT):
                raise KernelError(f"copy {'/'.join(self.path)}: it was replaced meanwhile", hint="try again")
            self._check(found, status)
            old = posix.open(f"/proc/self/fd/{found}", _READ)
        finally:
            posix.close(found)
        try:
            flags = posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC if kind == S_IFDIR else _MAKE
            new = posix.open(name, flags, 0o600, dir_fd=target)
            try:
                copy(old, new)
            finally:
                posix.close(new)
        finally:
            posix.close(old)

    def _check(self, found: int, status: posix.stat_result) -> None:
        """Raises OSError for what the container could not read, KernelError for what is the kernel's."""
        if not self.owners.may(0o5 if status.st_mode & S_IFMT == S_IFDIR else 0o4, status):
            raise OSError(EACCES, posix.strerror(EACCES))
        if status.st_dev not in self._devices:
            kind = KERNELS_OWN.get(_file_system(found))
            if kind:
                raise KernelError(
                    f"copy {'/'.join(self.path) or 'the directory'} into the tmpfs: it is in a {kind} file system",
                    hint="where does a symlink at the destination lead to?",
                )
            self._devices.add(status.st_dev)


def _file_system(fd: int) -> int:
    from ctypes import CDLL, create_string_buffer, get_errno

    status = create_string_buffer(512)  # struct statfs has 120 bytes
    if CDLL(None, use_errno=True).fstatfs(fd, status):
        raise OSError(get_errno(), posix.strerror(get_errno()))
    return int.from_bytes(status.raw[:4], "little")


def _copy_data(source: int, target: int) -> None:
    """What is there when this begins; holes stay holes."""
    size = posix.fstat(source).st_size
    posix.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = posix.lseek(source, at, SEEK_DATA)
        except OSError as error:
            if error.errno == ENXIO:  # only a hole is left
                return
            raise
        end = min(posix.lseek(source, at, SEEK_HOLE), size)
        posix.lseek(target, at, 0)
        while at < end:
            count = posix.sendfile(target, source, at, min(end - at, 1 << 30))
            if not count:  # it was cut short meanwhile
                return
            at += count


def _copy_attributes(source: str, target: str) -> None:
    """xattr(7), with access lists and capabilities among them, but for SELinux' label, which is the mount's to give."""
    for name in posix.listxattr(source, follow_symlinks=False):
        if name == "security.selinux":
            continue
        value = posix.getxattr(source, name, follow_symlinks=False)
        try:
            posix.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno != EOPNOTSUPP or not name.startswith("user."):  # tmpfs has these since Linux 6.6
                raise


def _hint(error: OSError) -> str:
    return {
        28: "the tmpfs is too small: see its options size and nr_inodes",
        EACCES: NOT_MAPPED,
    }.get(error.errno or 0, "")
