"""process.oomScoreAdj. Imported only for a configuration that has it."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import in_user_namespace
from ocirt.errors import EACCES, from_os_error
from ocirt.host.facts import CAP_SYS_ADMIN, permitted_capabilities

_POINTER = "/process/oomScoreAdj"


def set_oom_score(pid: int | str, score: int) -> list[str]:
    """proc(5), oom_score_adj. By the host, because lowering it needs CAP_SYS_RESOURCE in the initial user namespace.

    Returns warnings: where no right to it can be had, as an ordinary user and inside a user namespace, the process
    keeps the caller's, as podman has it. Raises KernelError. pid: or "self".
    """
    try:
        fd = posix.open(f"/proc/{pid}/oom_score_adj", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, str(score).encode())
        finally:
            posix.close(fd)
    except OSError as error:
        error.filename = None
        if error.errno == EACCES and (in_user_namespace() or not permitted_capabilities() & CAP_SYS_ADMIN):
            why = "to lower it needs CAP_SYS_RESOURCE outside of all user namespaces"
            return [f"{_POINTER}: {score} is not set, the caller's stays: {why}"]
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
            self.warnings = set_oom_score("self", self.score)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before and not self.warnings:
            set_oom_score("self", int(self._before))
