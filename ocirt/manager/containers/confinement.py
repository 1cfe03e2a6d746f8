"""What a container's program may do: capabilities, the seccomp profile, no_new_privs, AppArmor, paths of /proc."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ocirt.manager.containers import seccomp
from ocirt.manager.containers import values as v
from ocirt.manager.errors import ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.options import Options

DEFAULT = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT"
        " KILL AUDIT_WRITE"
    ).split()
)
"""What a container has unless something else was said: docker's list."""
ALL = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
        " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
        " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL"
        " SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
"""capabilities(7), in the kernel's order: the number of each is its place here."""


def known() -> tuple[str, ...]:
    """Those that "all" can mean here: what this process could have itself (proc_pid_status(5), CapBnd).

    A kernel has no others, and runtimes refuse what the caller's bounding set lacks.
    """
    status = Path("/proc/self/status").read_text()
    bounding = int(status.partition("CapBnd:")[2].split()[0], 16)
    return tuple(name for number, name in enumerate(ALL) if bounding >> number & 1)


def capabilities(host: dict[str, Any]) -> list[str]:
    """What --cap-add, --cap-drop and --privileged come to, as docker has it: "ALL" first, then the others."""
    if host["Privileged"]:
        return list(known())
    add, drop = set(host["CapAdd"] or ()), set(host["CapDrop"] or ())
    if "ALL" in add:
        return [name for name in known() if name not in drop]
    held = () if "ALL" in drop else tuple(name for name in DEFAULT if name not in drop)
    return [name for name in ALL if name in held or name in add]


def security_options(found: Options, flag: str, value: Sequence[str]) -> None:
    """--security-opt: checked, a profile's file read, and kept as docker keeps them: KEY=VALUE. Raises GrammarError,
    ManagerError."""
    kept = found.host["SecurityOpt"] = list(found.host["SecurityOpt"] or ())
    for text in value:
        text = str(text)
        separator = "=" if "=" in text else ":"
        key, given, rest = text.partition(separator)
        if key == "no-new-privileges" and rest in ("", "true", "false"):
            kept.append("no-new-privileges" + (f"={rest}" if given else ""))
        elif key == "seccomp" and rest:
            kept.append(f"seccomp={rest if rest in ('unconfined', 'builtin') else _profile(flag, rest)}")
        elif key == "apparmor" and rest and rest.isprintable() and "/" not in rest:
            kept.append(f"apparmor={rest}")
        elif text in ("label=disable", "label:disable"):
            kept.append("label=disable")
        elif key == "label":
            raise v.wrong(flag, text, "ocim gives no SELinux labels", "label=disable says that none is wanted")
        elif key == "systempaths" and rest == "unconfined":
            found.host["MaskedPaths"], found.host["ReadonlyPaths"] = [], []
        else:
            hint = "seccomp=, no-new-privileges, apparmor=, label=disable, systempaths=unconfined"
            raise v.wrong(flag, text, "not known", hint)


def _profile(flag: str, path: str) -> str:
    """A profile's text on one line; it is tried at once, so that what is wrong with it is said here."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(seccomp.LARGEST + 1)
    except OSError as error:
        raise ManagerError(f"--{flag} seccomp={path}: {error.strerror}", errno=error.errno or 0) from error
    value = seccomp.read(content, f"--{flag} seccomp={path}")
    seccomp.resolve(value, DEFAULT)
    return json.dumps(value, separators=(",", ":"))


def option(host: dict[str, Any], key: str) -> str | None:
    """The last value of a --security-opt: "" for one without a value, None for one that was not given."""
    found = None
    for text in host["SecurityOpt"] or ():
        name, _, rest = text.partition("=")
        if name == key:
            found = rest
    return found


def no_new_privileges(host: dict[str, Any]) -> bool:
    """As prctl(2), PR_SET_NO_NEW_PRIVS."""
    return option(host, "no-new-privileges") in ("", "true")


def filter_of(host: dict[str, Any], held: Sequence[str]) -> dict[str, Any] | None:
    """linux.seccomp of config.json, or None for unconfined. Raises DocumentError (a profile that makes no sense)."""
    given = option(host, "seccomp")
    if given == "unconfined" or (host["Privileged"] and given is None):
        return None
    if given in (None, "builtin"):
        return seccomp.resolve(seccomp.default(), held)
    assert given is not None
    return seccomp.resolve(seccomp.read(given.encode(), "--security-opt seccomp"), held)
