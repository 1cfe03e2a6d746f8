"""A seccomp profile as a table: what comes of which calls, and what of it is not known here."""

from __future__ import annotations

import posix
from errno import errorcode

from ocirt.config.seccomp import (
    DEFAULT_FLAGS,
    ENOSYS,
    FLAGS,
    MACHINES,
    PERMISSIVE,
    POINTER,
    WITH_ERRNO,
    check_seccomp,
    notifies,
)
from ocirt.host.offers import seccomp_flags, words_of
from ocirt.host.seccomp import MULTIPLEXED, NOT_A_SYSCALL, action_of, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = {
    "SCMP_CMP_NE": "is not",
    "SCMP_CMP_LT": "is less than",
    "SCMP_CMP_LE": "is at most",
    "SCMP_CMP_EQ": "is",
    "SCMP_CMP_GE": "is at least",
    "SCMP_CMP_GT": "is greater than",
}
_KERNELS = {"SCMP_ACT_KILL": "kill_thread", "SCMP_ACT_NOTIFY": "user_notif"}
"""Actions as /proc/sys/kernel/seccomp/actions_avail has them, where that is not the name in small letters."""
_MEANS = {
    "SCMP_ACT_KILL": "the thread ends with SIGSYS",
    "SCMP_ACT_KILL_THREAD": "the thread ends with SIGSYS",
    "SCMP_ACT_KILL_PROCESS": "the process ends with SIGSYS",
    "SCMP_ACT_TRAP": "the thread gets SIGSYS",
    "SCMP_ACT_ERRNO": "fails with",
    "SCMP_ACT_NOTIFY": "the agent is asked",
    "SCMP_ACT_TRACE": "the tracer is asked; without one it fails with ENOSYS",
    "SCMP_ACT_LOG": "happens, and is logged",
    "SCMP_ACT_ALLOW": "happens",
}


def seccomp_table(seccomp: dict[str, Any], *, lowers: bool) -> dict[str, Any]:
    """The object of `explain --seccomp --json`. Raises ConfigError for what is wrong in the profile.

      default        {"action", "errno", "errnoName", "means"}
      newer          what comes of calls that are newer than all that the profile names; null: the default
      architectures  [{"name", "pointer", "used"}]; pointer null: the machine's own, which is always there
      flags          [{"name", "pointer", "known"}]: is it known to this kernel?
      rules          [{"action", …, "names", "conditions", "pointer", "counts"}], the default's own action left out
                     ("counts": false)
      unknown        [{"name", "pointer", "known", "then"}]: names that libseccomp has not, or this machine
      actions        actions that this kernel does not know
      warnings       ["POINTER: words"]

    lowers: is capset(2) called after the filter is loaded?
    """
    warnings = check_seccomp(seccomp, lowers=lowers)
    default = _outcome(seccomp, seccomp["defaultAction"], "defaultErrnoRet")
    newer = None
    if seccomp["defaultAction"] not in PERMISSIVE and default["errno"] != ENOSYS and seccomp.get("syscalls"):
        newer = {"action": "SCMP_ACT_ERRNO", "errno": ENOSYS, "errnoName": "ENOSYS", "means": "fails with ENOSYS"}
    used = {seccomp["defaultAction"], *(rule["action"] for rule in seccomp.get("syscalls") or ())}
    return {
        "default": default,
        "newer": newer,
        "architectures": _architectures(seccomp),
        "flags": _flags(seccomp),
        "listenerPath": seccomp.get("listenerPath") if notifies(seccomp) else None,
        "rules": _rules(seccomp),
        "unknown": _unknown(seccomp, default, newer),
        "actions": _unknown_actions(used),
        "warnings": warnings,
    }


def _outcome(holder: dict[str, Any], action: str, name: str) -> dict[str, Any]:
    errno = action_of(holder, action, name) & 0xFFFF if action in WITH_ERRNO else None
    errno_name = errorcode.get(errno, "") if errno is not None else ""
    means = _MEANS[action]
    if action == "SCMP_ACT_ERRNO":
        means = f"{means} {errno_name or errno}" if errno else "returns 0, and does not happen"
    return {"action": action, "errno": errno, "errnoName": errno_name, "means": means}


def _architectures(seccomp: dict[str, Any]) -> list[dict[str, Any]]:
    runs = list(MACHINES[posix.uname().machine])
    listed = seccomp.get("architectures") or []
    found = [
        {"name": name, "pointer": f"{POINTER}/architectures/{at}", "used": name.removeprefix("SCMP_ARCH_") in runs}
        for at, name in enumerate(listed)
    ]
    own = f"SCMP_ARCH_{runs[0]}"
    return found if own in listed else [{"name": own, "pointer": None, "used": True}, *found]


def _flags(seccomp: dict[str, Any]) -> list[dict[str, Any]]:
    known = seccomp_flags()
    names = seccomp.get("flags")
    return [
        {"name": name, "pointer": f"{POINTER}/flags/{at}" if names is not None else None, "known": name in known}
        for at, name in enumerate(DEFAULT_FLAGS if names is None else names)
        if name in FLAGS
    ]


def _rules(seccomp: dict[str, Any]) -> list[dict[str, Any]]:
    default = action_of(seccomp, seccomp["defaultAction"], "defaultErrnoRet")
    found = []
    for index, rule in enumerate(seccomp.get("syscalls") or ()):
        outcome = _outcome(rule, rule["action"], "errnoRet")
        found.append(
            {
                **outcome,
                "names": list(rule["names"]),
                "conditions": conditions(rule.get("args") or []),
                "pointer": f"{POINTER}/syscalls/{index}",
                "counts": action_of(rule, rule["action"], "errnoRet") != default,
            }
        )
    return found


def conditions(args: list[dict[str, Any]]) -> str:
    """In words; "" for none. Two on one argument: any of them is enough."""
    several = len({one["index"] for one in args}) < len(args)
    return (" or " if several else " and ").join(map(_condition, args))


def _condition(one: dict[str, Any]) -> str:
    value = _number(one["value"])
    if one["op"] != "SCMP_CMP_MASKED_EQ":
        return f"argument {one['index']} {_WORDS[one['op']]} {value}"
    wanted = one.get("valueTwo", 0)
    if not wanted:
        return f"argument {one['index']} has no bit of {value}"
    if wanted == one["value"]:
        return f"argument {one['index']} has all bits of {value}"
    return f"argument {one['index']} & {value} is {_number(wanted)}"


def _number(value: int) -> str:
    return str(value) if value < 256 else hex(value)


def _unknown(seccomp: dict[str, Any], default: dict[str, Any], newer: dict[str, Any] | None) -> list[dict[str, Any]]:
    lib = library()
    own = next(iter(MACHINES[posix.uname().machine].values()))
    others = [token for token in _tokens(seccomp) if token != own]
    many = MACHINES["x86_64"]["X86"] in others
    found = []
    for index, rule in enumerate(seccomp.get("syscalls") or ()):
        for place, name in enumerate(rule["names"]):
            text = name.encode()
            where = f"{POINTER}/syscalls/{index}/names/{place}"
            if lib.seccomp_syscall_resolve_name(text) == NOT_A_SYSCALL:
                then = f"ignored: if the kernel has it, it {(newer or default)['means']}"
                if newer and newer["means"] != default["means"]:
                    then += f", or if it is old {default['means']}"
                found.append({"name": name, "pointer": where, "known": False, "then": then})
            elif many and name in MULTIPLEXED:
                continue  # by socketcall(2) and ipc(2)
            elif all(lib.seccomp_syscall_resolve_name_arch(token, text) < 0 for token in (own, *others)):
                then = "this machine's architectures have no such call"
                found.append({"name": name, "pointer": where, "known": True, "then": then})
    return found


def _tokens(seccomp: dict[str, Any]) -> list[int]:
    known = MACHINES[posix.uname().machine]
    listed = [name.removeprefix("SCMP_ARCH_") for name in seccomp.get("architectures") or ()]
    return [known[name] for name in listed if name in known]


def _unknown_actions(used: set[str]) -> list[str]:
    """Of those that are used. Such a filter cannot be loaded; kernels since 4.14 say which they know."""
    known = words_of("/proc/sys/kernel/seccomp/actions_avail")
    if not known:
        return []
    return sorted(one for one in used if _KERNELS.get(one, one.removeprefix("SCMP_ACT_").lower()) not in known)
