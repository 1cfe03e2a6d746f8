"""One cgroup of a v1 hierarchy (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cgroups.rules import Rule


def prepare(path: str, controllers: tuple[str, ...]) -> None:
    """Make a cgroup fit to have processes: a cpuset without CPUs and memory nodes takes none."""
    if "cpuset" in controllers:
        for name in ("cpuset.cpus", "cpuset.mems"):
            _inherit(path, name)


def _inherit(folder: str, name: str) -> str:
    """Give a cpuset its parent's value if it has none, and the parent its parent's: a plain mkdir leaves it empty."""
    value = read(f"{folder}/{name}").strip()
    if not value:
        value = _inherit(folder.rpartition("/")[0], name)
        write(f"{folder}/{name}", value)
    return value


def set_devices(path: str, rules: Sequence[Rule]) -> None:
    """Deny all, then each rule in turn: `devices.list` shows them in this order."""
    write(f"{path}/devices.deny", "a")
    for rule in rules:
        if rule.everything:
            line = "a"
        else:
            major = "*" if rule.major < 0 else str(rule.major)
            minor = "*" if rule.minor < 0 else str(rule.minor)
            line = f"{rule.type} {major}:{minor} {rule.access}"
        write(f"{path}/devices.{'allow' if rule.allow else 'deny'}", line)
