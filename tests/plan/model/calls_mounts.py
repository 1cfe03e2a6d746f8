"""System calls of mounts.

Each is named after its man page. It raises Refused as the kernel would; what reaches the host, or an image
could lead there, is noted in `Kernel.harmed`.
"""

from __future__ import annotations

import errno
from typing import Any

from plan.model.calls_files import find, is_pivoted
from plan.model.machine import CAP, Kernel, Opened, text_of
from plan.model.world import PRIVATE, SHARED, SLAVE, Mount, Place, Refused, new_tree

from ocirt.plan import kernel as k

CONTROLLERS = (
    "blkio cpu cpuacct cpuset devices freezer hugetlb memory misc net_cls net_prio perf_event pids rdma".split()
)  # fmt: skip
TOGETHER = [{"cpu", "cpuacct"}]
"""Controllers that the host has in one hierarchy."""
SAYS_NOTHING = ("source", "newinstance", "none")
"""Options that make no difference: every devpts is a new instance (since Linux 4.7)."""


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
    if more:
        raise Refused(errno.EINVAL)
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
    if name == "size" and not (text or "").rstrip("kmg%").isdigit():
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
    found = find(m, fd, path, flags)
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
    source = find(m, fd, path, k.AT_EMPTY_PATH if flags & k.MOVE_MOUNT_F_EMPTY_PATH else 0)
    target = find(m, to, to_path, k.AT_EMPTY_PATH if flags & k.MOVE_MOUNT_T_EMPTY_PATH else 0).top()
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
    if raw and not is_pivoted(m):
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
    place = find(m, fd, path, flags)
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
    to, put = find(m, k.AT_FDCWD, new).top(), find(m, k.AT_FDCWD, old).top()
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
    found = find(m, k.AT_FDCWD, path)
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
