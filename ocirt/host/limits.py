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


def raised(rlimits: Sequence[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """(place in the list, our soft limit, the hard limit to be) of those that are above our own hard limit."""
    found = []
    for index, limit in enumerate(rlimits):
        soft, hard = getrlimit(RLIMITS[limit["type"]])
        if hard != RLIM_INFINITY and limit["hard"] > hard:
            found.append((index, soft, RLIM_INFINITY if limit["hard"] == _INFINITE else limit["hard"]))
    return found


def raise_limits(pid: int, rlimits: Sequence[dict[str, Any]]) -> None:
    """For init `pid`, which has our own limits. It sets the exact values itself, when small ones cannot hinder it."""
    for index, soft, hard in raised(rlimits):
        limit = rlimits[index]
        try:
            prlimit(pid, RLIMITS[limit["type"]], (soft, hard))
        except (OSError, ValueError) as error:  # ValueError: resource's word for EPERM on some limits
            if not isinstance(error, OSError):
                error = PermissionError(1, "Operation not permitted")
            hint = "raising a hard limit needs CAP_SYS_RESOURCE"
            pointer = f"/process/rlimits/{index}"
            doing = f"raise {limit['type']} to {limit['hard']}"
            raise from_os_error(error, doing, pointer=pointer, hint=hint) from None
