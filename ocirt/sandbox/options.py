"""What a sandbox is asked to be: the keywords of `run` and `Pool`, checked, as one value that a socket can carry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ocirt.errors import UsageError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY = 256 << 20
"""Bytes that a sandbox may use unless it is told otherwise; what it writes to its writable layer counts."""
PIDS = 128
"""Processes and threads."""
MAX_OUTPUT = 1 << 20
"""Bytes of stdout, and of stderr, that are kept."""
IDS = 65536
"""User and group ids that there are in a sandbox: 0 to one less."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Bind = str | tuple[str, str] | tuple[str, str, bool]
"""A folder or file of the host: "SOURCE:DESTINATION", with ":rw" at the end writable; or that as a tuple."""


def amount(text: int | str, what: str = "memory") -> int:
    """Bytes from a number or "64M" (units of 1024). Raises UsageError."""
    number, unit = (str(text), "") if isinstance(text, int) else (text[:-1], text[-1:].upper())
    if unit.isdigit():
        number, unit = f"{number}{unit}", ""
    if not (number.isascii() and number.isdigit() and unit in _UNITS and int(number) > 0):
        raise UsageError(f'{what}: expected bytes such as 67108864 or "64M", got "{text}"')
    return int(number) * _UNITS[unit]


def options(
    argv: Sequence[str] | None,
    *,
    rootfs: str | os.PathLike[str] | None = None,
    overlay: bool = True,
    timeout: float | None = None,
    memory: int | str | None = None,
    pids: int | None = None,
    cpus: float | None = None,
    network: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    user: int | str = 0,
    binds: Sequence[Bind] = (),
    max_output: int | str = MAX_OUTPUT,
) -> dict[str, Any]:
    """The keywords as the keeper takes them; docs/sandbox.md has what each means. Raises UsageError.

    argv: None for a pool whose runs have one each.
    """
    if not cwd.startswith("/"):
        raise UsageError(f'cwd: expected an absolute path, got "{cwd}"')
    return {
        "argv": None if argv is None else program_of(argv),
        "rootfs": None if rootfs is None else _folder(os.fspath(rootfs)),
        "overlay": bool(overlay),
        "timeout": timeout_of(timeout),
        "memory": MEMORY if memory is None else amount(memory),
        "pids": PIDS if pids is None else _whole(pids, "pids"),
        "cpus": None if cpus is None else _positive(cpus, "cpus"),
        "network": bool(network),
        "env": environment_of(env or {}),
        "cwd": cwd,
        "user": _user(user),
        "binds": [_bind(one) for one in binds],
        "max_output": amount(max_output, "max_output"),
    }


def program_of(argv: Sequence[str]) -> list[str]:
    """A program and its arguments, checked. Raises UsageError."""
    if isinstance(argv, str | bytes) or not argv or not all(isinstance(one, str) for one in argv):
        raise UsageError("argv: expected a list of strings, the program first", hint='such as ["sh", "-c", "true"]')
    if any("\0" in one for one in argv) or not argv[0]:
        raise UsageError("argv: a program needs a name, and no argument can hold a zero byte")
    return list(argv)


def timeout_of(timeout: float | None) -> float | None:
    """Seconds. Raises UsageError."""
    return None if timeout is None else _positive(timeout, "timeout")


def _positive(number: float, what: str) -> float:
    if not 0 < number < 1e9:  # neither infinity nor what is no number
        raise UsageError(f"{what}: expected a number above 0, got {number}")
    return float(number)


def _whole(number: int, what: str) -> int:
    if number < 1:
        raise UsageError(f"{what}: expected at least 1, got {number}")
    return int(number)


def _folder(path: str) -> str:
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        raise UsageError(f"rootfs: {path} is no folder")
    return real


def environment_of(env: Mapping[str, str]) -> list[str]:
    """As execve(2) takes it. Raises UsageError."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f'env: "{name}" cannot be the name of a variable, or its value holds a zero byte')
    return [f"{name}={value}" for name, value in env.items()]


def _user(user: int | str) -> list[int]:
    """[uid, gid] from 1000, "1000" or "1000:100"; the group is the user's number unless it is given."""
    uid, _, gid = str(user).partition(":")
    found = [uid, gid or uid]
    if not all(one.isascii() and one.isdigit() and int(one) < IDS for one in found):
        raise UsageError(f'user: expected UID or UID:GID, numbers below {IDS}, got "{user}"')
    return [int(one) for one in found]


def _bind(bind: Bind) -> list[Any]:
    """[source, destination, is it writable?]."""
    writable = False
    if isinstance(bind, str):
        parts = bind.split(":")
        mode = parts.pop() if len(parts) == 3 else "ro"
        if mode not in ("ro", "rw") or len(parts) != 2:
            raise UsageError(f'binds: expected SOURCE:DESTINATION or SOURCE:DESTINATION:rw, got "{bind}"')
        source, destination = parts
        writable = mode == "rw"
    else:
        source, destination, *rest = bind
        writable = bool(rest and rest[0])
    if not destination.startswith("/") or not any(part not in ("", ".") for part in destination.split("/")):
        raise UsageError(f'binds: the destination must be an absolute path below "/", got "{destination}"')
    real = os.path.realpath(source)
    if not os.path.exists(real):
        raise UsageError(f"binds: {source} does not exist")
    return [real, destination, writable]
