"""What init asks the host for while it mounts: to fill a tmpfs, to make a destination. Imported only when it asks."""

from __future__ import annotations

import posix

from ocirt.errors import EPERM, KernelError
from ocirt.plan.tags import SYNC_COPY, SYNC_MAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def help_with(
    mounts: Sequence[dict[str, Any]],
    tag: int,
    pid: int,
    descriptors: list[int],
    directories: Mapping[str, bool],
    *,
    unprivileged: bool,
) -> None:
    """`tag` is init's SYNC, with a mount's index in it; `descriptors` came before it, and are closed. unprivileged: an
    ordinary user can only do it from inside the container's user namespace.

    Raises KernelError.
    """
    index = tag - (SYNC_MAKE if tag >= SYNC_MAKE else SYNC_COPY)
    mount, pointer = mounts[index], f"/mounts/{index}"
    try:
        if unprivileged and not (tag < SYNC_MAKE and _set_mode(mount, pointer, descriptors)):
            from ocirt.host.inside import help_inside

            work: dict[str, Any] = {"mount": mount, "pointer": pointer}
            if tag >= SYNC_MAKE:
                work["directory"] = directories.get(mount["source"], False)
            help_inside(pid, descriptors, work)
        elif tag >= SYNC_MAKE and not unprivileged:
            from ocirt.host.dangling import make

            directory = directories.get(mount["source"], False)  # a symlink that is meant as such is in none
            make(descriptors[0], mount["destination"], pointer, pid, directory=directory)
        elif not unprivileged:
            from ocirt.host.copyup import fill

            fill(mount, pointer, pid, *descriptors)
    finally:
        while descriptors:
            posix.close(descriptors.pop())


def _set_mode(mount: dict[str, Any], pointer: str, descriptors: list[int]) -> bool:
    """Of a new tmpfs, which is all there is to do without "tmpcopyup". Its owner may, who is the caller mostly."""
    if "tmpcopyup" in (mount.get("options") or ()):
        return False
    from ocirt.host.copyup import fill

    try:
        fill(mount, pointer, 0, *descriptors)
    except KernelError as error:
        if error.errno == EPERM:
            return False
        raise
    return True
