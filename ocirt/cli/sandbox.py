"""ocirt sandbox: ocirt.sandbox.run for a shell."""

from __future__ import annotations

import base64
import json
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ocirt import sandbox as library
from ocirt.errors import UsageError

if TYPE_CHECKING:
    from ocirt.cli.output import Out

TIMED_OUT = 124
"""As timeout(1) has it."""
OOM_KILLED = 137
"""As if its first process had got the SIGKILL."""


def sandbox(out: Out, options: dict[str, Any], args: list[str]) -> int:
    """The exit code: see `ocirt sandbox --help`."""
    command = args[1:] if args[0] == "--" else args
    keywords: dict[str, Any] = {
        "rootfs": options["rootfs"],
        "overlay": not options["read_only"],
        "memory": options["memory"],
        "pids": _number(options, "pids", int),
        "cpus": _number(options, "cpus", float),
        "timeout": _number(options, "timeout", float),
        "network": options["network"],
        "env": dict(_variable(one) for one in options["env"]),
        "binds": options["bind"],
        "cwd": options["cwd"],
        "user": options["user"],
    }
    if options["max_output"]:
        keywords["max_output"] = options["max_output"]
    try:
        result = library.run(command, stdin=0 if options["stdin"] else None, **keywords)
    finally:
        library.close()
    if options["json"]:
        out.print(json.dumps(_document(result), indent=2))
    else:
        for stream, content in ((sys.stdout, result.stdout), (sys.stderr, result.stderr)):
            stream.buffer.write(content)
            stream.flush()
        if result.truncated:
            out.warn(["the output was longer than --max-output: its end is missing"])
    if result.timed_out:
        return TIMED_OUT
    if result.oom_killed and result.returncode == -signal.SIGKILL:
        return OOM_KILLED
    return result.returncode if result.returncode >= 0 else 128 - result.returncode


def _number(options: dict[str, Any], name: str, kind: type[int] | type[float]) -> int | float | None:
    text = options[name]
    try:
        return None if text is None else kind(text)
    except ValueError:
        raise UsageError(f'--{name}: expected a number, got "{text}"') from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f'--env: expected NAME=VALUE, got "{text}"')
    return name, value


def _document(result: library.Result) -> dict[str, Any]:
    """What is no text in UTF-8 is there as base64, with that in its name."""
    document = asdict(result)
    for name in ("stdout", "stderr"):
        content = document.pop(name)
        try:
            document[name] = content.decode()
        except UnicodeDecodeError:
            document[f"{name}_base64"] = base64.b64encode(content).decode()
    return document
