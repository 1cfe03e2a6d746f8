"""Write the id maps of a container's user namespace: by ourselves, or by newuidmap and newgidmap.

The kernel lets an ordinary user map one id, the own (user_namespaces(7)). The ranges that /etc/subuid and /etc/subgid
grant are mapped by two programs that have the right to: newuidmap(1), newgidmap(1). Both run while init goes on.

Imported only for a container with a new user namespace.
"""

from __future__ import annotations

import posix

from ocirt.errors import Error, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/run/setuid-programs")
"""Where the two may be (the last ones: NixOS, Guix). PATH has no say: an engine's may be empty, or somebody else's."""
KINDS = (("gidMappings", "gid_map", "newgidmap"), ("uidMappings", "uid_map", "newuidmap"))
ST_NOSUID = 2
MOST_SAID = 4096
_NO_SIGNALS: tuple[int, ...] = ()


def map_text(mappings: Sequence[dict[str, int]]) -> str:
    return "".join(f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings)


def is_own(mappings: Sequence[dict[str, int]], own: int) -> bool:
    """Is it the one map that the kernel lets everybody write?"""
    return len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == own


def denies_groups(linux: dict[str, Any]) -> bool:
    """Of an ordinary user's: is setgroups(2) to be denied? newgidmap leaves it allowed for a range of /etc/subgid."""
    own = posix.getegid()
    return all(one["size"] == 1 and one["hostID"] == own for one in linux.get("gidMappings") or ())


def find_tool(name: str) -> str:
    """Its path, "" if it is nowhere."""
    for folder in FOLDERS:
        path = f"{folder}/{name}"
        if posix.access(path, posix.X_OK):
            return path
    return ""


def steps(linux: dict[str, Any], *, unprivileged: bool) -> list[tuple[str, str]]:
    """(property, what `IdMaps.begin` does for it), for `explain`."""
    own = _own_ids() if unprivileged else {}
    found = []
    for name, file, tool in KINDS[::-1]:
        words = map_text(linux[name]).splitlines()
        if name in own and not is_own(linux[name], own[name]):
            found.append((name, f"{find_tool(tool) or tool} PID {' '.join(words)}"))
            continue
        if name == "gidMappings" and own:
            found.append((name, "/proc/PID/setgroups ← deny"))
        found.append((name, f"/proc/PID/{file} ← {'; '.join(words)}"))
    return found


def _own_ids() -> dict[str, int]:
    return {"gidMappings": posix.getegid(), "uidMappings": posix.geteuid()}


class IdMaps:
    """The maps being written: `finish` before init needs them, `close` whatever happened."""

    def __init__(self) -> None:
        self._running: list[tuple[str, str, int, int]] = []  # property, path, pid, what it says

    def begin(self, pid: int, linux: dict[str, Any], *, unprivileged: bool) -> None:
        """Of the user namespace that process `pid` has made. Raises KernelError, or Error if a program is missing."""
        own = _own_ids() if unprivileged else {}
        for name, file, tool in KINDS:
            mappings = linux[name]
            if name not in own or is_own(mappings, own[name]):
                if name == "gidMappings" and own:
                    # Or who is denied something as a member of a group could leave it (user_namespaces(7)).
                    write(f"/proc/{pid}/setgroups", "deny", f"/linux/{name}", "deny setgroups")
                write(f"/proc/{pid}/{file}", map_text(mappings), f"/linux/{name}")
            else:
                self._start(name, tool, pid, mappings)

    def _start(self, name: str, tool: str, pid: int, mappings: Sequence[dict[str, int]]) -> None:
        path = find_tool(tool)
        if not path:
            raise Error(
                f"mapping more than one's own id needs {tool}, which is in none of {', '.join(FOLDERS)}",
                pointer=f"/linux/{name}",
                hint='install it: Debian\'s package is "uidmap", others\' "shadow"',
            )
        words = [str(number) for one in mappings for number in (one["containerID"], one["hostID"], one["size"])]
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        try:
            # Nothing of ours or of an engine's that is open reaches a program that runs as root.
            actions: list[tuple[Any, ...]] = [
                (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0),
                (posix.POSIX_SPAWN_DUP2, writer, 1),
                (posix.POSIX_SPAWN_DUP2, writer, 2),
            ]
            actions += [(posix.POSIX_SPAWN_CLOSE, fd) for fd in map(int, posix.listdir("/proc/self/fd")) if fd > 2]
            child = posix.posix_spawn(
                path,
                [path, str(pid), *words],
                {},
                file_actions=actions,
                setsigmask=_NO_SIGNALS,
                setsigdef=(1, 2, 13, 15),
            )
        except OSError as error:
            posix.close(reader)
            error.filename = None
            raise from_os_error(error, f"start {path}", pointer=f"/linux/{name}") from None
        finally:
            posix.close(writer)
        self._running.append((name, path, child, reader))

    def finish(self) -> None:
        """Until both have ended. Raises KernelError with what the one that failed says."""
        while self._running:
            name, path, child, reader = self._running.pop(0)
            said = _read_all(reader)
            _, status = posix.waitpid(child, 0)
            if status:
                raise _refused(name, path, status, said)

    def close(self) -> None:
        """End what still runs."""
        while self._running:
            _, _, child, reader = self._running.pop()
            posix.close(reader)
            try:
                posix.waitpid(child, 0)  # it is root's, so we may not end it; it takes a few ms
            except ChildProcessError:
                continue


def _refused(name: str, path: str, status: int, said: str) -> KernelError:
    how = f"exit status {posix.WEXITSTATUS(status)}" if posix.WIFEXITED(status) else f"signal {status & 127}"
    text = said.removeprefix(path.rpartition("/")[2] + ": ")
    hint = why_refused(path, "/etc/subuid" if name == "uidMappings" else "/etc/subgid")
    return KernelError(f"{path}: {text or how}", pointer=f"/linux/{name}", hint=hint)


def _read_all(reader: int) -> str:
    """What a program says, as one line."""
    said = b""
    try:
        while chunk := posix.read(reader, MOST_SAID):
            said = (said + chunk)[-MOST_SAID:]
    finally:
        posix.close(reader)
    return "; ".join(line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip())


def why_refused(path: str, file: str) -> str:
    """What keeps one of the programs from its work, for a hint."""
    status = posix.stat(path)
    if posix.statvfs(path).f_flag & ST_NOSUID:
        return f"{path} is on a file system mounted nosuid"
    try:
        posix.getxattr(path, "security.capability")
        has_rights = True
    except OSError:
        has_rights = status.st_uid == 0 and bool(status.st_mode & 0o4000)
    if not has_rights:
        return f"it needs its rights: chmod u+s {path}"
    return f"the ranges have to be the caller's in {file}"


def write(path: str, content: str, pointer: str, doing: str = "write the id map") -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, content.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        error.filename = None  # the pid in it tells nothing
        hint = "are these host ids mapped in our own user namespace? see /proc/self/uid_map" if error.errno == 1 else ""
        if error.errno == 22 and len(content) >= (page := posix.sysconf("SC_PAGE_SIZE")):
            hint = f"the kernel takes a map of less than {page} bytes, these are {len(content)}: fewer, larger ranges"
        raised = from_os_error(error, doing, hint=hint)
        raised.pointer = pointer
        raise raised from None
