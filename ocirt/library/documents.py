"""What a caller writes as Python values, as the JSON documents of the specification."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ocirt.errors import UsageError
from ocirt.runtime.process import Request
from ocirt.runtime.spec import default_spec

Path: TypeAlias = "str | os.PathLike[str]"


def default_config(argv: Sequence[str] = ("sh",), *, rootfs: Path = "rootfs") -> dict[str, Any]:
    """A config.json to begin with, as `ocirt spec` writes it, without a terminal; a new one with each call."""
    config: dict[str, Any] = json.loads(json.dumps(default_spec()))
    config["process"] |= {"terminal": False, "args": [*argv]}
    config["root"] = {"path": os.fspath(rootfs), "readonly": True}
    return config


def text_of(document: Mapping[str, Any]) -> str:
    """As JSON, for the copy in the state and the lines in errors."""
    try:
        return json.dumps(document, indent=1, default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(f"not a JSON document: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def request_of(
    argv: Sequence[str] | None,
    process: Mapping[str, Any] | None,
    env: Mapping[str, str] | None,
    cwd: str | None,
    user: tuple[int, int] | int | None,
) -> Request:
    """Which process `exec` is to run. Raises UsageError."""
    if process is not None:
        if argv is not None or env is not None or cwd is not None or user is not None:
            raise UsageError("a process object says it all: no argv, env, cwd or user beside it")
        text = text_of(process)
        return Request(json.loads(text), text=text, place="process")
    if argv is None or isinstance(argv, str | bytes):
        raise UsageError("argv has to be a list of strings", hint='exec(["ls", "-l"])')
    changes: dict[str, Any] = {"args": list(argv), "terminal": False}
    names = {"/process/args": "argv"}
    if env is not None:
        changes["env"] = [f"{name}={value}" for name, value in env.items()]
        names["/process/env"] = "env"
    if cwd is not None:
        changes["cwd"] = cwd
        names["/process/cwd"] = "cwd"
    if user is not None:
        uid, gid = user if isinstance(user, tuple) else (user, None)
        changes["user"] = {"uid": uid} if gid is None else {"uid": uid, "gid": gid}
        names["/process/user"] = "user"
    return Request(changes, changes=True, names=names)
