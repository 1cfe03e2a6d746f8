"""An image's configuration, and what of it a container takes over (image-spec 1.1, config.md and conversion.md;
Docker's image specification for the health check, the shell and what is to be done on build).

It is from outside: types and sizes are checked, labels stay data (CVE-2026-53488), and a variable without a value is an
empty one (CVE-2026-57231).
"""

from __future__ import annotations

from ocirt.manager import documents
from ocirt.manager.containers import values as v
from ocirt.manager.containers.users import check
from ocirt.manager.errors import DocumentError, GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.documents import Descriptor
    from ocirt.manager.store.blobs import Blobs

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST = 10_000


def read(blobs: Blobs, config: Descriptor) -> dict[str, Any]:
    """The object "config" of a configuration, checked, with nothing in it that is null. Raises DocumentError,
    MissingError, DigestError."""
    what = f"configuration {config.digest}"
    value = documents.load(blobs.read(config.digest, documents.LARGEST_DOCUMENT), what)
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is no JSON object")
    own = value.get("config")
    return checked({} if own is None else own, what)


def checked(value: Any, what: str) -> dict[str, Any]:
    """What a container may use of it. Raises DocumentError."""
    if not isinstance(value, dict):
        raise DocumentError(f"{what}: config is no object")
    found: dict[str, Any] = {}
    for key, kind in _KINDS.items():
        given = value.get(key)
        if given is None:
            continue
        if not _is(given, kind):
            raise DocumentError(f"{what}: config.{key} is no {kind}")
        found[key] = given
    try:
        if found.get("User"):
            check(found["User"], "User")
        if found.get("StopSignal"):
            v.signal("stop-signal", found["StopSignal"])
        for path in found.get("Volumes", ()):
            _absolute(path, "Volumes")
        if found.get("WorkingDir"):
            _absolute("/" + found["WorkingDir"].lstrip("/"), "WorkingDir")
        if found.get("Healthcheck"):
            found["Healthcheck"] = _health(found["Healthcheck"])
    except GrammarError as error:
        raise DocumentError(f"{what}: {error.message}", hint=error.hint) from error
    return found


_KINDS = {
    "User": "string",
    "ExposedPorts": "object",
    "Env": "list of strings",
    "Entrypoint": "list of strings",
    "Cmd": "list of strings",
    "Volumes": "object",
    "WorkingDir": "string",
    "Labels": "object of strings",
    "StopSignal": "string",
    "Healthcheck": "object",
    "OnBuild": "list of strings",
    "Shell": "list of strings",
}


def _is(value: object, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str) and "\0" not in value
    if kind == "list of strings":
        return isinstance(value, list) and len(value) <= MOST and all(_is(each, "string") for each in value)
    if not isinstance(value, dict) or len(value) > MOST:
        return False
    return kind == "object" or all(_is(each, "string") for each in value.values())


def _absolute(path: str, what: str) -> None:
    if not path.startswith("/") or "\0" in path or len(path) > 4095:
        raise GrammarError(f"config.{what}: {path[:100]!r} is no absolute path")


def _health(value: dict[str, Any]) -> dict[str, Any]:
    test = value.get("Test")
    if test is not None and not _is(test, "list of strings"):
        raise GrammarError("config.Healthcheck.Test is no list of strings")
    found: dict[str, Any] = {"Test": test} if test else {}
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        number = value.get(key)
        if number is None:
            continue
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise GrammarError(f"config.Healthcheck.{key} is no number of nanoseconds, or of attempts")
        if number:
            found[key] = number
    return found


def merge(user: dict[str, Any], image: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """Docker's Config of a container: what the user said, and the image's where they said nothing.

    Their entrypoint takes the image's command away too. Raises GrammarError where there is nothing to run.
    """
    merged = dict(user)
    merged["Env"] = _environment(user["Env"], image.get("Env", []))
    if user["Entrypoint"] is None:
        merged["Entrypoint"] = image.get("Entrypoint") or None
        merged["Cmd"] = command or image.get("Cmd") or None
    else:
        merged["Entrypoint"] = None if user["Entrypoint"] == [""] else user["Entrypoint"]
        merged["Cmd"] = command or None
    if not (merged["Entrypoint"] or merged["Cmd"]):
        raise GrammarError("there is nothing to run: the image has no command", hint="name one after the image")
    for key in ("User", "WorkingDir", "StopSignal"):
        if not merged.get(key) and image.get(key):
            merged[key] = image[key]
    for key in ("Labels", "Volumes", "ExposedPorts"):
        both = {**image.get(key, {}), **user.get(key, {})}
        if both or key != "ExposedPorts":
            merged[key] = both
    for key in ("OnBuild", "Shell"):
        if image.get(key):
            merged[key] = image[key]
    health = {**image.get("Healthcheck", {}), **user.get("Healthcheck", {})}
    if health:
        merged["Healthcheck"] = health
    return merged


def _environment(user: list[str], image: list[str]) -> list[str]:
    """The user's, then the image's that they did not name, PATH where neither has it."""
    found = {text.partition("=")[0]: text for text in user}
    for text in image:
        name, equals, _ = text.partition("=")
        if name:
            found.setdefault(name, text if equals else f"{name}=")
    return list(found.values())
