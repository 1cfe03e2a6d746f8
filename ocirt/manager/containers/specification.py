"""A container's config.json, from what was asked for and what was found out when it is about to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ocirt.manager.containers import confinement, resources
from ocirt.manager.containers.image_config import PATH
from ocirt.manager.containers.users import User
from ocirt.manager.errors import ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Nodes = list[tuple[dict[str, Any], str, str]]

VERSION = "1.0.2"  # nothing of a later one is needed, and older runtimes refuse later ones
INIT_PLACE = "/sbin/docker-init"
_TERM = "TERM=xterm"


@dataclass(frozen=True, slots=True)
class Found:
    """What a start finds out.

    user         numbers for the program's user
    mounts       compiled (mounts.py)
    hostname     of the uts namespace
    init         path here of the program that becomes process 1, or ""
    namespaces   kind → path of one to join, for those that another container has
    rootless     whether root here is an ordinary user of the host
    """

    user: User
    mounts: Sequence[dict[str, Any]]
    hostname: str
    init: str = ""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    rootless: bool = False


def config(container_id: str, document: dict[str, Any], found: Found) -> dict[str, Any]:
    """The whole of it. Raises ManagerError (a device that is not there), DocumentError (a seccomp profile)."""
    host, nodes = document["host"], resources.devices(document["host"])
    mounts = list(found.mounts)
    if found.rootless:  # who may make no device can have the host's mounted
        for node, _, path in nodes:
            mounts.append({"destination": node["path"], "type": "bind", "source": path, "options": ["bind"]})
    if found.init:
        init = {"destination": INIT_PLACE, "type": "bind", "source": found.init, "options": ["bind", "ro"]}
        mounts.append(init)
    value: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": _process(document, found),
        "root": {"path": "rootfs", "readonly": bool(host["ReadonlyRootfs"])},
        "mounts": mounts,
        "linux": _linux(container_id, document, found, nodes),
    }
    if "uts" not in _shared(host):
        value["hostname"] = found.hostname
        if document["config"]["Domainname"]:
            value["domainname"] = document["config"]["Domainname"]
    if host.get("Annotations"):
        value["annotations"] = dict(host["Annotations"])
    return value


def arguments(config: dict[str, Any]) -> list[str]:
    """Entrypoint and command, as one list (conversion.md)."""
    return [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]


def _process(document: dict[str, Any], found: Found) -> dict[str, Any]:
    config, host = document["config"], document["host"]
    held = confinement.capabilities(host)
    args = arguments(config)
    if found.init:
        args = [INIT_PLACE, "--", *args]
    user: dict[str, Any] = {"uid": found.user.uid, "gid": found.user.gid}
    if found.user.groups:
        user["additionalGids"] = list(found.user.groups)
    sets: dict[str, list[str]] = {"bounding": held, "effective": held, "permitted": held}
    if found.user.uid:
        # The kernel takes them from who is not root at execve(2), unless they are ambient; asked for is asked for.
        added = [name for name in held if name in (host["CapAdd"] or ())]
        sets |= {"effective": added, "permitted": added}
        if added:
            sets |= {"inheritable": added, "ambient": added}
    process: dict[str, Any] = {
        "terminal": bool(config["Tty"]),
        "user": user,
        "args": args,
        "env": environment(config, found),
        "cwd": config["WorkingDir"] or "/",
        "capabilities": sets,
        "noNewPrivileges": confinement.no_new_privileges(host),
        "oomScoreAdj": host["OomScoreAdj"],
    }
    if found.rootless and not host["OomScoreAdj"]:
        del process["oomScoreAdj"]  # an ordinary user may not lower what is theirs
    limits = [
        {"type": f"RLIMIT_{one['Name'].upper()}", "soft": _limit(one["Soft"]), "hard": _limit(one["Hard"])}
        for one in host["Ulimits"] or ()
    ]
    if limits:
        process["rlimits"] = limits
    profile = confinement.option(host, "apparmor")
    if profile not in (None, "unconfined"):
        process["apparmorProfile"] = profile
    return process


def _limit(value: int) -> int:
    return (1 << 64) - 1 if value == -1 else value


def environment(config: dict[str, Any], found: Found) -> list[str]:
    """PATH, HOSTNAME, TERM with a terminal, and HOME, unless they are given; then what is given."""
    given = {text.partition("=")[0]: text for text in config["Env"] if "=" in text}
    base = [f"PATH={PATH}", f"HOSTNAME={found.hostname}", *([_TERM] if config["Tty"] else [])]
    first = {text.partition("=")[0]: text for text in (*base, f"HOME={found.user.home}")}
    return list({**first, **given}.values())


def _shared(host: dict[str, Any]) -> set[str]:
    """The kinds of namespaces that are the host's."""
    modes = {
        "network": host["NetworkMode"],
        "ipc": host["IpcMode"],
        "pid": host["PidMode"],
        "uts": host["UTSMode"],
        "cgroup": host["CgroupnsMode"],
    }
    return {kind for kind, mode in modes.items() if mode == "host"}


def _linux(container_id: str, document: dict[str, Any], found: Found, nodes: Nodes) -> dict[str, Any]:
    host = document["host"]
    shared = _shared(host)
    spaces: list[dict[str, str]] = []
    for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup"):
        if kind in found.namespaces:
            spaces.append({"type": kind, "path": found.namespaces[kind]})
        elif kind not in shared:
            spaces.append({"type": kind})
    value: dict[str, Any] = {"namespaces": spaces, "resources": resources.resources(host, nodes)}
    if host["CgroupParent"] or not found.rootless:  # an ordinary user has what was delegated to them
        parent = host["CgroupParent"] or "/ocim"
        value["cgroupsPath"] = f"{parent.rstrip('/')}/{container_id}"
    if nodes and not found.rootless:
        value["devices"] = [node for node, *_ in nodes]
    profile = confinement.filter_of(host, confinement.capabilities(host))
    if profile is not None:
        value["seccomp"] = profile
    if not host["Privileged"]:
        for key, name in (("MaskedPaths", "maskedPaths"), ("ReadonlyPaths", "readonlyPaths")):
            if host[key]:
                value[name] = list(host[key])
    sysctls = _sysctls(host, shared | set(found.namespaces), found.rootless)
    if sysctls:
        value["sysctl"] = sysctls
    propagations = {point["Propagation"] for point in document["mounts"]}
    if propagations & {"shared", "rshared"}:
        value["rootfsPropagation"] = "shared"
    elif propagations & {"slave", "rslave"}:
        value["rootfsPropagation"] = "slave"
    return value


def _sysctls(host: dict[str, Any], shared: set[str], rootless: bool) -> dict[str, str]:
    """With an own network, low ports and ping need no capability, as in docker since 20.10."""
    found: dict[str, str] = {}
    # An ordinary user has no view of the parameters with the host's processes.
    if "network" not in shared and not host["Privileged"] and not (rootless and host["PidMode"] == "host"):
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        if not rootless:
            found["net.ipv4.ping_group_range"] = "0 2147483647"
    return found | dict(host.get("Sysctls") or {})


def check_sysctls(host: dict[str, Any]) -> None:
    """Only what is of a namespace of the container's own may be set. Raises ManagerError."""
    for key in host.get("Sysctls") or ():
        if key.startswith("net."):
            kind, mode = "network", host["NetworkMode"]
        elif key.startswith("fs.mqueue.") or key in _IPC:
            kind, mode = "ipc", host["IpcMode"]
        elif key in ("kernel.hostname", "kernel.domainname"):
            raise ManagerError(f"--sysctl {key}: is set by --hostname and --domainname")
        else:
            raise ManagerError(f"--sysctl {key}: it is the whole host's", hint="net.*, fs.mqueue.*, kernel.sem, …")
        if mode == "host" or mode.startswith("container:"):
            raise ManagerError(f"--sysctl {key}: the {kind} namespace is not the container's own")


_IPC = frozenset(f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())


def in_user_namespace() -> bool:
    """Whether root here is an ordinary user of the host (rootless.py): user_namespaces(7), uid_map."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]
