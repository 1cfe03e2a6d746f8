"""The cgroups of a process that is to run deeper than its container does, as `exec --cgroup` asks."""

from __future__ import annotations

from ocirt.cgroups.layout import exists
from ocirt.cgroups.manager import Cgroups
from ocirt.errors import ContainerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def below(cgroups: Cgroups, paths: Sequence[str]) -> Cgroups:
    """paths: "PATH" on the unified hierarchy, or "CONTROLLER,…:PATH", from the container's own; the cgroups must exist.

    Raises UsageError, ContainerError.
    """
    places = list(cgroups.places)
    for wanted in paths:
        names, colon, path = wanted.rpartition(":")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise UsageError(f'".." has no place in a cgroup path, got "{wanted}"')
        if "\0" in path:
            raise UsageError("a cgroup path has no NUL in it")
        for name in names.split(",") if colon else ("",):
            at = [index for index, place in enumerate(places) if (name in place[1] if name else place[2])]
            if not at:
                raise UsageError(
                    f"--cgroup {wanted}: the container is in no such hierarchy{f': {name}' if name else ''}",
                    hint="PATH on cgroup v2, CONTROLLER:PATH on v1",
                )
            hierarchy, controllers, is_v2, mount, own = places[at[0]]
            places[at[0]] = hierarchy, controllers, is_v2, mount, "/".join([own, *parts])
            if not exists(places[at[0]][4]):
                raise ContainerError(f"--cgroup {wanted}: there is no cgroup {places[at[0]][4]}")
    deeper = Cgroups(places)
    deeper.delegated = cgroups.delegated
    return deeper
