"""An image's configuration (image-spec 1.1, config.md; Docker's image specification 1.2 says the same and more).

It comes from outside: what others here rely on is checked once. What is not known is kept, and means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Platform
from ocirt.manager.errors import DocumentError, GrammarError, LimitError
from ocirt.manager.store.blobs import Blobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_HISTORY = 10_000

_TEXTS = ("User", "WorkingDir", "StopSignal", "Hostname", "Domainname", "Image")
_LISTS = ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")
_OBJECTS = ("Labels", "ExposedPorts", "Volumes", "Healthcheck")
_STEP_TEXTS = ("created", "created_by", "author", "comment")


@dataclass(frozen=True, slots=True)
class Configuration:
    """document: the JSON object; diff_ids: of its layers' plain tars, lowest first."""

    document: dict[str, Any]
    platform: Platform
    diff_ids: tuple[str, ...]

    @property
    def config(self) -> dict[str, Any]:
        """What a container of it is run with."""
        return self.document.get("config") or {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its steps, the first first."""
        return self.document.get("history") or []


def parse(data: bytes, what: str = "configuration") -> Configuration:
    """Raises DocumentError, LimitError."""
    document = documents.load(data, what)
    if not isinstance(document, dict):
        raise DocumentError(f"{what} is no JSON object")
    rootfs = _object(document, "rootfs", what)
    ids = rootfs.get("diff_ids") or []
    if not isinstance(ids, list) or rootfs.get("type", "layers") != "layers":
        raise DocumentError(f"{what}: rootfs is no list of layers")
    if len(ids) > documents.MOST_LAYERS:
        raise LimitError(f"{what} has {len(ids)} layers, more than {documents.MOST_LAYERS}")
    try:
        diff_ids = tuple(digests.parse(one) for one in ids)
    except GrammarError as error:
        raise DocumentError(f"{what}: rootfs: {error.message}", hint=error.hint) from error
    platform = Platform(*(_text(document, name, what) for name in ("os", "architecture", "variant")))
    for name in ("created", "author"):
        _text(document, name, what)
    _check_config(_object(document, "config", what), f"{what}: config")
    _check_history(document.get("history"), f"{what}: history")
    return Configuration(document, platform, diff_ids)


def read(blobs: Blobs, descriptor: Descriptor) -> Configuration:
    """The one that a manifest names. Raises DocumentError, MissingError, DigestError, LimitError."""
    data = blobs.read(descriptor.digest, documents.LARGEST_DOCUMENT)
    return parse(data, f"configuration {descriptor.digest}")


def _check_config(config: dict[str, Any], what: str) -> None:
    for name in _TEXTS:
        _text(config, name, what)
    for name in _LISTS:
        if not _strings(config.get(name)):
            raise DocumentError(f"{what}: {name} is no list of strings")
    for name in _OBJECTS:
        _object(config, name, what)
    if not _strings(list((config.get("Labels") or {}).values())):
        raise DocumentError(f"{what}: Labels: a value is no string")


def _check_history(history: Any, what: str) -> None:
    if history is None:
        return
    if not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise DocumentError(f"{what} is no list of objects")
    if len(history) > MOST_HISTORY:
        raise LimitError(f"{what} has {len(history)} steps, more than {MOST_HISTORY}")
    for step in history:
        for name in _STEP_TEXTS:
            _text(step, name, what)
        if step.get("empty_layer") not in (None, True, False):
            raise DocumentError(f"{what}: empty_layer is no boolean")


def _strings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _object(value: dict[str, Any], name: str, what: str) -> dict[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DocumentError(f"{what}: {name} is no object")
    return found


def _text(value: dict[str, Any], name: str, what: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise DocumentError(f"{what}: {name} is no string")
    return found
