"""Descriptors that a service manager hands to ocirt, for the container (sd_listen_fds(3)).

Imported only when the caller's environment has LISTEN_FDS.
"""

from __future__ import annotations

import posix

from ocirt.errors import UsageError
from ocirt.plan.inherited import CONTROL

MOST = 1024


def handed_over() -> int:
    """How many, from descriptor 3 on; 0 if they are meant for another process. Raises UsageError if one is not open."""
    environment = posix.environ
    if environment.get(b"LISTEN_PID") != b"%d" % posix.getpid():
        return 0
    count = environment.get(b"LISTEN_FDS", b"")
    if not count.isdigit() or len(count) > 4 or int(count) > MOST:
        raise UsageError(
            f"LISTEN_FDS={count.decode(errors='replace')} in the environment is no number of descriptors",
            hint=f"at most {MOST}, from 3 on; or unset it",
        )
    for fd in range(CONTROL, CONTROL + int(count)):
        try:
            posix.fstat(fd)
        except OSError:
            raise UsageError(
                f"LISTEN_FDS={count.decode()} in the environment, but descriptor {fd} is not open", hint="or unset it"
            ) from None
    return int(count)
