"""The user namespace that a container of an ordinary user gets if its configuration has none.

Only in one of its own has such a user the rights to make a container (user_namespaces(7)). The container's root is the
caller; the ids from 1 on are those that /etc/subuid and /etc/subgid grant (subuid(5)). Imported only for a caller
without CAP_SYS_ADMIN.
"""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import read
from ocirt.config.check_namespaces import host_id
from ocirt.errors import ConfigError
from ocirt.host.idmap import find_tool, lacks_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config

MOST_LINES = 339
"""A map has at most 340 (user_namespaces(7)), and the first is the caller's own id."""
_KINDS = (
    ("uidMappings", "/etc/subuid", "newuidmap", "--add-subuids"),
    ("gidMappings", "/etc/subgid", "newgidmap", "--add-subgids"),
)


def give_user_namespace(config: Config, *, ranges: bool = True) -> None:
    """Add a user namespace and its maps to config.spec, unless it has one; warn where the maps are one id each.

    ranges: take those of /etc/subuid and /etc/subgid? Raises ConfigError for ids of the process that are not mapped.
    """
    linux = config.spec.setdefault("linux", {})
    namespaces = linux.setdefault("namespaces", [])
    if any(one["type"] == "user" for one in namespaces):
        return
    namespaces.append({"type": "user"})
    config.added = True
    why = "" if ranges else "the programs that map it have failed"
    name = user_name(posix.getuid())
    for kind, file, tool, option in _KINDS:
        own = posix.geteuid() if kind == "uidMappings" else posix.getegid()
        found = subordinate(file, name, posix.getuid()) if ranges else []
        problem = why or _problem(found, file, tool, option, name)
        if problem:
            found = []
            config.warnings.append(f"/linux/{kind}: the container has only one id, {own} of the host: {problem}")
        mappings = [{"containerID": 0, "hostID": own, "size": 1}]
        following = 1
        for first, count in found[:MOST_LINES]:
            mappings.append({"containerID": following, "hostID": first, "size": count})
            following += count
        linux[kind] = mappings
    _check_process(config.spec)


def _problem(found: list[tuple[int, int]], file: str, tool: str, option: str, name: str) -> str:
    """Why there is no range to map, and what to do; or ""."""
    if not name:
        return f"the user {posix.getuid()} has no name in /etc/passwd, which {tool} demands"
    if not found:
        fix = f"`usermod {option} 100000-165535 {name}` as root grants one"
        return f"{name} has no range in {file}; {fix}"
    path = find_tool(tool)
    if not path:
        return f'{tool} is not installed: Debian\'s package is "uidmap"'
    if refused := lacks_rights(path):
        return refused
    from ocirt.state.process import status_field

    if status_field("self", "NoNewPrivs").strip() == "1":
        return f"no_new_privs is set, so {tool} gets no rights"
    return ""


def _check_process(spec: dict[str, Any]) -> None:
    """What config.check_namespaces checks for maps that are in the file. Additional groups may not be mapped where
    setgroups(2) is denied: they are ignored then."""
    user, linux = spec["process"]["user"], spec["linux"]
    for kind, number, pointer, file in (
        ("uidMappings", user["uid"], "/process/user/uid", "/etc/subuid"),
        ("gidMappings", user["gid"], "/process/user/gid", "/etc/subgid"),
    ):
        if host_id(linux[kind], number) is None:
            last = sum(one["size"] for one in linux[kind]) - 1
            raise ConfigError(
                f"{number} is not mapped: the container of an ordinary user has the ids 0 to {last}",
                pointer=pointer,
                hint=f"they are the caller's own and the ranges of {file}",
            )
    if len(linux["gidMappings"]) > 1:
        for index, gid in enumerate(user.get("additionalGids") or ()):
            if host_id(linux["gidMappings"], gid) is None:
                raise ConfigError(
                    f"{gid} is not mapped", pointer=f"/process/user/additionalGids/{index}", hint="see /etc/subgid"
                )


def subordinate(file: str, name: str, uid: int) -> list[tuple[int, int]]:
    """(first id, how many) of each range that the file grants to a user, by name or by number (subuid(5))."""
    owners = {(name or str(uid)).encode(), b"%d" % uid}
    found = []
    for line in _lines(file):
        fields = line.split(b":")
        if len(fields) == 3 and fields[0] in owners and fields[1].isdigit() and fields[2].strip().isdigit():
            first, count = int(fields[1]), int(fields[2])
            if count and first + count < 2**32:
                found.append((first, count))
    return found


def user_name(uid: int) -> str:
    """By passwd(5), or by what else the C library asks; "" if nobody knows it."""
    wanted = b"%d" % uid
    for line in _lines("/etc/passwd"):
        fields = line.split(b":")
        if len(fields) > 2 and fields[2] == wanted:
            return fields[0].decode("utf-8", "replace")
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _lines(path: str) -> list[bytes]:
    try:
        return read(path).encode("utf-8", "surrogateescape").split(b"\n")
    except OSError:
        return []
