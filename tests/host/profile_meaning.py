"""What a profile means, written from the specification (config-linux.md, "Seccomp") and not from the compiler.

What the specification leaves open is as docs/seccomp.md says: a second condition on one argument makes all of them
alternatives; calls beyond those that the profile names for an architecture fail with ENOSYS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
AUDIT = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0xC000003E}
FILES = {"SCMP_ARCH_X86_64": "unistd_64.h", "SCMP_ARCH_X86": "unistd_32.h", "SCMP_ARCH_X32": "unistd_x32.h"}
X32 = 0x40000000
ENOSYS = 38
KILL_THREAD = 0
RETURNS = {  # linux/seccomp.h
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}


@cache
def numbers(arch: str) -> dict[str, int]:
    """name → number of an architecture's system calls, from the kernel's own header."""
    found = {}
    for name, bit, number in re.findall(
        r"^#define __NR_(\w+)\s+\(?(__X32_SYSCALL_BIT \+ )?(\d+)", (HEADERS / FILES[arch]).read_text(), re.M
    ):
        found[name] = int(number) + (X32 if bit else 0)
    return found


def returned(holder: dict[str, Any], action: str, errno: str) -> int:
    has_errno = action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    return RETURNS[action] + (holder.get(errno, 1) if has_errno else 0)


def holds(condition: dict[str, Any], args: Sequence[int]) -> bool:
    value, wanted = args[condition["index"]], condition["value"]
    match condition["op"].removeprefix("SCMP_CMP_"):
        case "NE":
            return value != wanted
        case "LT":
            return value < wanted
        case "LE":
            return value <= wanted
        case "EQ":
            return value == wanted
        case "GE":
            return value >= wanted
        case "GT":
            return value > wanted
        case "MASKED_EQ":
            return value & wanted == condition.get("valueTwo", 0)
    raise AssertionError(condition)


def matches(rule: dict[str, Any], args: Sequence[int]) -> bool:
    conditions = rule.get("args") or []
    indices = [condition["index"] for condition in conditions]
    several = len(set(indices)) < len(indices)
    return (any if several else all)(holds(condition, args) for condition in conditions)


def meaning(profile: dict[str, Any], audit: int, number: int, args: Sequence[int]) -> int:
    """What has to come of one call on an x86_64 machine."""
    listed = {"SCMP_ARCH_X86_64", *(profile.get("architectures") or [])}
    arch = "SCMP_ARCH_X86" if audit == AUDIT["SCMP_ARCH_X86"] else "SCMP_ARCH_X86_64"
    if audit not in AUDIT.values():
        return KILL_THREAD
    if arch == "SCMP_ARCH_X86_64" and number & X32:
        arch = "SCMP_ARCH_X32"
    if arch not in listed:
        return KILL_THREAD
    default = returned(profile, profile["defaultAction"], "defaultErrnoRet")
    known = numbers(arch)
    rules = profile.get("syscalls") or []
    named = {known[name] for rule in rules for name in rule["names"] if name in known}
    refuses = profile["defaultAction"] not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    if refuses and named and number > max(named):
        return RETURNS["SCMP_ACT_ERRNO"] + ENOSYS
    for rule in rules:
        if number in {known.get(name) for name in rule["names"]} and matches(rule, args):
            action = returned(rule, rule["action"], "errnoRet")
            if action != default:
                return action
    return default
