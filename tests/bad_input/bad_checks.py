"""What is checked of every refusal: the exit code, the one line, the log, and that nothing is left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support import Bundle, Done, Runtime, traces

VERBS = {"create": ("create",), "run": ("run",), "run --detach": ("run", "--detach")}
"""What makes a container: a title → the words of the command line."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
"""RFC 3339."""


def one_line(done: Done, words: tuple[str, ...] = ()) -> str:
    """The message of a command that failed with the exit code 1: one line, with these words in it."""
    assert done.code == 1, (done.code, done.out, done.err)
    assert done.err.startswith("ocirt: ") and done.err.endswith("\n"), done.err
    line = done.err[:-1]
    assert line.isprintable(), f"more than one line, or control characters: {done.err!r}"
    assert "Traceback" not in line and "a defect in ocirt" not in line and "Error:" not in line, line
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    assert not re.search(r"\(\)|\[\]|: :|None", line), line
    return line


def one_log_entry(log: Path, message: str) -> dict[str, Any]:
    """The one JSON object of a log, which podman reads as a whole."""
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert entry["msg"] == message.removeprefix("ocirt: ")
    assert TIME.fullmatch(entry["time"]), entry
    return entry


def placed_at(line: str, config: Path, pointer: str) -> None:
    """The message begins with FILE:LINE:COLUMN: POINTER:, and that is where the pointer points."""
    found = re.match(rf"ocirt: {re.escape(str(config))}:(\d+):(\d+): {re.escape(pointer)}: ", line)
    assert found, f"no {config.name}:LINE:COLUMN: {pointer}: in {line}"
    text = config.read_text().split("\n")[int(found[1]) - 1]
    value: Any = json.loads(config.read_text())
    named = ""  # the nearest value that is there
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and part in value:
            value, named = value[part], f'"{part}":'
        elif isinstance(value, list) and int(part) < len(value):
            value = value[int(part)]
            named = "{" if isinstance(value, dict) else "[" if isinstance(value, list) else json.dumps(value)
        else:
            break
    at = text[int(found[2]) - 1 :]
    assert at.startswith(named or "{"), f"{found[1]}:{found[2]} is {at!r}, which does not begin with {named}"


def refused(
    runtime: Runtime,
    bundle: Bundle,
    verb: str,
    pointer: str | None,
    words: tuple[str, ...],
    *,
    container_id: str = "bad",
    flags: tuple[str | Path, ...] = (),
) -> str:
    """Try to make a container, check everything about the refusal, and return the message."""
    log = bundle.path / "log.json"
    log.unlink(missing_ok=True)
    rootfs = bundle.rootfs if bundle.rootfs.is_dir() else None
    before = traces(runtime.root, rootfs)
    done = runtime(*("--log", log, "--log-format", "json"), *VERBS[verb], *flags, "--bundle", bundle.path, container_id)
    after = traces(runtime.root, rootfs)
    line = one_line(done, words)
    assert done.out == ""
    entry = one_log_entry(log, line)
    if pointer is not None:
        placed_at(line, bundle.path / "config.json", pointer)
        assert entry["pointer"] == pointer
    same(before, after)
    return line


def same(before: object, after: object) -> None:
    """Two traces are equal; a difference is named."""
    for kind, was in vars(before).items():
        now = vars(after)[kind]
        if was != now:
            gone = [item for item in was if item not in now]
            new = [item for item in now if item not in was or (isinstance(was, dict) and was[item] != now[item])]
            raise AssertionError(f"{kind}: new or changed {new}, gone {gone}")
