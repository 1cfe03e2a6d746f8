"""A container's stdin, stdout and stderr, whose other ends are the host's: what CRIU calls them, so that a restored
container gets its new caller's in their place.

The keys are in descriptors.json beside the images, a list as runc writes it: of a pipe what /proc/PID/fd says, and of a
file that is none of the container's mounts, or a terminal, CRIU's own notation ("External files", "External TTYs").
"""

from __future__ import annotations

import os

from ocirt.config.read import parse, read_json
from ocirt.errors import Error, from_os_error
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTORS = "descriptors.json"
STANDARD = (0, 1, 2)
_S_IFMT, _S_IFCHR = 0o170000, 0o020000


class Descriptor:
    """One of a process's: what /proc/PID/fd and fdinfo say of it (proc_pid_fd(5), proc_pid_fdinfo(5))."""

    __slots__ = ("device", "inode", "kind", "mount", "rdev", "target")

    def __init__(self, target: str, mount: int, inode: int, device: int, rdev: int, kind: int) -> None:
        self.target = target
        self.mount = mount
        self.inode = inode
        self.device = device
        self.rdev = rdev
        self.kind = kind


def look(pid: int) -> list[Descriptor | None]:
    """The standard ones of a process; None for one that is closed."""
    return [_look(pid, number) for number in STANDARD]


def _look(pid: int, number: int) -> Descriptor | None:
    path = f"/proc/{pid}/fd/{number}"
    try:
        target = os.readlink(path)
        status = os.stat(path)
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            mount = next((int(line.split()[1]) for line in file if line.startswith("mnt_id:")), -1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"look at descriptor {number} of process {pid}") from None
    rdev = status.st_rdev if status.st_mode & _S_IFMT == _S_IFCHR else 0
    return Descriptor(target, mount, status.st_ino, status.st_dev, rdev, status.st_mode & _S_IFMT)


def keys(descriptors: Sequence[Descriptor | None], mounts: Sequence[int]) -> list[str]:
    """A key for each, "" for none. mounts: the numbers of the container's own mounts: a file in them is its own."""
    return [_key(one, mounts) if one else "" for one in descriptors]


def _key(one: Descriptor, mounts: Sequence[int]) -> str:
    if one.target.startswith(("pipe:", "socket:")):
        return one.target
    if one.mount in mounts or not one.target.startswith("/"):
        return ""
    if one.rdev and _is_terminal(one.rdev):
        return f"tty[{one.rdev:x}:{one.device:x}]"
    return f"file[{one.mount:x}:{one.inode:x}]"


def _is_terminal(rdev: int) -> bool:
    """Documentation/admin-guide/devices.txt: consoles, serial lines, the other names of terminals, Unix98 ptys."""
    major = os.major(rdev)
    return major in (4, 5) or 136 <= major <= 143


def external(found: Sequence[str]) -> list[str]:
    """What a dump has to be told, of these keys: a pipe needs no word, and a socket gets its own."""
    named = [key for key in found if key.startswith(("file[", "tty["))]
    named += [f"unix[{key[len('socket:[') : -1]}]" for key in found if key.startswith("socket:")]
    return list(dict.fromkeys(named))


def inherited(found: Sequence[str]) -> list[tuple[str, int]]:
    """(key, descriptor of ours) of what a restore hands over: the first of these descriptors that has the key."""
    pairs: dict[str, int] = {}
    for number, key in enumerate(found):
        if not key.startswith(("pipe:", "socket:", "file[", "tty[")):
            continue
        # CRIU takes the key of a file for its path, whose first letter it drops ("/…" becomes one in the root).
        pairs.setdefault(key[1:] if key.startswith("file[") else key, number)
    return list(pairs.items())


def write(folder: str, found: Sequence[str]) -> None:
    path = f"{folder}/{DESCRIPTORS}"
    try:
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(dumps(list(found)))
    except OSError as error:
        raise from_os_error(error, f"write {path}") from None


def read(folder: str) -> list[str]:
    """Raises Error if it is not there, or no list of text."""
    path = f"{folder}/{DESCRIPTORS}"
    if not os.path.exists(path):
        raise Error(f"{folder} holds no checkpoint: there is no {DESCRIPTORS}", hint="see --image-path")
    found = parse(read_json(path))
    if type(found) is not list or any(type(one) is not str for one in found):
        raise Error(f"{path} is damaged: it is no list of text")
    return found
