"""linux.devices: the nodes that a configuration lists. Imported only if there are some.

Each is made in its folder, which was opened in the root; what is there already has to be the same device, and stays as
it is, because it may be the host's own. Owners are set through a descriptor that was checked, never by a path.
"""

from __future__ import annotations

from ocirt.config.check_devices import FILE_TYPES
from ocirt.errors import UnsupportedError
from ocirt.plan.devices import bind, is_fresh, shows_host_devices, take
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_SYMLINK_NOFOLLOW,
    EEXIST,
    STATX_BASIC_STATS,
    STATX_SIZE,
    makedev,
)
from ocirt.plan.masks import expect_device
from ocirt.plan.paths import HOW_SIZE, IN_ROOT_NO_SYMLINKS, make_target, parts_of
from ocirt.plan.step import Buffer, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg

MOST_TAKEN = 32
"""Each device that is taken from the host occupies a register until it is mounted."""
_WORDS = {"b": "block device", "c": "character device", "u": "character device", "p": "FIFO"}


class Node:
    """One entry of linux.devices, with the defaults filled in."""

    def __init__(self, device: dict[str, Any], index: int) -> None:
        kind = device["type"]
        self.pointer = f"/linux/devices/{index}"
        self.parts = parts_of(device["path"])
        self.path = "/" + "/".join(self.parts)
        self.kind = FILE_TYPES[kind]
        self.is_fifo = kind == "p"
        self.major: int = 0 if self.is_fifo else device["major"]
        self.minor: int = 0 if self.is_fifo else device["minor"]
        self.mode = device.get("fileMode", 0o666) & 0o7777
        self.uid, self.gid = device.get("uid", 0), device.get("gid", 0)
        self.words = _WORDS[kind] + ("" if self.is_fifo else f" {self.major}:{self.minor}")


def _nodes(scope: Scope) -> list[Node]:
    """Those to be made: in a /dev of the host's all that there is, is there."""
    nodes = [Node(device, index) for index, device in enumerate(scope.linux["devices"])]
    if shows_host_devices(scope):
        return [node for node in nodes if node.parts[0] != "dev"]
    return nodes


def take_listed(scope: Scope) -> None:
    """mknod(2) is not for a user namespace's root, except of FIFOs: the host's own nodes are taken instead."""
    nodes = [node for node in _nodes(scope) if not node.is_fifo]
    if len(nodes) > MOST_TAKEN:
        raise UnsupportedError(
            f"in a user namespace at most {MOST_TAKEN} devices can be listed, got {len(nodes)}",
            pointer="/linux/devices",
            hint="bind them as mounts, or the whole of /dev",
        )
    for node in nodes:
        scope.plan.at(node.pointer, f"take {node.path} from the host, {node.words}")
        scope.taken[node.path] = take(scope, node.path, node.major, node.minor, node.kind)


def make_listed(scope: Scope) -> None:
    plan = scope.plan
    passed = plan.register("passed over")
    for node in _nodes(scope):
        plan.at(node.pointer, f"make {node.path}, {node.words}")
        *folder, name = node.parts
        if folder == ["dev"]:
            parent = scope.dev
        elif folder:
            parent = make_target(plan, scope.root, "/".join(folder), directory=True)
        else:
            parent = scope.root
        if node.path in scope.taken:
            bind(scope, parent, name, scope.taken.pop(node.path))
        else:
            _make(scope, parent, name, node, passed)
        if parent is not scope.dev and parent is not scope.root:
            plan.close(parent)


def _make(scope: Scope, parent: Reg, name: str, node: Node, passed: Reg) -> None:
    plan = scope.plan
    arguments = (parent, name, node.kind | node.mode, makedev(node.major, node.minor))
    is_owned = bool(node.uid or node.gid)
    made, done = Label(), Label()
    if parent is scope.dev and is_fresh(scope, {name}):
        plan.call("mknodat", *arguments)
    else:
        plan.call("mknodat", *arguments, ignore=(EEXIST,), ok=made)
        status = Buffer(STATX_SIZE)
        plan.call("statx", parent, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, status)
        expect_device(plan, status, node.major, node.minor, node.kind)
        if is_owned:
            plan.load(passed, 0, ok=done)
        plan.place(made)
    if is_owned:
        opened = plan.open("node", "openat2", parent, name, IN_ROOT_NO_SYMLINKS, HOW_SIZE)
        status = Buffer(STATX_SIZE)
        plan.call("statx", opened, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status)
        expect_device(plan, status, node.major, node.minor, node.kind)
        plan.call("fchownat", opened, "", node.uid, node.gid, AT_EMPTY_PATH)
        plan.close(opened)
    plan.place(done)
