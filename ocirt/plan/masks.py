"""readonlyPaths and maskedPaths. A path that does not exist is skipped; nothing else is."""

from __future__ import annotations

from ocirt.errors import ConfigError
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    EINVAL,
    ENODEV,
    ENOENT,
    ENOTDIR,
    MOUNT_ATTR,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_BY_DESCRIPTOR,
    O_CLOEXEC,
    S_IFCHR,
    S_IFMT,
    STATX_BASIC_STATS,
    STATX_MODE_AT,
    STATX_RDEV_MAJOR_AT,
    STATX_RDEV_MINOR_AT,
    STATX_SIZE,
)
from ocirt.plan.paths import open_target, parts_of
from ocirt.plan.rootfs import CLONE_TREE
from ocirt.plan.step import Buffer, Field, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Plan, Reg

ABSENT = (ENOENT, ENOTDIR)
OTHER_KIND = (EINVAL, ENOTDIR)
"""What move_mount(2) answers to a file over a directory (do_move_mount: EINVAL; mount(2) has ENOTDIR for it)."""


def expect_device(plan: Plan, status: Buffer, major: int, minor: int, kind: int = S_IFCHR) -> None:
    """Fail unless the statx(2) result in `status` is of this device, a character device unless `kind` is another."""
    plan.expect(Field(status, STATX_MODE_AT), kind, mask=S_IFMT, width=2, errno=ENODEV)
    plan.expect(Field(status, STATX_RDEV_MAJOR_AT), major, width=4, errno=ENODEV)
    plan.expect(Field(status, STATX_RDEV_MINOR_AT), minor, width=4, errno=ENODEV)


def open_null(scope: Scope) -> None:
    """The host's /dev/null, which masks files: before the pivot, and only if it is the real one (CVE-2025-31133)."""
    if not scope.linux.get("maskedPaths"):
        return
    plan = scope.plan
    plan.at("/linux/maskedPaths", "open /dev/null of the host, character device 1:3")
    # Where the mounts are not our own, a copy of it: only these may be looked at. Elsewhere what is attached is copied.
    kind = O_CLOEXEC if "mount" in scope.new else CLONE_TREE
    scope.null = plan.open("null", "open_tree", AT_FDCWD, "/dev/null", kind)
    status = Buffer(STATX_SIZE)
    plan.call("statx", scope.null, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status)
    expect_device(plan, status, 1, 3)


def make_readonly(scope: Scope) -> None:
    """Each path bound onto itself, readonly."""
    plan = scope.plan
    for index, path in enumerate(scope.linux.get("readonlyPaths") or ()):
        _below_root(path, f"/linux/readonlyPaths/{index}", "/root/readonly makes all of it readonly")
        plan.at(f"/linux/readonlyPaths/{index}", f"make {path} readonly")
        absent = Label()
        target = open_target(plan, scope.root, path, ignore=ABSENT, absent=absent)
        copy = plan.open("copy", "open_tree", target, "", CLONE_TREE | AT_EMPTY_PATH | AT_RECURSIVE)
        attributes = MOUNT_ATTR.pack(MOUNT_ATTR_RDONLY, 0, 0, 0)
        plan.call("mount_setattr", copy, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size)
        plan.call("move_mount", copy, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
        plan.close(copy, target)
        plan.place(absent)


def mask(scope: Scope) -> None:
    """Each file hidden by /dev/null, each directory by the empty tmpfs.

    Which of the two a path is shows when /dev/null is moved onto it: over a directory that fails (and if
    it fails for another reason, so does the second attempt).
    One detached copy for each use, because a second move_mount would only move the first away.
    """
    plan = scope.plan
    for index, path in enumerate(scope.linux.get("maskedPaths") or ()):
        _below_root(path, f"/linux/maskedPaths/{index}", "nothing would be left")
        plan.at(f"/linux/maskedPaths/{index}", f"mask {path}")
        absent, directory, done = Label(), Label(), Label()
        target = open_target(plan, scope.root, path, ignore=ABSENT, absent=absent)
        copy = _copy(plan, scope.null)
        plan.call(
            "move_mount", copy, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR, ignore=OTHER_KIND, fail=directory, ok=done
        )
        plan.place(directory)
        plan.call("close", copy)
        plan.open(copy, "open_tree", scope.empty, "", CLONE_TREE | AT_EMPTY_PATH)
        plan.call("move_mount", copy, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
        plan.place(done)
        plan.close(copy, target)
        plan.place(absent)


def _below_root(path: str, pointer: str, hint: str) -> None:
    """What is mounted on the root covers nothing for who has that root already."""
    if not parts_of(path):
        raise ConfigError(f'expected a path below "/", got "{path}"', pointer=pointer, hint=hint)


def _copy(plan: Plan, mount: Reg) -> Reg:
    return plan.open("copy", "open_tree", mount, "", CLONE_TREE | AT_EMPTY_PATH)
