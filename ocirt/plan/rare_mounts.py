"""What few mounts ask for; imported only where one does.

mount(2) for what the new mount API cannot say, changes of what is mounted already, symlinks of the source or the
destination, and the host's part in filling a tmpfs.
"""

from __future__ import annotations

from ocirt.config.check_mounts import CONTEXT_TYPE
from ocirt.errors import ConfigError, UnsupportedError
from ocirt.plan.kernel import (
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    EEXIST,
    ENOENT,
    FSCONFIG_CMD_RECONFIGURE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSPICK_CLOEXEC,
    FSPICK_EMPTY_PATH,
    MNT_DETACH,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_RDONLY,
    OPEN_TREE_CLOEXEC,
)
from ocirt.plan.mounts import PSEUDO, change, copy, propagate
from ocirt.plan.options import MAX_DATA
from ocirt.plan.paths import make_target, open_target, parts_of
from ocirt.plan.rootfs import CLONE_TREE, ON_ROOT, cut_off
from ocirt.plan.step import Buffer, Field, Label
from ocirt.plan.tags import FD_COPY_FROM, FD_COPY_TO, SYNC_COPY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.options import Options
    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg


def create_by_mount2(scope: Scope, kind: str, source: str, options: Options, pointer: str) -> Reg:
    """A detached mount of a new file system, made by mount(2), which knows more flags and longer values.

    It needs a place. The root of our mount namespace is one that no image has a say in, and that all paths pass over:
    what is mounted on "/" covers nothing for who has that "/" as root already. A detached copy is taken from there, and
    the mount taken off, before it gets its flags and its place as every other.
    """
    plan = scope.plan
    data = options.for_mount2()
    if len(data.encode()) > MAX_DATA:
        raise ConfigError(
            f"expected at most {MAX_DATA} bytes of options, got {len(data.encode())}",
            pointer=pointer + "/options",
            hint="mount(2) takes one page",
        )
    if len(source.encode()) > MAX_DATA:
        raise ConfigError(f"expected at most {MAX_DATA} bytes, got more", pointer=pointer + "/source")
    if "mount" not in scope.new or (scope.takes_first and options.idmap):
        raise UnsupportedError(
            "options that only mount(2) takes need a mount namespace of the container's own, and cannot be had with an"
            " id map in a user namespace",
            pointer=pointer,
        )
    flags = options.flags
    if options.set & MOUNT_ATTR_RDONLY and kind not in PSEUDO:
        flags |= MS_RDONLY
    plan.call("mount", source, "/", kind, flags, data or 0)
    mount = plan.open("mount", "open_tree", AT_FDCWD, ON_ROOT, CLONE_TREE)
    plan.call("umount2", ON_ROOT, MNT_DETACH)
    return mount


def remount(scope: Scope, kind: str, destination: str, options: Options) -> None:
    """Change what an earlier mount put there: with "bind" the mount's own flags; without, the file system's too.

    Flags that are not named stay as they are (mount(2) would clear them; the locked ones of a user namespace it could
    not). What makes it readonly waits until mount points and devices are made.
    """
    plan = scope.plan
    if "mount" not in scope.new:
        raise UnsupportedError(
            '"remount" needs a mount namespace of the container\'s own',
            pointer=plan.pointer,
            hint='add {"type": "mount"}',
        )
    target = open_target(plan, scope.root, destination)
    parameters = [] if options.bind else options.parameters()
    if not options.bind and kind and kind not in PSEUDO:
        if options.set & MOUNT_ATTR_RDONLY:
            parameters = [*parameters, ("ro", None)]
        elif options.clear & MOUNT_ATTR_RDONLY:
            parameters = [*parameters, ("rw", None)]
    if parameters:
        context = plan.open("fs", "fspick", target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
        for key, value in parameters:
            if value is None:
                plan.call("fsconfig", context, FSCONFIG_SET_FLAG, key, 0, 0, log=True)
            else:
                plan.call("fsconfig", context, FSCONFIG_SET_STRING, key, value, 0, log=True)
        plan.call("fsconfig", context, FSCONFIG_CMD_RECONFIGURE, 0, 0, 0, log=True)
        plan.close(context)
    below = bool(options.below_set & MOUNT_ATTR_RDONLY)
    late = below or options.set & MOUNT_ATTR_RDONLY
    options.set &= ~MOUNT_ATTR_RDONLY
    options.below_set &= ~MOUNT_ATTR_RDONLY
    change(plan, target, options)
    propagate(plan, target, options)
    if late:
        scope.late_readonly.append((target, plan.pointer, plan.doing, below))
    else:
        plan.close(target)


def copy_symlink(scope: Scope, link: str, destination: str) -> None:
    """The link itself, made anew: one that is there already has to say the same."""
    plan = scope.plan
    *folders, name = parts_of(destination)
    parent = make_target(plan, scope.root, "/".join(folders), directory=True) if folders else scope.root
    made = Label()
    plan.call("symlinkat", link, parent, name, ignore=(EEXIST,), ok=made)
    content = link.encode()
    found = Buffer(len(content) // 8 * 8 + 8)  # the rest is zero, so a longer link shows as well
    plan.call("readlinkat", parent, name, found, found.size)
    content += bytes(found.size - len(content))
    for at in range(0, found.size, 8):
        plan.expect(Field(found, at), int.from_bytes(content[at : at + 8], "little"), errno=EEXIST)
    plan.place(made)
    if folders:
        plan.close(parent)


def target_itself(scope: Scope, destination: str) -> Reg:
    """A destination whose last part is not followed if it is a symlink; it has to exist.

    open_tree(2) without OPEN_TREE_CLONE is an open with O_PATH, and its AT_SYMLINK_NOFOLLOW the same on every machine.
    """
    plan = scope.plan
    *folders, name = parts_of(destination)
    parent = make_target(plan, scope.root, "/".join(folders), directory=True) if folders else scope.root
    target = plan.open("target", "open_tree", parent, name, OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW)
    if folders:
        plan.close(parent)
    return target


def fill(scope: Scope, mount: Reg, destination: str, pointer: str) -> None:
    """Let the host give a new tmpfs the mode of the directory that it is mounted on, or all of its content.

    Only if that directory is there. The host gets both as descriptors, so it needs no path, and init no loop.
    """
    plan = scope.plan
    absent = Label()
    directory = open_target(plan, scope.root, destination, ignore=(ENOENT,), absent=absent)
    plan.send_descriptor(directory, FD_COPY_FROM)
    plan.send_descriptor(mount, FD_COPY_TO)
    plan.sync(SYNC_COPY + int(pointer.rpartition("/")[2]))
    plan.close(directory)
    plan.place(absent)


_UNLABELLED = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")
"""They have the policy's labels (mqueue's own is an attribute of its root, which a container may not need)."""


def label(scope: Scope, kind: str, options: Options) -> None:
    """linux.mountLabel as a file system's option: "context", or what crun's annotation says, unless it has one."""
    if "selinux" not in scope.facts.security_modules or kind in _UNLABELLED:
        return
    if not any(key.endswith("context") for key, _ in options.data):
        annotations = scope.spec.get("annotations") or {}
        name = annotations.get(CONTEXT_TYPE) or "context"
        options.data = [*options.data, (name, scope.linux["mountLabel"])]


def fit_user_namespace(scope: Scope, kind: str, options: Options, pointer: str) -> None:
    """devpts: gid=5, which every engine writes, is refused in a user namespace that does not map it; and so is every
    owner of a tmpfs, who could not be anybody there."""
    if "user" not in scope.new:
        return  # a joined one's map is not known
    from ocirt.config.check_namespaces import host_id

    for key, value in options.data:
        if key not in ("uid", "gid") or not value or not value.isdigit():
            continue
        if host_id(scope.linux[f"{key}Mappings"], int(value)) is None:
            options.data = [pair for pair in options.data if pair[0] != key]
            scope.warnings.append(f"{pointer}/options: {key}={value} is not mapped in the user namespace: ignored")


_HOSTS = {"proc": ("/proc", "pid"), "sysfs": ("/sys", "network"), "mqueue": ("/dev/mqueue", "ipc")}


def take_hosts(scope: Scope, kind: str, options: Options, pointer: str) -> None:
    """The host's own, with all that is mounted below: a new one shows a namespace, which has to be the user namespace's
    own. /sys becomes readonly, because it shows what is the host's."""
    path, owner = _HOSTS[kind]
    doing = f"{kind} in a user namespace needs a new {owner} namespace: take the host's {path} instead"
    scope.plan.at(pointer, doing)
    options.recursive = True
    if kind == "sysfs":
        options.below_set |= MOUNT_ATTR_RDONLY
    scope.taken[pointer] = copy(scope, path, options)
    cut_off(scope, scope.taken[pointer])
    scope.warnings.append(
        f"{pointer}: {kind} in a user namespace needs a new {owner} namespace: the host's {path} instead"
        + (", readonly" if kind == "sysfs" else "")
    )


_LOCKED = {
    "ro": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
}


def keep_locked(scope: Scope, source: str, options: Options, pointer: str) -> None:
    """What the source's mount has and fewer rights cannot take from its copy stays; nor does the way of access times
    change (mount_namespaces(7))."""
    kept = scope.facts.kept[source]
    names = [name for name, flag in _LOCKED.items() if (options.clear | options.below_clear) & kept & flag]
    both = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME
    wanted = kept & both & ~(options.clear | options.below_clear) | (options.set | options.below_set) & both
    if wanted != kept & both:
        names.append("the way of access times")
        options.set &= ~both
        options.below_set &= ~both
        options.clear &= ~both
        options.below_clear &= ~both
    for name in names:
        options.clear &= ~_LOCKED.get(name, 0)
        options.below_clear &= ~_LOCKED.get(name, 0)
    if names:
        stays = "stays" if len(names) == 1 else "stay"
        scope.warnings.append(f"{pointer}/options: {', '.join(names)} {stays} as {source} has it: locked for a user")
