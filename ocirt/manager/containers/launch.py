"""A monitor is started: as a process of its own, with all that it has to know."""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import ocirt
from ocirt.manager.containers import state as states
from ocirt.manager.containers.connection import listen
from ocirt.manager.containers.logfiles import repair
from ocirt.manager.errors import ManagerError, MissingError
from ocirt.manager.monitor.wire import request
from ocirt.manager.site import Site
from ocirt.manager.store.leases import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.state import Kept

_MAIN = "import sys; sys.path.insert(0, {!r}); from ocirt.manager.monitor.main import main; main()"
_ABOVE_STDIO = 10
_QUIET = ("--log", "/dev/null")
_VARIABLES = {"ocirt": "OCIM_RUNTIME", "ocim": "OCIM_COMMAND"}


def runtime(site: Site) -> list[str]:
    """The runtime and its global flags: OCIM_RUNTIME, else the executable `ocirt` that was installed with this package.

    Warnings are not for the container's stderr, which is also the runtime's: so there is a log. Raises MissingError.
    """
    return [os.environ.get("OCIM_RUNTIME") or _installed("ocirt"), *_QUIET, "--root", str(site.run / "runtime")]


def remover(record: Kept) -> list[str]:
    """What a monitor executes to remove its container: OCIM_COMMAND, else the `ocim` installed with this package.

    Raises MissingError.
    """
    return [os.environ.get("OCIM_COMMAND") or _installed("ocim"), "rm", "--force", "--volumes", record.id]


def _installed(name: str) -> str:
    """Beside the interpreter, or in the folder of programs of the place that the package was installed to."""
    prefixes = list(Path(ocirt.__file__).parents)[4:5]  # PREFIX/lib/python3.11/site-packages/ocirt/__init__.py
    places = [Path(sys.executable).parent / name, *(prefix / "bin" / name for prefix in prefixes)]
    for place in places:
        if place.is_file():
            return str(place)
    raise MissingError(f"there is no {' or '.join(map(str, places))}", hint=f"set {_VARIABLES[name]}")


def logs_folder(site: Site, container_id: str) -> Path:
    """Of a container's log (monitor/frames.py)."""
    return site.container(container_id) / "log"


def monitor_of(record: Kept) -> dict[str, Any]:
    """record.document["monitor"] with everything in it that a monitor looks at."""
    given = record.document["monitor"]
    log = given.get("log") or {}
    found = {
        "tty": bool(given.get("tty")),
        "open_stdin": bool(given.get("open_stdin")),
        "stdin_once": bool(given.get("stdin_once")),
        "stop_signal": given.get("stop_signal") or 15,
        "stop_timeout": given.get("stop_timeout"),
        "restart": dict(given.get("restart") or {"policy": "no"}),
        "health": dict(given["health"]) if given.get("health") else None,
        "log": {
            "driver": log.get("driver", "file"),
            "max_size": log.get("max_size", 10_000_000),
            "max_file": log.get("max_file", 5),
        },
        "auto_remove": bool(given.get("auto_remove")),
        "patience": float(given.get("patience", 10)),
    }
    if found["stop_timeout"] is None:
        found["stop_timeout"] = 10
    health = found["health"]
    if health and health.get("test", ["NONE"])[0] == "NONE":
        found["health"] = None
    return found


class Launch:
    """A monitor that begins while its container is still prepared: its interpreter needs some milliseconds.

    The run folder is there, and locked. Raises OSError.
    """

    def __init__(self, site: Site, record: Kept) -> None:
        self._site = site
        self._record = record
        self._run = states.folder_of(site, record.id)
        self.connection, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
        try:
            self._first = _spawn(site, self._run, theirs.fileno())
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()

    def go(self, lock: int, wishes: dict[str, Any]) -> None:
        """Hand it the container. On the connection it says how the start went. Raises ManagerError.

        wishes: what the caller wants to have of the container's streams (monitor.py, `_attach`).
        """
        values = _settings(self._site, self._record)
        values["start"] = wishes
        folder = os.open(self._run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            clients = listen(folder, "monitor", _socket.SOCK_SEQPACKET)
            console = listen(folder, "console", _socket.SOCK_STREAM)
        finally:
            os.close(folder)
        fds = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _numbers(lock, clients.fileno(), console.fileno()))
        try:
            self.connection.sendmsg([request("start", **values)], [fds])
        except OSError as error:
            raise ManagerError(f"the monitor cannot be told to start: {error.strerror}: {words(self._run)}") from error
        finally:
            clients.close()
            console.close()

    def begun(self) -> None:
        """Wait for its first process, which ends at once: the monitor is that one's child."""
        os.waitpid(self._first, 0)

    def abandon(self) -> None:
        """It is not needed: it ends when it sees that nobody will ask."""
        self.connection.close()
        self.begun()


def words(run: Path) -> str:
    """The last line that a monitor wrote before it ended."""
    try:
        lines = (run / "words").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it was killed"


def _settings(site: Site, record: Kept) -> dict[str, Any]:
    """What a monitor is told: paths, the runtime, its own part of the record; marshal takes plain values only.

    id, folder (the bundle), run (its run folder), log (a folder), runtime (the beginning of its command line), remove
    (a command), boot (this boot's id), cgroup (the container's, if its configuration says it), monitor (`monitor_of`)
    """
    bundle = site.container(record.id)
    monitor = monitor_of(record)
    try:
        config = json.loads((bundle / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ManagerError(f"container {record.id[:12]} has no configuration: {error}") from error
    log = logs_folder(site, record.id)
    if monitor["log"]["driver"] != "none":
        log.mkdir(mode=0o700, exist_ok=True)
        repair(log)
    if monitor["health"]:
        _write_check(states.folder_of(site, record.id) / "health", config, monitor["health"]["test"])
    cgroup = (config.get("linux") or {}).get("cgroupsPath") or ""
    return {
        "id": record.id,
        "folder": str(bundle),
        "run": str(states.folder_of(site, record.id)),
        "log": str(log),
        "runtime": runtime(site),
        "remove": remover(record) if monitor["auto_remove"] else [],
        "boot": boot_id(),
        "cgroup": cgroup if cgroup.startswith("/") else "",
        "monitor": monitor,
    }


def _write_check(path: Path, config: Mapping[str, Any], test: list[str]) -> None:
    """The process of a health check: the container's own with another command (docker's HEALTHCHECK)."""
    process = dict(config["process"])
    process["terminal"] = False
    process.pop("consoleSize", None)
    process["args"] = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
    path.write_text(json.dumps(process))


def _spawn(site: Site, run: Path, control: int) -> int:
    """Returns the pid of its first process, which ends when its second has begun."""
    python = os.path.realpath(sys.executable)
    program = _MAIN.format(str(Path(ocirt.__file__).parents[1]))
    kept = ("PATH", "HOME", "XDG_RUNTIME_DIR", "TMPDIR", "OCIRT_CACHE", "OCIM_RUNTIME", "OCIM_COMMAND")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"OCIM_ROOT": str(site.root), "OCIM_RUN": str(site.run)}
    control = fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STDIO)
    said = os.open(run / "words", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    said = _moved(said)
    try:
        return os.posix_spawn(
            python,
            [python, "-I", "-S", "-c", program],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, control, 0),
                (os.POSIX_SPAWN_DUP2, said, 1),
                (os.POSIX_SPAWN_DUP2, said, 2),
            ],
            setsigmask=(),
            setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
        )
    finally:
        os.close(control)
        os.close(said)


def _moved(fd: int) -> int:
    """The same above stdin, stdout and stderr, which a caller may have closed."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STDIO)
    os.close(fd)
    return moved


def _numbers(*fds: int) -> bytes:
    return b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
