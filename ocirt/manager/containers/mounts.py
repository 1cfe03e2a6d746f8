"""What is mounted in a container: volumes, bind mounts, tmpfs, and the kernel's own file systems.

At `create` docker's Binds, Mounts, Volumes and VolumesFrom become its list "Mounts", each entry whole; config.json's
mounts are made from that whenever the container starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ocirt.manager.containers.volume_flags import Bind, bind
from ocirt.manager.errors import ConflictError, ManagerError, MissingError
from ocirt.manager.volumes import Volumes, check_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.records import Records
    from ocirt.manager.site import Site


def points(site: Site, records: Records, config: dict[str, Any], host: dict[str, Any]) -> list[dict[str, Any]]:
    """Docker's "Mounts" of a container that is made: volumes are created, missing sources of --volume too.

    Two for the same place are an error unless one is the image's or another container's. Raises ConflictError,
    MissingError, ManagerError.
    """
    volumes = Volumes(site)
    taken = _checked(host)
    for place in config["Volumes"]:
        _outside_proc(os.path.normpath(place).replace("//", "/"), "a volume")
    found: dict[str, dict[str, Any]] = {}
    for text in host["VolumesFrom"] or ():
        name, _, mode = str(text).partition(":")
        for point in records.find(name).document["mounts"]:
            if point["Destination"] not in taken:
                found[point["Destination"]] = {**point, "RW": point["RW"] and mode != "ro"}
    for text in host["Binds"] or ():
        one = bind(text)
        found[one.destination] = _of_bind(volumes, one)
    for wanted in host.get("Mounts") or ():
        if wanted["Type"] != "tmpfs":
            found[wanted["Target"]] = _of_mount(volumes, wanted)
    for place in config["Volumes"]:
        place = os.path.normpath(place).replace("//", "/")
        if place not in found and place not in taken and place != "/":
            found[place] = _volume(volumes, "", place)
    return list(found.values())


def _outside_proc(place: str, what: str) -> None:
    """Files that only look like procfs would deceive who confines the container (CVE-2019-16884, CVE-2019-19921)."""
    if f"{place}/".startswith("/proc/"):
        raise ConflictError(f"{what} at {place}: there is the kernel's own file system")


def _checked(host: dict[str, Any]) -> set[str]:
    """The places that the flags name, when nothing is made yet. Raises ConflictError, MissingError, GrammarError."""
    given = [bind(text) for text in host["Binds"] or ()]
    places = [*(one.destination for one in given), *(host.get("Tmpfs") or ())]
    for one in given:
        if not one.source.startswith("/") or (one.destination == "/proc" != one.source):
            _outside_proc(one.destination, "--volume")
    for place in host.get("Tmpfs") or ():
        _outside_proc(place, "--tmpfs")
    for wanted in host.get("Mounts") or ():
        places.append(wanted["Target"])
        if wanted["Type"] != "bind" or (wanted["Target"] == "/proc" != wanted["Source"]):
            _outside_proc(wanted["Target"], "--mount")
        if wanted["Type"] == "bind" and not os.path.lexists(wanted["Source"]):
            raise MissingError(f"--mount: there is no {wanted['Source']}", hint="--volume would make a folder there")
        check_options(((wanted.get("VolumeOptions") or {}).get("DriverConfig") or {}).get("Options") or {})
    for place in places:
        if places.count(place) > 1:
            raise ConflictError(f"two mounts at {place}")
    return set(places)


def _volume(
    volumes: Volumes, name: str, place: str, mode: str = "", writable: bool = True, **more: Any
) -> dict[str, Any]:
    labels, options = more.pop("labels", None), more.pop("options", None)
    volume = volumes.create(name, labels, options)
    return {
        "Type": "volume",
        "Name": volume.name,
        "Source": str(volume.path),
        "Destination": place,
        "Driver": "local",
        "Mode": mode,
        "RW": writable,
        "Propagation": "",
        **more,
    }


def _of_bind(volumes: Volumes, one: Bind) -> dict[str, Any]:
    if not one.source.startswith("/"):
        return _volume(volumes, one.source, one.destination, one.mode, one.writable, **({} if one.copy else _NOCOPY))
    try:
        os.makedirs(one.source, mode=0o755, exist_ok=True)
    except FileExistsError:  # a file, a socket, a device
        pass
    except OSError as error:
        raise ManagerError(f"--volume: make {one.source}: {error.strerror}", errno=error.errno or 0) from error
    return _bind(one.source, one.destination, one.mode, one.writable, one.propagation)


_NOCOPY = {"NoCopy": True}


def _bind(source: str, place: str, mode: str, writable: bool, propagation: str, **more: Any) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Destination": place,
        "Mode": mode,
        "RW": writable,
        "Propagation": propagation or "rprivate",
        **more,
    }


def _of_mount(volumes: Volumes, wanted: dict[str, Any]) -> dict[str, Any]:
    writable = not wanted.get("ReadOnly")
    if wanted["Type"] == "bind":
        source, options = wanted["Source"], wanted.get("BindOptions") or {}
        more = {"NonRecursive": True} if options.get("NonRecursive") else {}
        return _bind(source, wanted["Target"], "", writable, options.get("Propagation", ""), **more)
    options = wanted.get("VolumeOptions") or {}
    driver = options.get("DriverConfig") or {}
    more = dict(_NOCOPY) if options.get("NoCopy") else {}
    return _volume(
        volumes,
        wanted.get("Source", ""),
        wanted["Target"],
        "",
        writable,
        labels=options.get("Labels"),
        options=driver.get("Options"),
        **more,
    )


# config.json's mounts.

_KERNELS: tuple[tuple[str, str, str, str], ...] = (
    ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777"),
)


def compiled(
    document: dict[str, Any], files: Mapping[str, str], shm: str, volumes: Volumes, rootless: bool = False
) -> list[dict[str, Any]]:
    """All mounts of config.json, in the order in which they are made: what lies above comes first.

    files: place in the container → path here, of resolv.conf and the like. shm: the folder that is /dev/shm, "" for an
    own tmpfs. Raises MissingError (a volume that was removed by hand).
    """
    host = document["host"]
    made: dict[str, dict[str, Any]] = {}
    for place, kind, source, options in _KERNELS:
        made[place] = _mount(place, kind, source, options.split(","))
    _adapted(made, host, shm, rootless)
    for place, path in files.items():
        words = ["rbind", "rprivate"] + (["ro"] if host["ReadonlyRootfs"] else [])
        made[place] = _mount(place, "bind", path, words)
    own = {place for place, *_ in _KERNELS}
    for place, entry in _wanted(document, volumes).items():
        if place in own:  # /dev of the user's: nothing of ours over it, but what they did not name
            made.pop(place)
        made[place] = entry
    return sorted(made.values(), key=lambda entry: entry["destination"].count("/"))


def _mount(place: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source, "options": options}


def _adapted(made: dict[str, dict[str, Any]], host: dict[str, Any], shm: str, rootless: bool) -> None:
    """The kernel's file systems, by what the container is."""
    if host["Privileged"]:
        for place in ("/sys", "/sys/fs/cgroup"):
            made[place]["options"].remove("ro")
    if host["IpcMode"] == "host":
        made["/dev/shm"] = _mount("/dev/shm", "bind", "/dev/shm", ["rbind", "nosuid", "noexec", "nodev"])
    elif host["IpcMode"] == "none":
        del made["/dev/shm"]
    elif shm:
        made["/dev/shm"] = _mount("/dev/shm", "bind", shm, ["rbind", "rprivate", "nosuid", "noexec", "nodev"])
    else:
        made["/dev/shm"]["options"].append(f"size={host['ShmSize']}")
    if rootless and host["IpcMode"] not in ("private", "shareable", "none"):
        # Queues of a namespace that is not their own are not an ordinary user's to mount.
        del made["/dev/mqueue"]
        if host["IpcMode"] == "host" and os.path.isdir("/dev/mqueue"):
            made["/dev/mqueue"] = _mount("/dev/mqueue", "bind", "/dev/mqueue", ["rbind", "nosuid", "noexec", "nodev"])
    if host["PidMode"] == "host" and rootless:
        made["/proc"] = _mount("/proc", "bind", "/proc", ["rbind", "nosuid", "noexec", "nodev"])
    if host["NetworkMode"] == "host" and rootless:
        # sysfs belongs to the network namespace's owner.
        made["/sys"] = _mount("/sys", "bind", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"])
        del made["/sys/fs/cgroup"]


def _wanted(document: dict[str, Any], volumes: Volumes) -> dict[str, dict[str, Any]]:
    host = document["host"]
    found: dict[str, dict[str, Any]] = {}
    for point in document["mounts"]:
        place = point["Destination"]
        options = ["bind" if point.get("NonRecursive") else "rbind"]
        entry = _mount(place, "bind", point["Source"], options)
        if point["Type"] == "volume":
            volume = volumes.find(point["Name"])
            if volume.mount is not None:
                entry = {"destination": place, **volume.mount}
                options = entry["options"]
        options += [point["Propagation"] or "rprivate"]
        if not point["RW"]:
            options.append("ro")
        found[place] = entry
    for place, text in (host.get("Tmpfs") or {}).items():
        found[place] = _tmpfs(place, text.split(",") if text else [])
    for wanted in host.get("Mounts") or ():
        if wanted["Type"] == "tmpfs":
            given = wanted.get("TmpfsOptions") or {}
            options = [f"size={given['SizeBytes']}"] if given.get("SizeBytes") else []
            options += [f"mode={given['Mode']:o}"] if given.get("Mode") else []
            options += ["ro"] if wanted.get("ReadOnly") else []
            found[wanted["Target"]] = _tmpfs(wanted["Target"], options)
    return found


def _tmpfs(place: str, options: list[str]) -> dict[str, Any]:
    """nosuid, nodev and noexec, unless the contrary was said; 1777 as the kernel has it."""
    words = [
        word for word in ("nosuid", "nodev", "noexec") if word not in options and word.removeprefix("no") not in options
    ]
    return _mount(place, "tmpfs", "tmpfs", words + options)
