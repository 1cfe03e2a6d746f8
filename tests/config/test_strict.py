"""check --strict: each rule by what triggers it alone, and what they find in engines' own configurations."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import Bundle

from ocirt.config.names import CAPABILITIES
from ocirt.config.schema import WARNING
from ocirt.config.strict import INFO, RULES, strict_problems
from ocirt.runtime.check import check

CONFIGS = Path(__file__).parents[1] / "configs"
GOLDEN = Path(__file__).parent / "strict.tsv"
"""configuration, rule, how often."""
SAFE: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
    ],
    "process": {
        "user": {"uid": 1000, "gid": 1000},
        "args": ["sh"],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"]},
    },
    "annotations": {},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "devices": [],
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
    },
}


def bind(source: str, *options: str) -> dict[str, Any]:
    return {"destination": "/x", "type": "bind", "source": source, "options": ["bind", *options]}


DENIES_ONE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}
CASES = [
    # rule, where a value is put (None: it is taken away), the value, the pointer that is reported
    ("privileged", "/process/capabilities/bounding", list(CAPABILITIES), "/process/capabilities/bounding"),
    *(
        (
            "dangerous-capability",
            "/process/capabilities/bounding",
            ["CAP_CHOWN", name],
            "/process/capabilities/bounding/1",
        )
        for name in ("CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_BPF")
    ),
    ("dangerous-capability", "/process/capabilities/ambient", ["CAP_SYS_RAWIO"], "/process/capabilities/ambient/0"),
    *(("host-namespace", f"/linux/namespaces/{at}", None, "/linux/namespaces") for at in range(5)),
    ("host-namespace", "/linux/namespaces/1/path", "/proc/1/ns/net", "/linux/namespaces/1/path"),
    ("host-cgroup-namespace", "/linux/namespaces/5", None, "/linux/namespaces"),
    ("joined-namespace", "/linux/namespaces/1/path", "/proc/77/ns/net", "/linux/namespaces/1/path"),
    ("masked-paths-empty", "/linux/maskedPaths", [], "/linux/maskedPaths"),
    ("masked-paths-empty", "/linux/maskedPaths", None, "/linux/maskedPaths"),
    ("unmasked-path", "/linux/maskedPaths/0", None, "/linux/maskedPaths"),
    ("proc-sys-writable", "/linux/readonlyPaths/3", None, "/linux/readonlyPaths"),
    ("writable-kernel-path", "/linux/readonlyPaths/4", None, "/linux/readonlyPaths"),
    ("sys-writable", "/mounts/1/options", ["nosuid"], "/mounts/1/options"),
    ("sys-writable", "/mounts/1/options", ["ro", "rw"], "/mounts/1/options"),
    ("cgroup-writable", "/mounts/-", {"destination": "/c", "type": "cgroup", "source": "cgroup"}, "/mounts/2/options"),
    *(
        ("runtime-socket", "/mounts/-", bind(source, "ro"), "/mounts/2/source")
        for source in (
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/user/1000/podman/podman.sock",
            "/var/run/crio/crio.sock",
            "/run/containerd",
        )
    ),
    *(("host-root-mount", "/mounts/-", bind(source, "ro"), "/mounts/2/source") for source in ("/", "//", "/etc/..")),
    *(
        ("host-folder-writable", "/mounts/-", bind(source), "/mounts/2/source")
        for source in ("/etc", "/etc/cron.d", "/var/run", "/run/", "/usr/../usr/bin", "/var/lib", "/proc", "/home")
    ),
    ("host-folder-readable", "/mounts/-", bind("/etc", "ro"), "/mounts/2/source"),
    ("host-device", "/mounts/-", bind("/dev/sda", "ro"), "/mounts/2/source"),
    ("host-device", "/linux/devices/-", {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}, "/linux/devices/0"),
    ("all-devices", "/linux/resources/devices/-", {"allow": True, "access": "rwm"}, "/linux/resources/devices/1"),
    ("all-devices", "/linux/resources/devices/-", {"allow": True, "type": "a"}, "/linux/resources/devices/1"),
    ("all-devices", "/linux/resources/devices/-", {"allow": True, "type": "b"}, "/linux/resources/devices/1"),
    ("shared-propagation", "/linux/rootfsPropagation", "rshared", "/linux/rootfsPropagation"),
    ("shared-propagation", "/mounts/-", bind("/srv/data", "rshared"), "/mounts/2/options/1"),
    ("no-new-privileges", "/process/noNewPrivileges", False, "/process/noNewPrivileges"),
    ("no-new-privileges", "/process/noNewPrivileges", None, "/process/noNewPrivileges"),
    ("no-seccomp", "/linux/seccomp", None, "/linux/seccomp"),
    ("seccomp-allows-all", "/linux/seccomp/defaultAction", "SCMP_ACT_LOG", "/linux/seccomp/defaultAction"),
    ("lsm-unconfined", "/process/apparmorProfile", "unconfined", "/process/apparmorProfile"),
    ("lsm-unconfined", "/process/selinuxLabel", "system_u:system_r:spc_t:s0", "/process/selinuxLabel"),
    ("root-on-host", "/process/user/uid", 0, "/process/user/uid"),
    (
        "systemd-property",
        "/annotations/org.systemd.property.ExecStartPre",
        "'x'",
        "/annotations/org.systemd.property.ExecStartPre",
    ),
]
HARMLESS = [
    ("/mounts/-", bind("/srv/data")),
    ("/mounts/-", bind("/var/lib/docker/containers/1/hosts")),
    ("/mounts/-", bind("/dev/null")),
    ("/mounts/-", bind("volume")),
    ("/linux/resources/devices/-", {"allow": True, "access": "m"}),
    ("/linux/resources/devices/-", {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
    ("/linux/rootfsPropagation", "rslave"),
    ("/annotations/org.systemd.property.MemoryHigh", "uint64 5"),
    ("/annotations/org.systemd.property.TimeoutStopUSec", "uint64 5"),
    ("/mounts/0/options", ["ro"]),
]


def changed(pointer: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SAFE)
    *parents, last = pointer.split("/")[1:]
    place: Any = spec
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if isinstance(place, list):
        if last == "-":
            place.append(value)
        else:
            del place[int(last)]
    elif value is None:
        del place[last]
    else:
        place[last] = value
    return spec


@pytest.mark.parametrize(("rule", "where", "value", "pointer"), CASES)
def test_a_rule_finds_what_it_is_for_and_nothing_else_does(rule: str, where: str, value: Any, pointer: str) -> None:
    (problem,) = strict_problems(changed(where, value))
    assert (problem.code, problem.pointer) == (rule, pointer)
    assert problem.level == (INFO if RULES[rule].startswith("info:") else WARNING)
    assert problem.message
    assert problem.hint


@pytest.mark.parametrize(("where", "value"), HARMLESS)
def test_what_is_harmless_is_not_reported(where: str, value: Any) -> None:
    assert [str(one) for one in strict_problems(changed(where, value))] == []


def test_nothing_of_proc_read_only_is_two_rules_and_all_rules_have_a_case() -> None:
    found = {problem.code for problem in strict_problems(changed("/linux/readonlyPaths", None))}
    assert found == {"proc-sys-writable", "readonly-paths-empty"}
    assert {rule for rule, *_ in CASES} | found == set(RULES)


def test_what_engines_wrote_is_what_the_table_says() -> None:
    lines = []
    for path in sorted(CONFIGS.glob("*.json")):
        counts = Counter(problem.code for problem in strict_problems(json.loads(path.read_text())))
        lines += [f"{path.stem}\t{rule}\t{count}\n" for rule, count in sorted(counts.items())]
    assert "".join(lines) == GOLDEN.read_text()


def test_the_command_fails_for_warnings_and_says_where(bundle: Bundle) -> None:
    bundle.config |= {**copy.deepcopy(SAFE), "root": bundle.config["root"]}
    bundle.config["linux"]["seccomp"] = DENIES_ONE
    bundle.config["process"]["args"] = ["/bin/true"]
    bundle.config["process"]["capabilities"] = {}
    (bundle.path / "docker.sock").touch()
    bundle.config["mounts"].append(bind(f"{bundle.path}/docker.sock"))
    bundle.write()
    lax, strict = check(str(bundle.path)), check(str(bundle.path), strict=True)
    assert lax.ok
    socket = next(problem for problem in strict.problems if problem.code == "runtime-socket")
    assert (socket.pointer, strict.ok) == ("/mounts/2/source", False)
    assert (bundle.path / "config.json").read_text().splitlines()[socket.line - 1].strip().startswith('"source"')
    assert strict.summary().startswith(f"{bundle.path}/config.json: usable, with warnings: 0 errors, ")


def test_info_alone_fails_nothing_and_what_is_wrong_is_no_danger_too(bundle: Bundle) -> None:
    bundle.config |= {**copy.deepcopy(SAFE), "root": bundle.config["root"]}
    bundle.config["linux"]["seccomp"] = DENIES_ONE
    bundle.config["process"] |= {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "capabilities": {}}
    bundle.write()
    report = check(str(bundle.path), strict=True)
    assert [problem.code for problem in report.problems] == ["root-on-host"]
    assert report.ok
    bundle.config["mounts"].append(bind("/") | {"destination": 5})
    bundle.write()
    codes = {problem.code for problem in check(str(bundle.path), strict=True).problems}
    assert codes == {"schema", "root-on-host"}
