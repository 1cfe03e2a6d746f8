"""kill: send a signal to a container's first process, by a pidfd, so that it can reach no other; or to all of them."""

from __future__ import annotations

import posix
from _signal import pidfd_send_signal

from ocirt.config.names import SIGNALS
from ocirt.errors import ContainerError, UsageError, from_os_error
from ocirt.state.process import open_process, start_time
from ocirt.state.status import CREATING, PAUSED, STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGKILL = 9
RTMIN, RTMAX = 34, 64


def signal_number(text: str) -> int:
    """ "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3", "RTMAX-1" → the number. Raises UsageError."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        number = int(name)
        if 0 < number <= RTMAX:
            return number
    elif name in SIGNALS:
        return SIGNALS[name]
    elif name.startswith(("RTMIN", "RTMAX")):
        base = RTMIN if name.startswith("RTMIN") else RTMAX
        offset = name[5:]
        if not offset or (offset[0] in "+-" and offset[1:].isascii() and offset[1:].isdigit()):
            number = base + int(offset or 0)
            if RTMIN <= number <= RTMAX:
                return number
    raise UsageError(f'unknown signal "{text}"', hint="a number from 1 to 64, or a name such as TERM or SIGTERM")


def kill(root: str, container_id: str, signal: str = "TERM", *, everyone: bool = False) -> list[str]:
    """Returns warnings. Raises ContainerError ("container not running") unless it is created, running or paused.

    everyone: every process of the container, also what is left of one whose first process has ended. That nothing is
    left is no error then: engines ask for it to be sure.
    """
    number = signal_number(signal)
    store = Store(root)
    with store.lock(container_id) as entry:
        known = store.read(container_id)
        status = status_of(known, entry.folder)
        warnings: list[str] = []
        if everyone and status != CREATING:
            warnings = _kill_all(known, status, number)
        elif status in (STOPPED, CREATING) or not signal_process(known, number):
            raise ContainerError(f'container not running: "{container_id}" is {status}')
        if status != PAUSED:
            return warnings
        if number == SIGKILL:
            thaw(known)
            return warnings
        return [*warnings, f'"{container_id}" is paused: the signal arrives when it is resumed']


def _kill_all(known: dict[str, Any], status: str, number: int) -> list[str]:
    """Returns warnings."""
    from ocirt.cgroups.manager import Cgroups

    cgroups = Cgroups.from_state(known["cgroups"])
    if status == STOPPED and known["privatePids"]:
        return []  # all went with its pid namespace; who is in the cgroups is another container's
    if not cgroups.places:
        return _kill_members(known, status, number)
    # Each once: of a signal that is not real-time, a second one is lost anyway, but a handler may run twice.
    outside = status != STOPPED and known["pid"] not in cgroups.processes()
    from ocirt.cgroups.signals import kill_all, signal_all

    if number == SIGKILL:
        kill_all(cgroups)
    else:
        signal_all(cgroups, number)
    if outside:
        signal_process(known, number)
    return []


def _kill_members(known: dict[str, Any], status: str, number: int) -> list[str]:
    """Of a container without a cgroup. Returns a warning if more may be left than anybody knows of."""
    if known["privatePids"] and number == SIGKILL:
        signal_process(known, number)  # the others go with its pid namespace
        return []
    if status != STOPPED:
        kill_members(known, number)
    if known["privatePids"]:
        return []
    return [
        f'"{known["id"]}" has neither a cgroup nor a pid namespace of its own: only its first process and the'
        " descendants of that are known"
    ]


def kill_members(known: dict[str, Any], number: int) -> None:
    """Signal the processes of a container that lives, without a cgroup. Raises KernelError."""
    from ocirt.cgroups.signals import signal_listed
    from ocirt.state.members import members

    signal_listed(lambda: members(known), number)


def thaw(known: dict[str, Any]) -> None:
    """Let a frozen container go on, for a SIGKILL to reach it: v1 holds it back."""
    from ocirt.cgroups.manager import Cgroups

    freezer = Cgroups.from_state(known["cgroups"]).freezer
    if freezer and freezer.is_asked():
        freezer.thaw()


def signal_process(known: dict[str, Any], number: int) -> bool:
    """Signal the first process if it is still the one that was recorded; False if it is gone."""
    try:
        fd = open_process(known["pid"])
    except ProcessLookupError:
        return False
    except OSError as error:
        raise from_os_error(error, f"open process {known['pid']}") from None
    try:
        # The descriptor was taken first, so that what is checked is what is signalled.
        if start_time(known["pid"]) != known["pidStart"]:
            return False
        pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise from_os_error(error, f"send signal {number}") from None
    finally:
        posix.close(fd)
    return True
