"""`--volume`, `--mount` and `--tmpfs`: docker's texts become HostConfig's "Binds", "Mounts" and "Tmpfs".

A bind of HostConfig stays a text, as in docker's API; `bind` reads one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ocirt.manager import names
from ocirt.manager.containers import values as v
from ocirt.manager.errors import GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.options import Options

PROPAGATIONS = frozenset("private rprivate shared rshared slave rslave".split())
_CONSISTENCIES = frozenset("cached delegated consistent default".split())  # Docker Desktop's; on Linux without meaning
_LABELS = "z", "Z"


@dataclass(frozen=True, slots=True)
class Bind:
    """What a text of --volume says.

    source        absolute path, name of a volume, or "" for one without a name
    mode          the options as they were written
    propagation   one of PROPAGATIONS, or ""
    copy          whether a volume that is empty gets what the image has there
    """

    source: str
    destination: str
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    copy: bool = True


def bind(text: str, flag: str = "volume") -> Bind:
    """`[SOURCE:]DESTINATION[:OPTIONS]`. Raises GrammarError."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or "" in parts:
        raise v.wrong(flag, text, "no volume", "[SOURCE:]DESTINATION[:OPTIONS]")
    source, place, mode = {1: ("", *parts, ""), 2: (*parts, ""), 3: tuple(parts)}[len(parts)]
    if not mode and place and not place.startswith("/") and source.startswith("/"):
        source, place, mode = "", source, place  # DESTINATION:OPTIONS
    if source and not source.startswith("/"):
        _named(flag, text, source)
    writable, propagation, copy = _options(flag, text, mode, bool(source.startswith("/")))
    return Bind(normal(source), destination(flag, place), mode, writable, propagation, copy)


def _named(flag: str, text: str, name: str) -> None:
    try:
        names.name(name, "volume")
    except GrammarError as error:
        raise v.wrong(flag, text, error.message, error.hint) from error


def _options(flag: str, text: str, mode: str, is_bind: bool) -> tuple[bool, str, bool]:
    writable, propagation, copy, access = True, "", True, 0
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            writable, access = word == "rw", access + 1
        elif word in PROPAGATIONS and is_bind and not propagation:
            propagation = word
        elif word == "nocopy" and not is_bind:
            copy = False
        elif word not in _CONSISTENCIES and word not in _LABELS:
            hint = "ro, rw, and for a bind mount shared, slave, private with or without r, for a volume nocopy"
            raise v.wrong(flag, text, f"{word!r} does not fit", hint)
    if access > 1 or ("z" in mode.split(",") and "Z" in mode.split(",")):
        raise v.wrong(flag, text, "two options against each other")
    if set(mode.split(",")) & set(_LABELS) and _selinux():
        raise v.wrong(flag, text, "ocim gives files no SELinux label", "chcon -t container_file_t does")
    return writable, propagation, copy


def _selinux() -> bool:
    return os.path.exists("/sys/fs/selinux/enforce")


def normal(path: str) -> str:
    """An absolute path without dots and doubled slashes; a name of a volume as it is."""
    return os.path.normpath(path).replace("//", "/") if path.startswith("/") else path


def destination(flag: str, text: str) -> str:
    """A place in the container. Raises GrammarError."""
    path = normal(text)
    if not text.startswith("/") or path == "/" or "\0" in text:
        raise v.wrong(flag, text, "no place in a container", "an absolute path, and not /")
    return path


def binds(found: Options, flag: str, value: Sequence[str]) -> None:
    """--volume: a relative source is from here; a volume without a name goes to Config's "Volumes"."""
    for text in value:
        text = str(text)
        if text.startswith((".", "~")) and ":" in text:
            source, _, rest = text.partition(":")
            text = f"{os.path.normpath(Path(source).expanduser().absolute())}:{rest}"
        given = bind(text, flag)
        if given.source:
            found.host["Binds"] = [*(found.host["Binds"] or ()), text]
        elif given.mode:
            # No name and options: docker's API has no place for both but this.
            found.host.setdefault("Mounts", []).append(
                {"Type": "volume", "Target": given.destination, "ReadOnly": not given.writable}
                | ({} if given.copy else {"VolumeOptions": {"NoCopy": True}})
            )
        else:
            found.config["Volumes"][given.destination] = {}


TMPFS_WORDS = frozenset(
    "ro rw suid nosuid dev nodev exec noexec sync async dirsync atime noatime diratime nodiratime relatime norelatime"
    " strictatime nostrictatime noswap".split()
)
TMPFS_VALUES = frozenset("size mode uid gid nr_inodes nr_blocks mpol huge".split())


def tmpfs_flag(found: Options, flag: str, value: Sequence[str]) -> None:
    """--tmpfs DESTINATION[:OPTIONS], as tmpfs(5) and mount(8) have them."""
    for text in value:
        place, _, options = str(text).partition(":")
        for word in options.split(",") if options else ():
            name, equals, rest = word.partition("=")
            if word not in TMPFS_WORDS and not (equals and rest and name in TMPFS_VALUES):
                raise v.wrong(flag, str(text), f"{word!r} is no option of tmpfs")
        found.host.setdefault("Tmpfs", {})[destination(flag, place)] = options


_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def mount_flag(found: Options, flag: str, value: Sequence[str]) -> None:
    """--mount type=…,source=…,target=…: docker's object of it. Raises GrammarError."""
    for text in value:
        found.host.setdefault("Mounts", []).append(_mount(flag, str(text)))


def _mount(flag: str, text: str) -> dict[str, Any]:
    import csv

    given: dict[str, Any] = {"Type": "volume", "Target": ""}
    labels: dict[str, str] = {}
    driver: dict[str, str] = {}
    for word in next(iter(csv.reader([text], strict=True)), []):
        key, equals, rest = word.partition("=")
        key = key.strip().lower()
        if key in ("readonly", "ro", "bind-nonrecursive", "volume-nocopy"):
            truth = _TRUTH.get(rest.lower()) if equals else True
            if truth is None:
                raise v.wrong(flag, text, f"{key}={rest} is neither true nor false")
        elif not equals:
            raise v.wrong(flag, text, f"{word!r} is no KEY=VALUE")
        if key == "type":
            if rest not in ("bind", "volume", "tmpfs"):
                raise v.wrong(flag, text, f"no mount of the type {rest!r}", "bind, volume or tmpfs")
            given["Type"] = rest
        elif key in ("source", "src"):
            given["Source"] = os.path.normpath(Path(rest).absolute()) if rest.startswith(".") else rest
        elif key in ("target", "dst", "destination"):
            given["Target"] = destination(flag, rest)
        elif key in ("readonly", "ro"):
            given["ReadOnly"] = truth
        elif key == "consistency":
            given["Consistency"] = rest
        elif key == "volume-label":
            labels |= v.pairs(flag, [rest])
        elif key == "volume-opt":
            driver |= v.pairs(flag, [rest], value=True)
        else:
            _special(given, flag, text, key, rest, key in ("bind-nonrecursive", "volume-nocopy") and bool(truth))
    if labels:
        given.setdefault("VolumeOptions", {})["Labels"] = labels
    if driver:
        given.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Options"] = driver
    return _fitting(flag, text, given)


def _special(given: dict[str, Any], flag: str, text: str, key: str, rest: str, truth: bool) -> None:
    if key == "bind-propagation" and rest in PROPAGATIONS:
        given.setdefault("BindOptions", {})["Propagation"] = rest
    elif key == "bind-nonrecursive":
        given.setdefault("BindOptions", {})["NonRecursive"] = truth
    elif key == "volume-nocopy":
        given.setdefault("VolumeOptions", {})["NoCopy"] = truth
    elif key == "volume-driver" and rest == "local":
        given.setdefault("VolumeOptions", {})["DriverConfig"] = {"Name": "local"}
    elif key == "tmpfs-size":
        given.setdefault("TmpfsOptions", {})["SizeBytes"] = v.size(flag, rest)
    elif key == "tmpfs-mode":
        if not 0 < len(rest) <= 5 or not set(rest) <= set("01234567"):
            raise v.wrong(flag, text, f"{rest!r} is no mode", "octal, such as 1777")
        given.setdefault("TmpfsOptions", {})["Mode"] = int(rest, 8)
    else:
        raise v.wrong(flag, text, f"{key}={rest} is not known")


_PART_OF = {"BindOptions": "bind", "VolumeOptions": "volume", "TmpfsOptions": "tmpfs"}


def _fitting(flag: str, text: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the type does not have is an error, as is what it needs."""
    kind, source = given["Type"], given.get("Source", "")
    if not given["Target"]:
        raise v.wrong(flag, text, "no target")
    for part, of in _PART_OF.items():
        if part in given and of != kind:
            raise v.wrong(flag, text, f"an option of {of} mounts with the type {kind}")
    if kind == "bind" and not source.startswith("/"):
        raise v.wrong(flag, text, "a bind mount needs a source", "an absolute path, or one that begins with .")
    if kind == "tmpfs" and source:
        raise v.wrong(flag, text, "a tmpfs has no source")
    if kind == "volume" and source:
        _named(flag, text, source)
    if kind == "bind":
        given["Source"] = normal(source)
    return given
