"""A sandbox's configuration, as config.json has it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ocirt.runtime.spec import default_spec
from ocirt.runtime.state import SPEC_VERSION
from ocirt.sandbox.options import IDS, PATH
from ocirt.sandbox.profile import profile
from ocirt.sandbox.program import LAUNCHER

FIRST_ID = 1_900_000_000
"""The host's user that is root in a sandbox: far from people's ids and from what systemd and subuid(5) give away."""
SOCKET = "/run/ocirt-sandbox/listener"
"""What the profile has for listenerPath, which the specification wants: no such socket is ever used, since the keeper
takes the listener itself."""
PERIOD = 100_000
"""Microseconds (sched-bwc.rst)."""


def spec_of(options: dict[str, Any], root: str, *, swap: bool) -> dict[str, Any]:
    """options: as ocirt.sandbox.options has them. root: where its root file system lies. swap: can it be limited?"""
    uid, gid = options["user"]
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "user"]
    if not options["network"]:
        namespaces.append("network")
    linux = default_spec()["linux"]
    return {
        "ociVersion": SPEC_VERSION,
        "root": {"path": root, "readonly": not options["overlay"]},
        "hostname": "sandbox",
        "process": {
            "user": {"uid": uid, "gid": gid, "umask": 0o22},
            "args": LAUNCHER,
            "env": ["HOME=/"],  # ocirt-init reads none; the program's come with its name
            "cwd": options["cwd"],
            "noNewPrivileges": True,
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
        },
        "mounts": _mounts(options),
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "uidMappings": [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}],
            "gidMappings": [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}],
            "resources": _resources(options, swap=swap),
            "maskedPaths": [*linux["maskedPaths"], "/proc/interrupts", "/etc/machine-id"],
            "readonlyPaths": linux["readonlyPaths"],
            "seccomp": profile(SOCKET),
        },
    }


def environment(options: dict[str, Any], more: Sequence[str] = ()) -> list[str]:
    """All of a program's: PATH, HOME and LANG, what the options have, and one run's own, of which the last counts."""
    home = "/root" if options["user"][0] == 0 else "/tmp"
    given = [f"PATH={PATH}", f"HOME={home}", "LANG=C.UTF-8", *options["env"], *more]
    return list({entry.partition("=")[0]: entry for entry in given}.values())


def _mounts(options: dict[str, Any]) -> list[dict[str, Any]]:
    small = f"size={options['memory']}"
    mounts = [
        _mount("/proc", "proc", "nosuid", "nodev", "noexec"),
        _mount("/dev", "tmpfs", "nosuid", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", small),
        _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", small),
    ]
    if options["network"] and options["rootfs"] is None:
        # Mostly a link into /run, which is not the host's here.
        resolver = os.path.realpath("/etc/resolv.conf")
        if os.path.isfile(resolver) and not resolver.startswith("/etc/"):
            mounts.append(_bound(resolver, resolver, writable=False))
    return mounts + [_bound(source, place, writable=writable) for source, place, writable in options["binds"]]


def _bound(source: str, destination: str, *, writable: bool) -> dict[str, Any]:
    flags = ["bind", "nosuid", "nodev", *([] if writable else ["ro"])]
    return {"destination": destination, "type": "bind", "source": source, "options": flags}


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _resources(options: dict[str, Any], *, swap: bool) -> dict[str, Any]:
    memory = {"limit": options["memory"]}
    if swap:
        memory["swap"] = options["memory"]  # memory and swap together: none of it is swap
    resources: dict[str, Any] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "pids": {"limit": options["pids"]},
    }
    if options["cpus"] is not None:
        resources["cpu"] = {"period": PERIOD, "quota": max(1000, int(options["cpus"] * PERIOD))}
    return resources
