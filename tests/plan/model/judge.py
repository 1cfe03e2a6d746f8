"""Is what a mutated plan does dangerous? Its program must end up with nothing more than the unmutated plan's."""

from __future__ import annotations

from plan.model.calls_files import reachable
from plan.model.machine import Kernel, Opened
from plan.model.world import ROOTFS, Mount, Place, Refused, walk

from ocirt.plan.kernel import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, RLIMIT
from ocirt.plan.step import Plan

LOCKABLE = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
Seen = dict[str, tuple[tuple[str, str], tuple[tuple[str, str | None], ...], int, int]]
"""Where something is mounted → (file system and its folder, options, attributes, propagation)"""
QUIET = ("tmpfs",)
"""A new file system of this kind shows nothing, wherever it is."""


class End:
    """What a program ends up with, comparable."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.creds = kernel.creds
        self.mounts = _mounts(kernel)
        self.stdio = [kernel.fds[fd].what if fd in kernel.fds else "" for fd in range(3)]
        self.more = sorted(fd for fd in kernel.fds if fd > 2)
        self.devices = _devices(kernel)
        self.outside = [mount.name() for mount in kernel.namespace.below() if _is_host(mount)]


def _is_host(mount: Mount) -> bool:
    return mount.tree.kind == "host" and mount.root == ""


def _mounts(kernel: Kernel) -> Seen:
    """What is visible below the root, by its place. What another mount covers is not."""
    seen: Seen = {}

    def look(mount: Mount, prefix: str) -> None:
        seen[prefix or "/"] = (mount.name(), mount.tree.options, mount.attributes, mount.propagation)
        for at in mount.children:
            inner = at[len(mount.root) :].strip("/")
            if mount.root and not (at + "/").startswith(mount.root + "/"):
                continue
            place = Place(mount, at).top()
            look(place.mount, f"{prefix}/{inner}" if inner else prefix)

    top = kernel.root
    if top.is_mount_root():
        top = top.top()
    look(top.mount, "")
    return seen


def _devices(kernel: Kernel) -> set[tuple[str, int]]:
    found = set()
    for mount in kernel.namespace.below():
        for path, node in mount.tree.nodes.items():
            if isinstance(node, tuple) and (mount.tree.kind != "host" or path.startswith(kernel.rootfs + "/")):
                found.add((str(node[0]), int(node[2])))
    return found


def run(plan: Plan, held: dict[int, Opened] | None = None, rootfs: str = ROOTFS) -> tuple[Kernel, End | None]:
    """The plan's run by the model kernel, and its program's state; None if it does not come to that."""
    kernel = Kernel(plan, {number: opened.duplicate(cloexec=False) for number, opened in (held or {}).items()}, rootfs)
    return kernel, End(kernel) if kernel.run() else None


def dangers(good: End, kernel: Kernel, end: End | None, hidden: list[str]) -> list[str]:
    """Why a mutant is dangerous: nothing, if it is not. hidden: the masked and readonly paths.

    One that fails before execve is harmless, but for what it has done to the host by then.
    """
    found = list(dict.fromkeys(kernel.harmed))
    if end is None:
        return found
    found += _of_rights(good, end)
    found += _of_process(good, end)
    found += _of_mounts(good.mounts, end.mounts)
    found += [f"hides nothing at {path}" for path in hidden if _shows_more(good.kernel, end.kernel, path)]
    return found


def _of_rights(good: End, end: End) -> list[str]:
    c, was = end.creds, good.creds
    found = [
        f"more capabilities: {name}"
        for name in ("effective", "permitted", "inheritable", "bounding", "ambient")
        if getattr(c, name) & ~getattr(was, name)
    ]
    if c.uids != was.uids or c.gids != was.gids:
        found.append("other ids")
    if not set(c.groups) <= set(was.groups):
        found.append("more groups")
    if was.no_new_privs and not c.no_new_privs:
        found.append("no no_new_privs")
    if good.kernel.filter != end.kernel.filter:
        found.append("another filter, or none")
    for resource, limit in good.kernel.limits.items():
        mine = end.kernel.limits.get(resource)
        if mine is None or any(a > b for a, b in zip(RLIMIT.unpack(mine), RLIMIT.unpack(limit), strict=True)):
            found.append("a limit that is missing")
    return found


def _of_process(good: End, end: End) -> list[str]:
    found = []
    now, was = end.kernel, good.kernel
    if end.more != good.more:
        found.append("descriptors are left")
    if end.stdio != good.stdio:
        found.append("another standard input or output")
    if was.namespaces & ~now.namespaces:
        found.append("a namespace is missing")
    needed = ("attached", "ready", "session", "keyring", "cgroup_root_known")
    found += [f"not {name}" for name in needed if getattr(was, name) and not getattr(now, name)]
    if (now.root.mount.name(), now.root.path) != (was.root.mount.name(), was.root.path):
        found.append("another root")
    if not reachable(now.cwd, now.root):
        found.append("a working directory outside the root")
    if [one for one in end.outside if one not in good.outside]:
        found.append("the old root is still there")
    if end.devices - good.devices:
        found.append("another device")
    return found


def _of_mounts(good: Seen, mine: Seen) -> list[str]:
    found = []
    for place, (name, options, attributes, propagation) in mine.items():
        was = good.get(place)
        if was is None or was[0] != name:
            if name[0] not in QUIET and name != ("host", "dev/null"):
                found.append(f"another mount on {place}")
            continue
        if was[1] != options:
            found.append(f"other options of the mount on {place}")
        if was[2] & LOCKABLE & ~attributes:
            found.append(f"a flag is missing of the mount on {place}")
        if propagation > was[3]:
            found.append(f"events of the host's mounts reach {place}")
    return found


def _look(kernel: Kernel, path: str) -> tuple[tuple[str, str], str, bool] | None:
    """(file system, path in it, may it be written to?)"""
    try:
        place = walk(kernel.root.top() if kernel.root.is_mount_root() else kernel.root, path, kernel.root)
    except Refused:
        return None
    return (place.mount.tree.kind, ""), place.path, not place.mount.attributes & MOUNT_ATTR_RDONLY


def _shows_more(good: Kernel, mine: Kernel, path: str) -> bool:
    was, now = _look(good, path), _look(mine, path)
    if now is None or was == now:
        return False
    shows = now[0][0] in ("proc", "sysfs")
    if was is None:
        return shows
    return shows and (was[0] != now[0] or (now[2] and not was[2]))
