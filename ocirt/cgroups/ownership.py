"""Who owns a container's cgroup (config-linux.md, "Cgroup ownership"; cgroups(7), "Cgroups delegation").

The user that executes the program, if it sees its cgroup as the root of a writable cgroup v2: then it may divide it.
Its own limits stay root's.
"""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import read
from ocirt.errors import EPERM, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any

DELEGATE = "/sys/kernel/cgroup/delegate"
WITHOUT_IT = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n"


def owner(spec: dict[str, Any], new_namespaces: Container[str], joined_namespaces: Container[str]) -> int:
    """The host's uid that the cgroup is to belong to; 0: it stays root's."""
    if "cgroup" not in new_namespaces or "user" in joined_namespaces or not _writable(spec.get("mounts") or ()):
        return 0
    uid: int = spec["process"]["user"]["uid"]
    if "user" not in new_namespaces:
        return uid
    for mapping in spec["linux"].get("uidMappings") or ():
        offset: int = uid - mapping["containerID"]
        if 0 <= offset < mapping["size"]:
            return offset + int(mapping["hostID"])
    return 0


def _writable(mounts: Sequence[dict[str, Any]]) -> bool:
    return any(
        mount.get("source") == "cgroup"
        and mount["destination"] == "/sys/fs/cgroup"
        and "ro" not in (mount.get("options") or ())
        for mount in mounts
    )


def give(path: str, uid: int, delegate: str = DELEGATE, *, delegated: bool = False) -> None:
    """Give the folder, and of its files those that are safe to give. Raises KernelError.

    delegated: does the cgroup belong to a caller who may not give it away? Then it stays theirs.
    """
    try:
        files = read(delegate)
    except FileNotFoundError:
        files = WITHOUT_IT
    for name in ("", *files.split()):
        try:
            posix.chown(f"{path}/{name}", uid, -1)
        except FileNotFoundError:
            continue  # not every cgroup has all of them
        except OSError as error:
            if delegated and error.errno == EPERM:
                return
            raise from_os_error(error, f"give {path}/{name} to the user {uid}", pointer="/linux/cgroupsPath") from None
