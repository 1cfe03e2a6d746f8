"""The agent of SCMP_ACT_NOTIFY: what `run` and `start` tell it, and when (host/listener.py has how)."""

from __future__ import annotations

import posix

from ocirt._sys import pidfd_getfd
from ocirt.errors import from_os_error
from ocirt.host.listener import POINTER, check_path, connect, hand_over
from ocirt.plan.inherited import inherited
from ocirt.runtime.state import SPEC_VERSION, document
from ocirt.state.document import dumps
from ocirt.state.status import CREATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirt.plan.facts import Facts


class Agent:
    """A connection to it. `create` only looks whether there could be one: each has to carry exactly one state."""

    def __init__(self, seccomp: dict[str, Any], words: int, *, connected: bool) -> None:
        self._connection = None
        self._words = -1
        if connected:
            self._connection = connect(seccomp["listenerPath"])
            self._words = posix.dup(words)
        else:
            check_path(seccomp["listenerPath"])

    def serve(self, known: dict[str, Any], channels: Sequence[int], *, pid: int = 0, status: str = CREATED) -> None:
        """Hand the listener over, if we are connected. `known`: the container's state, as the store has it; pid: of
        another process than its first; status: the container's, `created` as long as its program is not executed."""
        if self._connection:
            connection, words = self._connection, self._words
            self._connection, self._words = None, -1
            hand_over(connection, pid or known["pid"], words, channels, process_state(known, pid, status))

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            posix.close(self._words)
            self._connection = None


def for_hook(spec: dict[str, Any]) -> Callable[[int], Agent]:
    """How host.hooks reaches it, with the words of one hook."""
    return lambda words: Agent(spec["linux"]["seccomp"], words, connected=True)


def remembered(seccomp: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """What `start` has to know of a filter that listens, or that may forbid the program's start: the agent's path, ""
    if there is none, the number of the words in init, and whether it may forbid the start."""
    listens = facts.seccomp is not None and facts.seccomp.listens
    return {
        "listenerPath": (seccomp.get("listenerPath") or "") if listens else "",
        "listenerMetadata": seccomp.get("listenerMetadata") or "",
        "words": inherited(facts)["words"] if listens else -1,
        "blocks": facts.seccomp is not None and facts.seccomp.blocks,
    }


def started(known: dict[str, Any], pidfd: int) -> Agent:
    """The agent of a created container; its words are in init, which `pidfd` is for."""
    seccomp = known["seccomp"]
    try:
        words = pidfd_getfd(pidfd, seccomp["words"])
    except OSError as error:
        raise from_os_error(error, "fetch the shared words from init", pointer=POINTER) from None
    try:
        return Agent(seccomp, words, connected=True)
    finally:
        posix.close(words)


def process_state(known: dict[str, Any], pid: int, status: str) -> bytes:
    """The container process state (config-linux.md), as JSON; pid 0: of the container's first process."""
    told = {
        "ociVersion": known["ociVersion"] or SPEC_VERSION,
        "fds": ["seccompFd"],
        "pid": pid or known["pid"],
        "state": document(known, status),
    }
    if metadata := known["seccomp"]["listenerMetadata"]:
        told["metadata"] = metadata
    return dumps(told).encode()
