"""process.oomScoreAdj. Imported only for a configuration that has it."""

from __future__ import annotations

import posix

from ocirt.errors import EACCES, from_os_error

_POINTER = "/process/oomScoreAdj"


def set_oom_score(pid: int | str, score: int, *, unprivileged: bool) -> list[str]:
    """proc(5), oom_score_adj. By the host, because lowering it needs CAP_SYS_RESOURCE in the initial user namespace.

    Returns warnings: an ordinary user's process keeps its score where it may not have a lower one, as with crun and
    podman. Raises KernelError. pid: or "self".
    """
    try:
        fd = posix.open(f"/proc/{pid}/oom_score_adj", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, str(score).encode())
        finally:
            posix.close(fd)
    except OSError as error:
        error.filename = None
        if unprivileged and error.errno == EACCES:
            return [
                f"{_POINTER}: {score} is lower than an ordinary user may set (CAP_SYS_RESOURCE): the caller's stays"
            ]
        hint = "to lower it below ocirt's own needs CAP_SYS_RESOURCE" if error.errno == EACCES else ""
        raise from_os_error(error, f"set oom_score_adj to {score}", pointer=_POINTER, hint=hint) from None
    return []


class Lent:
    """Our own score, while we start a process that inherits it: one that enters a container as an ordinary user cannot
    be reached in /proc. Lowered again to what it was, which needs no right.

    warnings    as `set_oom_score` has them
    """

    def __init__(self, score: int | None) -> None:
        self.score = score
        self.warnings: list[str] = []
        self._before = ""

    def __enter__(self) -> Lent:
        if self.score is not None:
            fd = posix.open("/proc/self/oom_score_adj", posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                self._before = posix.read(fd, 64).decode().strip()
            finally:
                posix.close(fd)
            self.warnings = set_oom_score("self", self.score, unprivileged=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before and not self.warnings:
            set_oom_score("self", int(self._before), unprivileged=True)
