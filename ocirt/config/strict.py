"""What is allowed and dangerous: the rules of `ocirt check --strict`. Each has a name that stays (docs/cli.md).

None is about a host that is at hand, so a path is what it says, not what a symlink makes of it.
"""

from __future__ import annotations

from ocirt.config.names import CAPABILITIES, NAMESPACES
from ocirt.config.schema import WARNING, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

INFO = "info"
"""Worth knowing, and no reason for `check --strict` to fail."""

RULES = {
    "privileged": "all capabilities",
    "dangerous-capability": "a capability that is a way to the host's root",
    "host-namespace": "a namespace of the host",
    "host-cgroup-namespace": "info: the host's cgroup namespace",
    "joined-namespace": "info: a namespace of somebody else",
    "masked-paths-empty": "nothing of /proc and /sys is masked",
    "unmasked-path": "a path that tells of the host, or changes it, is not masked",
    "readonly-paths-empty": "nothing of /proc is read-only",
    "proc-sys-writable": "/proc/sys is writable",
    "writable-kernel-path": "another path of /proc that changes the host is writable",
    "sys-writable": "sysfs is writable",
    "cgroup-writable": "a cgroup file system is writable",
    "runtime-socket": "the socket of an engine, or its folder: who can write to it is root on the host",
    "host-root-mount": "the host's root folder",
    "host-folder-writable": "a folder of the host's own, writable",
    "host-folder-readable": "info: a folder of the host's own, read-only",
    "host-device": "a device of the host",
    "all-devices": "access to all devices",
    "shared-propagation": "mounts of the container reach the host",
    "no-new-privileges": "set-user-ID programs give rights",
    "no-seccomp": "all system calls are allowed",
    "seccomp-allows-all": "a seccomp profile that denies nothing",
    "lsm-unconfined": "an AppArmor profile or SELinux type that confines nothing",
    "root-on-host": "info: the program's user is the host's root",
    "systemd-property": "a property of the systemd unit that is no limit, such as one that has commands",
}
"""Name of a rule, its problems' code → what it finds. Those with "info:" are no warnings."""

DANGEROUS = {
    "CAP_SYS_ADMIN": "it may mount, enter namespaces, and much else",
    "CAP_SYS_MODULE": "it may load kernel modules",
    "CAP_SYS_RAWIO": "it may read and write memory and devices directly",
    "CAP_SYS_PTRACE": "it may trace processes of other users",
    "CAP_SYS_BOOT": "it may reboot the host",
    "CAP_SYS_TIME": "it may set the host's clock",
    "CAP_DAC_READ_SEARCH": "it may open any file by its handle, on the whole file system",
    "CAP_NET_ADMIN": "it may configure the network namespace",
    "CAP_BPF": "it may load BPF programs",
    "CAP_PERFMON": "it may look into the kernel and other processes",
    "CAP_SYSLOG": "it may read the kernel's log and addresses",
    "CAP_MAC_ADMIN": "it may change the security module's policy",
    "CAP_MAC_OVERRIDE": "the security module's policy does not hold for it",
    "CAP_AUDIT_CONTROL": "it may switch off auditing",
}
_OLD_CAPABILITIES = 37
"""The highest number that each engine knows: with all up to it, a container is privileged."""
_MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")
_SOCKETS = (
    "docker.sock containerd.sock podman.sock crio.sock cri-dockerd.sock dockershim.sock buildkitd.sock kubelet.sock"
    " system_bus_socket"
).split()
_ENGINES = (
    "/run/docker /run/containerd /run/podman /run/crio /run/buildkit /run/k3s/containerd /run/dbus /run/systemd"
    " /run/systemd/private"
).split()
_OWN = "/etc /boot /usr /bin /sbin /lib /lib64 /root /dev /proc /sys".split()
"""Folders of the host that, with all below them, are its own."""
_ALSO_OWN = "/run /var /var/lib /var/log /home /srv /opt /mnt /tmp".split()
"""Folders of which what is below them may well be meant for a container."""
_HARMLESS_DEVICES = tuple(
    f"/dev/{name}" for name in "null zero full random urandom tty shm pts mqueue ptmx fuse".split()
)
_LIMITS = tuple(
    (
        "CPU Memory Tasks IO BlockIO Allowed Startup Timeout Runtime OOM Kill SendSIG ManagedOOM FinalKill Description"
        " After Before CollectMode DefaultDependencies"
    ).split()
)
"""What the names of harmless properties begin with."""
_PREFIX = "org.systemd.property."


def strict_problems(spec: dict[str, Any]) -> list[Problem]:
    """What is dangerous in a configuration whose shape is right."""
    process = spec.get("process") or {}
    linux = spec.get("linux") or {}
    found: list[Problem] = []
    found += _capabilities(process)
    found += _namespaces(linux)
    found += _user(process, linux)
    found += _kernel_paths(spec.get("mounts") or (), linux)
    found += _mounts(spec.get("mounts") or ())
    found += _devices(linux)
    found += _propagation(linux)
    found += _filters(process, linux)
    found += _unit(spec.get("annotations") or {})
    return found


def _problem(rule: str, pointer: str, message: str, hint: str) -> Problem:
    level = INFO if RULES[rule].startswith("info:") else WARNING
    return Problem(level, pointer, message, hint=hint, code=rule)


def _capabilities(process: dict[str, Any]) -> Iterator[Problem]:
    sets = process.get("capabilities") or {}
    bounding = sets.get("bounding") or ()
    pointer = "/process/capabilities/bounding"
    if all(name in bounding for name, number in CAPABILITIES.items() if number <= _OLD_CAPABILITIES):
        yield _problem("privileged", pointer, "all capabilities: root in it is root on the host", "list those it needs")
        return
    for name in dict.fromkeys(name for kind in sets.values() for name in kind or ()):
        if name in DANGEROUS:
            kind = next(kind for kind in ("bounding", *sets) if name in (sets.get(kind) or ()))
            where = f"/process/capabilities/{kind}/{sets[kind].index(name)}"
            yield _problem("dangerous-capability", where, f"{name}: {DANGEROUS[name]}", "leave it out")


def _namespaces(linux: dict[str, Any]) -> Iterator[Problem]:
    listed = {one["type"]: (at, one.get("path") or "") for at, one in enumerate(linux.get("namespaces") or ())}
    for kind in NAMESPACES:
        if kind in ("user", "time"):
            continue
        at, path = listed.get(kind, (-1, ""))
        rule = "host-cgroup-namespace" if kind == "cgroup" else "host-namespace"
        if at < 0:
            yield _problem(
                rule, "/linux/namespaces", f"no {kind} namespace: it shares the host's", f'add {{"type": "{kind}"}}'
            )
        elif path.startswith(("/proc/1/", "/proc/self/", "/proc/thread-self/")):
            yield _problem(rule, f"/linux/namespaces/{at}/path", f"{path} is the host's", "leave the path out")
        elif path:
            hint = "whoever made it sees what happens in it"
            yield _problem("joined-namespace", f"/linux/namespaces/{at}/path", f"{kind}: {path}", hint)


def _user(process: dict[str, Any], linux: dict[str, Any]) -> Iterator[Problem]:
    has_own = any(one["type"] == "user" for one in linux.get("namespaces") or ())
    if not has_own and not (process.get("user") or {}).get("uid"):
        hint = "another uid, or a user namespace with linux.uidMappings"
        yield _problem("root-on-host", "/process/user/uid", "uid 0 without a user namespace is the host's root", hint)


def _kernel_paths(mounts: Any, linux: dict[str, Any]) -> Iterator[Problem]:
    masked, readonly = linux.get("maskedPaths") or (), linux.get("readonlyPaths") or ()
    types = {one.get("type"): is_readonly(one) for one in mounts if one["destination"] in ("/proc", "/sys")}
    if "proc" in types and not masked:
        hint = f"mask at least {', '.join(_MASKED)}"
        yield _problem("masked-paths-empty", "/linux/maskedPaths", "nothing of /proc is masked", hint)
    elif missing := [path for path in _MASKED if not _is_covered(path, masked) and path[1:4] in _shown(types)]:
        yield _problem("unmasked-path", "/linux/maskedPaths", f"{', '.join(missing)}: not masked", "add to the list")
    if "proc" not in types or types["proc"]:
        return
    closed = (*masked, *readonly)
    if not _is_covered("/proc/sys", closed):
        hint = 'add "/proc/sys": kernel.core_pattern and others run programs on the host'
        yield _problem("proc-sys-writable", "/linux/readonlyPaths", "/proc/sys is writable", hint)
    if not readonly:
        hint = f"list at least {', '.join(_READONLY)}"
        yield _problem("readonly-paths-empty", "/linux/readonlyPaths", "nothing of /proc is read-only", hint)
    elif open_ := [path for path in _READONLY if not _is_covered(path, closed)]:
        yield _problem(
            "writable-kernel-path", "/linux/readonlyPaths", f"{', '.join(open_)}: writable", "add to the list"
        )


def _shown(types: dict[str | None, bool]) -> set[str]:
    """The first letters of the kernel's file systems that it sees."""
    return {letters for letters, kind in (("pro", "proc"), ("sys", "sysfs")) if kind in types}


def _is_covered(path: str, by: Any) -> bool:
    return any((path + "/").startswith(one.rstrip("/") + "/") for one in by)


def is_readonly(mount: dict[str, Any]) -> bool:
    """By its options, of which the last counts."""
    said = [one for one in mount.get("options") or () if one in ("ro", "rw", "rro", "rrw", "defaults")]
    return bool(said) and said[-1] in ("ro", "rro")


def is_bind(mount: dict[str, Any]) -> bool:
    return mount.get("type") == "bind" or any(one in ("bind", "rbind") for one in mount.get("options") or ())


def _mounts(mounts: Any) -> Iterator[Problem]:
    for at, mount in enumerate(mounts):
        where = f"/mounts/{at}"
        options = mount.get("options") or ()
        if is_bind(mount):
            yield from _bind(mount, f"{where}/source")
        elif mount.get("type") == "sysfs" and not is_readonly(mount):
            yield _problem("sys-writable", f"{where}/options", "/sys is writable", 'add "ro"')
        elif mount.get("type") in ("cgroup", "cgroup2") and not is_readonly(mount):
            hint = 'add "ro", unless it manages cgroups itself'
            yield _problem("cgroup-writable", f"{where}/options", "its cgroup is writable", hint)
        for place, option in enumerate(options):
            if option in ("shared", "rshared"):
                hint = '"rslave" lets only the host\'s mounts through, "rprivate" none'
                message = f"{option}: what it mounts there appears on the host"
                yield _problem("shared-propagation", f"{where}/options/{place}", message, hint)


def _bind(mount: dict[str, Any], where: str) -> Iterator[Problem]:
    source = _normal(mount.get("source") or "")
    readonly = is_readonly(mount)
    if source == "/":
        yield _problem("host-root-mount", where, "all of the host's files", "mount what it needs of it")
    elif source.rpartition("/")[2] in _SOCKETS or source in _ENGINES:
        message = f"{source}: who talks to it can start containers as root"
        yield _problem(
            "runtime-socket", where, message, "read-only does not help: leave it out, or put a filter before it"
        )
    elif source.startswith("/dev/"):
        if source not in _HARMLESS_DEVICES:
            yield _problem("host-device", where, f"{source}: of the host", "leave it out")
    elif source in (*_OWN, *_ALSO_OWN) or any(source.startswith(one + "/") for one in _OWN):
        rule = "host-folder-readable" if readonly else "host-folder-writable"
        words = "can be read" if readonly else "can be changed"
        yield _problem(rule, where, f"{source} of the host {words}", "mount what it needs of it, read-only")


def _normal(path: str) -> str:
    """Without "..", doubled slashes and, as /var/run is a symlink on each host, that name."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    normal = "/" * path.startswith("/") + "/".join(parts)
    return normal.removeprefix("/var") if (normal + "/").startswith("/var/run/") else normal


def _devices(linux: dict[str, Any]) -> Iterator[Problem]:
    for at, rule in enumerate((linux.get("resources") or {}).get("devices") or ()):
        is_all = rule.get("type", "a") == "a" or (rule.get("major", -1) in (-1, None) and rule.get("type") == "b")
        numbers = (rule.get("major"), rule.get("minor"))
        if rule.get("allow") and is_all and all(number in (None, -1) for number in numbers):
            if set(rule.get("access") or "rwm") <= {"m"}:
                continue  # making a node is not opening it
            hint = "allow those that it needs, by type and number"
            yield _problem("all-devices", f"/linux/resources/devices/{at}", "all devices may be opened", hint)
    for at, device in enumerate(linux.get("devices") or ()):
        if device.get("type") == "b" or device["path"] in ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg"):
            message = f"{device['path']}: a device of the host"
            yield _problem("host-device", f"/linux/devices/{at}", message, "leave it out")


def _propagation(linux: dict[str, Any]) -> Iterator[Problem]:
    kind = linux.get("rootfsPropagation")
    if kind in ("shared", "rshared"):
        hint = '"rslave" lets only the host\'s mounts through, "rprivate" none'
        yield _problem("shared-propagation", "/linux/rootfsPropagation", f"{kind}: its mounts appear on the host", hint)


def _filters(process: dict[str, Any], linux: dict[str, Any]) -> Iterator[Problem]:
    if not process.get("noNewPrivileges"):
        message = "not set: set-user-ID programs in it give rights"
        yield _problem("no-new-privileges", "/process/noNewPrivileges", message, "true, unless it needs such programs")
    seccomp = linux.get("seccomp")
    lets = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
    if not seccomp:
        yield _problem("no-seccomp", "/linux/seccomp", "no profile: all system calls are allowed", "an engine has one")
    elif seccomp["defaultAction"] in lets and all(rule["action"] in lets for rule in seccomp.get("syscalls") or ()):
        yield _problem(
            "seccomp-allows-all", "/linux/seccomp/defaultAction", "the profile denies nothing", "list what it needs"
        )
    profile, label = process.get("apparmorProfile"), process.get("selinuxLabel") or ""
    if profile == "unconfined":
        yield _problem(
            "lsm-unconfined", "/process/apparmorProfile", "unconfined", "a profile, or nothing for the engine's"
        )
    kind = label.split(":")[2] if label.count(":") > 1 else ""
    if kind in ("spc_t", "unconfined_t"):
        yield _problem("lsm-unconfined", "/process/selinuxLabel", f"{kind} confines nothing", "container_t")


def _unit(annotations: dict[str, str]) -> Iterator[Problem]:
    for key in annotations:
        name = key.removeprefix(_PREFIX)
        if name != key and not name.startswith(_LIMITS):
            where = "/annotations/" + key.replace("~", "~0").replace("/", "~1")
            message = f"{name} is set on the container's systemd unit, as root"
            yield _problem("systemd-property", where, message, "only if who wrote it may run commands on the host")
