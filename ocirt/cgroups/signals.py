"""Signals for every process of a container's cgroups, however fast it makes new ones."""

from __future__ import annotations

import posix
from _signal import pidfd_send_signal
from time import monotonic

from ocirt.cgroups.files import processes, write
from ocirt.errors import EMFILE, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirt.cgroups.manager import Cgroups

    Places = Sequence[tuple[str, tuple[str, ...], bool, str, str]]

SIGKILL, SIGSTOP = 9, 19
PATIENCE = 10.0
"""Seconds for which processes that are made meanwhile are followed, where nothing can hold them."""
_HOLD = 1.0
"""Seconds until a cgroup has to be frozen: signals reach also who is not."""
_BATCH = 256
"""Descriptors that are open at one time."""


def pids_in(places: Places) -> list[int]:
    """All pids in any of the cgroups, and below."""
    pids: set[int] = set()
    for _, _, _, _, path in places:
        pids.update(processes(path))
    return sorted(pids)


def kill_all(cgroups: Cgroups) -> None:
    """SIGKILL, until none is left that has not got it. Frozen ones are thawed: on v1 they could not end.

    Raises KernelError if new ones appear for longer than PATIENCE.
    """
    left = []
    for place in cgroups.places:
        _, _, v2, _, path = place
        try:
            if v2:
                write(path + "/cgroup.kill", "1")  # Linux 5.14: no fork(2) gets away
                continue
        except FileNotFoundError:
            continue  # it is gone
        except OSError:
            pass  # a threaded one
        left.append(place)
    if left:
        signal_all(cgroups, SIGKILL)


def signal_all(cgroups: Cgroups, number: int) -> None:
    """Signal each process once. While that goes on they are frozen, so none can make another unseen.

    A container that is paused stays so, but for SIGKILL.
    """
    if not pids_in(cgroups.places):
        return
    freezer = cgroups.freezer
    paused = held = freezer is not None and freezer.is_asked()
    if freezer and not paused:
        try:
            freezer.freeze(patience=_HOLD)
            held = True
        except KernelError:
            pass  # one waits for a device: the others are followed
    try:
        _signal(lambda: pids_in(cgroups.places), number, held)
    finally:
        if freezer and held and (number == SIGKILL or not paused):
            try:
                freezer.thaw()
            except KernelError:
                pass  # it is gone


def signal_listed(listed: Callable[[], Sequence[int]], number: int) -> None:
    """The same for processes without a cgroup. `listed` says which they are by now, children before their parents.

    Who is to be killed is stopped first: none makes another unseen, nor loses its parent, by which it is found.
    Raises KernelError.
    """
    if number == SIGKILL:
        _signal(listed, SIGSTOP, held=False)
    _signal(listed, number, held=False)


def _signal(listed: Callable[[], Sequence[int]], number: int, held: bool) -> None:
    until = monotonic() + PATIENCE
    known: set[int] = set()
    while new := [pid for pid in listed() if pid not in known]:
        for at in range(0, len(new), _BATCH):
            known.update(_signal_some(listed, new[at : at + _BATCH], number))
        if not held and monotonic() > until:
            raise KernelError(
                f"processes are made faster than signals reach them: {len(listed())} by now",
                hint="mount the freezer controller, or cgroup2",
            )


def _signal_some(listed: Callable[[], Sequence[int]], pids: Sequence[int], number: int) -> list[int]:
    """Returns those that need no second try."""
    opened: list[tuple[int, int]] = []
    done: list[int] = []
    try:
        for pid in pids:
            try:
                opened.append((pid, posix.pidfd_open(pid, 0)))
            except OSError as error:
                if error.errno != EMFILE:
                    done.append(pid)  # it has ended; or is 0, one of a pid namespace that we do not see
                elif opened:
                    break  # the rest in the next round
                else:
                    raise from_os_error(error, f"open process {pid}") from None
        # A pid could be another's since it was listed. Who is listed now, and has been open before, is the one.
        there = set(listed())
        for pid, fd in opened:
            if pid in there:
                try:
                    pidfd_send_signal(fd, number)
                except ProcessLookupError:
                    continue
                except OSError as error:
                    raise from_os_error(error, f"send signal {number} to process {pid}") from None
            done.append(pid)
    finally:
        for _, fd in opened:
            posix.close(fd)
    return done


def named(pids: Sequence[int], most: int = 8) -> str:
    """ "12 (sleep), 13 (sh) and 4 more": who resists, for an error's hint."""
    words = []
    for pid in pids[:most]:
        try:
            fd = posix.open(f"/proc/{pid}/comm", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            continue
        try:
            words.append(f"{pid} ({posix.read(fd, 64).decode('utf-8', 'replace').strip()})")
        except OSError:
            continue
        finally:
            posix.close(fd)
    more = f" and {len(pids) - most} more" if len(pids) > most else ""
    return ", ".join(words) + more
