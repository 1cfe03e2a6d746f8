"""The process that answers for a traced filter (host.traced): what the profile would have done, it does, and notes it.

It is a child of `run`, of its own session. Until all who have the filter are gone it stays, even if `run` is killed or
ends before them: without it their denied calls would fail with ENOSYS, and not as the profile has it.

    run → END        the container's first process has ended, or the creation has failed: report
    run ← answer     it has reported; KILLED: it has killed the first process in the kernel's place
"""

from __future__ import annotations

import ctypes
import posix
import select
from _signal import SIG_BLOCK, pthread_sigmask
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair

from ocirt.errors import from_os_error
from ocirt.host.bpf import Machine
from ocirt.host.denials import Denials
from ocirt.host.listener import POINTER, let_go, take
from ocirt.host.notices import answer, is_waiting, next_notice
from ocirt.host.traced import ACTION, ASKED, DATA, ERRNO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirt.host.notices import Notice
    from ocirt.host.seccomp_rules import Rules

    Report = Callable[[dict[str, Any]], object]

SIGKILL, SIGSYS = 9, 31
ENOSYS = 38
SIGNALS = frozenset(range(1, 65)) - {32, 33}  # these are the C library's own
END, DONE, KILLED = b"e", b"d", b"k"


class Supervisor:
    """In place of runtime.agent.Agent.

    original: the program of the profile; report: is given the denials' document, in the process that has noted them,
    where of our descriptors only stderr is open.
    """

    def __init__(self, words: int, original: bytes, rules: Rules, report: Report) -> None:
        self._words = posix.dup(words)
        self._machine = Machine(original)
        self._denials = Denials(rules)
        self._report = report
        self._end = -1
        self._first = 0
        self.killed = False

    def serve(self, known: dict[str, Any], channels: Sequence[int]) -> None:
        """Take the listener from init, which goes on when the process is there. Nothing happens if init has failed."""
        words, self._words = self._words, -1
        try:
            listener = take(known["pid"], words, channels)
            if listener is None:
                return
            self._first = known["pid"]
            ours, its = (end.detach() for end in socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC))
            try:
                child = posix.fork()
                if not child:
                    self._stay(listener, its)
            except OSError as error:
                posix.close(ours)
                raise from_os_error(error, "start what traces the seccomp filter", pointer=POINTER) from None
            finally:
                posix.close(listener)
                posix.close(its)
            self._end = ours
            let_go(words)
        finally:
            posix.close(words)

    def close(self) -> None:
        """Have it report; returns when it has. `killed` is set then."""
        if self._words >= 0:
            posix.close(self._words)
            self._words = -1
        if self._end < 0:
            return
        try:
            posix.write(self._end, END)
            self.killed = posix.read(self._end, 1) == KILLED
        except OSError:
            pass  # it was killed: it has reported nothing
        finally:
            posix.close(self._end)
            self._end = -1

    def _stay(self, listener: int, end: int) -> None:
        """The child's life."""
        code = 1
        try:
            pthread_sigmask(SIG_BLOCK, SIGNALS)  # what a terminal, or a service manager, sends is meant for `run`
            posix.setsid()
            _close_all_but({2, listener, end})
            said = self._until_end(listener, end)
            self._report(self._denials.document())
            if said:
                try:
                    posix.write(end, KILLED if self.killed else DONE)
                except OSError:
                    pass  # `run` was killed
            _close_all_but({listener})
            self._until_all_gone(listener)
            code = 0
        except Exception as error:
            posix.write(2, f"ocirt: --seccomp-trace: {type(error).__name__}: {error}\n".encode())
        finally:
            posix._exit(code)

    def _until_end(self, listener: int, end: int) -> bool:
        """Until `run` asks for the report, or is gone and all who have the filter are. Was it asked for?"""
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(end, select.POLLIN)
        left = {listener, end}
        while left:
            ready = dict(poller.poll())
            if ready.get(listener, 0) & select.POLLIN:
                self._answer(listener)
            elif end in ready:
                if posix.read(end, 1):
                    return True
                left.discard(end)
                poller.unregister(end)
            elif listener in ready:
                left.discard(listener)
                poller.unregister(listener)
        return False

    def _until_all_gone(self, listener: int) -> None:
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        while dict(poller.poll())[listener] & select.POLLIN:
            self._answer(listener)

    def _answer(self, listener: int) -> None:
        notice = next_notice(listener)
        if notice is None:
            return
        action = self._machine.run(notice.data)
        assert action & ACTION in ASKED, hex(action)
        self._denials.add(notice, action)
        if action & ACTION == ERRNO:
            answer(listener, notice, action & DATA)
        else:
            self._kill(listener, notice)

    def _kill(self, listener: int, notice: Notice) -> None:
        """What SIGSYS by the kernel is nearest to (docs/seccomp.md has what differs).

        Sent by us it would have to get past a handler and a mask, and it would not end the first process of a pid
        namespace: SIGKILL then. The call is answered all the same, as only SIGKILL ends its wait; the signal is the
        thread's own, so that it comes before the next instruction.
        """
        status = _status(notice.thread)
        if not status or not is_waiting(listener, notice):
            return
        masks = [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")]
        is_first = status["NSpid"].split()[-1] == "1"
        signal = SIGKILL if is_first or any(mask >> (SIGSYS - 1) & 1 for mask in masks) else SIGSYS
        process = int(status["Tgid"])
        self.killed |= process == self._first
        ctypes.CDLL(None).tgkill(process, notice.thread, signal)
        answer(listener, notice, ENOSYS)


def _status(thread: int) -> dict[str, str]:
    """/proc/PID/status; {} if it is gone."""
    try:
        fd = posix.open(f"/proc/{thread}/status", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return {}
    try:
        text = posix.read(fd, 1 << 16).decode(errors="replace")
    except OSError:
        return {}
    finally:
        posix.close(fd)
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}


def _close_all_but(kept: set[int]) -> None:
    """The others are `run`'s: locks, pipes, and whatever the caller left it."""
    for name in posix.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in kept:
            try:
                posix.close(fd)
            except OSError:
                continue  # listdir's own
