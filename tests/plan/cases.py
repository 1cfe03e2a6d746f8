"""Configurations with made-up hosts: what the tests of the plan, of its wire format and of init work on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ocirt.config.check import check_meaning
from ocirt.config.read import Config
from ocirt.config.shape import check_shape
from ocirt.plan.compile import Compiled, compile_plan
from ocirt.plan.facts import Facts, Filter, Hierarchy
from ocirt.runtime.spec import default_spec

Change = Callable[[dict[str, Any]], None]

V1 = (
    Hierarchy("cpu,cpuacct", (("cpu", None), ("cpuacct", None)), "/sys/fs/cgroup/cpu,cpuacct/one", False),
    Hierarchy("devices", (("devices", None),), "/sys/fs/cgroup/devices/one", False),
    Hierarchy("systemd", (("none", None), ("name", "systemd")), "/sys/fs/cgroup/systemd/one", False),
)
HYBRID = (*V1, Hierarchy("unified", (), "/sys/fs/cgroup/unified/one", True))
V2 = (Hierarchy("", (), "/sys/fs/cgroup/one", True),)
ON_V1: dict[str, Any] = {"hierarchies": V1}
ON_HYBRID: dict[str, Any] = {"hierarchies": HYBRID}
ON_V2: dict[str, Any] = {"hierarchies": V2, "pure_v2": True, "into_cgroup": True, "attached_late": False}


def no_terminal(spec: dict[str, Any]) -> None:
    spec["process"]["terminal"] = False


def as_user(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 44, 100000], "umask": 0o027}
    spec["process"]["capabilities"] |= {
        "inheritable": ["CAP_NET_BIND_SERVICE"],
        "ambient": ["CAP_NET_BIND_SERVICE", "CAP_KILL"],
    }


def console_size(spec: dict[str, Any]) -> None:
    spec["process"]["consoleSize"] = {"height": 50, "width": 132}


def writable_root(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["root"]["readonly"] = False


def binds(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["mounts"] += [
        {"destination": "/srv/data", "source": "/data", "options": ["rbind", "rw", "rslave"]},
        {"destination": "/etc/resolv.conf", "source": "resolv.conf", "options": ["bind", "ro", "nosuid"]},
        {"destination": "relative/place", "source": "/data", "options": ["bind"]},
    ]


def rare_mounts(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["rootfsPropagation"] = "rshared"
    spec["mounts"] += [
        {
            "destination": "/old",
            "type": "ext4",
            "source": "/dev/x",
            "options": ["iversion", "ro", "sync", "data=journal"],
        },
        {
            "destination": "/long",
            "type": "overlay",
            "source": "overlay",
            "options": ["lowerdir=" + "/l" * 200, "nosuid"],
        },
        {"destination": "/old", "type": "ext4", "options": ["remount", "rw", "async", "commit=9", "nodev"]},
        {"destination": "/dev", "options": ["bind", "remount", "rro", "noexec"]},
        {"destination": "/a/link", "source": "/link", "options": ["bind", "copy-symlink"]},
        {"destination": "/b/link", "source": "/link", "options": ["bind", "src-nofollow", "dest-nofollow"]},
        {"destination": "/filled", "type": "tmpfs", "options": ["tmpcopyup", "mode=700", "ro"]},
        {"destination": "/volume", "source": "/data", "options": ["rbind", "rshared", "rnosuid"]},
    ]


MAPPED = [{"containerID": 0, "hostID": 1000, "size": 10}]


def idmapped(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    maps = {"uidMappings": MAPPED, "gidMappings": MAPPED}
    spec["mounts"] += [
        {"destination": "/one", "source": "/data", "options": ["rbind", "idmap"]} | maps,
        {"destination": "/all", "source": "/data", "options": ["rbind", "ridmap"]} | maps,
        {"destination": "/own", "type": "tmpfs", "options": ["idmap=uids=0-5-1;gids=0-5-1", "mode=700", "ro"]},
    ]


def idmapped_in_a_user_namespace(spec: dict[str, Any]) -> None:
    idmapped(spec)
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"] |= {
        name: [{"containerID": 0, "hostID": 100000, "size": 65536}] for name in ("uidMappings", "gidMappings")
    }
    spec["mounts"].append({"destination": "/containers", "source": "/data", "options": ["bind", "idmap"]})


def without_cgroup_namespace(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "cgroup"]


def relative_path(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"]["env"] = ["PATH=bin:/first::./x:/second/", "HOME=/home/me"]
    spec["process"]["cwd"] = "/a/./b/../c"


def program_by_path(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"]["args"] = ["./run", "--now"]
    spec["process"]["env"] = ["A=1", "A=2"]


def limits(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 64},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_AS", "soft": 1 << 32, "hard": (1 << 64) - 1},
    ]


def privileged(spec: dict[str, Any]) -> None:
    from ocirt.config.names import CAPABILITIES

    no_terminal(spec)
    spec["process"]["noNewPrivileges"] = False
    for name in ("bounding", "effective", "permitted", "inheritable"):
        spec["process"]["capabilities"][name] = list(CAPABILITIES)
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = None
    spec["mounts"][1] = {"destination": "/dev", "source": "/dev", "options": ["rbind"]}


def scheduling(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"] |= {
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
            "runtime": 10_000_000,
            "deadline": 30_000_000,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
    }
    spec["linux"] |= {
        "personality": {"domain": "LINUX32"},
        "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-2, 70", "flags": ["MPOL_F_STATIC_NODES"]},
    }


def user_namespace(spec: dict[str, Any]) -> None:
    binds(spec)
    spec["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        spec["linux"][name] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def user_of_the_hosts_namespaces(spec: dict[str, Any]) -> None:
    """An ordinary user's, with nothing of its own where it may be without."""
    no_terminal(spec)
    linux = spec["linux"]
    linux["namespaces"] = [{"type": kind} for kind in ("mount", "user", "cgroup")]
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    linux["sysctl"] = {}
    spec["process"]["user"]["additionalGids"] = [0]
    del spec["hostname"]


def clocks_of_a_user(spec: dict[str, Any]) -> None:
    user_namespace(spec)
    spec["mounts"] = spec["mounts"][:7]
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800}}


def in_outer_namespaces(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    linux = spec["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in ("network", "pid")]


def user_namespace_without_cgroup(spec: dict[str, Any]) -> None:
    user_namespace(spec)
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "cgroup"]


def joined(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec.pop("hostname")
    spec["linux"]["namespaces"].append({"type": "user"})
    for namespace in spec["linux"]["namespaces"]:
        if namespace["type"] != "mount":
            namespace["path"] = f"/proc/1/ns/{namespace['type']}"


def joined_mount(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    for namespace in spec["linux"]["namespaces"]:
        if namespace["type"] == "mount":
            namespace["path"] = "/proc/1/ns/mnt"


def without_mount_namespace(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "mount"]
    spec["mounts"].append({"destination": "/ro", "type": "tmpfs", "options": ["ro", "rslave"]})


def clocks(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800}, "boottime": {"secs": -3600, "nanosecs": 1}}


def filtered(spec: dict[str, Any]) -> None:
    """A profile, which FILTER stands for, with no_new_privs."""
    no_terminal(spec)
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}


def filtered_with_privileges(spec: dict[str, Any]) -> None:
    filtered(spec)
    spec["process"]["noNewPrivileges"] = False


def filtered_administrator(spec: dict[str, Any]) -> None:
    filtered_with_privileges(spec)
    for name in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][name].append("CAP_SYS_ADMIN")


def listed_devices(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 0, "gid": 0},
        {"path": "/dev/net/tun", "type": "u", "major": 10, "minor": 200, "fileMode": 0o20660, "uid": 7, "gid": 8},
        {"path": "/disk", "type": "b", "major": 259, "minor": 700, "fileMode": 0},
        {"path": "/dev/pipe", "type": "p", "gid": 5},
    ]


def listed_devices_of_a_user(spec: dict[str, Any]) -> None:
    listed_devices(spec)
    spec["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}


def handed_over(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["process"]["env"] = ["LISTEN_PID=77", "A=1"]
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "pid"]


def keeping_groups(spec: dict[str, Any]) -> None:
    user_namespace(spec)
    spec["process"]["user"]["additionalGids"] = [5]
    spec["annotations"] = {"run.oci.keep_original_groups": "1"}


def labelled(spec: dict[str, Any]) -> None:
    """No kernel enforces both, but all that is written is here."""
    no_terminal(spec)
    spec["process"] |= {"apparmorProfile": "docker-default", "selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"}


def sysctls(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["linux"]["sysctl"] = {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net/ipv4/conf/eth0.100/forwarding": "1",
        "kernel.shm_rmid_forced": "",
        "kernel/sem": "250 32000 32 128",
    }


def sysctls_of_a_user(spec: dict[str, Any]) -> None:
    sysctls(spec)
    spec["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}


def hooks(spec: dict[str, Any]) -> None:
    no_terminal(spec)
    spec["hooks"] = {"createContainer": [{"path": "/bin/hook"}]}


def least(spec: dict[str, Any]) -> None:
    """All that can be absent is absent."""
    spec.clear()
    spec |= {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/init"]},
        "linux": {"namespaces": [{"type": "mount"}]},
    }


FILTER: dict[str, Any] = {"seccomp": Filter(bytes.fromhex("06000000 0000ff7f"), 4)}  # ret SECCOMP_RET_ALLOW

LISTENER: dict[str, Any] = {"seccomp": Filter(FILTER["seccomp"].program, 8)}

CASES: dict[str, tuple[Change, dict[str, Any]]] = {
    "default": (no_terminal, ON_V1),
    "run": (no_terminal, ON_V1 | {"wait_for_start": False}),
    "terminal": (lambda spec: None, ON_V1 | {"wait_for_start": False, "window": (24, 80)}),
    "console-size": (console_size, ON_V1 | {"window": (24, 80)}),
    "user": (as_user, ON_V1),
    "writable-root": (writable_root, ON_V1),
    "binds": (binds, ON_V1 | {"directories": {"/data": True, "resolv.conf": False}}),
    "rare-mounts": (rare_mounts, ON_V1 | {"directories": {"/data": True}, "symlinks": {"/link": "../elsewhere"}}),
    "idmapped": (idmapped, ON_V1 | {"directories": {"/data": True}, "user_maps": 2}),
    "idmapped-in-a-user-namespace": (
        idmapped_in_a_user_namespace,
        ON_V1 | {"directories": {"/data": True}, "user_maps": 3},
    ),
    "hybrid": (no_terminal, ON_HYBRID),
    "hybrid-without-cgroup-namespace": (without_cgroup_namespace, ON_HYBRID),
    "v1-without-cgroup-namespace": (without_cgroup_namespace, ON_V1),
    "v2": (no_terminal, ON_V2),
    "v2-run": (no_terminal, ON_V2 | {"wait_for_start": False}),
    "v2-without-cgroup-namespace": (without_cgroup_namespace, ON_V2),
    "without-pivot": (no_terminal, ON_V1 | {"unpivoted": ("/proc/deep", "/proc", "/sys")}),
    "relative-path": (relative_path, ON_V1),
    "program-by-path": (program_by_path, ON_V1),
    "limits": (limits, ON_V1),
    "privileged": (privileged, ON_V1 | {"directories": {"/dev": True}}),
    "scheduling": (scheduling, ON_V1),
    "sysctls": (sysctls, ON_V1),
    "sysctls-of-a-user": (sysctls_of_a_user, ON_V1),
    "devices": (listed_devices, ON_V1),
    "devices-of-a-user": (listed_devices_of_a_user, ON_V1),
    "handed-over": (handed_over, ON_V1 | {"preserved": 2, "listened": 2}),
    "keeping-groups": (keeping_groups, ON_V1 | {"directories": {"/data": True, "resolv.conf": False}}),
    "labelled": (labelled, ON_V1 | {"wait_for_start": False, "security_modules": ("apparmor", "selinux")}),
    "few-rights": (as_user, ON_V1 | {"permitted": 0x3FF, "last_capability": 37}),
    "seccomp": (filtered, ON_V1 | FILTER),
    "seccomp-with-privileges": (filtered_with_privileges, ON_V1 | FILTER),
    "seccomp-listener": (filtered, ON_V1 | LISTENER),
    "seccomp-listener-with-privileges": (filtered_with_privileges, ON_V1 | LISTENER | {"wait_for_start": False}),
    "seccomp-administrator": (filtered_administrator, ON_V1 | FILTER),
    "user-namespace": (user_namespace, ON_V1 | {"directories": {"/data": True, "resolv.conf": False}}),
    "user-namespace-without-cgroup": (
        user_namespace_without_cgroup,
        ON_V1 | {"directories": {"/data": True, "resolv.conf": False}},
    ),
    "ordinary-user": (
        user_namespace,
        ON_V1
        | {
            "directories": {"/data": True, "resolv.conf": False},
            "permitted": 0,
            "unprivileged": True,
            "kept": {"/data": 0x0F, "resolv.conf": 0},
        },
    ),
    "ordinary-user-with-one-id": (
        user_of_the_hosts_namespaces,
        ON_V2 | {"permitted": 0, "unprivileged": True, "groups_denied": True},
    ),
    "ordinary-user-joins": (
        joined,
        ON_V1 | {"joined": ("pid", "network", "ipc", "uts", "cgroup", "user"), "permitted": 0, "unprivileged": True},
    ),
    "ordinary-user-with-clocks": (clocks_of_a_user, ON_V2 | {"permitted": 0, "unprivileged": True}),
    "nested": (no_terminal, ON_V1 | {"nested": True, "foreign": ("network", "ipc")}),
    "nested-in-outer-namespaces": (in_outer_namespaces, ON_V2 | {"nested": True, "foreign": ("network", "pid")}),
    "joined": (joined, ON_V1 | {"joined": ("pid", "network", "ipc", "uts", "cgroup", "user")}),
    "joined-mount": (joined_mount, ON_V2 | {"joined": ("mount",)}),
    "without-mount-namespace": (without_mount_namespace, ON_V1),
    "clocks": (clocks, ON_V2),
    "hooks": (hooks, ON_V1),
    "v2-hooks": (hooks, ON_V2),
    "least": (least, ON_V2 | {"wait_for_start": False}),
    "aarch64": (no_terminal, ON_V2 | {"machine": "aarch64"}),
}


def config_of(spec: dict[str, Any]) -> Config:
    """A checked configuration of a bundle in /bundle."""
    config = Config(spec, "", "/bundle")
    check_shape(spec)
    check_meaning(config)
    return config


def compile_case(name: str) -> Compiled:
    change, facts = CASES[name]
    spec = copy.deepcopy(default_spec())
    change(spec)
    return compile_plan(config_of(spec), Facts(rootfs="/bundle/rootfs", container_id="one", **facts))
