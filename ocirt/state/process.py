"""Who a recorded pid is now. A pid alone says nothing: it is reused; with the start time it names one process."""

from __future__ import annotations

import posix

from ocirt.errors import EINVAL, ESRCH

INIT_NAME = "ocirt-init"
"""The name of the memfd that ocirt-init runs from; /proc/PID/exe shows it until the program is executed."""


PF_EXITING = 0x4
PF_FORKNOEXEC = 0x40
"""proc(5), stat field 9 (include/linux/sched.h): on its way out; cloned, and nothing executed since."""


def _fields(pid: int) -> list[bytes]:
    """/proc/PID/stat from field 3 on (proc(5)): the name before may hold anything. Empty if the process is gone."""
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            content = posix.read(fd, 4096)
        finally:
            posix.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return content[content.rindex(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """The process's start in clock ticks since boot (stat field 22); 0 if it is gone or a zombie.

    A process whose first thread has ended looks like a zombie, too, while others run (field 20 counts them).
    """
    return _start_time(_fields(pid))


def _start_time(fields: list[bytes]) -> int:
    return 0 if not fields or (fields[0] in b"ZX" and int(fields[17]) <= 1) else int(fields[19])


def parent(pid: int) -> int:
    """Who made the process, or adopted it; 0 if it is gone."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def has_executed(pid: int) -> bool | None:
    """Has the process, which may be a zombie by now, executed a program since it was cloned? None: nobody knows any
    more. End-of-file on a close-on-exec descriptor says that it has, or that it died first."""
    fields = _fields(pid)
    return not int(fields[6]) & PF_FORKNOEXEC if fields else None


def status_field(process: int | str, name: str) -> str:
    """What follows `name` in /proc/PID/status (proc(5)). process: a pid, or "self". Raises OSError."""
    fd = posix.open(f"/proc/{process}/status", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = posix.read(fd, 65536)
    finally:
        posix.close(fd)
    after = content.partition(f"\n{name}:".encode())[2]
    return after.partition(b"\n")[0].decode()


def own_pid(pid: int) -> int:
    """A process's pid as it sees it itself, in its own pid namespace."""
    return int(status_field(pid, "NSpid").split()[-1])


def open_process(pid: int) -> int:
    """A pidfd (pidfd_open(2)). Raises ProcessLookupError if the process is gone, OSError.

    Of one that is reaped, and whose number somebody still holds, kernels before 6.15 say EINVAL.
    """
    try:
        return posix.pidfd_open(pid, 0)
    except OSError as error:
        if error.errno == EINVAL and pid > 0:
            raise ProcessLookupError(ESRCH, posix.strerror(ESRCH)) from None
        raise


def is_alive(pid: int, started: int) -> bool:
    return pid > 0 and started > 0 and start_time(pid) == started


def flags_of(pid: int, started: int) -> int:
    """The kernel's PF_ flags of the process that began then (proc(5), stat field 9); -1 if that one is not alive."""
    if pid <= 0 or started <= 0:
        return -1
    fields = _fields(pid)
    return int(fields[6]) if _start_time(fields) == started else -1


def is_waiting_init(pid: int) -> bool:
    """Does this process still run ocirt-init, and not the user's program? Raises FileNotFoundError if it runs nothing
    any more: it is ending, or its first thread has ended."""
    try:
        return posix.readlink(f"/proc/{pid}/exe").startswith(f"/memfd:{INIT_NAME}")
    except PermissionError:
        return False  # it is somebody else's
    except ProcessLookupError:
        raise FileNotFoundError from None


def has_threads(pid: int) -> bool:
    """Are there others than the first? False if the process is gone."""
    try:
        return len(posix.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False
