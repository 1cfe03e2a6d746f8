"""What the tests of hooks share: hooks that write down what they see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import Bundle, Done, Runtime

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
RUNTIME = ("prestart", "createRuntime", "poststart", "poststop")


def sh(script: str, *, inside: bool = False, **properties: Any) -> dict[str, Any]:
    """A hook that runs a shell script, the host's or (`inside`) the container's."""
    path = "/bin/sh" if inside else "/bin/busybox"
    return {"path": path, "args": ["sh", "-c", script], "env": ["PATH=/bin"], **properties}


class Notes:
    """A folder that hooks write to: the container sees it as /notes."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.path = bundle.path / "notes"
        self.path.mkdir()
        self.path.chmod(0o777)
        bundle.config["mounts"].append(
            {"destination": "/notes", "type": "bind", "source": str(self.path), "options": ["bind", "rw"]}
        )
        bundle.config["hooks"] = {}

    def where(self, kind: str) -> Path:
        """The folder's path as a hook of this kind sees it."""
        return Path("/notes") if kind == "startContainer" else self.path

    def add(self, kind: str, script: str, **properties: Any) -> dict[str, Any]:
        """A hook of this kind; `{notes}` in the script is the folder."""
        script = script.replace("{notes}", str(self.where(kind)))
        hook = sh(script, inside=kind == "startContainer", **properties)
        self.bundle.config["hooks"].setdefault(kind, []).append(hook)
        return hook

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def lines(self, name: str = "order") -> list[str]:
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def state(self, name: str) -> dict[str, Any]:
        return json.loads(self.read(name))


def note_order(notes: Notes, *kinds: str) -> None:
    """Hooks of these kinds that write their names down, one after the other."""
    for kind in kinds or KINDS:
        notes.add(kind, f"echo {kind} >> {{notes}}/order")


def create(runtime: Runtime, bundle: Bundle, *flags: str, **options: Any) -> Done:
    return runtime(*flags, "create", "--bundle", bundle.write().path, "h", **options)
