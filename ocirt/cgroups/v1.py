"""One cgroup of a v1 hierarchy (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import posix

from ocirt.cgroups import calls
from ocirt.cgroups.files import write
from ocirt.cgroups.layout import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cgroups.rules import Rule


def prepare(path: str, controllers: tuple[str, ...], *, new: bool = False) -> None:
    """Make a cgroup fit to have processes: a cpuset without CPUs and memory nodes takes none. new: has it just been
    made, without? Raises OSError."""
    if "cpuset" in controllers:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if new:
                write(f"{path}/{name}", _inherit(path.rpartition("/")[0], name))
            else:
                _inherit(path, name)


def _inherit(folder: str, name: str) -> str:
    """Give a cpuset its parent's value if it has none, and the parent its parent's: a plain mkdir leaves it empty."""
    value = read(f"{folder}/{name}").strip()
    if not value:
        value = _inherit(folder.rpartition("/")[0], name)
        write(f"{folder}/{name}", value)
    return value


def set_devices(path: str, rules: Sequence[Rule]) -> None:
    """Deny all, then each rule in turn: `devices.list` shows them in this order. Raises OSError."""
    lines = [("deny", "a")]
    for rule in rules:
        if rule.everything:
            line = "a"
        else:
            major = "*" if rule.major < 0 else str(rule.major)
            minor = "*" if rule.minor < 0 else str(rule.minor)
            line = f"{rule.type} {major}:{minor} {rule.access}"
        lines.append(("allow" if rule.allow else "deny", line))
    if lines[1:2] == lines[:1]:
        del lines[0]
    errnos = calls.several([("write", f"{path}/devices.{file}", line.encode()) for file, line in lines], True)
    if errnos[-1]:
        raise OSError(errnos[-1], posix.strerror(errnos[-1]), f"{path}/devices.{lines[len(errnos) - 1][0]}")
