"""Gather the facts about this host that a plan depends on."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import read
from ocirt.config.load import absolute
from ocirt.errors import ConfigError
from ocirt.plan.facts import Facts, Hierarchy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.cgroups.layout import Layout
    from ocirt.cgroups.manager import Cgroups
    from ocirt.config.load import Config


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


def bind_sources(config: Config) -> dict[str, bool]:
    """Each bind mount's source → is it a directory? Raises ConfigError for one that is not there."""
    directories = {}
    for index, mount in enumerate(config.spec.get("mounts") or ()):
        options = mount.get("options") or ()
        if "bind" not in options and "rbind" not in options:
            continue
        source = mount["source"]
        try:
            mode = posix.stat(source if source.startswith("/") else f"{config.bundle}/{source}").st_mode
        except OSError as error:
            raise ConfigError(
                f"{source}: {error.strerror}",
                pointer=f"/mounts/{index}/source",
                hint="a bind mount's source must exist on the host",
                errno=error.errno or 0,
            ) from None
        directories[source] = mode & 0o170000 == 0o040000
    return directories


def permitted_capabilities() -> int:
    """The bit set of our permitted capabilities (proc(5), status)."""
    status = read("/proc/self/status")
    at = status.index("CapPrm:") + 7
    return int(status[at : status.index("\n", at)], 16)


def hierarchies(layout: Layout, cgroups: Cgroups) -> tuple[Hierarchy, ...]:
    """The container's hierarchies as its cgroup mount shows them."""
    shown = []
    for name, controllers, v2, _, path in cgroups.places:
        options: list[tuple[str, str | None]] = []
        for controller in controllers:
            if controller.startswith("name="):
                options += [("none", None), ("name", controller[5:])]
            else:
                options.append((controller, None))
        shown.append(Hierarchy("" if layout.pure_v2 else name, tuple(options), path, v2))
    return tuple(shown)


def gather(
    config: Config,
    container_id: str,
    layout: Layout,
    cgroups: Cgroups,
    *,
    wait_for_start: bool,
    window: tuple[int, int] | None = None,
) -> Facts:
    """The facts for one container. Raises ConfigError where the configuration does not fit what is there."""
    return Facts(
        machine=posix.uname().machine,
        container_id=container_id,
        rootfs=root_path(config),
        directories=bind_sources(config),
        last_capability=int(read("/proc/sys/kernel/cap_last_cap")),
        permitted=permitted_capabilities(),
        hierarchies=hierarchies(layout, cgroups),
        pure_v2=layout.pure_v2,
        into_cgroup=layout.pure_v2,
        attached_late=not layout.pure_v2,
        wait_for_start=wait_for_start,
        window=window,
    )
