"""Seccomp profiles of docker's format, and what of one a container with certain capabilities gets.

A rule there may be for some capabilities, architectures and kernels only ("includes", "excludes", "minKernel"); what
remains is config.json's linux.seccomp, which the runtime compiles.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

from ocirt.manager import documents
from ocirt.manager.errors import DocumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1 << 20
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
_TOP = frozenset(
    "defaultAction defaultErrnoRet architectures archMap flags listenerPath listenerMetadata syscalls".split()
)
_RULE = frozenset("name names action errnoRet args comment includes excludes".split())
_CONDITIONS = frozenset("caps arches minKernel".split())


def default() -> dict[str, Any]:
    """The profile of who asked for none."""
    from ocirt.manager.containers.seccomp_default import PROFILE

    return PROFILE


def read(content: bytes, what: str) -> dict[str, Any]:
    """A profile from bytes. Raises DocumentError, LimitError."""
    value = documents.load(content, what)
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is no seccomp profile: no JSON object")
    _known(value, _TOP, what)
    if not isinstance(value.get("defaultAction"), str):
        raise DocumentError(f"{what} is no seccomp profile: it has no defaultAction")
    if "listenerPath" in value:
        raise DocumentError(f"{what}: listenerPath is not taken", hint="nobody would listen there")
    rules = value.get("syscalls")
    if rules is not None and not (isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules)):
        raise DocumentError(f"{what}: syscalls is no list of objects")
    for number, rule in enumerate(rules or ()):
        where = f"{what}: syscalls/{number}"
        _known(rule, _RULE, where)
        if not isinstance(rule.get("action"), str):
            raise DocumentError(f"{where} has no action")
        if ("name" in rule) == ("names" in rule) and not (rule.get("name") == "" or rule.get("names") == []):
            raise DocumentError(f"{where} needs a name, or names")
        if not all(isinstance(name, str) for name in _names(rule)):
            raise DocumentError(f"{where}: a name is no string")
        for part in ("includes", "excludes"):
            if rule.get(part) is not None and not isinstance(rule[part], dict):
                raise DocumentError(f"{where}: {part} is no object")
            _known(rule.get(part) or {}, _CONDITIONS, f"{where}/{part}")
    if value.get("architectures") and value.get("archMap"):
        raise DocumentError(f"{what} has both architectures and archMap")
    return value


def _known(value: dict[str, Any], names: frozenset[str], what: str) -> None:
    for key in value:
        if key not in names:
            raise DocumentError(f"{what}: {key[:60]!r} is not known")


def _names(rule: dict[str, Any]) -> list[str]:
    return [rule["name"]] if rule.get("name") else list(rule.get("names") or ())


def resolve(profile: dict[str, Any], capabilities: Iterable[str], machine: str = "") -> dict[str, Any]:
    """linux.seccomp of config.json (runtime-spec, config-linux.md). machine: as uname(2) has it, "" for this one's.

    Raises DocumentError.
    """
    machine = machine or os.uname().machine
    architecture, token = _MACHINES.get(machine, (machine, ""))
    held = frozenset(capabilities)
    found: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        found["defaultErrnoRet"] = profile["defaultErrnoRet"]
    architectures = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == token:
            architectures = [token, *(entry.get("subArchitectures") or ())]
    if architectures:
        found["architectures"] = architectures
    if profile.get("flags"):
        found["flags"] = list(profile["flags"])
    rules = []
    for rule in profile.get("syscalls") or ():
        if _applies(rule, held, architecture):
            names = _names(rule)
            kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) not in (None, [])}
            if names:
                rules.append({"names": names, **kept})
    if rules:
        found["syscalls"] = rules
    return found


def _applies(rule: dict[str, Any], held: frozenset[str], architecture: str) -> bool:
    """All capabilities that are included, any architecture of those, and none of what is excluded."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if not held.issuperset(includes.get("caps") or ()):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if includes.get("minKernel") and not _at_least(includes["minKernel"]):
        return False
    if held.intersection(excludes.get("caps") or ()) or architecture in (excludes.get("arches") or ()):
        return False
    return not (excludes.get("minKernel") and _at_least(excludes["minKernel"]))


def _at_least(text: object) -> bool:
    parts = str(text).split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 5 for part in parts):
        raise DocumentError(f"a seccomp profile: minKernel {str(text)[:40]!r} is not VERSION.PATCHLEVEL")
    return _kernel() >= (int(parts[0]), int(parts[1]))


@lru_cache(maxsize=1)
def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split("-")[0].split(".")[:2]
    return int(major), int(minor)
