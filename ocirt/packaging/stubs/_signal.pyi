# The C module below `signal`, which typeshed does not describe: importing `signal` itself costs 4 ms (enum).
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

SIG_BLOCK: int
SIG_UNBLOCK: int
SIG_SETMASK: int
SIG_DFL: int
SIG_IGN: int

class struct_siginfo:  # noqa: N801
    si_signo: int
    si_pid: int

def pidfd_send_signal(pidfd: int, signalnum: int, siginfo: None = ..., flags: int = ..., /) -> None: ...
def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[int]: ...
def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = ...) -> int: ...
def signal(signalnum: int, handler: Callable[[int, FrameType | None], Any] | int, /) -> Any: ...
def sigwaitinfo(sigset: Iterable[int], /) -> struct_siginfo: ...
