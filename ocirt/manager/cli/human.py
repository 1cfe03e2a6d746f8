"""Sizes, ages and times as docker writes them (go-units)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from ocirt.manager.errors import GrammarError

_AGES = (
    (1, "Less than a second"),
    (2, "1 second"),
    (60, "{} seconds"),
    (120, "About a minute"),
    (3600, "{} minutes"),
)
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")


def size(count: float, digits: int = 3) -> str:
    """In powers of 1000, three significant digits: "4.27MB"."""
    return _sized(count, 1000.0, ("B", "kB", "MB", "GB", "TB", "PB"), digits)


def binary_size(count: float, digits: int = 4) -> str:
    """In powers of 1024, four significant digits: "1.934GiB"."""
    return _sized(count, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), digits)


def _sized(count: float, base: float, units: tuple[str, ...], digits: int) -> str:
    number = 0
    while count >= base and number < len(units) - 1:
        count, number = count / base, number + 1
    return f"{count:.{digits}g}{units[number]}"


def age(seconds: float) -> str:
    """ "About an hour", "3 weeks"."""
    count = int(seconds)
    for bound, words in _AGES:
        if count < bound:
            return words.format(count // 60 if bound == 3600 else count)
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for bound, divisor, unit in ((48, 1, "hours"), (24 * 7 * 2, 24, "days"), (24 * 30 * 2, 24 * 7, "weeks"),
                                 (24 * 365 * 2, 24 * 30, "months")):  # fmt: skip
        if hours < bound:
            return f"{hours // divisor} {unit}"
    return f"{hours // (24 * 365)} years"


def ago(nanoseconds: int) -> str:
    return f"{age(max(0.0, time.time() - nanoseconds / 1e9))} ago"


def stamp(nanoseconds: int) -> str:
    """As `docker ps` and `docker images` write times: in the local zone."""
    return datetime.fromtimestamp(nanoseconds // 10**9).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def rfc3339(nanoseconds: int) -> str:
    """In UTC, with nanoseconds."""
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % 10**9:09d}Z"


def duration(text: str) -> int:
    """Go's "1h30m" in nanoseconds. Raises GrammarError."""
    if not text or _DURATION.sub("", text):
        raise GrammarError(f"{text[:40]!r} is no time", hint="such as 90s, 1m30s, 2h")
    return sum(int(float(number) * _UNITS[unit]) for number, unit in _DURATION.findall(text))


def moment(text: str, now: int) -> int:
    """What --since and --until say, in nanoseconds since 1970: RFC 3339, seconds since 1970, or so long ago.

    Raises GrammarError.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]{1,9})?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0") or 0)
    if _DURATION.match(text) and not _DURATION.sub("", text):
        return now - duration(text)
    head, dot, fraction = text.partition(".")
    digits = re.match(r"[0-9]*", fraction)
    nanoseconds = int((digits.group() if digits else "")[:9].ljust(9, "0") or 0) if dot else 0
    zone = fraction[digits.end() :] if dot and digits else ""
    try:
        found = datetime.fromisoformat(head + zone)
    except ValueError:
        raise GrammarError(f"{text[:60]!r} is no time", hint="such as 2026-01-31T12:00:00Z, 1769860800, 10m") from None
    return int(found.timestamp()) * 10**9 + nanoseconds
