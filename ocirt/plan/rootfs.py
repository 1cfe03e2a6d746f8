"""The container's root: attached, later made readonly, and pivoted into."""

from __future__ import annotations

from ocirt.errors import UnsupportedError
from ocirt.plan import namespaces
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG_CMD_CREATE,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MNT_DETACH,
    MOUNT_ATTR,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_BY_DESCRIPTOR,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    O_CLOEXEC,
    O_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from ocirt.plan.options import PROPAGATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Plan, Reg

CLONE_TREE = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
ON_ROOT = "/.."
"""What is mounted over "/": ".." of the root stays there, but goes up to the topmost mount."""


def isolate(scope: Scope) -> None:
    """Nothing that is mounted from here on may reach the host; before the first mount, therefore."""
    if "mount" not in scope.new:
        return
    scope.plan.at("/linux/namespaces", "cut the mount namespace off from the host's")
    scope.isolated = True
    cut_namespace_off(scope.plan, MS_PRIVATE if scope.linux.get("rootfsPropagation") == "rprivate" else MS_SLAVE)


def cut_namespace_off(plan: Plan, from_host: int) -> None:
    attributes = MOUNT_ATTR.pack(0, 0, from_host, 0)
    plan.call("mount_setattr", AT_FDCWD, "/", AT_RECURSIVE, attributes, MOUNT_ATTR.size)


def take(scope: Scope) -> None:
    """The root file system as a detached tree, which no mount of the host's receives anything from."""
    plan, facts = scope.plan, scope.facts
    plan.at("/root/path", f"take {facts.rootfs}")
    scope.root = plan.open("rootfs", "open_tree", AT_FDCWD, facts.rootfs, CLONE_TREE | AT_RECURSIVE)
    cut_off(scope, scope.root)


def cut_off(scope: Scope, tree: Reg) -> None:
    """A copy of a shared mount is its peer: what is mounted in the one appears in the other (mount_namespaces(7)).
    What the namespace has that is cut off already is nobody's."""
    if scope.isolated:
        return
    attributes = MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0)
    scope.plan.call("mount_setattr", tree, "", AT_EMPTY_PATH | AT_RECURSIVE, attributes, MOUNT_ATTR.size)


def attach(scope: Scope) -> None:
    """Mount the root file system onto itself, or onto the place that the facts have for it: pivot_root(2) needs a mount
    point.

    What masked directories show, one empty tmpfs, is attached first, right below it: open_tree(2) clones
    only attached mounts (before Linux 6.15), and this place goes away with the old root.

    Without a mount namespace of its own the container gets the root as a detached tree (Linux 6.15): it is mounted
    nowhere on the host, and all of it goes away with the container's last process.
    """
    plan, facts = scope.plan, scope.facts
    if "mount" not in scope.new:
        take(scope)
        _leave_group(scope)
        if scope.linux.get("maskedPaths"):
            scope.empty = make_empty(plan)
        return
    plan.at("/root/path", f"attach {facts.rootfs}")
    if not scope.takes_first:
        scope.root = plan.open("rootfs", "open_tree", AT_FDCWD, facts.rootfs, CLONE_TREE | AT_RECURSIVE)
    where = facts.place if facts.place and scope.takes_first else facts.rootfs
    place = plan.open("rootfs place", "openat2", AT_FDCWD, where, _HOST_PATH, len(_HOST_PATH))
    if scope.linux.get("maskedPaths"):
        scope.empty = make_empty(plan)
        plan.call("move_mount", scope.empty, "", place, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.call("move_mount", scope.root, "", place, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.close(place)
    _leave_group(scope)


def _leave_group(scope: Scope) -> None:
    """Unless it is to receive what is mounted below it on the host, the root leaves the host's peer group."""
    kind = scope.linux.get("rootfsPropagation") or "private"
    if not kind.endswith("slave"):
        scope.plan.at("/linux/rootfsPropagation", "make the root private")
        _propagate(scope, MS_PRIVATE, below=kind == "rprivate")


def propagate(scope: Scope) -> None:
    """linux.rootfsPropagation "shared" and "unbindable": after the pivot, because pivot_root(2) refuses a shared mount,
    and a copy could not be made of an unbindable one."""
    kind = scope.linux.get("rootfsPropagation") or ""
    flag, below = PROPAGATION.get(kind, (0, False))
    if flag in (MS_SHARED, MS_UNBINDABLE):
        scope.plan.at("/linux/rootfsPropagation", f"make the root {kind}")
        _propagate(scope, flag, below=below)


def _propagate(scope: Scope, flag: int, *, below: bool) -> None:
    attributes = MOUNT_ATTR.pack(0, 0, flag, 0)
    where = AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
    scope.plan.call("mount_setattr", scope.root, "", where, attributes, MOUNT_ATTR.size)


def make_empty(plan: Plan) -> Reg:
    """A detached, empty, readonly tmpfs."""
    context = plan.open("tmpfs", "fsopen", "tmpfs", FSOPEN_CLOEXEC)
    plan.call("fsconfig", context, FSCONFIG_CMD_CREATE, 0, 0, 0, log=True)
    flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    mount = plan.open("empty", "fsmount", context, FSMOUNT_CLOEXEC, flags, log=True)
    plan.close(context)
    return mount


def make_readonly(scope: Scope) -> None:
    """After all that creates mount points and devices. Adds one flag, so locked ones (nosuid …) stay."""
    if not scope.spec["root"].get("readonly"):
        return
    plan = scope.plan
    plan.at("/root/readonly", "make the root readonly")
    attributes = MOUNT_ATTR.pack(MOUNT_ATTR_RDONLY, 0, 0, 0)
    plan.call("mount_setattr", scope.root, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size)


def pivot(scope: Scope) -> None:
    """pivot_root(2), "pivot_root(".", ".")": the old root ends up over the new one and is taken off it.

    A mount namespace that is not the container's own keeps its root. The container's is a detached tree, above which
    there is nothing, so chroot(2) is enough: ".." does not lead out of it.
    """
    plan = scope.plan
    if "mount" not in scope.new:
        namespaces.join_mount(scope)
        plan.at("/root/path", "change the root")
        plan.call("fchdir", scope.root)
        plan.call("chroot", ".")
        plan.call("chdir", "/")
        return
    if scope.facts.unpivoted is not None:
        _move_over(scope, scope.facts.unpivoted)
        return
    plan.at("/root/path", "change the root")
    plan.call("fchdir", scope.root)
    plan.call("pivot_root", ".", ".")
    plan.call("umount2", ".", MNT_DETACH)
    plan.call("chdir", "/")


def _move_over(scope: Scope, places: tuple[str, ...]) -> None:
    """--no-pivot, for a host that runs from its initramfs, whose root no pivot_root(2) takes away: the container's is
    moved over it, and what is below stays in the namespace. No path leads there, but a process with CAP_SYS_ADMIN finds
    ways. Another procfs or sysfs, with nothing masked, would let it mount one like it: they are taken off.
    """
    plan = scope.plan
    if "user" in scope.namespaces:
        raise UnsupportedError(
            "--no-pivot with a user namespace",
            pointer=scope.namespaces["user"],
            hint="the host's procfs and sysfs could not be taken off",
        )
    plan.at("/root/path", "take the host's procfs and sysfs off")
    plan.unmounted = places
    for place in places:
        plan.call("umount2", place, MNT_DETACH)
    plan.at("/root/path", "change the root, without pivot_root")
    plan.call("fchdir", scope.root)
    plan.call("move_mount", scope.root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)
    plan.call("chroot", ".")
    plan.call("chdir", "/")


_HOST_PATH = (O_PATH | O_CLOEXEC).to_bytes(8, "little") + bytes(16)
