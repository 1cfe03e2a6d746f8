"""What a configuration asks for, as `verify` compares it with a plan (verify_asked).

Read from the configuration once more, and not by the modules that make the steps: what one of them forgets, or gets
wrong, shows. Only options of mounts and paths are parsed by the same code.
"""

from __future__ import annotations

from _struct import pack

from ocirt.config.names import CAPABILITIES, RLIMITS
from ocirt.plan.kernel import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    RLIMIT,
    S_IFCHR,
    S_IFIFO,
)
from ocirt.plan.options import PROPAGATION, parse_options
from ocirt.plan.paths import parts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.plan.scope import Scope

HOLDING = (
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW
)  # fmt: skip
"""The flags of a mount that take something from who is in the container."""
_HOSTS = {"proc": ("/proc", "pid"), "sysfs": ("/sys", "network"), "mqueue": ("/dev/mqueue", "ipc")}
_KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": 0o060000, "p": S_IFIFO}
_DEVICES = (("null", 259), ("zero", 261), ("full", 263), ("random", 264), ("urandom", 265), ("tty", 1280))
_NOTHING: dict[str, Any] = {}


class Asked:
    """What a program is to have, and no more.

    uid, gid       the program's
    groups         setgroups(2)'s list as the kernel takes it, or 0; None: they are kept
    bounding, ambient, rights     bit sets; rights are effective, permitted, inheritable
    highest        the kernel's highest capability
    no_new_privs   is it set?
    filter         (instructions, flags) or None
    limits         resource → struct rlimit64
    keyring        does it get a session keyring of its own?
    terminal       does it get one for stdin, stdout and stderr?
    mounts         None: there are none to make, and what follows means nothing. pointer → Mount
    rootfs, readonly_root         the root file system's path, and whether the root is to be readonly
    root_shares    the propagation of the root (MS_*)
    hidden         pointer → the path of each masked and readonly path, without its slash
    devices        (path, file type, device number) of each node
    """

    __slots__ = (
        "ambient",
        "bounding",
        "devices",
        "filter",
        "gid",
        "groups",
        "hidden",
        "highest",
        "keyring",
        "limits",
        "mounts",
        "no_new_privs",
        "readonly_root",
        "rights",
        "root_shares",
        "rootfs",
        "terminal",
        "uid",
    )

    def __init__(self, scope: Scope) -> None:
        process, facts = scope.process, scope.facts
        user = process["user"]
        self.uid, self.gid = user["uid"], user["gid"]
        groups = () if facts.groups_denied else user.get("additionalGids") or ()
        self.groups: bytes | int | None = None if scope.plan.keeps_groups else 0
        if groups and self.groups == 0:
            self.groups = pack(f"<{len(groups)}I", *groups)
        given = process.get("capabilities") or _NOTHING
        self.bounding = _bits(given.get("bounding"))
        permitted = _bits(given.get("permitted")) & scope.possible
        inheritable = _bits(given.get("inheritable")) & scope.possible & self.bounding
        self.rights = _bits(given.get("effective")) & permitted, permitted, inheritable
        self.ambient = _bits(given.get("ambient")) & permitted & inheritable
        self.highest = facts.last_capability
        self.no_new_privs = bool(process.get("noNewPrivileges"))
        self.filter = (facts.seccomp.program, facts.seccomp.flags) if facts.seccomp else None
        self.limits = {
            RLIMITS[limit["type"]]: RLIMIT.pack(limit["soft"], limit["hard"]) for limit in process.get("rlimits") or ()
        }
        self.keyring = facts.new_keyring
        self.terminal = bool(process.get("terminal"))
        self.mounts: dict[str, Mount] | None = None

    def add_mounts(self, scope: Scope) -> Asked:
        """Of a container's first process, which makes them."""
        spec, linux = scope.spec, scope.linux
        kind = linux.get("rootfsPropagation") or "private"
        self.root_shares = PROPAGATION[kind][0]
        self.rootfs, self.readonly_root = scope.facts.rootfs, bool(spec["root"].get("readonly"))
        self.hidden = {
            f"/linux/{name}/{index}": "/".join(parts_of(path))
            for name in ("readonlyPaths", "maskedPaths")
            for index, path in enumerate(linux.get(name) or ())
        }
        self.mounts = {}
        for index, mount in enumerate(spec.get("mounts") or ()):
            pointer = f"/mounts/{index}"
            self.mounts[pointer] = Mount(scope, mount, pointer)
        self.devices = {(f"dev/{name}", S_IFCHR, number) for name, number in _DEVICES}
        for device in linux.get("devices") or ():
            major, minor = (device["major"], device["minor"]) if device["type"] != "p" else (0, 0)
            number = minor & 0xFF | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12
            path = "/".join(parts_of(device["path"]))
            if device["type"] != "p":
                self.devices -= {one for one in self.devices if one[0] == path}
            self.devices.add((path, _KINDS[device["type"]], number))
        return self


class Mount:
    """One entry of `mounts`.

    kind       a file system's type, "bind", "cgroup" (several, one for each hierarchy), or "" for what is not compared
    source     of a bind mount: a path of the host
    where      its place in the root, without a slash at the beginning
    data       options of the file system: (key, value or None)
    put, cleared, below      flags to be set, that may be cleared, and to be set of what is mounted below it, too
    trees      of "cgroup": the options of each hierarchy, or its folder on the host → its place
    """

    __slots__ = ("below", "cleared", "data", "kind", "put", "source", "trees", "where")

    def __init__(self, scope: Scope, mount: dict[str, Any], pointer: str) -> None:
        options = parse_options(mount.get("options") or (), pointer)
        kind = mount.get("type") or ""
        self.where = "/".join(parts_of(mount["destination"]))
        self.put, self.below = options.set & HOLDING, options.below_set & HOLDING
        self.cleared = options.clear | options.below_clear
        self.data: list[tuple[str, str | None]] = []
        self.source = ""
        self.trees: dict[object, str] = {}
        if options.remount or (options.copy_symlink and mount["source"] in scope.facts.symlinks):
            self.kind = ""
        elif options.bind:
            source = mount["source"]
            self.kind, self.source = "bind", source if source[:1] == "/" else f"{scope.config.bundle}/{source}"
        elif kind == "cgroup":
            self.kind = kind
            for hierarchy in scope.facts.hierarchies:
                tree = tuple(hierarchy.options) if "cgroup" in scope.namespaces else hierarchy.source
                self.trees[tree] = self.where if scope.facts.pure_v2 else f"{self.where}/{hierarchy.name}"
        elif kind in _HOSTS and not _owns(scope, _HOSTS[kind][1]):
            self.kind, self.source = "bind", _HOSTS[kind][0]
        elif options.needs_mount2(mount.get("source") or kind):
            # With a label it is one more option among them.
            self.kind = "" if scope.linux.get("mountLabel") else kind
            self.data = [("mount(2)", options.for_mount2())]
        else:
            self.kind, self.data = kind, options.parameters()
            if "user" in scope.new and kind in ("devpts", "tmpfs"):
                self.data = [pair for pair in self.data if pair[0] not in ("uid", "gid") or _is_mapped(scope, *pair)]


def _is_mapped(scope: Scope, key: str, value: str | None) -> bool:
    """Whom the user namespace does not know can own nothing in it; what is no number, the kernel has to refuse."""
    if not value or not value.isdigit():
        return True
    return any(0 <= int(value) - one["containerID"] < one["size"] for one in scope.linux[f"{key}Mappings"])


def _owns(scope: Scope, kind: str) -> bool:
    """Can a new file system be made that shows the namespace of this kind?"""
    if "user" in scope.namespaces:
        return kind in (scope.new if "user" in scope.new else scope.namespaces)
    return kind in scope.namespaces or kind not in scope.facts.foreign


def _bits(names: list[str] | None) -> int:
    bits = 0
    for name in names or ():
        number = CAPABILITIES.get(name)
        if number is not None:
            bits |= 1 << number
    return bits
