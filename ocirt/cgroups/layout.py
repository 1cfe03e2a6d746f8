"""Which cgroup hierarchies this host has mounted, and where in them this process is (cgroups(7)).

/proc/self/cgroup lists the hierarchies in a few lines; mountinfo, which grows with every container on the host, is
only read when a hierarchy is not at its usual place.
"""

from __future__ import annotations

import posix

from ocirt.cgroups import calls
from ocirt.errors import Error

ROOT = "/sys/fs/cgroup"
_FIRST = "user:[4026531837]"
"""The inode of the host's user namespace is a constant (include/linux/proc_ns.h, PROC_USER_INIT_INO)."""


class Mounted:
    """One hierarchy: its folder's `name` ("" for pure v2), where its `mount` is, our `own` cgroup in it."""

    __slots__ = ("controllers", "mount", "name", "own", "v2")

    def __init__(self, name: str, controllers: tuple[str, ...], mount: str, own: str, *, v2: bool) -> None:
        self.name = name
        self.controllers = controllers
        self.mount = mount
        self.own = own
        self.v2 = v2


class Layout:
    """All hierarchies. `pure_v2`: there is one, and it is /sys/fs/cgroup itself."""

    __slots__ = ("hierarchies", "pure_v2")

    def __init__(self, hierarchies: list[Mounted], *, pure_v2: bool) -> None:
        self.hierarchies = hierarchies
        self.pure_v2 = pure_v2

    def is_writable(self) -> bool:
        """May we make cgroups anywhere in them, as root of the host may?"""
        return not any(calls.several([("access", one.mount, b"") for one in self.hierarchies], True))


def read(path: str) -> str:
    """The whole of a small kernel file."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = b""
        while chunk := posix.read(fd, 65536):
            content += chunk
    finally:
        posix.close(fd)
    return content.decode("utf-8", "surrogateescape")


def in_user_namespace() -> bool:
    """Are we in another one than the host's first (user_namespaces(7))? Its root has no rights over what no namespace
    owns: devices, priorities, cgroups."""
    try:
        return posix.readlink("/proc/self/ns/user") != _FIRST
    except OSError:
        return False  # a kernel without


def exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def detect(root: str = ROOT, process: str = "/proc/self") -> Layout:
    """Raises Error if no hierarchy is mounted. `root` and `process` are made up in tests only."""
    mountinfo = process + "/mountinfo"
    lines = [line.split(":", 2) for line in read(process + "/cgroup").splitlines()]
    if exists(root + "/cgroup.controllers"):
        own = next((path for number, _, path in lines if number == "0"), "/")
        return Layout([Mounted("", (), root, visible(root, own, mountinfo), v2=True)], pure_v2=True)
    hierarchies = []
    usual = [f"{root}/{'unified' if number == '0' else names.removeprefix('name=')}" for number, names, _ in lines]
    found = calls.several([("stat", mount + "/cgroup.procs", b"") for mount in usual], False)
    mounts: dict[str, str] | None = None
    for (number, controllers, own), mount, missing in zip(lines, usual, found, strict=True):
        v2 = number == "0"
        if missing:
            if v2:
                continue  # usual on v1 hosts: there is nothing in it
            if mounts is None:
                mounts = _mounts([line[1] for line in lines], mountinfo)
            mount = mounts.get(controllers, "")
            if not mount:
                continue
        names = () if v2 else tuple(controllers.split(","))
        hierarchies.append(Mounted(mount.rpartition("/")[2], names, mount, visible(mount, own, mountinfo), v2=v2))
    if not hierarchies:
        raise Error("no cgroup hierarchy is mounted", hint=f"mount cgroup2 on {root}")
    return Layout(hierarchies, pure_v2=False)


def visible(mount: str, own: str, mountinfo: str) -> str:
    """A cgroup, such as our own, as a path below the mount: a prefix goes if the mount's root is not the hierarchy's.

    "/" if it is out of sight: above the root of our cgroup namespace it begins with "/..", which would lead out of
    the mount (cgroup_namespaces(7)).
    """
    if own.startswith("/../") or own == "/..":
        return "/"
    if own == "/" or exists(mount + own):
        return own
    for line in read(mountinfo).splitlines():
        fields = line.split(" ")
        if fields[4] == mount and fields[3] != "/" and f"{own}/".startswith(fields[3] + "/"):
            return own[len(fields[3]) :] or "/"
    return "/"


def mount_point(line: str) -> str:
    """Of a line of mountinfo (proc(5)): where it is mounted, with the four characters that stand there in octal."""
    place = line.split(" ", 5)[4]
    for character in " \t\n\\":
        place = place.replace(f"\\{ord(character):03o}", character)
    return place


def _mounts(hierarchies: list[str], mountinfo: str) -> dict[str, str]:
    """Controllers as /proc/self/cgroup writes them → the first place where that v1 hierarchy is mounted."""
    found: dict[str, str] = {}
    for line in read(mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            super_options = options.split(",")
            for controllers in hierarchies:
                if controllers and all(part in super_options for part in controllers.split(",")):
                    found.setdefault(controllers, before.split(" ")[4])
    return found
