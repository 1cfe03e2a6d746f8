"""The mounts of the configuration, in its order, by the new mount API.

A file system is made detached (fsopen, fsconfig, fsmount), a bind mount as a detached copy (open_tree): with all its
flags on before anyone can see it, and then moved onto a descriptor of its destination.
"""

from __future__ import annotations

from ocirt.errors import ConfigError
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    EEXIST,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOUNT_ATTR,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_BY_DESCRIPTOR,
    MS_SHARED,
)
from ocirt.plan.options import Options, ignored_by_bind, parse_options
from ocirt.plan.paths import HOW_SIZE, IN_ROOT, IN_ROOT_NO_SYMLINKS, make_target, parts_of
from ocirt.plan.rootfs import CLONE_TREE, cut_off
from ocirt.plan.tags import SYNC_MAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.plan.facts import Hierarchy
    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Own, Plan, Reg

_OWNERS = {"proc": "pid", "sysfs": "network", "mqueue": "ipc"}
"""Which namespace must be the user namespace's own for these to be mounted in it."""
# Their super block is the kernel's or shared: only the mount itself is made readonly.
PSEUDO = frozenset(("proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2", "tmpfs"))


def mount_all(scope: Scope) -> None:
    if scope.linux.get("mountLabel") and "selinux" not in scope.facts.security_modules:
        scope.warnings.append("/linux/mountLabel: SELinux is not enabled on this host: ignored")
    for index, mount in enumerate(scope.spec.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        options = _options(mount, pointer)
        if not parts_of(mount["destination"]):
            raise ConfigError(
                'expected a path below "/"', pointer=pointer + "/destination", hint="the root is /root/path"
            )
        _mount(scope, mount, options, pointer)
    if scope.facts.user_maps and not scope.takes_first:
        _close_maps(scope)


def clipped(text: str, most: int = 200) -> str:
    """For people: an overlay's options can be a page long."""
    return text if len(text) <= most else text[:most] + "…"


def _options(mount: dict[str, Any], pointer: str) -> Options:
    options = parse_options(mount.get("options") or (), pointer)
    if mount.get("uidMappings") or mount.get("gidMappings"):
        options.idmap = True
    return options


def _warn_of_flags(scope: Scope, listed: list[str], pointer: str) -> None:
    for at in ignored_by_bind(listed):
        scope.warnings.append(
            f'{pointer}/options/{at}: "{listed[at]}" belongs to a file system, and what is bound is mounted'
            " already: ignored"
        )


def _mount(scope: Scope, mount: dict[str, Any], options: Options, pointer: str) -> None:
    kind = mount.get("type") or ""
    destination = mount["destination"]
    listed = f" ({clipped(','.join(mount['options']))})" if mount.get("options") else ""
    if options.bind and (options.flags or options.data):
        _warn_of_flags(scope, mount["options"], pointer)
    if options.remount:
        from ocirt.plan.rare_mounts import remount

        scope.plan.at(pointer, f"remount {destination}{listed}")
        remount(scope, kind, destination, options)
    elif options.bind:
        scope.plan.at(pointer, f"bind {mount['source']} on {destination}{listed}")
        _bind(scope, mount["source"], destination, options, pointer)
    elif kind == "cgroup":
        scope.plan.at(pointer, f"mount cgroup on {destination}{listed}")
        _cgroup(scope, destination, options, pointer)
    else:
        source = mount.get("source") or kind
        named = kind if source == kind else f"{kind} {source}"
        scope.plan.at(pointer, f"mount {named} on {destination}{listed}")
        _file_system(scope, kind, source, destination, options, pointer)


def _file_system(scope: Scope, kind: str, source: str, destination: str, options: Options, pointer: str) -> None:
    plan = scope.plan
    if options.copy_up and kind != "tmpfs":
        at = scope.spec["mounts"][int(pointer.rpartition("/")[2])]["options"].index("tmpcopyup")
        raise ConfigError('the mount option "tmpcopyup" is for tmpfs', pointer=f"{pointer}/options/{at}")
    how = IN_ROOT
    if kind in ("proc", "sysfs"):
        # A symlink here would let the image choose what the runtime takes for /proc (CVE-2019-19921).
        how = IN_ROOT_NO_SYMLINKS
    # Mount points and devices are still to come, so these are made readonly when all is there.
    late_readonly = kind == "tmpfs" and options.set & MOUNT_ATTR_RDONLY
    if late_readonly:
        options.set &= ~MOUNT_ATTR_RDONLY
    mount = scope.taken.pop(pointer, None) or _new(scope, kind, source, options, pointer)
    if kind == "tmpfs" and (options.copy_up or not any(key == "mode" for key, _ in options.data)):
        from ocirt.plan.rare_mounts import fill

        fill(scope, mount, destination, pointer)
    _put(scope, mount, destination, options, how=how)
    if late_readonly:
        scope.late_readonly.append((mount, plan.pointer, plan.doing, False))
    else:
        plan.close(mount)


def _new(scope: Scope, kind: str, source: str, options: Options, pointer: str) -> Reg:
    """A detached mount of a new file system, with all its flags, and its id map if it has one."""
    if scope.linux.get("mountLabel"):
        from ocirt.plan.rare_mounts import label

        label(scope, kind, options)
    if kind in ("devpts", "tmpfs") and options.data and "user" in scope.namespaces:
        from ocirt.plan.rare_mounts import fit_user_namespace

        fit_user_namespace(scope, kind, options, pointer)
    if options.needs_mount2(source):
        from ocirt.plan.rare_mounts import create_by_mount2

        mount = create_by_mount2(scope, kind, source, options, pointer)
        change(scope.plan, mount, options)
    else:
        data = options.parameters()
        if options.set & MOUNT_ATTR_RDONLY and kind not in PSEUDO:
            data = [*data, ("ro", None)]
        mount = create(scope, kind, source, data, options.set)
    _map_ids(scope, mount, options, pointer)
    return mount


def _map_ids(scope: Scope, tree: Reg, options: Options, pointer: str) -> None:
    if options.idmap:
        from ocirt.plan.idmaps import apply

        apply(scope, tree, pointer, below=options.idmap_below)


def create(scope: Scope, kind: str, source: str, data: list[tuple[str, str | None]], flags: int) -> Reg:
    """A detached mount of a new file system."""
    plan = scope.plan
    context = plan.open("fs", "fsopen", kind, FSOPEN_CLOEXEC)
    plan.call("fsconfig", context, FSCONFIG_SET_STRING, "source", source, 0, log=True)
    for key, value in data:
        if value is None:
            plan.call("fsconfig", context, FSCONFIG_SET_FLAG, key, 0, 0, log=True)
        else:
            plan.call("fsconfig", context, FSCONFIG_SET_STRING, key, value, 0, log=True)
    plan.call("fsconfig", context, FSCONFIG_CMD_CREATE, 0, 0, 0, log=True)
    mount = plan.open("mount", "fsmount", context, FSMOUNT_CLOEXEC, flags, log=True)
    plan.close(context)
    return mount


def copy(scope: Scope, source: str | Own, options: Options) -> Reg:
    """A detached copy of what is mounted at `source`, a path on the host: before the pivot, therefore."""
    plan = scope.plan
    tree = CLONE_TREE | (AT_RECURSIVE if options.recursive else 0)
    if options.source_nofollow:
        tree |= AT_SYMLINK_NOFOLLOW
    mount = plan.open("mount", "open_tree", AT_FDCWD, source, tree)
    change(plan, mount, options)
    return mount


def change(plan: Plan, mount: Reg, options: Options) -> None:
    """The flags of the mount, then of all below it. Only what is named changes: others, such as those that are locked
    in a user namespace, stay."""
    if options.set or options.clear:
        attributes = MOUNT_ATTR.pack(options.set, options.clear, 0, 0)
        plan.call("mount_setattr", mount, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size)
    if options.below_set or options.below_clear:
        attributes = MOUNT_ATTR.pack(options.below_set, options.below_clear, 0, 0)
        plan.call("mount_setattr", mount, "", AT_EMPTY_PATH | AT_RECURSIVE, attributes, MOUNT_ATTR.size)


def take_all(scope: Scope) -> None:
    """What is the host's, before the user namespace is entered: the rights of its root do not reach the sources of bind
    mounts, and a copy of some other mount namespace's mount could not be made later. File systems that get an id map,
    too, because those of a user namespace's own cannot have one."""
    plan = scope.plan
    for index, mount in enumerate(scope.spec.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        options = _options(mount, pointer)
        kind = mount.get("type") or ""
        if options.remount or _is_link(scope, mount, options):
            continue
        if options.bind:
            plan.at(pointer, f"take {mount['source']} from the host")
            _take(scope, mount, options, pointer)
            cut_off(scope, scope.taken[pointer])
        elif kind == "cgroup" and "cgroup" not in scope.namespaces:
            for hierarchy in scope.facts.hierarchies:
                plan.at(pointer, f"take cgroup {hierarchy.name} from the host")
                taken = scope.taken[f"{pointer} {hierarchy.name}"] = _shown(scope, hierarchy, options)
                cut_off(scope, taken)
        elif kind in _OWNERS and not owns(scope, _OWNERS[kind]):
            from ocirt.plan.rare_mounts import take_hosts

            take_hosts(scope, kind, options, pointer)
        elif options.idmap:
            plan.at(pointer, f"make {kind} with an id map")
            if kind == "tmpfs":
                options.set &= ~MOUNT_ATTR_RDONLY  # later
            scope.taken[pointer] = _new(scope, kind, mount.get("source") or kind, options, pointer)
    _close_maps(scope)


def owns(scope: Scope, kind: str) -> bool:
    """Can the container's user namespace own its namespace of this kind? A joined one may, what is joined with it."""
    if "user" not in scope.namespaces:
        return kind in scope.namespaces or kind not in scope.facts.foreign
    return kind in (scope.new if "user" in scope.new else scope.namespaces)


def take_hosts(scope: Scope) -> None:
    """In a user namespace of the caller's, what its root may not mount anew."""
    for index, mount in enumerate(scope.spec.get("mounts") or ()):
        kind = mount.get("type") or ""
        pointer = f"/mounts/{index}"
        options = _options(mount, pointer)
        if kind in _OWNERS and not options.bind and not options.remount and not owns(scope, _OWNERS[kind]):
            from ocirt.plan.rare_mounts import take_hosts

            take_hosts(scope, kind, options, pointer)


def _take(scope: Scope, mount: dict[str, Any], options: Options, pointer: str) -> None:
    if mount["source"] in scope.facts.kept:
        from ocirt.plan.rare_mounts import keep_locked

        keep_locked(scope, mount["source"], options, pointer)
    taken = scope.taken[pointer] = copy(scope, _on_host(scope, mount["source"]), options)
    _map_ids(scope, taken, options, pointer)


def _close_maps(scope: Scope) -> None:
    """Once, when every mount has its map."""
    scope.plan.at("/mounts", "close the id maps")
    for number in range(scope.facts.user_maps):
        scope.plan.call("close", scope.inherited[f"user map {number}"])


def take_shared(scope: Scope) -> None:
    """The sources of bind mounts that are to share events with the host, in both directions: the option "shared", and
    rootfsPropagation "shared". Their copies are made before the namespace is cut off, as peers of the host's mounts.

    No user namespace may do that: its mounts are slaves at best (mount_namespaces(7)).
    """
    if scope.takes_first or "mount" not in scope.new:
        return
    for index, mount in enumerate(scope.spec.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        options = _options(mount, pointer)
        if options.bind and not options.remount and any(flag == MS_SHARED for flag, _ in options.propagation):
            scope.plan.at(pointer, f"take {mount['source']} from the host, shared")
            scope.plan.shared.add(pointer)
            _take(scope, mount, options, pointer)


def _on_host(scope: Scope, source: str) -> str:
    return source if source.startswith("/") else f"{scope.config.bundle}/{source}"


def _bind(scope: Scope, source: str, destination: str, options: Options, pointer: str) -> None:
    link = scope.facts.symlinks.get(source)
    if link is not None and options.copy_symlink:
        from ocirt.plan.rare_mounts import copy_symlink

        copy_symlink(scope, link, destination)
        return
    directory = not (link is not None and options.source_nofollow) and scope.facts.directories[source]
    mount = scope.taken.pop(pointer, None)
    if mount is None:
        mount = copy(scope, _on_host(scope, source), options)
        _map_ids(scope, mount, options, pointer)
    # Files that engines bind, such as /etc/resolv.conf, are symlinks to what only a running system has.
    ask = SYNC_MAKE + int(pointer.rpartition("/")[2])
    _put(scope, mount, destination, options, directory=directory, ask=ask)
    scope.plan.close(mount)


def _is_link(scope: Scope, mount: dict[str, Any], options: Options) -> bool:
    return options.copy_symlink and mount["source"] in scope.facts.symlinks


def _put(
    scope: Scope,
    mount: Reg,
    destination: str,
    options: Options,
    *,
    directory: bool = True,
    how: bytes = IN_ROOT,
    ask: int = 0,
) -> None:
    """Move a detached mount onto its destination, then set its propagation (never together with other flags)."""
    plan = scope.plan
    if options.target_nofollow:
        from ocirt.plan.rare_mounts import target_itself

        target = target_itself(scope, destination)
    else:
        target = make_target(plan, scope.root, destination, directory=directory, how=how, ask=ask)
    if "mount" not in scope.new:  # in a detached tree only what is not attached yet can be changed
        propagate(plan, mount, options)
    plan.call("move_mount", mount, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.close(target)
    if "mount" in scope.new:
        propagate(plan, mount, options)


def propagate(plan: Plan, mount: Reg, options: Options) -> None:
    for propagation, recursive in options.propagation:
        attributes = MOUNT_ATTR.pack(0, 0, propagation, 0)
        where = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        plan.call("mount_setattr", mount, "", where, attributes, MOUNT_ATTR.size)


def _cgroup(scope: Scope, destination: str, options: Options, pointer: str) -> None:
    """The cgroup hierarchies: v2's one mount, or on v1 and hybrid hosts a tmpfs with one mount for each."""
    scope.meet_cgroups()
    plan, facts = scope.plan, scope.facts
    plan.at(pointer, f"mount cgroup on {destination}")
    if facts.pure_v2:
        for hierarchy in facts.hierarchies:
            mount = _hierarchy(scope, hierarchy, options, pointer)
            _put(scope, mount, destination, options)
            plan.close(mount)
        return
    base = create(scope, "tmpfs", "tmpfs", [("mode", "755")], options.set & ~MOUNT_ATTR_RDONLY)
    _put(scope, base, destination, options)
    for hierarchy in facts.hierarchies:
        plan.at(pointer, f"mount cgroup {hierarchy.name} on {destination}/{hierarchy.name}")
        mount = _hierarchy(scope, hierarchy, options, pointer)
        plan.call("mkdirat", base, hierarchy.name, 0o755)
        target = plan.open("target", "openat2", base, hierarchy.name, IN_ROOT, HOW_SIZE)
        plan.call("move_mount", mount, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
        plan.close(target, mount)
        if "," in hierarchy.name:  # "cpu" is a link to "cpu,cpuacct"
            for controller in hierarchy.name.split(","):
                plan.call("symlinkat", hierarchy.name, base, controller, ignore=(EEXIST,))
    if options.set & MOUNT_ATTR_RDONLY:
        _make_readonly(scope, base)
    plan.close(base)


def _make_readonly(scope: Scope, mount: Reg, *, below: bool = False) -> None:
    """One that is attached. In a detached tree by a readonly copy of it and of what lies in it, mounted over it."""
    plan = scope.plan
    attributes = MOUNT_ATTR.pack(MOUNT_ATTR_RDONLY, 0, 0, 0)
    if "mount" in scope.new:
        where = AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
        plan.call("mount_setattr", mount, "", where, attributes, MOUNT_ATTR.size)
        return
    over = plan.open("copy", "open_tree", mount, "", CLONE_TREE | AT_EMPTY_PATH | AT_RECURSIVE)
    plan.call("mount_setattr", over, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR.size)
    plan.call("move_mount", over, "", mount, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.close(over)


def _hierarchy(scope: Scope, hierarchy: Hierarchy, options: Options, pointer: str) -> Reg:
    """With a cgroup namespace a new mount, whose root is the container's cgroup; without, a copy of that folder."""
    if "cgroup" in scope.namespaces:
        kind = "cgroup2" if hierarchy.v2 else "cgroup"
        return create(scope, kind, "cgroup", list(hierarchy.options), options.set)
    taken = scope.taken.pop(f"{pointer} {hierarchy.name}", None)
    return taken or _shown(scope, hierarchy, options)


def _shown(scope: Scope, hierarchy: Hierarchy, options: Options) -> Reg:
    """A copy of the container's own cgroup, with the flags alone."""
    shown = Options()
    shown.set, shown.clear = options.set, options.clear
    return copy(scope, scope.plan.own(f"cgroup {hierarchy.name}", hierarchy.source), shown)


def finish_readonly(scope: Scope) -> None:
    """What had to stay writable while mount points and devices were made."""
    plan = scope.plan
    for mount, pointer, doing, below in scope.late_readonly:
        plan.at(pointer, doing)
        _make_readonly(scope, mount, below=below)
        plan.close(mount)
