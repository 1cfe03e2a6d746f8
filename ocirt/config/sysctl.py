"""Kernel parameters: the names of linux.sysctl, and to which namespace each belongs.

Only parameters that a namespace has for itself can be a container's; all others are the whole host's and are refused.
"""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_IPC = frozenset("msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())
"""ipc_namespaces(7), of /proc/sys/kernel."""


def path_of(key: str) -> str:
    """The parameter's file below /proc/sys. sysctl.d(5): the first separator is the one that counts, "." or "/"; the
    other one stands for a dot in a name (net.ipv4.conf.eth0/100.forwarding, net/ipv4/conf/eth0.100/forwarding)."""
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        return key.translate({ord("."): "/", ord("/"): "."})
    return key


def pointer_of(key: str) -> str:
    return "/linux/sysctl/" + key.replace("~", "~0").replace("/", "~1")


def namespace_of(path: str) -> str:
    """The kind of the namespace that the parameter belongs to, or "" if it is the host's."""
    folder, _, name = path.partition("/")
    if folder in ("net", "user") and name:
        return {"net": "network"}.get(folder, folder)
    if folder == "kernel":
        return "ipc" if name in _IPC else "uts" if name == "domainname" else ""
    return "ipc" if folder == "fs" and name.startswith("mqueue/") else ""


def check_sysctl(sysctl: dict[str, str], namespaces: Container[str]) -> None:
    """Raise ConfigError for a parameter that is not the container's. `namespaces` are those that it has."""
    seen: dict[str, str] = {}
    for key in sysctl:
        pointer, path = pointer_of(key), path_of(key)
        if not {"", ".", ".."}.isdisjoint(path.split("/")) or len(path) > 4000:
            raise ConfigError(
                f'expected the name of a kernel parameter such as net.ipv4.ip_forward, got "{key[:60]}"',
                pointer=pointer,
            )
        if path in seen:
            raise ConfigError(f"{path} is set twice, also as {seen[path]}", pointer=pointer)
        seen[path] = key
        if path == "kernel/hostname":
            raise ConfigError("the hostname is not set by sysctl", pointer=pointer, hint="use the property hostname")
        kind = namespace_of(path)
        if not kind:
            raise ConfigError(
                f"{path.replace('/', '.')} is not of a namespace: it would be changed for the whole host",
                pointer=pointer,
                hint="set it on the host; a container has net.*, fs.mqueue.*, user.*, kernel.domainname and System V's",
            )
        if kind not in namespaces:
            raise ConfigError(
                f"{path.replace('/', '.')} needs {'an' if kind == 'ipc' else 'a'} {kind} namespace of its own,"
                " or it would be the host's",
                pointer=pointer,
                hint=f'add {{"type": "{kind}"}} to /linux/namespaces',
            )
