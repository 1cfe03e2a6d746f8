"""Random configurations that are valid and that this host can run: any property of the specification may be there.

Values are drawn so that the rules between properties hold (a hostname needs a uts namespace, a user has a map …):
what breaks one is the matter of tests/bad_input.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

FIRST = 200000
CAPABILITIES = [f"CAP_{name}" for name in "CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID NET_BIND_SERVICE MKNOD".split()]
BIND_OPTIONS = ["ro", "nosuid", "nodev", "noexec", "noatime", "rprivate", "rslave", "rro", "rnosuid", "nosymfollow"]
TMPFS_OPTIONS = ["nosuid", "nodev", "noexec", "size=1m", "mode=1777", "strictatime", "ro", "nodiratime"]
SYSCALLS = "read write openat ptrace mount umount2 clone3 personality reboot swapon nonsense_call".split()
Draw = Callable[[Random, dict[str, Any]], None]


def some(rng: Random, values: list[Any], least: int = 0) -> list[Any]:
    return rng.sample(values, rng.randint(least, len(values)))


def has(spec: dict[str, Any], kind: str) -> bool:
    return any(one["type"] == kind for one in spec["linux"]["namespaces"])


def maybe(rng: Random, chance: float = 0.3) -> bool:
    return rng.random() < chance


def capabilities(rng: Random, spec: dict[str, Any]) -> None:
    bounding = some(rng, CAPABILITIES)
    permitted = some(rng, bounding) if bounding else []
    sets = {"bounding": bounding, "permitted": permitted, "effective": some(rng, permitted) if permitted else []}
    sets["inheritable"] = some(rng, permitted) if permitted else []
    sets["ambient"] = some(rng, sets["inheritable"]) if sets["inheritable"] else []
    spec["process"]["capabilities"] = {name: value for name, value in sets.items() if maybe(rng, 0.9)}


def user(rng: Random, spec: dict[str, Any]) -> None:
    identity = {"uid": rng.choice([0, 1, 1000, 65534]), "gid": rng.choice([0, 5, 1000])}
    if maybe(rng):
        identity["umask"] = rng.choice([0, 0o22, 0o77])
    if maybe(rng):
        identity["additionalGids"] = some(rng, [0, 1, 10, 1000])
    spec["process"]["user"] = identity


def limits(rng: Random, spec: dict[str, Any]) -> None:
    names = some(rng, ["NOFILE", "CORE", "NPROC", "STACK", "CPU", "MSGQUEUE"])
    rows = []
    for name in names:
        soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        top = 2**64 - 1 if hard == resource.RLIM_INFINITY else hard
        rows.append({"type": f"RLIMIT_{name}", "soft": min(top, 1 << 20 if soft < 0 else soft), "hard": top})
    spec["process"]["rlimits"] = rows


def scheduling(rng: Random, spec: dict[str, Any]) -> None:
    spec["process"]["scheduler"] = rng.choice(
        [
            {"policy": "SCHED_OTHER", "nice": rng.randint(0, 19)},
            {"policy": "SCHED_BATCH"},
            {"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        ]
    )
    if maybe(rng, 0.5):
        spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": rng.randint(0, 7)}
    if maybe(rng, 0.5):
        spec["process"]["oomScoreAdj"] = rng.randint(int(Path("/proc/self/oom_score_adj").read_text()), 1000)


def rare(rng: Random, spec: dict[str, Any]) -> None:
    if maybe(rng, 0.5):
        spec["linux"]["personality"] = {"domain": rng.choice(["LINUX", "LINUX32"])}
    if maybe(rng, 0.5):
        spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    if maybe(rng, 0.5):
        spec["process"]["execCPUAffinity"] = {"initial": "0"}
    if maybe(rng, 0.5):
        spec["annotations"] = {"org.example": "x", "io.example/é": ""}


def names(rng: Random, spec: dict[str, Any]) -> None:
    if has(spec, "uts"):
        spec["hostname"] = "random"
        if maybe(rng, 0.5):
            spec["domainname"] = "example.org"


def sysctls(rng: Random, spec: dict[str, Any]) -> None:
    known = {}
    if has(spec, "network"):
        known |= {"net.ipv4.ip_unprivileged_port_start": "0", "net/ipv4/ip_forward": "1"}
    if has(spec, "ipc"):
        known |= {"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "20"}
    if known:
        spec["linux"]["sysctl"] = {key: known[key] for key in some(rng, list(known))}


def devices(rng: Random, spec: dict[str, Any]) -> None:
    rows = [
        {"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"path": "/dev/deep/er/zero", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/fifo", "type": "p"},
    ]
    if has(spec, "user"):
        rows = [{"path": "/dev/full", "type": "c", "major": 1, "minor": 7}]
    spec["linux"]["devices"] = some(rng, rows)
    spec["linux"]["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            *some(rng, [{"allow": True, "type": "c", "major": 1, "access": "rwm"}, {"allow": True, "access": "rwm"}]),
        ]
    }


def resources(rng: Random, spec: dict[str, Any]) -> None:
    known = {
        "pids": {"limit": rng.randint(20, 1000)},
        "memory": {"limit": rng.choice([64 << 20, 1 << 30])},
        "cpu": {"shares": rng.choice([2, 512, 1024]), "quota": 50000, "period": 100000},
    }
    held = [name for name in known if os.path.isdir(f"/sys/fs/cgroup/{name}")]
    spec["linux"].setdefault("resources", {}).update({name: known[name] for name in some(rng, held)})


def seccomp(rng: Random, spec: dict[str, Any]) -> None:
    rules = [
        {"names": some(rng, SYSCALLS, 1), "action": rng.choice(["SCMP_ACT_ERRNO", "SCMP_ACT_LOG"]), "errnoRet": 1},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": rng.getrandbits(32), "op": "SCMP_CMP_EQ"}],
        },
    ]
    for rule in rules:
        if rule["action"] != "SCMP_ACT_ERRNO":
            rule.pop("errnoRet", None)
        rule["names"] = [name for name in rule["names"] if name not in ("read", "write", "openat")] or ["reboot"]
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": some(rng, rules)}
    if maybe(rng, 0.5):
        spec["linux"]["seccomp"]["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


def hooks(rng: Random, spec: dict[str, Any]) -> None:
    kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    spec["hooks"] = {
        kind: [{"path": "/bin/true", "args": ["true", kind], "env": ["A=1"], "timeout": 10}]
        for kind in some(rng, kinds)
    }


def masks(rng: Random, spec: dict[str, Any]) -> None:
    paths = ["/proc/kcore", "/proc/sys", "/nowhere", "/tmp", "/etc/passwd", "/proc/acpi"]
    for name in ("maskedPaths", "readonlyPaths"):
        spec["linux"][name] = rng.choice([None, some(rng, paths)])


def propagation(rng: Random, spec: dict[str, Any]) -> None:
    spec["linux"]["rootfsPropagation"] = rng.choice(["slave", "rslave", "private", "rprivate", "shared", "unbindable"])


def mounts(rng: Random, spec: dict[str, Any]) -> None:
    for number in range(rng.randint(0, 3)):
        kind = rng.choice(["bind", "tmpfs", "copy"])
        if kind == "bind":
            options = [rng.choice(["bind", "rbind"]), *some(rng, BIND_OPTIONS)]
            source = rng.choice(["folder", "file"])
            mount = {"destination": f"/{source}-{number}", "source": f"sources/{source}", "options": options}
        else:
            copied = ["tmpcopyup"] if kind == "copy" else []
            mount = {
                "destination": "/etc" if copied else f"/new/{number}",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": some(rng, TMPFS_OPTIONS) + copied,
            }
        spec["mounts"].append(mount)


PARTS: list[Draw] = [
    capabilities,
    user,
    limits,
    scheduling,
    rare,
    names,
    sysctls,
    devices,
    resources,
    seccomp,
    hooks,
    masks,
    propagation,
    mounts,
]


def namespaces(rng: Random) -> list[dict[str, Any]]:
    kinds = ["mount", *some(rng, ["pid", "network", "ipc", "uts", "cgroup", "user", "time"])]
    rng.shuffle(kinds)
    return [{"type": kind} for kind in kinds]


def random_config(rng: Random) -> dict[str, Any]:
    """A configuration of a bundle with `rootfs`, `sources/folder` and `sources/file` in it; its program is `true`."""
    spec: dict[str, Any] = {
        "ociVersion": rng.choice(["1.0.2", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.99.0"]),
        "root": {"path": "rootfs", "readonly": rng.choice([True, False])},
        "process": {
            "cwd": rng.choice(["/", "/tmp", "/new/folder"]),
            "args": ["/bin/true"],
            "user": {"uid": 0, "gid": 0},
            "env": rng.choice([None, ["PATH=/bin", "A=1", "A=2"]]),
            "noNewPrivileges": rng.choice([True, False]),
            "terminal": False,
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces(rng), "cgroupsPath": rng.choice(["", "/random-config"])},
    }
    if maybe(rng, 0.7):
        spec["mounts"].append({"destination": "/dev", "type": "tmpfs", "options": ["mode=755", "size=65536k"]})
    if maybe(rng, 0.5):
        spec["linux"]["cgroupsPath"] = None
        del spec["linux"]["cgroupsPath"]
    if has(spec, "user"):
        spec["root"]["readonly"] = False
        spec["mounts"] = [one for one in spec["mounts"] if one["type"] != "proc" or has(spec, "pid")]
        for name in ("uidMappings", "gidMappings"):
            spec["linux"][name] = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    if has(spec, "time") and maybe(rng, 0.5):
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": rng.randint(0, 10**6)}}
    for part in PARTS:
        if maybe(rng, 0.4):
            part(rng, spec)
    return spec
