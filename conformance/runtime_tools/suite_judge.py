"""What a process in the container should see, given its configuration: the checks of runtime-tools' runtimetest.

`questions` says what inside.sh has to be asked; `complaints` compares its answers (section → text) with the
configuration.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN"
    " SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE"
    " MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "ambient": "CapAmb",
}
LIMITS = {"RLIMIT_NOFILE": "Max open files"}
DEFAULT_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/ptmx": "pts/ptmx",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
DEFAULT_NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEFAULT_DEVICES = [
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}
    for name, (major, minor) in {**DEFAULT_NODES, "ptmx": (5, 2)}.items()
]
DEFAULT_FILESYSTEMS = {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

Config = dict[str, Any]
Facts = dict[str, str]


def questions(config: Config) -> list[str]:
    """QUESTION=PATH for inside.sh."""
    linux = config["linux"]
    asked = ["writable=/", *(f"link={path}" for path in DEFAULT_LINKS)]
    asked += [f"stat={device['path']}" for device in [*DEFAULT_DEVICES, *linux.get("devices", ())]]
    asked += [f"readable={path}" for path in [*linux.get("maskedPaths", ()), *linux.get("readonlyPaths", ())]]
    asked += [f"writable={path}" for path in linux.get("readonlyPaths", ())]
    asked += [f"content={_file_of(name)}" for name in linux.get("sysctl", ())]
    if linux.get("rootfsPropagation") and "CAP_SYS_ADMIN" in config["process"]["capabilities"]["effective"]:
        asked.append("propagation=/")
    return asked


def facts_of(output: str) -> Facts:
    """inside.sh's output by section."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}


def complaints(config: Config, facts: Facts) -> list[str]:
    """What is not as configured; nothing is right."""
    checks = (_process, _user, _capabilities, _limits, _mounts, _defaults, _devices, _paths, _kernel, _propagation)
    return [line for check in checks for line in check(config, facts)]


def _differ(what: str, expected: object, got: object) -> Iterator[str]:
    if expected != got:
        yield f"{what}: expected {expected!r}, got {got!r}"


def _process(config: Config, facts: Facts) -> Iterator[str]:
    process = config["process"]
    yield from _differ("cwd", process["cwd"], facts["cwd"])
    yield from _differ("args", process["args"], facts["cmdline"].splitlines())
    environment = facts["environ"].splitlines()
    yield from (f"env: no {entry}" for entry in process["env"] if entry not in environment)
    yield from _differ("noNewPrivileges", str(int(process.get("noNewPrivileges", False))), _status(facts)["NoNewPrivs"])
    if config.get("hostname"):
        yield from _differ("hostname", config["hostname"], facts["hostname"])


def _user(config: Config, facts: Facts) -> Iterator[str]:
    user, status = config["process"]["user"], _status(facts)
    yield from _differ("uid", [str(user["uid"])] * 4, status["Uid"].split())
    yield from _differ("gid", [str(user["gid"])] * 4, status["Gid"].split())
    missing = {str(gid) for gid in user.get("additionalGids", ())} - set(status["Groups"].split())
    yield from _differ("additional groups that are missing", set(), missing)
    if "umask" in user:
        yield from _differ("umask", user["umask"], int(status["Umask"], 8))


def _capabilities(config: Config, facts: Facts) -> Iterator[str]:
    for name, field in SETS.items():
        value = int(_status(facts)[field], 16)
        held = {f"CAP_{one}" for bit, one in enumerate(CAPABILITIES) if value >> bit & 1}
        yield from _differ(f"{name} capabilities", set(config["process"]["capabilities"][name]), held)


def _limits(config: Config, facts: Facts) -> Iterator[str]:
    for limit in config["process"].get("rlimits", ()):
        line = next(line for line in facts["limits"].splitlines() if line.startswith(LIMITS[limit["type"]]))
        soft, hard = line.removeprefix(LIMITS[limit["type"]]).split()[:2]
        yield from _differ(limit["type"], (str(limit["soft"]), str(limit["hard"])), (soft, hard))


def _mounts(config: Config, facts: Facts) -> Iterator[str]:
    """Each is there, and after the one that is listed before it. (Source and root are compared by their last part: the
    tests may run below another root.)"""
    table = mount_table(facts)
    at = 0
    for index, mount in enumerate(config["mounts"]):
        found = [place for place in range(at, len(table)) if _is_mount(mount, table[place])]
        if found:
            at = found[0] + 1
        else:
            yield f"/mounts/{index} ({mount['destination']}) is not there, or not in the listed order"


def mount_table(facts: Facts) -> list[dict[str, str]]:
    """mountinfo's lines: root, place, flags, propagation, type, source."""
    table = []
    for line in facts["mountinfo"].splitlines():
        left, right = line.split(" - ")
        words = left.split()
        kind, source = right.split()[:2]
        names = ("root", "place", "flags", "propagation", "type", "source")
        table.append(dict(zip(names, (*words[3:6], " ".join(words[6:]), kind, source), strict=True)))
    return table


def _is_mount(mount: dict[str, Any], line: dict[str, str]) -> bool:
    bind = {"bind", "rbind"} & set(mount.get("options", ()))
    source = mount.get("source", "")
    same = os.path.basename(source) == os.path.basename(line["root"]) if bind else source == line["source"]
    return (
        mount["destination"] == line["place"]
        and mount.get("type", line["type"]) == line["type"]
        and (not source or same)
    )


def _defaults(config: Config, facts: Facts) -> Iterator[str]:
    for path, target in DEFAULT_LINKS.items():
        yield from _differ(f"symbolic link {path}", target, facts[f"link={path}"])
    types = {line["place"]: line["type"] for line in mount_table(facts)}
    for path, kind in DEFAULT_FILESYSTEMS.items():
        yield from _differ(f"file system on {path}", kind, types.get(path))


def _devices(config: Config, facts: Facts) -> Iterator[str]:
    for device in [*DEFAULT_DEVICES, *config["linux"].get("devices", ())]:
        answer = facts[f"stat={device['path']}"].split()
        if not answer:
            yield f"{device['path']} is not there"
            continue
        mode, major, minor = (int(word, 16) for word in answer[:3])
        yield from _differ(f"type of {device['path']}", TYPES[device["type"]], stat.S_IFMT(mode))
        if device["type"] != "p":
            yield from _differ(f"numbers of {device['path']}", (device["major"], device["minor"]), (major, minor))
        got = {"fileMode": stat.S_IMODE(mode), "uid": int(answer[3]), "gid": int(answer[4])}
        for name, value in got.items():
            yield from _differ(f"{name} of {device['path']}", device.get(name, value), value)


def _paths(config: Config, facts: Facts) -> Iterator[str]:
    linux = config["linux"]
    if config["root"].get("readonly"):
        yield from _differ("writable /", "no", facts["writable=/"])
    yield from (f"{path} can be read" for path in linux.get("maskedPaths", ()) if facts[f"readable={path}"] == "yes")
    yield from (
        f"{path} can be written" for path in linux.get("readonlyPaths", ()) if facts[f"writable={path}"] == "yes"
    )


def _kernel(config: Config, facts: Facts) -> Iterator[str]:
    """Single values in /proc."""
    if "oomScoreAdj" in config["process"]:
        yield from _differ("oomScoreAdj", str(config["process"]["oomScoreAdj"]), facts["oom_score_adj"])
    linux = config["linux"]
    for name, value in linux.get("sysctl", {}).items():
        yield from _differ(f"sysctl {name}", value, facts[f"content={_file_of(name)}"])
    for name, file in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        if name in linux:
            expected = [(str(one["containerID"]), str(one["hostID"]), str(one["size"])) for one in linux[name]]
            yield from _differ(name, expected, [tuple(line.split()) for line in facts[file].splitlines()])
    yield from _differ("seccomp", "2" if linux.get("seccomp") else "0", _status(facts)["Seccomp"])


def _propagation(config: Config, facts: Facts) -> Iterator[str]:
    """A bind mount of / sees what is mounted below / later only if it is shared; of an unbindable one there is none."""
    if answer := facts.get("propagation=/"):
        kind = config["linux"]["rootfsPropagation"]
        expected = {"shared": "exposed", "unbindable": "Invalid argument"}.get(kind, "hidden")
        if not answer.endswith(expected):
            yield f"rootfsPropagation {kind}: expected {expected}, got {answer!r}"


def _status(facts: Facts) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in facts["status"].splitlines())}


def _file_of(sysctl: str) -> str:
    return "/proc/sys/" + sysctl.replace(".", "/")
