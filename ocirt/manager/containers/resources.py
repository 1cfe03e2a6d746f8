"""linux.resources of config.json: memory, processors, processes, block devices, and the devices that may be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ocirt.manager.errors import ManagerError, MissingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RWM = "rwm"
# The nodes that every container has (config-linux.md, "Default Devices"), its terminals, and making any node at all,
# which gives nobody the right to open it.
_ALLOWED = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, _RWM),
    ("c", 1, 5, _RWM),
    ("c", 1, 7, _RWM),
    ("c", 1, 8, _RWM),
    ("c", 1, 9, _RWM),
    ("c", 5, 0, _RWM),
    ("c", 5, 1, _RWM),
    ("c", 5, 2, _RWM),
    ("c", 136, None, _RWM),
)
_NOT_TAKEN = frozenset(
    "pts shm fd mqueue console stdin stdout stderr core ptmx lxc .lxc .udev null zero full random urandom tty".split()
)
"""Of /dev: what is no device, and what every container has anyway."""


def resources(host: dict[str, Any], nodes: list[tuple[dict[str, Any], str, str]]) -> dict[str, Any]:
    """What was asked for; nothing stands for what was not. nodes: what `devices` returns. Raises MissingError."""
    found: dict[str, Any] = {"devices": _device_rules(host, nodes)}
    parts = {"memory": _memory(host), "cpu": _cpu(host), "blockIO": _block(host)}
    found |= {key: part for key, part in parts.items() if part}
    if host["PidsLimit"]:
        found["pids"] = {"limit": host["PidsLimit"]}
    return found


def _memory(host: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if host["Memory"]:
        found["limit"] = host["Memory"]
    if host["MemorySwap"] and (host["MemorySwap"] != 2 * host["Memory"] or swap_is_counted()):
        found["swap"] = host["MemorySwap"]
    if host["MemoryReservation"]:
        found["reservation"] = host["MemoryReservation"]
    if host["MemorySwappiness"] not in (None, -1):
        found["swappiness"] = host["MemorySwappiness"]
    if host["OomKillDisable"]:
        found["disableOOMKiller"] = True
    return found


def swap_is_counted() -> bool:
    """Whether this kernel limits swap: without it, docker's default for swap can only be left out."""
    root = Path("/sys/fs/cgroup")
    if (root / "memory").is_dir():
        return (root / "memory/memory.memsw.limit_in_bytes").exists()
    return Path("/proc/swaps").exists()


def _cpu(host: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if host["NanoCpus"]:
        found |= {"period": 100_000, "quota": max(1000, host["NanoCpus"] * 100_000 // 10**9)}
    for key, name in (
        ("CpuShares", "shares"),
        ("CpuPeriod", "period"),
        ("CpuQuota", "quota"),
        ("CpuRealtimePeriod", "realtimePeriod"),
        ("CpuRealtimeRuntime", "realtimeRuntime"),
        ("CpusetCpus", "cpus"),
        ("CpusetMems", "mems"),
    ):
        if host[key]:
            found[name] = host[key]
    return found


def _block(host: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"weight": host["BlkioWeight"]} if host["BlkioWeight"] else {}
    for key, name in (
        ("BlkioDeviceReadBps", "throttleReadBpsDevice"),
        ("BlkioDeviceWriteBps", "throttleWriteBpsDevice"),
        ("BlkioDeviceReadIOps", "throttleReadIOPSDevice"),
        ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice"),
    ):
        entries = []
        for wanted in host[key] or ():
            number = _status(wanted["Path"]).st_rdev
            entries.append({"major": os.major(number), "minor": os.minor(number), "rate": wanted["Rate"]})
        if entries:
            found[name] = entries
    return found


def _device_rules(host: dict[str, Any], nodes: list[tuple[dict[str, Any], str, str]]) -> list[dict[str, Any]]:
    if host["Privileged"]:
        return [{"allow": True, "access": _RWM}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": _RWM}]
    for kind, major, minor, access in _ALLOWED:
        rules.append(_rule(kind, major, minor, access))
    for node, access, _ in nodes:
        rules.append(_rule(node["type"], node["major"], node["minor"], access))
    for text in host["DeviceCgroupRules"] or ():
        kind, numbers, access = text.split(" ")
        major, minor = (None if each == "*" else int(each) for each in numbers.split(":"))
        rules.append(_rule(kind, major, minor, access))
    return rules


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return {**rule, "access": access}


def devices(host: dict[str, Any]) -> list[tuple[dict[str, Any], str, str]]:
    """linux.devices, each with the access of its rule and its path here: those of --device, and with --privileged all
    that the host has.

    Raises MissingError, ManagerError (a path that is no device).
    """
    found: dict[str, tuple[dict[str, Any], str, str]] = {}
    if host["Privileged"]:
        for path in _below("/dev", _NOT_TAKEN):
            node = _node(path, path)
            if node is not None:
                found[path] = (node, _RWM, path)
    for wanted in host["Devices"] or ():
        source, target, access = wanted["PathOnHost"], wanted["PathInContainer"], wanted["CgroupPermissions"]
        if stat.S_ISDIR(_status(source).st_mode):
            several = [(path, target + path[len(source) :]) for path in _below(source)]
        else:
            several = [(source, target)]
        made = [(place, path, node) for path, place in several if (node := _node(path, place)) is not None]
        if not made:
            raise ManagerError(f"--device {source}: not a device")
        for place, path, node in made:
            found[place] = (node, access, path)
    return list(found.values())


def _below(folder: str, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """The paths of what may be devices, in folders of folders."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name in without:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
            yield entry.path


def _node(path: str, place: str) -> dict[str, Any] | None:
    status = _status(path)
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return {
        "path": place,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise MissingError(f"device {path}: {error.strerror}", hint="is it there on the host?") from error
