"""What sandboxes need of this host, looked at once, when the keeper starts: its rights and its cgroup controllers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocirt.cgroups.layout import exists, in_user_namespace, read
from ocirt.errors import Error
from ocirt.host.facts import CAP_SYS_ADMIN, permitted_capabilities

if TYPE_CHECKING:
    from ocirt.cgroups.layout import Layout

NEEDED = {"memory": "/linux/resources/memory/limit", "pids": "/linux/resources/pids/limit"}
"""Controller → which value of a sandbox's configuration needs it. A sandbox without limits would be none."""


def check_rights() -> None:
    """Raises Error for who is not root of the host: only that may map ids on the host's file systems and give each
    sandbox users that own nothing there."""
    if os.geteuid() != 0:
        why = f"sandboxes need root, and this is user {os.geteuid()}"
    elif in_user_namespace():
        why = "sandboxes need root of the host, and this is root of a user namespace only"
    elif not permitted_capabilities() & CAP_SYS_ADMIN:
        why = "sandboxes need root with CAP_SYS_ADMIN, and this has lost it"
    else:
        return
    raise Error(why, pointer="/linux/uidMappings", hint="an ordinary user can have containers: ocirt.Container")


def check_controllers(layout: Layout) -> None:
    """Raises Error if there is nothing to limit memory or the number of processes with."""
    found = {name for one in layout.hierarchies for name in one.controllers}
    for one in layout.hierarchies:
        if one.v2:
            found.update(read(one.mount + "/cgroup.controllers").split())
    for name, pointer in NEEDED.items():
        if name not in found:
            raise Error(
                f"sandboxes need the cgroup controller {name}, and this host does not show it",
                pointer=pointer,
                hint="see cgroup.controllers below /sys/fs/cgroup: it may be disabled at boot (cgroup_disable=), be on"
                " a v1 hierarchy that is not mounted, or not be handed down to here",
            )


def counts_swap(layout: Layout) -> bool:
    """Can memory and swap be limited together? On v1 only if the kernel was told at boot to count swap; on v2 what is
    not counted cannot be used either, or there is none."""
    v1 = [one for one in layout.hierarchies if "memory" in one.controllers]
    return not v1 or exists(f"{v1[0].mount}/memory.memsw.limit_in_bytes")
