"""A command under strace: which files it, and all that it starts, names to the kernel."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from init.running import need
from support import CACHE, Done, command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Calls = list[tuple[str, str]]
"""(the call's name, the rest of its line)"""
_LINE = re.compile(r"^\d+ +(?P<call>\w+)\((?P<rest>.*)$")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BY_DESCRIPTOR = re.compile(r"^\d+, ")


def _strace(record: Path, calls: str) -> list[str | Path]:
    need("strace", packages="strace")
    return ["strace", "-f", "-qq", "-s", "4096", "-e", f"trace={calls}", "-o", record]


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {"OCIRT_CACHE": CACHE, **(env or {})}


def seen(record: Path) -> Calls:
    found = [match for line in record.read_text(errors="replace").splitlines() if (match := _LINE.match(line))]
    assert found, "strace saw nothing"
    return [(match["call"], match["rest"]) for match in found]


def watched(
    record: Path,
    *words: str | Path,
    calls: str = "%file",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> tuple[Done, Calls]:
    """How it ended, and what it called. `env` is added to an empty environment."""
    done = command(*_strace(record, calls), *words, env=_environment(env), cwd=cwd, timeout=timeout)
    return done, seen(record)


@contextmanager
def watching(
    record: Path, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The same of a command that goes on, or that leaves a container behind. Once the container is gone it ends, at
    the end of the block at the latest."""
    null = subprocess.DEVNULL
    with subprocess.Popen(
        [*_strace(record, "%file"), *words], env=_environment(env), cwd=cwd, stdin=null, stdout=null
    ) as process:
        try:
            yield process
            process.wait(60)
        finally:
            process.kill()


def named(calls: Calls) -> list[tuple[str, str]]:
    """(call, path) of each path that counts from the working directory or from the root: not from a descriptor."""
    found = []
    for call, rest in calls:
        if call in ("symlink", "symlinkat"):
            continue  # the first is a text, the second below a descriptor
        texts = _TEXT.findall(rest)
        if texts and not _BY_DESCRIPTOR.match(rest):
            found.append((call, texts[0]))
    return found
