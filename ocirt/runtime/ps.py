"""ps: the processes of a container."""

from __future__ import annotations

from ocirt.cgroups.files import check_there
from ocirt.cgroups.manager import Cgroups
from ocirt.errors import Error
from ocirt.state.status import STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_OPTIONS = ("-ef",)


def processes(root: str, container_id: str) -> list[int]:
    """Their pids, as the host has them, sorted: all in the container's cgroups and below; without a cgroup, those that
    can be known otherwise (state.members). None in a stopped one."""
    store = Store(root)
    known = store.read(container_id)
    cgroups = Cgroups.from_state(known["cgroups"])
    if status_of(known, store.folder(container_id)) == STOPPED:
        return []
    if not cgroups.places:
        from ocirt.state.members import members

        return sorted(members(known))
    check_there(cgroups.places[0][-1])
    return cgroups.processes()


def table(root: str, container_id: str, options: Sequence[str]) -> list[str]:
    """The lines of ps(1), with these options (-ef), that are about these processes, below its heading.

    Raises Error if ps fails, or its table has no column PID.
    """
    import subprocess

    pids = set(processes(root, container_id))
    command = ["ps", *(options or DEFAULT_OPTIONS)]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        done = subprocess.run(
            command, env={"PATH": path, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise Error(
            f"run ps: {error.strerror}", hint="install procps, or use --format json", errno=error.errno or 0
        ) from None
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise Error(f"{' '.join(command)} ended with status {done.returncode}: {words or 'it says nothing'}")
    heading, *lines = done.stdout.splitlines() or [""]
    titles = heading.split()
    if "PID" not in titles:
        raise Error(f"{' '.join(command)} shows no column PID", hint="add it: -o pid,…")
    column = titles.index("PID")
    found = [line for line in lines if _number(line, column) in pids]
    return [heading, *found]


def _number(line: str, column: int) -> int:
    words = line.split(None, column + 1)
    return int(words[column]) if len(words) > column and words[column].isdigit() else 0
