"""More processes in a container that runs, and what it uses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from ocirt.manager.containers import state as states
from ocirt.manager.containers.launch import runtime
from ocirt.manager.errors import ConflictError, ManagerError, MissingError
from ocirt.manager.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.state import Kept


def process_of(site: Site, record: Kept) -> dict[str, Any]:
    """The container's own process, as its config.json has it: `exec` changes what is to be other.

    Raises ManagerError.
    """
    path = site.container(record.id) / "config.json"
    try:
        process: dict[str, Any] = json.loads(path.read_bytes())["process"]
    except (OSError, ValueError, KeyError) as error:
        raise ManagerError(f"{path} has no process: {error}") from error
    return process


def exec_command(
    site: Site, record: Kept, process: Mapping[str, Any], *, detach: bool = False
) -> tuple[list[str], int]:
    """The command line that runs an OCI process object in a container, and a descriptor that it inherits.

    The process object is in that descriptor, a memfd: nothing is left behind whatever happens. Raises ConflictError if
    the container does not run.
    """
    _running(site, record)
    fd = os.memfd_create("process")  # close-on-exec
    os.write(fd, json.dumps(process).encode())
    flags = ["--detach"] if detach else []
    return [*runtime(site), "exec", *flags, "--process", f"/proc/self/fd/{fd}", record.id], fd


def execute(site: Site, record: Kept, process: Mapping[str, Any], *, detach: bool = False) -> int:
    """Run one more process with our stdin, stdout and stderr, and return its exit code; `detach`: 0, when it has begun,
    and its input and output are /dev/null. The command line may rather become it: `exec_command` and execve(2).

    Raises ManagerError with the runtime's words if it could not be begun with `detach`; else those are on stderr.
    """
    command, fd = exec_command(site, record, process, detach=detach)
    try:
        if not detach:
            return subprocess.run(command, pass_fds=(fd,), check=False).returncode
        null = subprocess.DEVNULL
        reading, writing = os.pipe()
        done = subprocess.Popen(command, pass_fds=(fd,), stdin=null, stdout=null, stderr=writing)
        os.close(writing)
        code = done.wait()
        words = _rest(reading)
        if code:
            raise ManagerError(words or f"{command[0]} exec ended with {code}")
        return 0
    finally:
        os.close(fd)


def top(site: Site, record: Kept, ps_args: Sequence[str] = ("-ef",)) -> tuple[list[str], list[list[str]]]:
    """Its processes, as `ps` of the host shows them: the titles, and a row for each. Raises ManagerError."""
    _running(site, record)
    program = shutil.which("ps")
    if program is None:
        raise MissingError("there is no ps on this host", hint="install procps")
    pids = set(json.loads(_output([*runtime(site), "ps", "--format", "json", record.id])) or ())
    lines = _output([program, *ps_args]).splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise ManagerError("ps does not show the column PID", hint="its options must ask for it")
    place, count = titles.index("PID"), len(titles)
    rows = [line.split(None, count - 1) for line in lines[1:]]
    return titles, [row for row in rows if len(row) > place and row[place].isdigit() and int(row[place]) in pids]


class Stats:
    """What a container uses now.

    cpu             nanoseconds since it was started
    memory, limit   bytes, without what the kernel could give back at once (inactive files), as docker has it
    received, sent  bytes of all its network devices but lo
    read, written   bytes of block devices
    pids            processes and threads
    when            nanoseconds, of a clock that only goes forward: two of them and cpu make a percentage
    """

    __slots__ = ("cpu", "limit", "memory", "pids", "read", "received", "sent", "when", "written")

    def __init__(self, data: Mapping[str, Any], network: tuple[int, int]) -> None:
        self.when = time.monotonic_ns()
        self.cpu: int = _at(data, "cpu", "usage", "total")
        memory = data.get("memory") or {}
        raw = memory.get("raw") or {}
        inactive = raw.get("total_inactive_file", raw.get("inactive_file", 0))
        usage = _at(memory, "usage", "usage")
        self.memory: int = usage - inactive if inactive < usage else usage
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.limit: int = min(_at(memory, "usage", "limit") or total, total)
        self.pids: int = _at(data, "pids", "current")
        self.received, self.sent = network
        entries = (data.get("blkio") or {}).get("ioServiceBytesRecursive") or ()
        self.read, self.written = (
            sum(one.get("value", 0) for one in entries if one.get("op", "").lower() == what)
            for what in ("read", "write")
        )

    def percent(self, before: Stats) -> float:
        """Of one processor, since `before`: 200 for two of them."""
        passed = self.when - before.when
        return max(0.0, (self.cpu - before.cpu) / passed * 100) if passed > 0 else 0.0


def stats(site: Site, record: Kept) -> Stats:
    """Raises ConflictError if it does not run, ManagerError."""
    pid = _running(site, record)
    text = _output([*runtime(site), "events", "--stats", record.id])
    try:
        data = json.loads(text).get("data") or {}
    except (ValueError, AttributeError) as error:
        raise ManagerError(f"the runtime's statistics cannot be read: {error}") from error
    return Stats(data, _network(pid))


def _running(site: Site, record: Kept) -> int:
    found = states.read(site, record)
    if not found.pid:
        raise ConflictError(f"container {record.id[:12]} is not running", hint="start it first")
    return found.pid


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent, of proc(5)'s net/dev; 0 for a process that has just ended."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        lines = []
    for line in lines:
        name, _, numbers = line.partition(":")
        fields = numbers.split()
        if name.strip() != "lo" and len(fields) > 8:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def _at(found: Any, *names: str) -> int:
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) else 0


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ManagerError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _rest(fd: int) -> str:
    """What is in a pipe, of which a process that was started may keep the other end open."""
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1 << 16).decode(errors="replace").strip()
    except BlockingIOError:
        return ""
    finally:
        os.close(fd)
