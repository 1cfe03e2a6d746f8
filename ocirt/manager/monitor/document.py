"""JSON and times as a monitor writes them: `json` would bring `re` and more, half a megabyte."""

from __future__ import annotations

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECOND = 1_000_000_000
_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", **{number: f"\\u{number:04x}" for number in (*range(32), 127)}}


def dumps(value: Any) -> str:
    """A document of dicts, lists, strings, whole numbers, booleans and None."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(key)}: {dumps(one)}" for key, one in value.items()) + "}"
    return "[" + ", ".join([dumps(one) for one in value]) + "]"


def timestamp(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 has it, in UTC, as docker writes it. 0: docker's "never"."""
    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(nanoseconds, SECOND)
    parts = time.gmtime(seconds)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*parts[:6], rest)


def write_file(path: str, content: bytes) -> None:
    """A whole file or none: a reader sees the old one or the new one. Raises OSError."""
    fd = posix.open(path + ".new", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[posix.write(fd, view) :]
    finally:
        posix.close(fd)
    posix.rename(path + ".new", path)
