"""Gather the facts about this host that a plan depends on."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import in_user_namespace, mount_point, read
from ocirt.config.read import absolute
from ocirt.errors import ConfigError
from ocirt.plan.facts import Facts, Hierarchy
from ocirt.state.process import status_field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cgroups.layout import Layout
    from ocirt.cgroups.manager import Cgroups
    from ocirt.config.read import Config


CAP_SYS_ADMIN = 1 << 21


def root_path(config: Config) -> str:
    """The root file system's absolute path, symlinks resolved. Raises ConfigError unless it is a directory."""
    path = config.spec["root"]["path"]
    try:
        return absolute(path if path.startswith("/") else f"{config.bundle}/{path}")
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}",
            pointer="/root/path",
            hint=f"expected the root file system's directory, relative to {config.bundle} or absolute",
            errno=error.errno or 0,
        ) from None


def bind_sources(config: Config, made: str = "") -> tuple[dict[str, bool], dict[str, str]]:
    """(each bind mount's source → is it a directory?, each that is a symlink and meant as such → what it says).

    Raises ConfigError for one that is not there. made: a folder that is going to be made.
    """
    directories, symlinks = {}, {}
    for index, mount in enumerate(config.spec.get("mounts") or ()):
        options = mount.get("options") or ()
        if ("bind" not in options and "rbind" not in options) or "remount" in options:
            continue
        source = mount["source"]
        path = source if source.startswith("/") else f"{config.bundle}/{source}"
        if made and source == made:
            directories[source] = True
            continue
        try:
            as_link = "copy-symlink" in options or "src-nofollow" in options
            if as_link and posix.lstat(path).st_mode & 0o170000 == 0o120000:
                symlinks[source] = posix.readlink(path)
                continue
            mode = posix.stat(path).st_mode
        except OSError as error:
            raise ConfigError(
                f"{source}: {error.strerror}",
                pointer=f"/mounts/{index}/source",
                hint="a bind mount's source must exist on the host",
                errno=error.errno or 0,
            ) from None
        directories[source] = mode & 0o170000 == 0o040000
    return directories, symlinks


def permitted_capabilities() -> int:
    """The bit set of our permitted capabilities (proc(5), status)."""
    return int(status_field("self", "CapPrm"), 16)


def hierarchies(layout: Layout, cgroups: Cgroups) -> tuple[Hierarchy, ...]:
    """The container's hierarchies as its cgroup mount shows them."""
    shown = []
    for name, controllers, v2, _, path in cgroups.shown():
        options: list[tuple[str, str | None]] = []
        for controller in controllers:
            if controller.startswith("name="):
                options += [("none", None), ("name", controller[5:])]
            else:
                options.append((controller, None))
        shown.append(Hierarchy("" if layout.pure_v2 else name, tuple(options), path, v2))
    return tuple(shown)


def namespaces(config: Config, descriptors: dict[str, int]) -> tuple[Sequence[str], Sequence[str]]:
    """(kinds of the namespaces that are joined, kinds that are listed and are our own)."""
    listed = config.spec["linux"].get("namespaces") or ()
    joined: Sequence[str] = ()
    shared: Sequence[str] = ()
    if any(one.get("path") for one in listed):
        from ocirt.host.namespaces import open_joined

        joined, shared = open_joined(listed, descriptors)
    own = {one["type"]: index for index, one in enumerate(listed) if one["type"] not in shared}
    if "mount" not in own or "mount" in joined:
        from ocirt.host.namespaces import check_mounts

        check_mounts(own, f"/linux/namespaces/{own['mount']}" if "mount" in own else "/linux/namespaces")
    return joined, shared


def kernels_mounts(rootfs: str) -> tuple[str, ...]:
    """Where a procfs or a sysfs is mounted outside the root file system, innermost first (proc(5), mountinfo)."""
    places = []
    for line in read("/proc/self/mountinfo").splitlines():
        place, kind = mount_point(line), line.partition(" - ")[2].split(" ")[0]
        if kind in ("proc", "sysfs") and not place.startswith(rootfs + "/"):
            places.append(place)
    return tuple(reversed(places))


def user_maps(config: Config, descriptors: dict[str, int]) -> int:
    """How many id maps mounts have: each is a user namespace, put into `descriptors`."""
    for mount in config.spec.get("mounts") or ():
        options = mount.get("options") or ()
        if mount.get("uidMappings") or mount.get("gidMappings") or any("idmap" in option for option in options):
            break
    else:
        return 0
    from ocirt.host.namespaces import open_user_namespace
    from ocirt.plan.idmaps import distinct

    maps = distinct(config.spec)
    for number, (pointer, (uids, gids)) in enumerate(maps):
        descriptors[f"user map {number}"] = open_user_namespace(uids, gids, pointer)
    return len(maps)


def gather(
    config: Config,
    container_id: str,
    layout: Layout,
    cgroups: Cgroups,
    *,
    permitted: int,
    wait_for_start: bool,
    window: tuple[int, int] | None = None,
    descriptors: dict[str, int],
    made: str = "",
    cached: bool = True,
    preserved: int = 0,
    listened: int = 0,
    new_keyring: bool = True,
    pivot: bool = True,
    traced: bool = False,
) -> Facts:
    """The facts for one container. Raises ConfigError where the configuration does not fit what is there.

    What the facts say is inherited, and had to be opened for them, is put into `descriptors`.
    permitted: our capabilities, a bit set.
    preserved: how many descriptors, from 3 on, are handed on to the program; listened, new_keyring: as
    Facts has it. pivot: by pivot_root(2)?
    made: a bind mount's source that the host is going to make.
    cached: may a compiled seccomp filter be taken from the cache, and put there?
    traced: does it ask a listener about what it denies (host.traced)?
    """
    machine = posix.uname().machine
    seccomp = None
    if (config.spec.get("linux") or {}).get("seccomp"):
        from ocirt.host.filters import filter_of

        seccomp = filter_of(config.spec, machine, cached=cached)
        if traced:
            from ocirt.host.traced import traced_filter

            seccomp = traced_filter(seccomp, config.spec["linux"]["seccomp"])
        if seccomp.listens:
            from ocirt.host.listener import make_words

            descriptors["words"] = make_words()
    modules: tuple[str, ...] = ()
    process, linux = config.spec["process"], config.spec.get("linux") or {}
    if process.get("apparmorProfile") or process.get("selinuxLabel") or linux.get("mountLabel"):
        from ocirt.host.lsm import security_modules

        modules = security_modules()
    joined, shared = namespaces(config, descriptors)
    nested = in_user_namespace()
    foreign: tuple[str, ...] = ()
    if nested:
        from ocirt.host.namespaces import not_owned

        foreign = not_owned()
    rootfs = root_path(config)
    place = ""
    if nested and permitted & CAP_SYS_ADMIN:
        from ocirt.host.namespaces import first_closed

        place = first_closed(rootfs)
    directories, symlinks = bind_sources(config, made)
    into_cgroup, attached_late = cgroups.joins(layout.pure_v2)
    unprivileged = not permitted & CAP_SYS_ADMIN
    groups_denied = False
    kept: dict[str, int] = {}
    if unprivileged:
        from ocirt.host.idmap import denies_groups
        from ocirt.host.locked import kept_flags

        groups_denied = "user" not in joined and denies_groups(linux)
        kept = kept_flags(config, directories)
    return Facts(
        machine=machine,
        container_id=container_id,
        rootfs=rootfs,
        directories=directories,
        symlinks=symlinks,
        last_capability=int(read("/proc/sys/kernel/cap_last_cap")),
        permitted=permitted,
        unprivileged=unprivileged,
        nested=nested,
        foreign=foreign,
        place=place,
        groups_denied=groups_denied,
        kept=kept,
        hierarchies=hierarchies(layout, cgroups),
        pure_v2=layout.pure_v2,
        into_cgroup=into_cgroup,
        attached_late=attached_late,
        joined=tuple(joined),
        shared=tuple(shared),
        security_modules=modules,
        preserved=preserved,
        listened=listened,
        new_keyring=new_keyring,
        unpivoted=None if pivot else kernels_mounts(rootfs),
        user_maps=user_maps(config, descriptors),
        wait_for_start=wait_for_start,
        window=window,
        seccomp=seccomp,
    )
