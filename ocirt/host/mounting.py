"""What init asks the host for while it mounts: to fill a tmpfs, to make a destination. Imported only when it asks."""

from __future__ import annotations

import posix

from ocirt.plan.tags import SYNC_COPY, SYNC_MAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def help_with(
    mounts: Sequence[dict[str, Any]], tag: int, pid: int, descriptors: list[int], directories: Mapping[str, bool]
) -> None:
    """`tag` is init's SYNC, with a mount's index in it; `descriptors` came before it, and are closed.

    Raises KernelError.
    """
    index = tag - (SYNC_MAKE if tag >= SYNC_MAKE else SYNC_COPY)
    mount, pointer = mounts[index], f"/mounts/{index}"
    try:
        if tag >= SYNC_MAKE:
            from ocirt.host.dangling import make

            directory = directories.get(mount["source"], False)  # a symlink that is meant as such is in none
            make(descriptors[0], mount["destination"], pointer, pid, directory=directory)
        else:
            from ocirt.host.copyup import fill

            fill(mount, pointer, pid, *descriptors)
    finally:
        while descriptors:
            posix.close(descriptors.pop())
