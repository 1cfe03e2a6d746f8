"""The devices and links that every container's /dev has (config-linux.md, "Default Devices").

All of it goes through one descriptor of /dev, resolved in the root: an image whose /dev is a symlink changes its own
files, never the host's (CVE-2026-41579).
"""

from __future__ import annotations

from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    EEXIST,
    ENOENT,
    MOVE_MOUNT_BY_DESCRIPTOR,
    S_IFCHR,
    S_IFREG,
    STATX_BASIC_STATS,
    STATX_SIZE,
    makedev,
)
from ocirt.plan.masks import expect_device
from ocirt.plan.options import parse_options
from ocirt.plan.paths import HOW_SIZE, IN_ROOT_NO_SYMLINKS, make_target, parts_of
from ocirt.plan.rootfs import CLONE_TREE, cut_off
from ocirt.plan.step import Buffer, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg

DEFAULT_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
)


def shows_host_devices(scope: Scope) -> bool:
    """Is /dev a bind mount? Then it is the user's, complete, and nothing is made in it."""
    bound = False
    for index, mount in enumerate(scope.spec.get("mounts") or ()):
        if parts_of(mount["destination"]) == ["dev"]:
            bound = parse_options(mount.get("options") or (), f"/mounts/{index}").bind
    return bound


def is_fresh(scope: Scope, names: Container[str]) -> bool:
    """Is /dev a tmpfs of this plan, with nothing of the user's in it that could be in the place of one of these?"""
    fresh = False
    for mount in scope.spec.get("mounts") or ():
        parts = parts_of(mount["destination"])
        if parts == ["dev"]:
            fresh = mount.get("type") == "tmpfs"
        elif parts[:1] == ["dev"] and parts[1:2] and parts[1] in names:
            fresh = False
    return fresh


def take_all(scope: Scope) -> None:
    """mknod(2) is not for a user namespace's root: there the nodes are binds of the host's own, checked to be these."""
    plan = scope.plan
    if scope.linux.get("devices"):
        from ocirt.plan.device_nodes import take_listed

        take_listed(scope)
    if shows_host_devices(scope):
        return
    for name, major, minor in _defaults(scope):
        plan.at("/linux/devices", f"take /dev/{name} from the host, character device {major}:{minor}")
        scope.taken[f"/dev/{name}"] = take(scope, f"/dev/{name}", major, minor)


def _defaults(scope: Scope) -> Sequence[tuple[str, int, int]]:
    """The default devices that are not listed with a mode and an owner of their own."""
    devices = scope.linux.get("devices")
    if not devices:
        return DEFAULT_DEVICES
    listed = {"/".join(parts_of(device["path"])) for device in devices}
    return [device for device in DEFAULT_DEVICES if f"dev/{device[0]}" not in listed]


def take(scope: Scope, path: str, major: int, minor: int, kind: int = S_IFCHR) -> Reg:
    """A mount of the host's node alone."""
    plan = scope.plan
    node = plan.open(path[1:], "open_tree", AT_FDCWD, path, CLONE_TREE)
    status = Buffer(STATX_SIZE)
    plan.call("statx", node, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status)
    expect_device(plan, status, major, minor, kind)
    cut_off(scope, node)
    return node


def bind(scope: Scope, parent: Reg, name: str, node: Reg) -> None:
    """Mount what was taken, over a new file or what is there."""
    plan = scope.plan
    plan.call("mknodat", parent, name, S_IFREG | 0o666, 0, ignore=(EEXIST,))
    target = plan.open("target", "openat2", parent, name, IN_ROOT_NO_SYMLINKS, HOW_SIZE)
    plan.call("move_mount", node, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.close(target, node)


def make_devices(scope: Scope) -> None:
    """mknod(2) each node, and check what was there before; then the links."""
    plan = scope.plan
    plan.at("/linux/devices", "open /dev")
    scope.dev = make_target(plan, scope.root, "/dev", directory=True)
    if scope.linux.get("devices"):
        from ocirt.plan.device_nodes import make_listed

        make_listed(scope)
    if shows_host_devices(scope):
        return
    defaults = _defaults(scope)
    empty = is_fresh(scope, {name for name, _, _ in defaults})
    for name, major, minor in defaults:
        plan.at("/linux/devices", f"make /dev/{name}, character device {major}:{minor}")
        if f"/dev/{name}" in scope.taken:
            bind(scope, scope.dev, name, scope.taken.pop(f"/dev/{name}"))
            continue
        if empty:
            plan.call("mknodat", scope.dev, name, S_IFCHR | 0o666, makedev(major, minor))
            continue
        made = Label()
        plan.call("mknodat", scope.dev, name, S_IFCHR | 0o666, makedev(major, minor), ignore=(EEXIST,), ok=made)
        status = Buffer(STATX_SIZE)
        plan.call("statx", scope.dev, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, status)
        expect_device(plan, status, major, minor)
        plan.place(made)
    for target, name in _LINKS:
        plan.at("/linux/devices", f"link /dev/{name} to {target}")
        plan.call("symlinkat", target, scope.dev, name, ignore=(EEXIST,))
    plan.at("/linux/devices", "link /dev/ptmx to pts/ptmx")
    plan.call("unlinkat", scope.dev, "ptmx", 0, ignore=(ENOENT,))
    plan.call("symlinkat", "pts/ptmx", scope.dev, "ptmx")
