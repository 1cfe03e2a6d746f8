"""A filter that asks a listener about each call that it would deny, instead of denying it: `run --seccomp-trace`.

The compiled program stays what it is, but for what it returns. So what is denied, and how, is found out afterwards by
running the program as it was (bpf.Machine) on what the notification says of the call: conditions, architectures and
newer calls need no second meaning.
"""

from __future__ import annotations

from ocirt.config.seccomp import ACTIONS, FLAGS, NEW_LISTENER, POINTER, TSYNC_ESRCH, notifies
from ocirt.errors import ConfigError
from ocirt.host.bpf import RETURN, instruction
from ocirt.host.offers import seccomp_flags
from ocirt.plan.facts import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ACTION, DATA = 0xFFFF0000, 0xFFFF
"""SECCOMP_RET_ACTION_FULL and SECCOMP_RET_DATA (include/uapi/linux/seccomp.h)."""
KILL_THREAD, KILL_PROCESS = ACTIONS["SCMP_ACT_KILL_THREAD"], ACTIONS["SCMP_ACT_KILL_PROCESS"]
ERRNO, USER_NOTIF = ACTIONS["SCMP_ACT_ERRNO"], ACTIONS["SCMP_ACT_NOTIFY"]
ASKED = (KILL_THREAD, KILL_PROCESS, ERRNO)
"""The actions that a listener can carry out. The signal of TRAP has words in it that only the kernel may say, and a
tracer can only be called by the kernel."""
NOT_ASKED = {
    "SCMP_ACT_TRAP": "its signal tells of the call what only the kernel can tell",
    "SCMP_ACT_TRACE": "only the kernel can call a tracer",
}


class Traced(Filter):
    """original: the program as it would be without the listener."""

    __slots__ = ("original",)

    def __init__(self, found: Filter, flags: int, warnings: tuple[str, ...]) -> None:
        super().__init__(asking(found.program), flags, warnings, blocks=found.blocks)
        self.original = found.program


def traced_filter(found: Filter, seccomp: dict[str, Any]) -> Traced:
    """The filter with a listener. Raises ConfigError for a profile that has one already."""
    if notifies(seccomp):
        rules = [rule["action"] for rule in seccomp["syscalls"]]
        raise ConfigError(
            "SCMP_ACT_NOTIFY cannot be traced: a filter has one listener",
            pointer=f"{POINTER}/syscalls/{rules.index('SCMP_ACT_NOTIFY')}/action",
            hint="without --seccomp-trace, or without the agent's rules",
        )
    flags = found.flags | NEW_LISTENER
    if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:  # as host.seccomp has it
        flags |= TSYNC_ESRCH
    # Linux 5.19. A call that we have been told of then waits until we have answered: no signal makes it EINTR.
    killable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    if killable in seccomp_flags():
        flags |= FLAGS[killable]
    return Traced(found, flags, (*found.warnings, *_untraceable(seccomp)))


def asking(program: bytes) -> bytes:
    """The program, with USER_NOTIF where it denies."""
    asked = [instruction(RETURN, action) for action in ASKED]
    asks = instruction(RETURN, USER_NOTIF)
    steps = [program[at : at + 8] for at in range(0, len(program), 8)]
    return b"".join(asks if _without_data(step) in asked else step for step in steps)


def _without_data(step: bytes) -> bytes:
    """An instruction, whose operand is in the last four bytes, without its low 16 bits."""
    return step[:4] + b"\0\0" + step[6:]


def _untraceable(seccomp: dict[str, Any]) -> Iterator[str]:
    places = [("defaultAction", seccomp["defaultAction"])]
    places += [(f"syscalls/{at}/action", rule["action"]) for at, rule in enumerate(seccomp.get("syscalls") or ())]
    for place, action in places:
        if action in NOT_ASKED:
            yield f"{POINTER}/{place}: {action}: is done, but not recorded: {NOT_ASKED[action]}"
