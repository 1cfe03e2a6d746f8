"""linux.intelRdt: the container's class of service in the resctrl file system.

config-linux.md, "IntelRdt", and the kernel's Documentation/filesystems/resctrl.rst. A class is a folder: its `schemata`
is what of the caches and of the memory bandwidth it may use, its `tasks` who is in it. mkdir(2) makes one with all its
files; rmdir(2) gives its tasks back to the class above. `mon_groups` in it has groups that only count.
"""

from __future__ import annotations

import posix
from errno import ENOENT, ENOSPC

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import exists, read
from ocirt.errors import ConfigError, ContainerError, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

POINTER = "/linux/intelRdt"
DEFAULT_CLASS = "/"


def mount_point(mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where resctrl is mounted. Raises ConfigError if it is not."""
    for line in read(mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("resctrl "):
            return before.split(" ")[4]
    raise ConfigError(
        "resctrl is not mounted",
        pointer=POINTER,
        hint="mount -t resctrl resctrl /sys/fs/resctrl, on a processor that has it",
    )


class Resctrl:
    """One container's class and monitoring group.

    folder    the class
    makes     what will be made: the class, the monitoring group
    removes   of these, what goes with the container
    """

    def __init__(self, rdt: dict[str, Any], container_id: str, mount: str) -> None:
        """Raises ConfigError or ContainerError for what does not fit what is there."""
        self.mount = mount
        self.makes: list[str] = []
        self.removes: list[str] = []
        self._lines = [
            (f"{POINTER}/{name}", rdt[name]) for name in ("l3CacheSchema", "memBwSchema") if rdt.get(name)
        ]  # in this order, and before schemata
        compared = list(self._lines)
        self._lines += [(f"{POINTER}/schemata/{index}", line) for index, line in enumerate(rdt.get("schemata") or ())]
        clos = rdt.get("closID") or ""
        self.folder = class_folder(rdt, container_id, mount)
        if exists(self.folder):
            if not clos:
                raise ContainerError(
                    f"{self.folder} exists already", pointer=POINTER, hint="set closID to use a class that is there"
                )
            self._compare(compared)
        elif clos and not self._lines:
            raise ConfigError(
                f"there is no class of service {clos}",
                pointer=POINTER + "/closID",
                hint=f"make {self.folder}, or say in schemata what it is to have",
            )
        else:
            self.makes.append(self.folder)
            if not clos:
                self.removes.append(self.folder)
        self.monitoring = ""
        if rdt.get("enableMonitoring"):
            self.monitoring = f"{self.folder}/mon_groups/{container_id}"
            if exists(self.monitoring):
                raise ContainerError(f"{self.monitoring} exists already", pointer=POINTER + "/enableMonitoring")
            self.makes.append(self.monitoring)
            self.removes.append(self.monitoring)

    def _compare(self, lines: Sequence[tuple[str, str]]) -> None:
        """A class that is there has to have what the configuration says."""
        there = {}
        for line in read(self.folder + "/schemata").splitlines():
            resource, _, domains = line.partition(":")
            there[resource.strip()] = _domains(resource, domains)
        for pointer, line in lines:
            resource, _, domains = line.partition(":")
            known = there.get(resource.strip(), {})
            for domain, value in _domains(resource, domains).items():
                if known.get(domain) != value:
                    shown = "; ".join(f"{key}={known[key]}" for key in known) or "nothing"
                    raise ConfigError(
                        f'"{line}" is not what {self.folder}/schemata has for {resource}: {shown}',
                        pointer=pointer,
                        hint="another closID, or the same values",
                    )

    def create(self) -> None:
        """Make the folders and write the schemata. Raises KernelError."""
        for folder in self.makes:
            monitors = folder == self.monitoring
            pointer = POINTER + ("/enableMonitoring" if monitors else "/closID")
            try:
                posix.mkdir(folder, 0o755)
            except OSError as error:
                hint = {
                    ENOSPC: f"the processor has no more {'monitoring ids' if monitors else 'classes of service'}",
                    ENOENT: "this processor does not monitor" if monitors else "",
                }.get(error.errno or 0, "")
                raise from_os_error(error, f"create {folder}", pointer=pointer, hint=hint) from None
            if not monitors:
                self._write_lines()
        if self.folder not in self.makes:
            self._write_lines()

    def _write_lines(self) -> None:
        _write_lines(self.mount, self.folder, self._lines)

    def attach(self, pid: int) -> None:
        """The class first: a task can only be monitored where it is. Raises KernelError."""
        for folder in (self.folder, self.monitoring):
            if folder:
                try:
                    write(folder + "/tasks", str(pid))
                except OSError as error:
                    raise _failure(self.mount, error, f"write {pid} to {folder}/tasks", POINTER) from None


class Schemata:
    """A change of an existing class: what it may use. lines: (JSON pointer, a line of schemata)."""

    def __init__(self, mount: str, folder: str, lines: Sequence[tuple[str, str]]) -> None:
        self.mount = mount
        self.folder = folder
        self.lines = lines
        self._before = ""

    def apply(self) -> None:
        """Raises KernelError, with everything as it was."""
        try:
            self._before = read(self.folder + "/schemata")
        except OSError as error:
            raise from_os_error(error, f"read {self.folder}/schemata", pointer=POINTER) from None
        try:
            _write_lines(self.mount, self.folder, self.lines)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Raises KernelError."""
        _write_lines(self.mount, self.folder, [(POINTER, line.strip()) for line in self._before.splitlines()])


def class_folder(rdt: dict[str, Any], container_id: str, mount: str) -> str:
    """Of the container's class of service."""
    clos = rdt.get("closID") or ""
    return mount if clos == DEFAULT_CLASS else f"{mount}/{clos or container_id}"


def _write_lines(mount: str, folder: str, lines: Sequence[tuple[str, str]]) -> None:
    """One write each: a resource may stand in two lines, of which the last counts."""
    for pointer, line in lines:
        try:
            write(folder + "/schemata", line + "\n")
        except OSError as error:
            raise _failure(mount, error, f'write "{line}" to {folder}/schemata', pointer) from None


def _failure(mount: str, error: OSError, doing: str, pointer: str) -> KernelError:
    """With the kernel's own words, which it keeps in a file."""
    try:
        words = read(mount + "/info/last_cmd_status").strip()
    except OSError:
        words = ""
    return from_os_error(error, doing, pointer=pointer, hint="" if words in ("", "ok") else words)


def remove(folders: Sequence[str], container_id: str) -> None:
    """Remove groups that were made for a container. A class that has not its name, but closID's, stays if others have
    joined it by now. Raises KernelError."""
    for folder in reversed(folders):
        try:
            if folder.rpartition("/")[2] == container_id or not read(folder + "/tasks").strip():
                posix.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise from_os_error(error, f"remove {folder}", hint="see /proc/mounts for resctrl") from None


def _domains(resource: str, text: str) -> dict[str, int | str]:
    """ "0=ff;1=3" → {"0": 255, "1": 3}: bit masks are hexadecimal, with any number of zeros before; MB is decimal."""
    base = 10 if resource.strip().startswith("MB") else 16
    found: dict[str, int | str] = {}
    for part in text.split(";"):
        domain, _, value = part.strip().partition("=")
        try:
            found[domain.strip()] = int(value, base)
        except ValueError:
            found[domain.strip()] = value.strip()
    return found
