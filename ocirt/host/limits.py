"""Hard limits that are to be raised in a user namespace: only the host has the right to."""

from __future__ import annotations

from resource import RLIM_INFINITY, getrlimit, prlimit

from ocirt.config.names import RLIMITS
from ocirt.errors import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_INFINITE = 2**64 - 1


def raise_limits(pid: int, rlimits: Sequence[dict[str, Any]]) -> None:
    """For init `pid`, which has our own limits. It sets the exact values itself, when small ones cannot hinder it."""
    for index, limit in enumerate(rlimits):
        number = RLIMITS[limit["type"]]
        soft, hard = getrlimit(number)
        if hard == RLIM_INFINITY or limit["hard"] <= hard:
            continue
        try:
            prlimit(pid, number, (soft, RLIM_INFINITY if limit["hard"] == _INFINITE else limit["hard"]))
        except (OSError, ValueError) as error:  # ValueError: resource's word for EPERM on some limits
            if not isinstance(error, OSError):
                error = PermissionError(1, "Operation not permitted")
            hint = "raising a hard limit needs CAP_SYS_RESOURCE"
            pointer = f"/process/rlimits/{index}"
            doing = f"raise {limit['type']} to {limit['hard']}"
            raise from_os_error(error, doing, pointer=pointer, hint=hint) from None
