"""What a config.json must say beyond its shape: rules that need no look at the host.

Every rule raises ConfigError with the pointer of the offending value, what was expected, and a hint.
"""

from __future__ import annotations

from ocirt.config.names import CAPABILITIES, NAMESPACES, RLIMITS
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.config.read import Config

_RARE = {"scheduler", "ioPriority", "execCPUAffinity", "personality", "memoryPolicy"}
"""Of process and linux; check_process.py has their rules."""


def check_meaning(config: Config) -> None:
    """Raise ConfigError for the first rule that the configuration breaks; note warnings on it."""
    spec = config.spec
    _version(spec["ociVersion"])
    if not spec.get("linux"):
        _other_platform(spec)
    if not spec.get("root"):
        raise ConfigError("expected an object, got nothing", pointer="/root", hint="it names the root file system")
    check_path(spec["root"]["path"], "/root/path")
    if spec.get("process") is None:
        raise ConfigError("expected an object, got nothing", pointer="/process", hint="it names the program to run")
    check_process(config)
    for index, mount in enumerate(spec.get("mounts") or ()):
        check_mount(mount, f"/mounts/{index}", config)
    linux = spec.get("linux") or {}
    _linux(linux, spec)
    if linux.get("netDevices"):
        from ocirt.config.check_net_devices import check_net_devices

        check_net_devices(linux["netDevices"], {one["type"] for one in linux.get("namespaces") or ()})
    if linux.get("intelRdt"):
        from ocirt.config.check_intel_rdt import check_intel_rdt

        check_intel_rdt(linux["intelRdt"], config)
    if spec.get("hooks"):
        from ocirt.config.hooks import check_hooks

        check_hooks(spec["hooks"])


def _version(version: str) -> None:
    numbers, _, _ = version.partition("+")
    numbers, _, _ = numbers.partition("-")
    parts = numbers.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f'expected a version such as 1.3.0, got "{version}"', pointer="/ociVersion")
    if parts[0] != "1":
        raise ConfigError(f"expected a version 1.x, got {version}", pointer="/ociVersion")


def _other_platform(spec: dict[str, Any]) -> None:
    for platform in ("windows", "solaris", "vm", "zos", "freebsd"):
        if spec.get(platform):
            raise ConfigError(
                f"this bundle is for {platform}: it has no linux section",
                pointer=f"/{platform}",
                hint="ocirt runs Linux",
            )
    raise ConfigError(
        "expected an object, got nothing", pointer="/linux", hint="a container needs linux.namespaces at least"
    )


def check_path(path: str, pointer: str) -> None:
    if not path:
        raise ConfigError("expected a path, got an empty string", pointer=pointer)
    if len(path.encode()) > 4095:
        raise ConfigError(f"expected a path of at most 4095 bytes, got {len(path.encode())}", pointer=pointer)
    if len(path) > 255 // 4 and any(len(part.encode()) > 255 for part in path.split("/")):
        raise ConfigError("expected names of at most 255 bytes in a path, got a longer one", pointer=pointer)


def check_process(config: Config) -> None:
    """The rules about the process, that of a container or one of `exec`; and those that are like them in linux."""
    process, linux = config.spec["process"], config.spec.get("linux") or {}
    if not process["cwd"].startswith("/"):
        raise ConfigError(f'expected an absolute path, got "{process["cwd"]}"', pointer="/process/cwd")
    check_path(process["cwd"], "/process/cwd")
    args = process.get("args") or ()
    if not args:
        raise ConfigError("args must not be empty", pointer="/process/args", hint="its first entry is the program")
    if not args[0]:
        raise ConfigError("expected a program, got an empty string", pointer="/process/args/0")
    for index, entry in enumerate(process.get("env") or ()):
        if entry.find("=") < 1:
            raise ConfigError(f'expected NAME=value, got "{entry[:40]}"', pointer=f"/process/env/{index}")
    _rlimits(process.get("rlimits") or ())
    _capabilities(process.get("capabilities") or {}, config)
    if not (_RARE.isdisjoint(process) and _RARE.isdisjoint(linux)):
        from ocirt.config.check_process import check_rare

        check_rare(config, process, linux)


def _rlimits(rlimits: Sequence[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for index, limit in enumerate(rlimits):
        pointer = f"/process/rlimits/{index}"
        name = limit["type"]
        if name not in RLIMITS:
            raise ConfigError(f'unknown resource limit "{name}"', pointer=pointer + "/type", hint=guess(name, RLIMITS))
        if name in seen:
            raise ConfigError(f"{name} is set twice, first at /process/rlimits/{seen[name]}", pointer=pointer + "/type")
        seen[name] = index
        if limit["soft"] > limit["hard"]:
            raise ConfigError(
                f"the soft limit {limit['soft']} is above the hard limit {limit['hard']}", pointer=pointer + "/soft"
            )


def _capabilities(sets: dict[str, list[str] | None], config: Config) -> None:
    """Unknown names are errors up to spec 1.0 and warnings since 1.1 (runtime-spec #1094)."""
    old = config.spec["ociVersion"].startswith("1.0.")
    for name, members in sets.items():
        if name not in ("bounding", "effective", "inheritable", "permitted", "ambient"):
            continue
        for index, capability in enumerate(members or ()):
            if capability in CAPABILITIES:
                continue
            pointer = f"/process/capabilities/{name}/{index}"
            message = f'unknown capability "{capability}"'
            if old:
                raise ConfigError(message, pointer=pointer, hint=guess(capability, CAPABILITIES))
            config.warnings.append(f"{pointer}: {message}: ignored")


def check_mount(mount: dict[str, Any], pointer: str, config: Config) -> None:
    destination = mount["destination"]
    check_path(destination, pointer + "/destination")
    if not destination.startswith("/"):
        config.warnings.append(f"{pointer}/destination: relative paths are deprecated: taken as /{destination}")
    options = mount.get("options") or ()
    if "remount" in options:
        return  # whatever is mounted there, from wherever
    if "bind" in options or "rbind" in options:
        if not mount.get("source"):
            raise ConfigError("a bind mount needs a source", pointer=pointer + "/source")
        check_path(mount["source"], pointer + "/source")
    elif not mount.get("type"):
        raise ConfigError(
            "a mount needs a type", pointer=pointer + "/type", hint='or the option "bind", if a bind mount is meant'
        )
    elif mount["type"] in ("bind", "rbind", "none"):
        raise ConfigError(
            f'the type "{mount["type"]}" alone does not make a bind mount',
            pointer=pointer + "/options",
            hint='add the option "bind" or "rbind"',
        )


_NAMESPACED = frozenset(("uidMappings", "gidMappings", "timeOffsets"))


def _linux(linux: dict[str, Any], spec: dict[str, Any]) -> None:
    kinds: dict[str, int] = {}
    for index, namespace in enumerate(linux.get("namespaces") or ()):
        kind = namespace["type"]
        pointer = f"/linux/namespaces/{index}/type"
        if kind not in NAMESPACES:
            raise ConfigError(f'unknown namespace type "{kind}"', pointer=pointer, hint=guess(kind, NAMESPACES))
        if kind in kinds:
            raise ConfigError(
                f"a second {kind} namespace, after /linux/namespaces/{kinds[kind]}", pointer=pointer, hint="remove one"
            )
        kinds[kind] = index
    namespaces = linux.get("namespaces") or ()
    if (
        "user" in kinds
        or "time" in kinds
        or any(one.get("path") for one in namespaces)
        or _NAMESPACED.intersection(linux)
    ):
        from ocirt.config.check_namespaces import check_namespaces

        check_namespaces(spec, namespaces)
    if linux.get("rootfsPropagation") or linux.get("mountLabel"):
        from ocirt.config.check_mounts import check_root_mount

        check_root_mount(spec, linux)
    for name in ("hostname", "domainname"):
        if spec.get(name) and "uts" not in kinds:
            raise ConfigError(
                f"{name} needs a uts namespace, or it would be the host's",
                pointer=f"/{name}",
                hint='add {"type": "uts"} to /linux/namespaces',
            )
        if len((spec.get(name) or "").encode()) > 64:
            raise ConfigError(
                f"expected at most 64 bytes, got {len(spec[name].encode())}",
                pointer=f"/{name}",
                hint="the kernel's limit",
            )
    for name in ("maskedPaths", "readonlyPaths"):
        for index, path in enumerate(linux.get(name) or ()):
            if not path.startswith("/"):
                raise ConfigError(f'expected an absolute path, got "{path}"', pointer=f"/linux/{name}/{index}")
            check_path(path, f"/linux/{name}/{index}")
    if linux.get("sysctl"):
        from ocirt.config.sysctl import check_sysctl

        check_sysctl(linux["sysctl"], kinds)
    if linux.get("devices"):
        from ocirt.config.check_devices import check_devices

        check_devices(linux["devices"])
    cgroups_path = linux.get("cgroupsPath") or ""
    if ".." in cgroups_path.split("/"):
        raise ConfigError(f'".." has no place in a cgroup path, got "{cgroups_path}"', pointer="/linux/cgroupsPath")
    check_path(cgroups_path or "/", "/linux/cgroupsPath")
    resources = linux.get("resources") or {}
    for index, rule in enumerate(resources.get("devices") or ()):
        _device_rule(rule, f"/linux/resources/devices/{index}")
    if any(value for name, value in resources.items() if name != "devices"):
        from ocirt.config.check_resources import check_resources

        check_resources(resources)


def _device_rule(rule: dict[str, Any], pointer: str) -> None:
    kind = rule.get("type", "a")
    if kind not in ("a", "b", "c", "u", ""):
        raise ConfigError(f'expected "a", "b" or "c", got "{kind}"', pointer=pointer + "/type")
    access = rule.get("access", "")
    if set(access) - set("rwm"):
        raise ConfigError(f'expected letters of "rwm", got "{access}"', pointer=pointer + "/access")
    for name in ("major", "minor"):
        if not -1 <= rule.get(name, -1) < 2**32:
            raise ConfigError(
                f"expected -1 (any) or a number below 2^32, got {rule[name]}", pointer=f"{pointer}/{name}"
            )


def guess(word: str, known: dict[str, Any]) -> str:
    """ "did you mean …?", if one of the known names is near."""
    from difflib import get_close_matches

    near = get_close_matches(word.upper(), known, 1) or get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
