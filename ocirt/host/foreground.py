"""What `run` does while the container is in the foreground: pass signals on, and wait.

Signals are blocked and taken one by one (sigwaitinfo): no handler does any work. With a terminal, `relay` does it.
"""

from __future__ import annotations

import _signal
import posix

SIGCHLD, SIGWINCH, SIGURG = 17, 28, 23
# What a program does to itself, what cannot be caught, and what job control of our own terminal means for us.
NOT_FORWARDED = frozenset((4, 5, 7, 8, 9, 11, 13, SIGCHLD, 19, 20, 21, 22, SIGURG, SIGWINCH, 31, 32, 33))
FORWARDED = frozenset(range(1, 65)) - NOT_FORWARDED


def block_signals() -> None:
    """From now on signals wait until `wait` takes them: none is lost between the start and the first wait."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED | {SIGCHLD})


def wait(pid: int) -> int:
    """Pass signals on to `pid` until it ends; returns its wait status."""
    signals = FORWARDED | {SIGCHLD}
    while True:
        done, status = posix.waitpid(pid, posix.WNOHANG)
        if done:
            return status
        number = _signal.sigwaitinfo(signals).si_signo
        if number != SIGCHLD:
            pass_on(pid, number)


def pass_on(pid: int, number: int) -> None:
    try:
        posix.kill(pid, number)
    except ProcessLookupError:
        pass
