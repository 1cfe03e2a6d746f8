"""Which descriptors ocirt-init starts with, and by which numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.facts import Facts

CONTROL = 3
"""The socket to the host, unless descriptors are handed on to the program: these come first."""


MOST_INHERITED = 200
"""init has as many, and cannot be given more."""


def inherited(facts: Facts) -> dict[str, int]:
    """name → number: control, after what is handed on to the program, then what this run needs; the plan itself last.

    Last, because init closes the plan when it has mapped it: its number is then the lowest free one, and all that
    the plan opens lies at or above it, where one close_range(2) clears it away.
    """
    names = ["control"]
    if facts.wait_for_start:
        names.append("fifo")
    if facts.into_cgroup:
        names.append("cgroup")
    if facts.seccomp and facts.seccomp.listens:
        names.append("words")
    names += [f"{kind} namespace" for kind in facts.joined]
    names += [f"user map {index}" for index in range(facts.user_maps)]
    names.append("plan")
    first = CONTROL + facts.preserved
    return {name: first + index for index, name in enumerate(names)}
