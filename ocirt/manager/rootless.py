"""An ordinary user's ocim: root of a user namespace of the user's own, with a mount namespace in which layers are
mounted (user_namespaces(7)).

All commands of a user are in the same two namespaces, or they would not see each other's mounts. A process holds them,
which does nothing else; whoever comes first starts it. The ids inside are the user's own as 0, and from 1 on the ranges
of /etc/subuid and /etc/subgid (subuid(5)), which newuidmap(1) and newgidmap(1) map.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from ocirt import _sys
from ocirt.manager.errors import ManagerError
from ocirt.manager.store.leases import boot_id, start_time

# linux/sched.h, linux/mount.h
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_SLAVE, MS_REC = 1 << 19, 1 << 14
FOLDERS = "/usr/bin:/bin:/usr/local/bin:/run/wrappers/bin"
"""Where newuidmap may be. PATH has no say."""
MOST_RANGES = 339  # a map has at most 340 lines, and the first is the user's own id

_HOLD = "import _signal\nwhile True: _signal.pause()"


def enter(run: Path, uid: int, gid: int) -> None:
    """Become root of the user's namespaces, making them if nobody has. To be called before there are threads.

    run: the site's folder, which is the user's. Raises ManagerError where the user has no ranges of ids, or the kernel
    refuses.
    """
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(run / "namespaces", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(lock).st_uid != uid:
            raise ManagerError(f"{run}/namespaces is not the user's own", hint="remove it, or set OCIM_RUN")
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = _known(lock)
        namespaces = _open(holder) if holder else {}
        if not namespaces:
            holder = _hold(uid, gid)
            text = f"{holder} {start_time(holder)} {boot_id()}\n"
            os.ftruncate(lock, 0)
            os.pwrite(lock, text.encode(), 0)
            namespaces = _open(holder)
        if not namespaces:
            raise ManagerError("the process that holds the user's namespaces was killed", hint="try again")
        _join(namespaces, holder)
    finally:
        os.close(lock)


def _known(lock: int) -> int:
    """The process that holds the namespaces, or 0 where it is gone."""
    words = os.pread(lock, 200, 0).decode(errors="replace").split()
    if len(words) != 3 or not all(word.isdecimal() for word in words[:2]) or words[2] != boot_id():
        return 0
    return int(words[0]) if start_time(int(words[0])) == int(words[1]) else 0


_KINDS = {"user": CLONE_NEWUSER, "mnt": CLONE_NEWNS}


def _open(holder: int) -> dict[str, int]:
    """Kind → a descriptor of the holder's namespace, which keeps it; empty where the holder is gone or about to be."""
    found: dict[str, int] = {}
    for kind in _KINDS:
        try:
            found[kind] = os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            for descriptor in found.values():
                os.close(descriptor)
            return {}
    return found


def _join(namespaces: dict[str, int], holder: int) -> None:
    """And close them. Raises ManagerError."""
    for kind, descriptor in namespaces.items():
        try:
            _sys.setns(descriptor, _KINDS[kind])
        except OSError as error:
            raise ManagerError(f"join the user's {kind} namespace, of process {holder}: {error.strerror}") from error
        finally:
            os.close(descriptor)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def ranges(file: Path, name: str, number: int) -> list[tuple[int, int]]:
    """(first id, how many) of what the file grants to a user, by name or number (subuid(5))."""
    found = []
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(number)) and first.isdecimal() and count.strip().isdecimal() and int(count):
            found.append((int(first), int(count)))
    return found[:MOST_RANGES]


def _mapping(kind: str, own: int, uid: int) -> list[str]:
    """The arguments of newuidmap or newgidmap. Raises ManagerError."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise ManagerError(f"the user {uid} has no name in /etc/passwd, which new{kind}map(1) demands") from None
    words, inside = ["0", str(own), "1"], 1
    for first, count in ranges(Path(f"/etc/sub{kind}"), name, uid):
        words += [str(inside), str(first), str(count)]
        inside += count
    if inside == 1:
        raise ManagerError(
            f"{name} has no range in /etc/sub{kind}, and images have files of several users",
            hint=f"as root: usermod --add-sub{kind}s 100000-165535 {name}",
        )
    return words


def _map(pid: int, kind: str, words: list[str]) -> None:
    """Raises ManagerError, with what the program says."""
    tool = shutil.which(f"new{kind}map", path=FOLDERS)
    if tool is None:
        raise ManagerError(f"there is no new{kind}map in {FOLDERS}", hint='Debian\'s package is "uidmap"')
    done = subprocess.run([tool, str(pid), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ManagerError(f"{tool}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def _hold(uid: int, gid: int) -> int:
    """Start the process that holds the namespaces. Returns its pid; raises ManagerError, and then it is gone."""
    maps = {"gid": _mapping("gid", gid, uid), "uid": _mapping("uid", uid, uid)}
    ready, says_ready = os.pipe2(os.O_CLOEXEC)
    hears_mapped, mapped = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(mapped)  # or nobody would hear that we ended
        _be_holder(says_ready, hears_mapped)
    os.close(says_ready)
    os.close(hears_mapped)
    try:
        if (said := os.read(ready, 200)) != b"+":
            raise ManagerError(f"make the user's namespaces: {said.decode(errors='replace')}", hint=_hint())
        for kind, words in maps.items():
            _map(pid, kind, words)
        os.write(mapped, b"1")
        if said := os.read(ready, 200):
            raise ManagerError(f"hold the user's namespaces: {said.decode(errors='replace')}")
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(mapped)
        os.close(ready)
    return pid


def _hint() -> str:
    path = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if path.exists() and path.read_text().strip() == "0":
        return "as root: sysctl kernel.unprivileged_userns_clone=1"
    return "are user namespaces allowed? /proc/sys/user/max_user_namespaces"


def _be_holder(ready: int, mapped: int) -> None:
    """In the child: say "+" when in the namespaces, then nothing when it is executed; else why not."""
    try:
        _sys.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        os.write(ready, b"+")
        if os.read(mapped, 1):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            _sys.mount("none", "/", MS_SLAVE | MS_REC)  # the host's mounts come, ours do not go
            os.setsid()
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for number in map(int, os.listdir("/proc/self/fd")):
                if number < 3:
                    os.dup2(null, number)
                elif number != ready:
                    _close(number)
            os.execve(sys.executable, [sys.executable, "-IS", "-c", _HOLD], {})
    except OSError as error:
        os.write(ready, str(error.strerror).encode())
    finally:
        os._exit(1)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # the one of the folder that was listed
