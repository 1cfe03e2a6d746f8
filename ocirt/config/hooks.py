"""hooks: kinds, shape and rules (config.md, "POSIX-platform Hooks"). Imported only where a configuration has some."""

from __future__ import annotations

from ocirt.config.shape import array, integer, record, string
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME, CONTAINER = "runtime", "container"
KINDS = {
    "prestart": ("create", RUNTIME, "before the pivot"),
    "createRuntime": ("create", RUNTIME, "before the pivot"),
    "createContainer": ("create", CONTAINER, "before the pivot"),
    "startContainer": ("start", CONTAINER, "before the program"),
    "poststart": ("start", RUNTIME, "after the program has been executed"),
    "poststop": ("delete", RUNTIME, "after all has been removed"),
}
"""In the order in which they run: kind → (operation, namespaces that it runs in, moment)."""

HOOKS = record(
    {
        kind: array(
            record(
                {"path": string, "args": array(string), "env": array(string), "timeout": integer(1, 2**31 - 1)},
                ("path",),
            )
        )
        for kind in KINDS
    }
)
"""The shape. Unknown kinds are unknown properties: ignored."""


def check_hooks(hooks: dict[str, Any]) -> None:
    """Raise ConfigError for the first hook that breaks a rule."""
    for kind in KINDS:
        for index, hook in enumerate(hooks.get(kind) or ()):
            pointer = f"/hooks/{kind}/{index}"
            if not hook["path"].startswith("/"):
                raise ConfigError(f'expected an absolute path, got "{hook["path"]}"', pointer=pointer + "/path")
            for place, entry in enumerate(hook.get("env") or ()):
                if entry.find("=") < 1:
                    raise ConfigError(f'expected NAME=value, got "{entry[:40]}"', pointer=f"{pointer}/env/{place}")


def late_prestart(version: str) -> bool:
    """Does this ociVersion have prestart run after `start` is called? It did up to 1.0.2; engines never relied on it,
    so only --strict asks."""
    return version.startswith("1.0.")


def poststart_may_fail(version: str) -> bool:
    """Is a failed poststart hook only warned of? Up to 1.2; since 1.3 `start` fails (runtime-spec #1262)."""
    return int(version.split(".")[1]) < 3


def kinds_of(spec: dict[str, Any], *, strict: bool = False) -> dict[str, list[str]]:
    """operation → the kinds of hooks that it runs, in order: those of which the configuration has any."""
    hooks = spec.get("hooks") or {}
    kinds: dict[str, list[str]] = {"create": [], "start": [], "delete": []}
    for kind, (operation, _, _) in KINDS.items():
        if hooks.get(kind):
            late = kind == "prestart" and strict and late_prestart(spec["ociVersion"])
            kinds["start" if late else operation].append(kind)
    return kinds


class Listed:
    """A hook as `explain` shows it. operation: "create", "start", "delete"; namespaces: "runtime" or "container"."""

    __slots__ = ("hook", "kind", "moment", "namespaces", "operation", "pointer")

    def __init__(self, kind: str, index: int, hook: dict[str, Any], operation: str) -> None:
        self.kind = kind
        self.pointer = f"/hooks/{kind}/{index}"
        self.hook = hook
        usual, self.namespaces, moment = KINDS[kind]
        self.operation = operation
        self.moment = moment if operation == usual else KINDS["startContainer"][2]


def listed(spec: dict[str, Any], *, strict: bool = False) -> list[Listed]:
    """All hooks in the order in which they run, with moment and namespaces."""
    return [
        Listed(kind, index, hook, operation)
        for operation, kinds in kinds_of(spec, strict=strict).items()
        for kind in kinds
        for index, hook in enumerate(spec["hooks"][kind])
    ]
