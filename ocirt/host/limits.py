"""Hard limits that are to be raised in a user namespace: only the host has the right to."""

from __future__ import annotations

from ocirt._sys import prlimit
from ocirt.config.names import RLIMITS
from ocirt.errors import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def raised(rlimits: Sequence[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """(place in the list, our soft limit, the hard limit to be) of those that are above our own hard limit."""
    found = []
    for index, limit in enumerate(rlimits):
        soft, hard = prlimit(0, RLIMITS[limit["type"]])
        if limit["hard"] > hard:  # RLIM_INFINITY is the highest number
            found.append((index, soft, limit["hard"]))
    return found


def raise_limits(pid: int, rlimits: Sequence[dict[str, Any]]) -> None:
    """For init `pid`, which has our own limits. It sets the exact values itself, when small ones cannot hinder it."""
    for index, soft, hard in raised(rlimits):
        limit = rlimits[index]
        try:
            prlimit(pid, RLIMITS[limit["type"]], (soft, hard))
        except OSError as error:
            error.filename = None  # the call's name
            hint = "raising a hard limit needs CAP_SYS_RESOURCE"
            pointer = f"/process/rlimits/{index}"
            doing = f"raise {limit['type']} to {limit['hard']}"
            raise from_os_error(error, doing, pointer=pointer, hint=hint) from None
