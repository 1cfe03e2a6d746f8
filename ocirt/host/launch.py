"""Start ocirt-init with a plan and stay in touch with it (init/wire.h, "Messages").

No Python code runs between fork and exec: posix_spawn(3) starts init, and init clones itself into the container.
"""

from __future__ import annotations

import posix
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from fcntl import fcntl

from ocirt.errors import Error, KernelError
from ocirt.host.memfd import seal, sealable, sealed
from ocirt.plan.inherited import CONTROL
from ocirt.plan.wire import MAX_MESSAGE, MESSAGE, MSG_ERROR, MSG_FD, MSG_GO, MSG_PID, MSG_SYNC, OP_CLONE, PATCH, REPLY
from ocirt.state.process import INIT_NAME, has_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from ocirt.plan.encode import Encoded
    from ocirt.plan.step import Plan, Slot, Step

    class Host(Protocol):
        """What the one who launches does when init reports something."""

        def started(self, pid: int) -> None: ...
        def received(self, tag: int, fd: int) -> None: ...
        def meet(self, tag: int) -> Mapping[Slot, bytes]: ...


F_DUPFD_CLOEXEC = 1030
ENDING = (1, 2, 15)
"""The signals that ask us to end: main has them raise, wherever we are."""
HIGH = 64
"""Where descriptors are moved before init gets them, so that none is in another's place."""
ALL_SIGNALS = tuple(number for number in range(1, 65) if number not in (9, 19, 32, 33))
BEFORE_READY = "before it was ready"
BEFORE_PROGRAM = "before the program was executed"
_NO_SIGNALS: tuple[int, ...] = ()


def start(path: str, args: list[str], moves: list[tuple[int, int]], /) -> int:
    """posix_spawn(3): the pid. moves: our descriptors, and what they are in the child.

    The library puts ocirt._sys.spawn here, so that other threads go on meanwhile.
    """
    actions = [(posix.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in moves]
    return posix.posix_spawn(path, args, {}, file_actions=actions, setsigmask=_NO_SIGNALS, setsigdef=ALL_SIGNALS)


class Ahead:
    """An ocirt-init that is started while the plan is still being made. It makes the container's namespaces, which
    takes the kernel as long as the plan takes Python, and waits in them. It ends by itself when the socket is closed.

    flags: of clone3(2).
    """

    def __init__(self, image: bytes, flags: int, stdio: Sequence[int]) -> None:
        self.flags = flags
        self.numbers = {"control": CONTROL, "plan": CONTROL + 1}
        self.socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        self.plan = -1
        self.spawned = 0
        self.mask: set[int] = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            self.plan = sealable("ocirt-plan")
            sources = {"control": theirs.fileno(), "plan": self.plan}
            self.spawned = _start(image, self.numbers, sources, stdio, str(CONTROL), str(flags))
        except OSError:
            self.drop()
            raise
        finally:
            theirs.close()

    def fits(self, plan: Plan, numbers: Mapping[str, int]) -> bool:
        """Is it where this plan's clone would leave it? What stands before the clone is then done inside."""
        before = next(index for index, step in enumerate(plan.steps) if step.op == OP_CLONE)
        return (
            numbers == self.numbers
            and plan.steps[before].args == (self.flags, -1)
            and all(step.call in ("close_range", "rt_sigaction", "umask") for step in plan.steps[:before])
        )

    def drop(self) -> None:
        """There is no use for it: end it, and leave no zombie."""
        if self.plan >= 0:
            posix.close(self.plan)
        pid = 0
        if self.spawned:
            # Its first message says whether there is a second process; only then both are known.
            content = _heard(self.socket, self.spawned)
            pid = MESSAGE.unpack_from(content)[2] if content else 0
        self.socket.close()
        for one in (self.spawned, pid):
            if one:
                try:
                    posix.waitpid(one, 0)
                except ChildProcessError:
                    continue
        self.plan, self.spawned = -1, 0
        pthread_sigmask(SIG_SETMASK, self.mask)


class Init:
    """A running ocirt-init: `follow` it until it is ready or has failed.

    ahead: one that was started before, and only waits for this plan.
    """

    def __init__(self, plan: Plan, encoded: Encoded, ahead: Ahead | None = None) -> None:
        self.plan = plan
        self.encoded = encoded
        self.pid = 0
        self.failed = 0  # the step that did
        self._spawned = 0
        self._mask: set[int] | None = None
        self._clone = next(index for index, step in enumerate(plan.steps) if step.op == OP_CLONE)
        self._ahead = ahead
        if ahead:
            self._socket = self._theirs = ahead.socket
            self._spawned = ahead.spawned
            self._mask = ahead.mask
        else:
            self._socket, self._theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)

    @property
    def is_ahead(self) -> bool:
        return self._ahead is not None

    def go(self) -> None:
        """Give the plan to an init that went ahead of it."""
        assert self._ahead
        seal(self._ahead.plan, self.encoded.content)
        posix.close(self._ahead.plan)
        self._ahead.plan = -1
        self.answer({})

    def spawn(
        self, image: bytes, numbers: Mapping[str, int], descriptors: Mapping[str, int], stdio: Sequence[int]
    ) -> None:
        """Start it. `numbers` (of plan.inherited) says which descriptors it has, `descriptors` what those besides
        control and plan are; `stdio` becomes 0, 1, 2. What lies between these and control is our own,
        and handed on."""
        plan = sealed("ocirt-plan", self.encoded.content)
        sources = {**descriptors, "control": self._theirs.fileno(), "plan": plan}
        try:
            self._mask = pthread_sigmask(SIG_BLOCK, ENDING)
            self._spawned = _start(image, numbers, sources, stdio)
        finally:
            posix.close(plan)
            self._theirs.close()

    def follow(self, host: Host, *, until: int) -> None:
        """Serve init's messages up to the SYNC `until`, which is not answered yet.

        Raises KernelError for a step that failed: with its pointer, what it did and the kernel's words.
        """
        early: list[tuple[bytes, list[int]]] = []
        while True:
            content, fds = early.pop(0) if early and self.pid else self._receive()
            kind, index, value, length = MESSAGE.unpack_from(content)
            if kind == MSG_PID and not value:
                continue  # it could not go ahead, and does it now as the plan has it
            if kind == MSG_PID:
                self.pid = value
                self.restore_mask()
                try:
                    host.started(value)
                except KernelError as error:
                    raise self._told([content for content, _ in early]) or error from None
                posix.waitpid(self._spawned, 0)
                self._spawned = 0
            elif not self.pid and index > self._clone:
                # The child is faster than its parent, which reports the pid: that comes first all the same.
                early.append((content, fds))
                self._expect_parent()
            elif kind == MSG_FD:
                host.received(value, fds[0])
            elif kind == MSG_SYNC:
                if value == until:
                    return
                self.answer(host.meet(value))
            elif kind == MSG_ERROR:
                self.failed = index
                raise failure(self.plan.steps[index], value, content[MESSAGE.size : MESSAGE.size + length])

    def _expect_parent(self) -> None:
        """The child has spoken before its parent, which may have been killed before it could say the child's pid. Then
        nobody would ever; the child ends when the socket is closed. Raises Error."""
        if not _will_be_heard(self._socket, self._spawned):
            raise self._vanished()

    def _told(self, messages: list[bytes]) -> KernelError | None:
        """Why init has failed, if it has: then it is gone, and what could not be done to it is no news."""
        try:
            while content := _taken(self._socket.recv, MAX_MESSAGE, MSG_DONTWAIT):
                messages.append(content)
        except BlockingIOError:
            pass
        for content in messages:
            kind, index, value, length = MESSAGE.unpack_from(content)
            if kind == MSG_ERROR:
                self.failed = index
                return failure(self.plan.steps[index], value, content[MESSAGE.size : MESSAGE.size + length])
        return None

    def _receive(self) -> tuple[bytes, list[int]]:
        """The next message, and the descriptors that ride along."""
        content, ancillary, _, _ = _taken(self._socket.recvmsg, MAX_MESSAGE, 64)
        if not content:
            raise self._vanished()
        fds = [
            int.from_bytes(data[at : at + 4], "little")
            for level, kind, data in ancillary
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
            for at in range(0, len(data), 4)
        ]
        return content, fds

    def answer(self, patches: Mapping[Slot, bytes]) -> None:
        """Let init go on, with the slots filled."""
        reply = [REPLY.pack(MSG_GO, len(patches))]
        for slot, content in patches.items():
            at, size = self.encoded.slots[slot]
            content = content[:size]
            reply.append(PATCH.pack(at, len(content)) + content + bytes(-len(content) % 4))
        try:
            self._socket.send(b"".join(reply))
        except (BrokenPipeError, ConnectionResetError):  # it has given up waiting
            raise self._told([]) or self._vanished() from None

    def wait_for_program(self) -> None:
        """Until the program is executed: the socket is close-on-exec. Raises KernelError if that fails."""
        content = _taken(self._socket.recv, MAX_MESSAGE)
        if content:
            kind, index, value, length = MESSAGE.unpack_from(content)
            if kind == MSG_ERROR:
                raise failure(self.plan.steps[index], value, content[MESSAGE.size : MESSAGE.size + length])
        elif has_executed(self.pid) is False:
            raise self._vanished(BEFORE_PROGRAM)
        self.close()

    @property
    def channel(self) -> int:
        """Readable when init has something to say, or is gone."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        self._theirs.close()  # still open if it was never spawned
        if self._ahead and self._ahead.plan >= 0:
            posix.close(self._ahead.plan)
            self._ahead.plan = -1

    def restore_mask(self) -> None:
        """From the spawn until the pid is known, or all is undone, no signal may end us: it would leave a process that
        nobody knows."""
        if self._mask is not None:
            mask, self._mask = self._mask, None
            pthread_sigmask(SIG_SETMASK, mask)

    def kill(self) -> None:
        """End it, wherever it is, and leave no zombie."""
        if self._ahead and self._spawned and not self.pid:
            content = _heard(self._socket, self._spawned)
            kind, _, value, _ = MESSAGE.unpack_from(content) if content else (0, 0, 0, 0)
            self.pid = value if kind == MSG_PID else 0
        self.close()
        for pid in (self._spawned, self.pid):
            if pid:
                try:
                    posix.kill(pid, 9)
                    posix.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue
        self._spawned = self.pid = 0

    def reap(self) -> int:
        """The wait status of the program, which has ended; from then on nobody signals its pid."""
        _, status = posix.waitpid(self.pid, 0)
        self.pid = 0
        return status

    def _vanished(self, when: str = BEFORE_READY) -> Error:
        pid = self.pid or self._spawned
        _, status = posix.waitpid(pid, 0)
        self.pid = self._spawned = 0
        if posix.WIFSIGNALED(status):
            how = f"was killed by signal {posix.WTERMSIG(status)}"
        else:
            how = f"ended with status {posix.WEXITSTATUS(status)}"
        filtered = when == BEFORE_PROGRAM and any(step.call == "seccomp" for step in self.plan.steps)
        return ended_early(how, when, filtered=filtered)


def _taken(receive: Callable[..., Any], *how: int) -> Any:
    """ECONNRESET says once that init ended without reading all that we sent; what it said itself is still there."""
    try:
        return receive(*how)
    except ConnectionResetError:
        return receive(*how)


def _will_be_heard(control: socket, pid: int) -> bool:
    """Wait until there is a message, or until the process that would send it has ended without."""
    from select import POLLIN, poll

    sender = posix.pidfd_open(pid, 0)
    try:
        poller = poll()
        poller.register(control.fileno(), POLLIN)
        poller.register(sender, POLLIN)
        # Again: it may have spoken and ended after the first was looked at, and before the second.
        return len(poller.poll()) > 1 or control.fileno() in dict(poller.poll(0))
    finally:
        posix.close(sender)


def _heard(control: socket, pid: int) -> bytes:
    """The next message, or b"" if the process that would send it is gone."""
    return _taken(control.recv, MAX_MESSAGE) if _will_be_heard(control, pid) else b""


def _start(
    image: bytes, numbers: Mapping[str, int], sources: Mapping[str, int], stdio: Sequence[int], *more: str
) -> int:
    """Execute ocirt-init with the descriptors `sources` at their `numbers`, `stdio` as 0, 1, 2 and, below control, our
    own as they are; `more`: arguments behind the plan's number. Returns its pid; raises OSError."""
    moved = [sealed(INIT_NAME, image, executable=True)]
    try:
        moves: list[tuple[int, int]] = []
        preserved = [(number, number) for number in range(len(stdio), numbers["control"])]
        above = HIGH + len(preserved)
        for number, source in [
            *enumerate(stdio),
            *preserved,
            *((numbers[name], sources[name]) for name in numbers),
        ]:
            high = fcntl(source, F_DUPFD_CLOEXEC, above)
            moved.append(high)
            moves.append((high, number))
        high = fcntl(moved[0], F_DUPFD_CLOEXEC, above)
        moved.append(high)
        return start(f"/proc/self/fd/{high}", [INIT_NAME, str(numbers["plan"]), *more], moves)
    finally:
        for fd in moved:
            posix.close(fd)


def ended_early(how: str, when: str, *, filtered: bool = False) -> Error:
    """init is gone, and left no word."""
    hint = "does the seccomp profile let execve happen?" if filtered else "out of memory? see dmesg"
    return Error(f"the container's init {how} {when}", pointer="/linux/seccomp" if filtered else None, hint=hint)


def failure(step: Step, errno: int, log: bytes) -> KernelError:
    return failure_of(step.pointer, step.doing, step.call, errno, log)


def failure_of(pointer: str, doing: str, call: str, errno: int, log: bytes = b"") -> KernelError:
    """What a step that failed means: its own words, the kernel's, and a hint where those mislead."""
    from ocirt.host.hints import hint_for

    words = posix.strerror(errno)
    if words.lower() not in doing.lower() and not _says_so(doing):
        doing = f"{doing}: {words if call != 'execve' else words.lower()}"
    told = [line[2:] for line in log.decode("utf-8", "replace").split("\n") if line[:2] in ("e ", "w ")]
    if told:
        doing += f" [{'; '.join(told)}]"
    return KernelError(doing, pointer=pointer or None, hint=hint_for(call, errno, pointer), errno=errno, call=call)


def _says_so(doing: str) -> bool:
    return "executable file not found" in doing
