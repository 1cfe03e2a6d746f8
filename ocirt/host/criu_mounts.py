"""What of a container's mounts CRIU does not save, because it is the host's: names for it, and what is mounted there.

CRIU saves and restores mounts of file systems that it knows (tmpfs with all that is in it, proc, sysfs, devpts, mqueue)
and binds of these. A mount of anything else is external: at the dump it gets a key, and who restores says what to mount
for the key. Keys are the destinations as the configuration writes them: as runc's, where no symlink is on the way.
"""

from __future__ import annotations

import posix

from ocirt._sys import openat2
from ocirt.plan.devices import DEFAULT_DEVICES
from ocirt.plan.kernel import O_PATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

NULL = "/dev/null"
"""The key of every file that is masked."""
IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_CGROUPS = ("cgroup", "cgroup2")


class Mount:
    """A line of mountinfo (proc_pid_mountinfo(5)): where, of what kind, and which folder of that file system."""

    __slots__ = ("kind", "point", "root")

    def __init__(self, point: str, kind: str, root: str = "/") -> None:
        self.point = point
        self.kind = kind
        self.root = root


def parse(mountinfo: str) -> list[Mount]:
    mounts = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        mounts.append(Mount(_plain(fields[4]), after.partition(" ")[0], _plain(fields[3])))
    return mounts


def _plain(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal numbers."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def found_in(root: int) -> Callable[[str], str]:
    """A function: path in the container whose root is open there → the same without symlinks; "" if it is not there."""

    def find(path: str) -> str:
        try:
            fd = openat2(root, path, O_PATH, IN_ROOT)
        except OSError:
            return ""
        try:
            return posix.readlink(f"/proc/self/fd/{fd}")
        finally:
            posix.close(fd)

    return find


def is_bind(mount: dict[str, Any]) -> bool:
    options = mount.get("options") or ()
    return ("bind" in options or "rbind" in options) and "remount" not in options


def external(spec: dict[str, Any], mounts: Sequence[Mount], find: Callable[[str], str]) -> dict[str, str]:
    """Mount point → key of those of a container's `mounts` that are external. find: as found_in has it."""
    points = [mount.point for mount in mounts]
    keys: dict[str, str] = {}
    own = _own(spec, find)
    for point in points:
        # What is mounted below the source comes along with rbind.
        at = max((folder for folder in own if _is_below(point, folder)), key=len, default="")
        key = own.get(at)
        if key is not None:
            keys[point] = key.rstrip("/") + point[len(at) :]
    linux = spec.get("linux") or {}
    for path in linux.get("maskedPaths") or ():
        at = find(path)
        if any(mount.point == at and mount.root == "/null" for mount in mounts):
            keys[at] = NULL
    if not has_cgroup_namespace(spec):
        keys |= {mount.point: mount.point for mount in mounts if mount.kind in _CGROUPS}
    keys |= {path: path for path in device_paths(spec) if path in points}
    return keys


def _own(spec: dict[str, Any], find: Callable[[str], str]) -> dict[str, str | None]:
    """Where the configuration mounts something → the key if that is a bind, None if CRIU saves it."""
    own: dict[str, str | None] = {}
    for mount in spec.get("mounts") or ():
        if "remount" not in (mount.get("options") or ()):
            at = find(mount["destination"])
            if at != "/":
                own[at] = mount["destination"] if is_bind(mount) else None
    return own | {find(path): None for path in (spec.get("linux") or {}).get("maskedPaths") or ()}


def _is_below(path: str, folder: str) -> bool:
    """Or is it the same?"""
    return bool(folder) and f"{path}/".startswith(folder.rstrip("/") + "/")


def has_cgroup_namespace(spec: dict[str, Any]) -> bool:
    """Without one the cgroup file systems inside are binds of the host's."""
    return any(one["type"] == "cgroup" for one in (spec.get("linux") or {}).get("namespaces") or ())


def device_paths(spec: dict[str, Any]) -> list[str]:
    """Nodes that are bind mounts in a container with a user namespace, which can make none."""
    return [
        *(f"/dev/{name}" for name, _, _ in DEFAULT_DEVICES),
        *(device["path"] for device in (spec.get("linux") or {}).get("devices") or ()),
    ]


def sources(
    spec: dict[str, Any], bundle: str, host_mounts: Sequence[Mount], cgroups: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Key → what to mount on the host for it. cgroups: (hierarchy's folder, the container's cgroup in it)."""
    found = {NULL: NULL, **{path: path for path in device_paths(spec)}}
    for mount in spec.get("mounts") or ():
        if is_bind(mount):
            source = source_of(mount, bundle)
            key = mount["destination"].rstrip("/")
            found[key] = source
            for one in host_mounts:
                if _is_below(one.point, source):
                    found.setdefault(key + one.point[len(source.rstrip("/")) :], one.point)
            for path in (spec.get("linux") or {}).get("readonlyPaths") or ():
                if _is_below(path, mount["destination"]):  # is bound onto itself
                    found.setdefault(path, source.rstrip("/") + path[len(key) :])
        elif mount.get("type") in _CGROUPS and not has_cgroup_namespace(spec):
            for name, path in cgroups:
                found[f"{mount['destination'].rstrip('/')}/{name}".rstrip("/")] = path
    return found


def source_of(mount: dict[str, Any], bundle: str) -> str:
    """A bind mount's source, counted from the bundle."""
    source: str = mount["source"]
    return source if source.startswith("/") else f"{bundle}/{source}"


def on_tmpfs(destination: str, mounts: Sequence[dict[str, Any]]) -> bool:
    """Is it below a tmpfs of the configuration's? CRIU brings that back with all its folders."""
    return any(
        mount.get("type") == "tmpfs"
        and not is_bind(mount)
        and f"{destination}/".startswith(mount["destination"].rstrip("/") + "/")
        and destination.rstrip("/") != mount["destination"].rstrip("/")
        for mount in mounts
    )
