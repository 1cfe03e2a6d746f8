"""Texts of flags as docker writes them: sizes, durations, whole numbers, ulimits, devices, files of variables.

Each function takes the flag's name for its error, which is a GrammarError of one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ocirt.manager.errors import GrammarError, ManagerError

LARGEST = (1 << 63) - 1
LARGEST_FILE = 1 << 20
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:i?b)?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG"
    " XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()
ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack as".split()
)


def wrong(flag: str, text: str, why: str, hint: str = "") -> GrammarError:
    """The error for what a flag was given."""
    return GrammarError(f"--{flag} {text[:200]}: {why}", hint=hint)


def size(flag: str, text: str) -> int:
    """ "64m", "1.5g", "1073741824", "512KiB": bytes, units of 1024. Raises GrammarError."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise wrong(flag, text, "no size", "a number and b, k, m, g, t or p, such as 64m")
    factor = 1 << 10 * " kmgtp".index(found[2]) if found[2] not in ("", "b") else 1
    value = int(float(found[1]) * factor) if "." in found[1] else int(found[1]) * factor
    if value > LARGEST:
        raise wrong(flag, text, "more bytes than the kernel counts")
    return value


def duration(flag: str, text: str) -> int:
    """ "1m30s", "100ms", "0": nanoseconds, in Go's words. Raises GrammarError."""
    if text == "0":
        return 0
    total = end = 0
    for found in _DURATION.finditer(text):
        if found.start() != end:
            break
        total += round(float(found[1]) * _UNITS[found[2]])
        end = found.end()
    if not text or end != len(text):
        raise wrong(flag, text, "no duration", "such as 30s, 1m30s or 500ms")
    if total > LARGEST:
        raise wrong(flag, text, "too long")
    return total


def whole(flag: str, value: object, least: int = -LARGEST, most: int = LARGEST) -> int:
    """A whole number in a range. Raises GrammarError."""
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise wrong(flag, text, "no whole number")
    number = int(text)
    if not least <= number <= most:
        raise wrong(flag, text, f"not from {least} to {most}")
    return number


def cpus(flag: str, value: object) -> int:
    """ "1.5": processors, in billionths. Raises GrammarError."""
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text):
        raise wrong(flag, text, "no number of processors", "such as 0.5 or 2")
    before, _, after = text.partition(".")
    return int(before or "0") * 10**9 + int(after.ljust(9, "0") or "0")


def signal(flag: str, value: object) -> str:
    """ "TERM", "SIGTERM", "15", "SIGRTMIN+3": checked, as it was written. Raises GrammarError."""
    text = str(value).strip()
    name = text.upper().removeprefix("SIG")
    if name in _SIGNALS or (name.isascii() and name.isdecimal() and 0 < int(name[:4]) <= 64):
        return text
    real = re.fullmatch(r"RT(MIN\+(\d\d?)|MAX-(\d\d?)|MIN|MAX)", name, re.ASCII)
    if real and int(real[2] or real[3] or 0) <= 30:
        return text
    raise wrong(flag, text, "no signal", "a name such as SIGTERM, or a number from 1 to 64")


def ulimit(flag: str, text: str) -> dict[str, str | int]:
    """ "nofile=1024:2048": docker's object of it. -1 is unlimited. Raises GrammarError."""
    name, equals, limits = text.partition("=")
    if name not in ULIMITS:
        raise wrong(flag, text, f"no limit is called {name!r}", ", ".join(sorted(ULIMITS)))
    soft, colon, hard = limits.partition(":")
    if not equals:
        raise wrong(flag, text, "no value", "NAME=SOFT[:HARD]")
    lower = whole(flag, soft, -1)
    upper = whole(flag, hard, -1) if colon else lower
    if upper != -1 and (lower == -1 or lower > upper):
        raise wrong(flag, text, "the soft limit is above the hard one")
    return {"Name": name, "Hard": upper, "Soft": lower}


def device(flag: str, text: str) -> dict[str, str]:
    """ "/dev/a[:/dev/b][:rwm]": docker's object of it. Raises GrammarError."""
    parts = text.split(":")
    source, target, access = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, access = parts[1], parts[2]
    elif len(parts) == 2:
        target, access = (source, parts[1]) if set(parts[1]) <= set("rwm") else (parts[1], access)
    if len(parts) > 3 or not source.startswith("/") or not target.startswith("/"):
        raise wrong(flag, text, "no device", "PATH[:PATH-IN-CONTAINER][:rwm], absolute")
    if not access or not set(access) <= set("rwm") or len(set(access)) != len(access):
        raise wrong(flag, text, f"{access!r} is no access", "r (read), w (write), m (mknod), together")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def device_rule(flag: str, text: str) -> str:
    """ "c 1:3 rwm", as the device cgroup has it. Raises GrammarError."""
    if not re.fullmatch(r"[acb] ([0-9]{1,9}|\*):([0-9]{1,9}|\*) [rwm]{1,3}", text):
        raise wrong(flag, text, "no rule", "TYPE MAJOR:MINOR ACCESS, such as c 1:3 rwm")
    return text


def throttle(flag: str, text: str, *, bytes_: bool) -> dict[str, str | int]:
    """ "/dev/sda:1mb": docker's object of a device and its rate. Raises GrammarError."""
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise wrong(flag, text, "no device and rate", "/dev/NAME:RATE")
    return {"Path": path, "Rate": size(flag, rate) if bytes_ else whole(flag, rate, 0)}


def pairs(flag: str, texts: Sequence[str], *, value: bool = False) -> dict[str, str]:
    """ "KEY=VALUE" each, or "KEY" unless `value`. Raises GrammarError."""
    found = {}
    for text in texts:
        key, equals, rest = text.partition("=")
        if not key or (value and not equals):
            raise wrong(flag, text, "no KEY=VALUE")
        found[key] = rest
    return found


def lines(flag: str, path: str) -> list[str]:
    """What stands in a file of variables or labels: a line each, `#` begins a comment. Raises ManagerError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise wrong(flag, path, f"more than {LARGEST_FILE} bytes")
        text = content.decode()
    except OSError as error:
        raise ManagerError(f"--{flag} {path}: {error.strerror}", errno=error.errno or 0) from error
    except UnicodeDecodeError as error:
        raise wrong(flag, path, "not written in UTF-8") from error
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.lstrip()
        if line and not line.startswith("#"):
            if any(character.isspace() for character in line.partition("=")[0]):
                raise wrong(flag, path, f"a name with white space: {line.partition('=')[0][:60]!r}")
            found.append(line)
    return found


def variables(flag: str, texts: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """ "NAME=VALUE", or "NAME" for what the caller has, if they have it. Raises GrammarError."""
    found = []
    for text in texts:
        name, equals, _ = text.partition("=")
        if not name or "\0" in text:
            raise wrong(flag, text, "no variable", "NAME=VALUE or NAME")
        if equals:
            found.append(text)
        elif name in environment:
            found.append(f"{name}={environment[name]}")
    return found
