"""Idmapped mounts (mount_setattr(2), MOUNT_ATTR_IDMAP): which id map each mount has, and the step that gives it.

The map comes as a user namespace's descriptor, which the host makes: one for each map. Imported only where a mount
asks for one.
"""

from __future__ import annotations

from ocirt.config.check_namespaces import check_mappings, host_id
from ocirt.errors import ConfigError
from ocirt.plan.kernel import AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR, MOUNT_ATTR_IDMAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg

    Mappings: TypeAlias = list[dict[str, int]]

_NAMES = (("uidMappings", "uids"), ("gidMappings", "gids"))


def maps(spec: dict[str, Any]) -> dict[str, tuple[Mappings, Mappings] | None]:
    """pointer of each mount that has an id map → (uids, gids); None: those of the user namespace that is joined.

    Raises ConfigError for maps that are incomplete or cannot be.
    """
    linux = spec.get("linux") or {}
    found: dict[str, tuple[Mappings, Mappings] | None] = {}
    for index, mount in enumerate(spec.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        asked = [
            (at, option)
            for at, option in enumerate(mount.get("options") or ())
            if option.partition("=")[0] in ("idmap", "ridmap")
        ]
        given = [name for name, _ in _NAMES if mount.get(name)]
        if not asked and not given:
            continue
        if given:
            for name, _ in _NAMES:
                if name not in given:
                    raise ConfigError(f"{given[0]} without {name}", pointer=f"{pointer}/{given[0]}", hint="give both")
                check_mappings(mount[name], f"{pointer}/{name}")
            found[pointer] = mount["uidMappings"], mount["gidMappings"]
            continue
        at, option = asked[-1]
        if "=" in option:
            found[pointer] = _written(option.partition("=")[2], linux, f"{pointer}/options/{at}")
        else:
            found[pointer] = _containers(linux, option, f"{pointer}/options/{at}")
    return found


def _containers(linux: dict[str, Any], option: str, pointer: str) -> tuple[Mappings, Mappings] | None:
    """Of the container's user namespace."""
    for namespace in linux.get("namespaces") or ():
        if namespace["type"] == "user":
            return None if namespace.get("path") else (linux["uidMappings"], linux["gidMappings"])
    raise ConfigError(
        f'the mount option "{option}" needs a map',
        pointer=pointer,
        hint="give the mount uidMappings and gidMappings, or the container a user namespace",
    )


def _written(text: str, linux: dict[str, Any], pointer: str) -> tuple[Mappings, Mappings]:
    """crun's idmap=uids=0-100000-10#10-5-1;gids=…: id in the file system, id on the host (with @ before the three: in
    the container), how many."""
    found: dict[str, Mappings] = {}
    for part in text.split(";"):
        name, _, ranges = part.partition("=")
        own = next((own for own, short in _NAMES if short == name), "")
        mappings: Mappings = []
        for entry in ranges.split("#"):
            numbers = entry.removeprefix("@").split("-")
            if not own or len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) < 11 for n in numbers):
                raise ConfigError(
                    f'expected uids=FIRST-ON_THE_HOST-COUNT#…;gids=…, got "{text}"',
                    pointer=pointer,
                    hint="as crun has it",
                )
            inside, outside, size = map(int, numbers)
            if entry.startswith("@"):
                moved = host_id(linux.get(own) or (), outside)
                last = host_id(linux.get(own) or (), outside + size - 1)
                if moved is None or last != moved + size - 1:
                    raise ConfigError(f'"{entry}" is not one range of the container\'s {own}', pointer=pointer)
                outside = moved
            mappings.append({"containerID": inside, "hostID": outside, "size": size})
        check_mappings(mappings, pointer)
        found[own] = mappings
    if len(found) != 2:
        raise ConfigError(f'expected both uids and gids, got "{text}"', pointer=pointer)
    return found["uidMappings"], found["gidMappings"]


def distinct(spec: dict[str, Any]) -> list[tuple[str, tuple[Mappings, Mappings]]]:
    """Each map once, with the pointer of the first mount that has it: what the host makes user namespaces of."""
    once: list[tuple[str, tuple[Mappings, Mappings]]] = []
    for pointer, one in maps(spec).items():
        if one is not None and not any(one == other for _, other in once):
            once.append((pointer, one))
    return once


def apply(scope: Scope, tree: Reg, pointer: str, *, below: bool) -> None:
    """While the tree is mounted nowhere: the kernel changes the map of no other."""
    one = maps(scope.spec)[pointer]
    if one is None:
        if "user" not in scope.joined:
            raise ConfigError("the user namespace is the host's own, which maps no ids", pointer=pointer)
        fd = scope.inherited["user namespace"]
    else:
        number = next(index for index, (_, other) in enumerate(distinct(scope.spec)) if other == one)
        fd = scope.inherited[f"user map {number}"]
    attributes = MOUNT_ATTR.pack(MOUNT_ATTR_IDMAP, 0, 0, fd)
    where = AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
    scope.plan.call("mount_setattr", tree, "", where, attributes, MOUNT_ATTR.size)
