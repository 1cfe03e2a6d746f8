"""linux.seccomp (config-linux.md, "Seccomp"): its names, its shape, its meaning.

shape.py takes a profile as it is, because it has a thousand values: what is here is called before one is compiled. A
filter that is in the cache (host/filters.py) was compiled from a profile that was checked.
"""

from __future__ import annotations

from ocirt.config.shape import U32, U64, array, check_shape, integer, record, string
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

POINTER = "/linux/seccomp"
EPERM, ENOSYS = 1, 38
MAX_ERRNO = 4094
"""The largest that libseccomp takes; the kernel's is one more (include/linux/err.h)."""

ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
"""Name → what the filter returns (SECCOMP_RET_*); the low 16 bits are free for an errno."""
WITH_ERRNO = {"SCMP_ACT_ERRNO": MAX_ERRNO, "SCMP_ACT_TRACE": 0xFFFF}
"""Action → the largest errnoRet. For the others an errnoRet is an error (the specification: MUST)."""
LETS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
"""The actions that let a call happen whatever else there is; SCMP_ACT_TRACE needs a tracer."""
PERMISSIVE = (*LETS, "SCMP_ACT_TRACE")
"""As default: what a profile does not know still works, or a tracer emulates it."""

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
"""Name → libseccomp's enum scmp_compare."""

NEW_LISTENER = 1 << 3
TSYNC_ESRCH = 1 << 4
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
"""Name → seccomp(2)'s flag."""
DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
"""Where `flags` is absent, as runc has it: without, every program with a filter pays for Spectre's mitigation."""

ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC"
    " PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
).split()
"""The specification's, without SCMP_ARCH_."""
MACHINES = {
    "x86_64": {"X86_64": 0xC000003E, "X86": 0x40000003, "X32": 0x4000003E},
    "aarch64": {"AARCH64": 0xC00000B7, "ARM": 0x40000028},
    "riscv64": {"RISCV64": 0xC00000F3},
}
"""uname(2)'s machine → the architectures whose programs it runs, its own first, and libseccomp's token of each
(AUDIT_ARCH_*, but for x32)."""

_CONDITION = record(
    {"index": integer(0, 5), "value": U64, "valueTwo": U64, "op": string},
    ("index", "value", "op"),
)
_RULE = record(
    {"names": array(string), "action": string, "errnoRet": U32, "args": array(_CONDITION)},
    ("names", "action"),
)
SECCOMP = record(
    {
        "defaultAction": string,
        "defaultErrnoRet": U32,
        "architectures": array(string),
        "flags": array(string),
        "listenerPath": string,
        "listenerMetadata": string,
        "syscalls": array(_RULE),
    },
    ("defaultAction",),
)


def check_seccomp(seccomp: dict[str, Any], *, lowers: bool) -> list[str]:
    """Raise ConfigError for the first value that is not what the specification asks for; returns warnings.

    lowers: is capset(2) called after the filter is loaded?
    """
    check_shape(seccomp, SECCOMP, ("linux", "seccomp"))
    default = seccomp["defaultAction"]
    _known(default, ACTIONS, "seccomp action", f"{POINTER}/defaultAction")
    _errno(seccomp, default, "defaultErrnoRet", POINTER)
    if default == "SCMP_ACT_NOTIFY":
        raise ConfigError(
            "SCMP_ACT_NOTIFY cannot be the default",
            pointer=f"{POINTER}/defaultAction",
            hint="the agent would be asked about the start of the very program that it waits for",
        )
    for index, name in enumerate(seccomp.get("architectures") or ()):
        known = [f"SCMP_ARCH_{one}" for one in ARCHITECTURES]
        _known(name, known, "architecture", f"{POINTER}/architectures/{index}")
    for index, name in enumerate(seccomp.get("flags") or ()):
        _known(name, FLAGS, "seccomp flag", f"{POINTER}/flags/{index}")
    for index, rule in enumerate(seccomp.get("syscalls") or ()):
        _rule(rule, f"{POINTER}/syscalls/{index}")
    _notify(seccomp, ("execve", "capset") if lowers else ("execve",))
    return list(_forbidden(seccomp, lowers))


def _rule(rule: dict[str, Any], pointer: str) -> None:
    action = rule["action"]
    if not rule["names"]:
        raise ConfigError("names must not be empty", pointer=f"{pointer}/names")
    _known(action, ACTIONS, "seccomp action", f"{pointer}/action")
    _errno(rule, action, "errnoRet", pointer)
    for index, condition in enumerate(rule.get("args") or ()):
        _known(condition["op"], OPERATORS, "comparison", f"{pointer}/args/{index}/op")


def _known(name: str, known: Iterable[str], what: str, pointer: str) -> None:
    if name not in known:
        from ocirt.config.schema import meant

        hint = meant(name, known) or f"one of {', '.join(known)}"
        raise ConfigError(f'unknown {what} "{name}"', pointer=pointer, hint=hint)


def _errno(holder: dict[str, Any], action: str, name: str, pointer: str) -> None:
    if name not in holder:
        return
    most = WITH_ERRNO.get(action)
    if most is None:
        raise ConfigError(
            f"{action} has no errno", pointer=f"{pointer}/{name}", hint=f"only {' and '.join(WITH_ERRNO)} have one"
        )
    if holder[name] > most:
        raise ConfigError(f"expected an errno of at most {most}, got {holder[name]}", pointer=f"{pointer}/{name}")


def _notify(seccomp: dict[str, Any], needed: tuple[str, ...]) -> None:
    """What a listener needs, and what it cannot be asked."""
    asked = notifies(seccomp)
    if not asked:
        if "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in (flags := seccomp.get("flags") or ()):
            raise ConfigError(
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY",
                pointer=f"{POINTER}/flags/{flags.index('SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV')}",
            )
        if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
            raise ConfigError(
                "expected a value: listenerMetadata needs it, got nothing", pointer=f"{POINTER}/listenerPath"
            )
        return
    path = seccomp.get("listenerPath") or ""
    if not path.startswith("/") or len(path.encode()) > 107:
        raise ConfigError(
            f'expected the absolute path of a unix socket, of at most 107 bytes, got "{path}"',
            pointer=f"{POINTER}/listenerPath",
            hint="SCMP_ACT_NOTIFY needs one to answer",
        )
    for index, rule in enumerate(seccomp.get("syscalls") or ()):
        for name in needed:
            if rule["action"] == "SCMP_ACT_NOTIFY" and name in rule["names"]:
                raise ConfigError(
                    f"SCMP_ACT_NOTIFY cannot be for {name}",
                    pointer=f"{POINTER}/syscalls/{index}/names/{rule['names'].index(name)}",
                    hint="the program's start itself needs it",
                )


def notifies(seccomp: dict[str, Any]) -> bool:
    """Is there a rule that asks a listener?"""
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in seccomp.get("syscalls") or ())


def outcomes(seccomp: dict[str, Any], name: str) -> set[str]:
    """The actions that a call of this name may meet, whatever its arguments are."""
    rules = [rule for rule in seccomp.get("syscalls") or () if name in rule["names"]]
    found = {rule["action"] for rule in rules}
    return found if any(not rule.get("args") for rule in rules) else found | {seccomp["defaultAction"]}


def _forbidden(seccomp: dict[str, Any], lowers: bool) -> Iterator[str]:
    for name in ("capset", "execve") if lowers else ("execve",):
        forbid = sorted(outcomes(seccomp, name).difference(LETS))
        if forbid:
            why = "the program's start" if name == "execve" else "giving up CAP_SYS_ADMIN (noNewPrivileges is not set)"
            yield f"{POINTER}: {' or '.join(forbid)} for {name}, which {why} needs"
