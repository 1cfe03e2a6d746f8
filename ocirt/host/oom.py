"""process.oomScoreAdj. Imported only for a configuration that has it."""

from __future__ import annotations

import posix

from ocirt.errors import EACCES, from_os_error


def set_oom_score(pid: int, score: int) -> None:
    """proc(5), oom_score_adj. By the host, because lowering it needs CAP_SYS_RESOURCE in the initial user namespace."""
    try:
        fd = posix.open(f"/proc/{pid}/oom_score_adj", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, str(score).encode())
        finally:
            posix.close(fd)
    except OSError as error:
        error.filename = None
        hint = "to lower it below ocirt's own needs CAP_SYS_RESOURCE" if error.errno == EACCES else ""
        pointer = "/process/oomScoreAdj"
        raise from_os_error(error, f"set oom_score_adj to {score}", pointer=pointer, hint=hint) from None
