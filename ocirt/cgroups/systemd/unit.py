"""cgroupsPath as the systemd driver has it, `slice:prefix:name`, and what systemd calls the cgroup of a unit.

runc made the form up, and engines use it. The names follow systemd.unit(5) and systemd.slice(5).
"""

from __future__ import annotations

from ocirt.errors import ConfigError

POINTER = "/linux/cgroupsPath"
FORM = "with the systemd manager it is SLICE:PREFIX:NAME, such as system.slice:ocirt:web; or leave it out"
PREFIX = "ocirt"
ROOT_SLICE = "-.slice"
LONGEST = 255

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\")
_CONTROLLERS = frozenset("cpu cpuacct cpuset io blkio memory devices pids".split())
_KERNELS = frozenset(("notify_on_release", "release_agent", "tasks"))


class Unit:
    """name      "ocirt-web.scope", or that of a slice
    slice     the slice that it is in: "system.slice", or "-.slice" for the root
    folder    its cgroup, counted from the manager's: "/system.slice/ocirt-web.scope"
    """

    __slots__ = ("folder", "name", "slice")

    def __init__(self, name: str, slice: str, folder: str) -> None:
        self.name = name
        self.slice = slice
        self.folder = folder

    @property
    def is_slice(self) -> bool:
        """A slice has no processes of its own for systemd: it starts it empty, and we put them in."""
        return self.name.endswith(".slice")


def unit_for(cgroups_path: str, container_id: str, *, user: bool) -> Unit:
    """`user`: is it a user's manager? Raises ConfigError for what is no `slice:prefix:name`."""
    parts = cgroups_path.split(":") if cgroups_path else ["", PREFIX, _escaped(container_id)]
    if len(parts) != 3:
        raise ConfigError(f'expected SLICE:PREFIX:NAME, got "{cgroups_path}"', pointer=POINTER, hint=FORM)
    above, prefix, name = parts
    if not name:
        raise ConfigError(f'"{cgroups_path}" has no NAME', pointer=POINTER, hint=FORM)
    if name.endswith(".slice"):
        return _slice_itself(above, name)
    above = _slice_name(above or ("user.slice" if user else "system.slice"))
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    _check(unit)
    return Unit(unit, above, f"{slice_folder(above)}/{cgroup_name(unit)}")


def _slice_itself(slice: str, name: str) -> Unit:
    """A slice's place follows from its name: a slice before it can only say the same."""
    folder = slice_folder(name)
    if not folder:
        raise ConfigError("the root slice is nobody's own", pointer=POINTER, hint=FORM)
    stem = name.removesuffix(".slice")
    above = f"{stem.rpartition('-')[0]}.slice" if "-" in stem else ROOT_SLICE
    if slice and _slice_name(slice) != above:
        raise ConfigError(f"the slice {name} is in {above}, not in {slice}", pointer=POINTER, hint="leave SLICE empty")
    return Unit(name, above, folder)


def _slice_name(slice: str) -> str:
    """Checked; "-" is short for the root slice."""
    name = ROOT_SLICE if slice == "-" else slice
    slice_folder(name)
    return name


def slice_folder(slice: str) -> str:
    """ "a-b.slice" → "/a.slice/a-b.slice"; "" for the root slice. Raises ConfigError."""
    if not slice.endswith(".slice"):
        raise ConfigError(f'"{slice}" is no slice: expected a name that ends in .slice', pointer=POINTER, hint=FORM)
    _check(slice)
    if slice == ROOT_SLICE:
        return ""
    folder, name = "", ""
    for part in slice.removesuffix(".slice").split("-"):
        if not part:
            raise ConfigError(f'"{slice}" is no slice: a "-" stands between two names', pointer=POINTER, hint=FORM)
        name = f"{name}-{part}" if name else part
        folder += f"/{cgroup_name(name + '.slice')}"
    return folder


def _check(unit: str) -> None:
    wrong = sorted(set(unit) - _PLAIN)
    if wrong:
        allowed = "letters, digits and : - _ . \\"
        raise ConfigError(f'"{unit}" is no unit name: {", ".join(map(repr, wrong))}', pointer=POINTER, hint=allowed)
    if len(unit) > LONGEST:
        raise ConfigError(f"the unit name has {len(unit)} characters, more than {LONGEST}", pointer=POINTER)


def _escaped(container_id: str) -> str:
    """An id may have a +, a unit name not (systemd-escape(1))."""
    return container_id.replace("+", "\\x2b")


def cgroup_name(unit: str) -> str:
    """systemd puts "_" before what the kernel could take for a file of its own."""
    first, dot, _ = unit.rpartition(".")
    taken = unit[0] in "_." or unit in _KERNELS or unit.startswith("cgroup.") or (dot and first in _CONTROLLERS)
    return "_" + unit if taken else unit


def object_path(unit: str) -> str:
    """The unit's D-Bus object (org.freedesktop.systemd1(5)): whatever is no letter or digit as _ and two hex digits."""
    name = "".join(
        letter if letter.isascii() and letter.isalnum() and (at or not letter.isdigit()) else f"_{ord(letter):02x}"
        for at, letter in enumerate(unit)
    )
    return f"/org/freedesktop/systemd1/unit/{name}"
