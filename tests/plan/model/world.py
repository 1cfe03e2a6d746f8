"""What a mutated plan acts on: file systems, mounts and how a path leads through them (path_resolution(7),
mount_namespaces(7), openat2(2)).

No symlinks: an image may have them everywhere, so a walk that would follow one out of the root is a danger by itself,
and noted as such.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

PRIVATE, SLAVE, SHARED = range(3)
"""How much a mount has to do with the host's, from nothing to everything."""
ROOTFS = "bundle/rootfs"
PROC_FOLDERS = (
    "acpi asound bus fs irq scsi self/fd self/attr/apparmor sys/kernel sys/net/ipv4 sys/vm".split()
)  # fmt: skip
PROC_FILES = [
    *"sys/net/ipv4/ip_unprivileged_port_start kcore keys latency_stats timer_list timer_stats sched_debug".split(),
    *"sysrq-trigger interrupts self/attr/exec self/attr/apparmor/exec".split(),
]
SYS_FOLDERS = "firmware fs/cgroup devices/virtual/powercap kernel".split()
"""What procfs and sysfs have in them, of what plans look for. Another host's may have less: who runs plans there takes
it out."""


class Refused(Exception):
    """A system call fails with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.number = number


@dataclass(eq=False)
class Tree:
    """A file system: its kind, what it was made with, and its nodes: path → "d", "f" or ("c", mode, device)."""

    kind: str
    nodes: dict[str, object]
    options: tuple[tuple[str, str | None], ...] = ()

    def __post_init__(self) -> None:
        self.nodes.setdefault("", "d")


@dataclass(eq=False)
class Mount:
    """A mount of what is below `root` in a tree. children: what is mounted on it, by its place in the tree."""

    tree: Tree
    root: str = ""
    attributes: int = 0
    propagation: int = PRIVATE
    on_host: bool = False
    parent: Mount | None = None
    at: str = ""
    children: dict[str, Mount] = field(default_factory=dict)

    def name(self) -> tuple[str, str]:
        return (self.tree.kind, self.root)

    def below(self) -> Iterator[Mount]:
        yield self
        for child in self.children.values():
            yield from child.below()

    def copy(self, *, recursive: bool, root: str | None = None) -> Mount:
        start = self.root if root is None else root
        copied = Mount(self.tree, start, self.attributes, self.propagation)
        if recursive:
            for at, child in self.children.items():
                if at == start or start == "" or at.startswith(start + "/"):
                    copied.attach(at, child.copy(recursive=True))
        return copied

    def attach(self, at: str, child: Mount) -> None:
        child.parent, child.at = self, at
        self.children[at] = child

    def detach(self) -> None:
        if self.parent:
            del self.parent.children[self.at]
        self.parent = None


@dataclass(frozen=True, eq=False)
class Place:
    """A directory or file, as a descriptor or a working directory refers to it."""

    mount: Mount
    path: str

    def top(self) -> Place:
        """What is mounted over it, on top."""
        mount, path = self.mount, self.path
        while path in mount.children:
            mount = mount.children[path]
            path = mount.root
        return Place(mount, path)

    def is_mount_root(self) -> bool:
        return self.path == self.mount.root

    def node(self) -> object:
        return self.mount.tree.nodes.get(self.path)

    def same(self, other: Place) -> bool:
        return self.mount is other.mount and self.path == other.path


def walk(start: Place, path: str, root: Place, *, cross: bool = True) -> Place:
    """The place that a path leads to. ".." stays at `root`."""
    here = start
    for part in path.split("/"):
        if part == "":
            continue
        if here.node() != "d":
            raise Refused(errno.ENOENT if here.node() is None else errno.ENOTDIR)
        if part == ".":
            continue
        if part == "..":
            here = _up(here, root)
            continue
        below = Place(here.mount, f"{here.path}/{part}".lstrip("/"))
        after = below.top()
        if not cross and after.mount is not here.mount:
            raise Refused(errno.EXDEV)
        if after.node() is None:
            raise Refused(errno.ENOENT)
        here = after
    return here


def _up(here: Place, root: Place) -> Place:
    while not here.same(root) and here.is_mount_root() and here.mount.parent:
        here = Place(here.mount.parent, here.mount.at)
    if here.same(root) or here.is_mount_root():
        return here
    return Place(here.mount, here.path.rpartition("/")[0]).top()


def _tree(kind: str, folders: str, files: str = "") -> Tree:
    nodes: dict[str, object] = {}
    for path in folders.split():
        parts = path.split("/")
        for depth in range(len(parts)):
            nodes["/".join(parts[: depth + 1])] = "d"
    nodes.update(dict.fromkeys(files.split(), "f"))
    return Tree(kind, nodes)


def new_tree(kind: str, options: tuple[tuple[str, str | None], ...]) -> Tree:
    """What a new file system of this kind has in it. Of the paths that are commonly masked some are not there."""
    if kind == "proc":
        tree = _tree(kind, " ".join(PROC_FOLDERS), " ".join(PROC_FILES))
    elif kind == "sysfs":
        tree = _tree(kind, " ".join(SYS_FOLDERS))
    elif kind == "devpts":
        tree = _tree(kind, "", "ptmx")
    else:
        tree = Tree(kind, {})
    tree.options = options
    return tree


def host(rootfs: str = ROOTFS) -> Mount:
    """The host's mounts: all of them shared, as systemd makes them. rootfs: a container's, without the first slash."""
    folders = " ".join(f"{rootfs}/{name}" for name in "bin dev etc proc root sys tmp var/lib".split())
    files = " ".join(f"{rootfs}/{name}" for name in ("bin/sh", "bin/busybox", "bin/hook", "etc/passwd"))
    tree = _tree(
        "host",
        f"proc sys dev/shm etc data lib run bundle {folders}",
        f"etc/passwd etc/shadow bundle/resolv.conf {files}",
    )
    for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)):
        tree.nodes[f"dev/{name}"] = ("c", 0o666, major << 8 | minor)
    tree.nodes["dev/tty"] = ("c", 0o666, 5 << 8)
    tree.nodes["dev/mem"] = ("c", 0o640, 1 << 8 | 1)
    root = Mount(tree, "", 0, SHARED, on_host=True)
    for place, kind in (("proc", "proc"), ("sys", "sysfs"), ("dev/shm", "tmpfs")):
        root.attach(place, Mount(new_tree(kind, ()), "", 0, SHARED, on_host=True))
    return root
