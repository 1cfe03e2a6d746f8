"""What `ocim exec` asks the runtime for: the container's own process, with what is to be other than its own."""

from __future__ import annotations

import os
import stat

from ocirt import _sys
from ocirt.manager.cli.here import text, texts
from ocirt.manager.containers import running, users, within
from ocirt.manager.containers import values as v
from ocirt.manager.errors import GrammarError, ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.containers.records import Record
    from ocirt.manager.site import Site

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IN_ROOT = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS (linux/openat2.h)


class NoProgramError(ManagerError):
    """The program is not there (127), or cannot be executed (126)."""

    code = "program"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def command(here: Site, record: Record, values: dict[str, Value], program: list[str], pid: int) -> list[str]:
    """The command line to become. It inherits a descriptor. Raises ManagerError, ConflictError."""
    process = running.process_of(here, record)
    process["terminal"] = bool(values["tty"])
    process.pop("consoleSize", None)
    process["args"] = program
    _environment(process, values)
    if values["workdir"]:
        process["cwd"] = text(values["workdir"])
        if not process["cwd"].startswith("/"):
            raise GrammarError(f"--workdir {process['cwd'][:100]!r} is not an absolute path")
    root = _root(pid)
    if root is not None:
        if values["user"]:
            _user(process, root, text(values["user"]))
        _check(root, process)
        os.close(root)
    elif values["user"]:
        raise ManagerError(f"--user: the files of container {record.name} cannot be reached")
    if values["privileged"]:
        _all_rights(process)
    words, fd = running.exec_command(here, record, process, detach=bool(values["detach"]))
    os.set_inheritable(fd, True)
    return words


def _root(pid: int) -> int | None:
    try:
        return within.opened(f"/proc/{pid}/root")
    except OSError:
        return None


def _environment(process: dict[str, Any], values: dict[str, Value]) -> None:
    found = dict(one.partition("=")[::2] for one in process.get("env") or ())
    if values["tty"]:
        found.setdefault("TERM", "xterm")
    given = list(texts(values["env"]))
    for path in texts(values["env_file"]):
        given = [*v.variables("env-file", v.lines("env-file", path), os.environ), *given]
    for one in v.variables("env", given, os.environ):
        name, _, value = one.partition("=")
        found[name] = value
    process["env"] = [f"{name}={value}" for name, value in found.items()]


def _user(process: dict[str, Any], root: int, said: str) -> None:
    """USER rules are those of the image's USER. Who is not root has no capabilities, but those that all have."""
    found = users.resolve(root, said, what="--user")
    process["user"] = {"uid": found.uid, "gid": found.gid}
    if found.groups:
        process["user"]["additionalGids"] = list(found.groups)
    process["env"] = [one for one in process["env"] if not one.startswith("HOME=")] + [f"HOME={found.home}"]
    sets = process.get("capabilities")
    if sets and found.uid:
        process["capabilities"] = {"bounding": sets.get("bounding", [])}
    elif sets:
        process["capabilities"] = {name: sets.get("bounding", []) for name in ("bounding", "effective", "permitted")}


def _all_rights(process: dict[str, Any]) -> None:
    from ocirt.manager.containers.confinement import ALL

    names = sorted(ALL)
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    process["noNewPrivileges"] = False
    process.pop("apparmorProfile", None)


def _check(root: int, process: dict[str, Any]) -> None:
    """Say at once what the runtime would find out: with its exit codes one could not tell it from the program's own.

    What cannot be seen from here is left to the runtime. Raises NoProgramError.
    """
    name = process["args"][0]
    env = dict(one.partition("=")[::2] for one in process["env"])
    folders = [process["cwd"]] if "/" in name else (env.get("PATH") or _USUAL_PATH).split(":")
    found = False
    for folder in folders:
        try:
            fd = _sys.openat2(root, os.path.join("/", folder, name).lstrip("/"), os.O_PATH | os.O_CLOEXEC, _IN_ROOT)
        except FileNotFoundError:
            continue
        except OSError:
            return
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if stat.S_ISREG(mode) and mode & 0o111:
            return
        found = True
    if found:
        raise NoProgramError(f'exec: "{name[:200]}": permission denied', 126)
    raise NoProgramError(
        f'exec: "{name[:200]}": {"no such file or directory" if "/" in name else "executable file not found in $PATH"}',
        127,
    )
