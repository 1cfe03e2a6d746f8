"""spec: a config.json to start from, with runc's defaults."""

from __future__ import annotations

import posix

from ocirt.errors import Error, from_os_error
from ocirt.runtime.state import SPEC_VERSION
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def default_spec() -> dict[str, Any]:
    """A shell in a container with all namespaces but user and time."""
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "ocirt",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = list(options)
    return mount


def rootless_spec(uid: int, gid: int) -> dict[str, Any]:
    """The same for a user without rights, who is root inside: nothing that only the host's root may give.

    The network stays the host's, and with it /sys, which cannot be mounted anew over a network namespace of others.
    """
    spec = default_spec()
    linux = spec["linux"]
    del linux["resources"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"] + [{"type": "user"}]
    for name, number in (("uidMappings", uid), ("gidMappings", gid)):
        linux[name] = [{"containerID": 0, "hostID": number, "size": 1}]
    for mount in spec["mounts"]:
        if mount["destination"] == "/sys":
            mount |= {"type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}
        if mount["destination"] == "/dev/pts":
            mount["options"].remove("gid=5")  # there is one group inside
    return spec


def write_spec(bundle: str, *, rootless: bool = False, file: str = "config.json") -> str:
    """Write a configuration into the bundle; returns its path. Raises Error if there is such a file already.

    file   its name, counted from the bundle
    """
    path = file if file.startswith("/") else f"{bundle}/{file}"
    content = rootless_spec(posix.getuid(), posix.getgid()) if rootless else default_spec()
    try:
        with open(path, "x", encoding="utf-8") as opened:
            opened.write(dumps(content, indent=4) + "\n")
    except FileExistsError:
        raise Error(f"{path} exists already", hint="remove it first: ocirt overwrites nothing of yours") from None
    except OSError as error:
        raise from_os_error(error, f"write {path}") from None
    return path
