"""What the flags of `exec` say about its process."""

from __future__ import annotations

from ocirt.config.check import guess
from ocirt.config.names import CAPABILITIES
from ocirt.errors import UsageError
from ocirt.runtime.process import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_ID = 2**32 - 2
"""(uid_t)-1 means "unchanged" to the kernel."""
_PROPERTIES = {"cwd": "cwd", "apparmor": "apparmorProfile", "process_label": "selinuxLabel", "env": "env"}
_NAMES = {
    "/process/cwd": "--cwd",
    "/process/apparmorProfile": "--apparmor",
    "/process/selinuxLabel": "--process-label",
    "/process/env": "--env",
    "/process/user": "--user",
    "/process/user/additionalGids": "--additional-gids",
    "/process/capabilities": "--cap",
    "/process/noNewPrivileges": "--no-new-privs",
    "/process/terminal": "--tty",
}


def request_of(options: dict[str, Any], command: list[str]) -> Request:
    """Raises UsageError, ConfigError."""
    if options["process"]:
        return _from_file(options, command)
    if not command:
        raise UsageError("exec needs a command, or --process", hint="see `ocirt exec --help`")
    changes: dict[str, Any] = {"args": command, "terminal": bool(options["tty"])}
    changes |= {name: options[key] for key, name in _PROPERTIES.items() if options[key]}
    user: dict[str, Any] = {}
    if options["user"]:
        uid, colon, gid = options["user"].partition(":")
        user["uid"] = id_of(uid, "--user")
        if colon:
            user["gid"] = id_of(gid, "--user")
    if options["additional_gids"]:
        words = [word for value in options["additional_gids"] for word in value.split(",")]
        user["additionalGids"] = [id_of(word, "--additional-gids") for word in words]
    if user:
        changes["user"] = user
    if options["cap"]:
        # Not inheritable: the image's files could make more of those (CVE-2022-29162).
        changes["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), _capabilities(options["cap"]))
    if options["no_new_privs"]:
        changes["noNewPrivileges"] = True
    return Request(changes, changes=True, names=_NAMES)


def _from_file(options: dict[str, Any], command: list[str]) -> Request:
    from ocirt.config.read import parse, placed, read_json
    from ocirt.errors import ConfigError

    said = [
        name for name in ("cwd", "env", "user", "additional_gids", "cap", "apparmor", "process_label") if options[name]
    ]
    if said or command or options["no_new_privs"]:
        what = f"--{said[0].replace('_', '-')}" if said else f'"{command[0]}"' if command else "--no-new-privs"
        raise UsageError(f"{what} and --process are two answers to one question")
    path = options["process"]
    text = read_json(path)
    try:
        process = parse(text)
        if type(process) is not dict:
            raise ConfigError("expected a process object", pointer="")
    except ConfigError as error:
        raise placed(error, path, text) from None
    if options["tty"]:  # the one flag that engines set beside it
        process["terminal"] = True
    return Request(process, text=text, place=path)


def _capabilities(names: list[str]) -> list[str]:
    """What a person types is known, or a slip; in a configuration it may be a newer kernel's."""
    for name in names:
        if name not in CAPABILITIES:
            raise UsageError(f'--cap: unknown capability "{name}"', hint=guess(name, CAPABILITIES))
    return names


def id_of(text: str, flag: str) -> int:
    """A number is never looked up as a name, nor a name as a number (CVE-2016-3697)."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > MOST_ID:
        raise UsageError(
            f'{flag}: expected a number from 0 to {MOST_ID}, got "{text}"',
            hint="names are not looked up in the container",
        )
    return int(text)
