"""What a config.json must say about namespaces: their paths, the id mappings of a user namespace, time offsets.

Imported only for a configuration that has more than new namespaces of the common kinds.
"""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MOST_LINES = 340
"""A map has at most this many lines (user_namespaces(7), since Linux 4.15)."""
_IDS = 2**32 - 1


def check_namespaces(spec: dict[str, Any], namespaces: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError for the first rule that is broken."""
    linux = spec["linux"]
    paths: dict[str, str | None] = {}
    for index, namespace in enumerate(namespaces):
        path = namespace.get("path") or None
        paths[namespace["type"]] = path
        if path and not path.startswith("/"):
            raise ConfigError(f'expected an absolute path, got "{path}"', pointer=f"/linux/namespaces/{index}/path")
    _mappings(spec, linux, paths)
    _time_offsets(linux, paths)


def _mappings(spec: dict[str, Any], linux: dict[str, Any], paths: dict[str, str | None]) -> None:
    given = {name: linux.get(name) or () for name in ("uidMappings", "gidMappings")}
    if "user" not in paths:
        for name, mappings in given.items():
            if mappings:
                raise ConfigError(
                    f"{name} without a user namespace",
                    pointer=f"/linux/{name}",
                    hint='add {"type": "user"} to /linux/namespaces',
                )
        return
    for name, mappings in given.items():
        check_mappings(mappings, f"/linux/{name}")
    if paths["user"]:
        return  # it has maps already; engines write some all the same, because runc once demanded them
    user = spec["process"]["user"]
    ids = {
        "uidMappings": [(user["uid"], "/process/user/uid")],
        "gidMappings": [
            (user["gid"], "/process/user/gid"),
            *(
                (gid, f"/process/user/additionalGids/{index}")
                for index, gid in enumerate(user.get("additionalGids") or ())
            ),
        ],
    }
    for name, mappings in given.items():
        if not mappings:
            raise ConfigError(
                f"a new user namespace needs {name}",
                pointer=f"/linux/{name}",
                hint='such as [{"containerID": 0, "hostID": 100000, "size": 65536}]',
            )
        if host_id(mappings, 0) is None:
            raise ConfigError(
                "the container's id 0 is not mapped", pointer=f"/linux/{name}", hint="it sets the container up"
            )
        for number, pointer in ids[name]:
            if host_id(mappings, number) is None:
                raise ConfigError(f"{number} is not mapped", pointer=pointer, hint=f"see /linux/{name}")


def check_mappings(mappings: Sequence[dict[str, int]], pointer: str) -> None:
    """The rules of user_namespaces(7): no empty range, none that overlaps another on either side, not too many."""
    if len(mappings) > MOST_LINES:
        raise ConfigError(f"{len(mappings)} mappings are more than {MOST_LINES}", pointer=pointer)
    for index, mapping in enumerate(mappings):
        size = mapping["size"]
        if not size:
            raise ConfigError("a mapping of no ids", pointer=f"{pointer}/{index}/size")
        for side in ("containerID", "hostID"):
            first = mapping[side]
            if first + size > _IDS:
                raise ConfigError(f"the range ends above {_IDS - 1}", pointer=f"{pointer}/{index}/{side}")
            for other, earlier in enumerate(mappings[:index]):
                if first < earlier[side] + earlier["size"] and earlier[side] < first + size:
                    raise ConfigError(f"overlaps {pointer}/{other}/{side}", pointer=f"{pointer}/{index}/{side}")


def host_id(mappings: Sequence[dict[str, int]], number: int) -> int | None:
    """What an id of the container is on the host; None if it is not mapped."""
    for mapping in mappings:
        if mapping["containerID"] <= number < mapping["containerID"] + mapping["size"]:
            return mapping["hostID"] + number - mapping["containerID"]
    return None


def _time_offsets(linux: dict[str, Any], paths: dict[str, str | None]) -> None:
    offsets = linux.get("timeOffsets") or {}
    if not offsets:
        return
    if "time" not in paths or paths["time"]:
        why = "a joined one keeps its own" if "time" in paths else 'add {"type": "time"} to /linux/namespaces'
        raise ConfigError("timeOffsets need a new time namespace", pointer="/linux/timeOffsets", hint=why)
    for clock, offset in offsets.items():
        if clock not in ("monotonic", "boottime"):
            raise ConfigError(
                f'unknown clock "{clock}"', pointer=f"/linux/timeOffsets/{clock}", hint="monotonic or boottime"
            )
        if offset and offset.get("nanosecs", 0) >= 10**9:
            raise ConfigError(
                f"expected less than 10^9, got {offset['nanosecs']}", pointer=f"/linux/timeOffsets/{clock}/nanosecs"
            )
