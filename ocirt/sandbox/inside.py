"""One sandbox, as the keeper has it: made up to the point where its program is missing, given one, watched, removed."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

from ocirt.host.launch import failure
from ocirt.host.memfd import seal, sealable
from ocirt.plan.wire import MAX_MESSAGE, MESSAGE
from ocirt.runtime.creation import Creation
from ocirt.sandbox.counting import counted
from ocirt.sandbox.denied import Denials
from ocirt.sandbox.program import STARTING, program

_CHUNK = 65536


class Inside(Creation):
    """The container. Its program is ocirt-init again, with all restrictions in force, and waits for the plan of the
    program that is really meant (program.py)."""

    denials: Denials
    takes_activation = notifies = False
    further = 3

    def _find_agent(self) -> Any:
        self.denials = Denials(self.descriptors["words"])
        return self.denials


class Sandbox:
    """channel: to who has asked for it; end-of-file there ends the sandbox. image: ocirt-init, sealed.

    made in the constructor, which raises Error and then leaves nothing; `run`, then `remove`.
    """

    def __init__(self, state: str, name: str, place: str, config: str, image: int, channel: socket.socket) -> None:
        self.channel = channel
        self._name, self._state = name, state
        self._pidfd = self._mounts = -1
        self._plan = sealable("ocirt-plan")
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        theirs = (ends[0][0], ends[1][1], ends[2][1])
        self._input = ends[0][1]
        self._outputs = {ends[1][0]: bytearray(), ends[2][0]: bytearray()}
        self._order = (ends[1][0], ends[2][0])
        try:
            self._inside = Inside(state, name, place, wait_for_start=False, config_text=config)
            self._inside.stdio = (*theirs, control.fileno(), image, self._plan)
            try:
                self._inside.launch()
                self._pidfd = os.pidfd_open(self._inside.pid)
                self._inside.release()
                self._inside.init.wait_for_program()
                # Whoever is last in a mount namespace takes its mounts apart. That shall not be the program.
                self._mounts = os.open(f"/proc/{self._inside.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            except BaseException as error:
                raise self._inside.undone(error) from None
        except BaseException:
            self._close()
            raise
        finally:
            control.close()
            for fd in theirs:
                os.close(fd)
        for fd in (self._input, *self._order):
            os.set_blocking(fd, False)

    def wait(self) -> bool:
        """Until there is word from who asked for it; False if the waiting process has ended before."""
        poller = select.poll()
        poller.register(self.channel, select.POLLIN)
        poller.register(self._pidfd, select.POLLIN)
        ready = dict(poller.poll())
        return self._pidfd not in ready

    def run(
        self, argv: Sequence[str], env: Sequence[str], stdin: bytes, timeout: float | None, most: int
    ) -> dict[str, Any] | None:
        """Let a program run and wait for its end; what a Result has, None if nobody waits for it any more.

        env: all of it, "NAME=VALUE". most: how many bytes of each output are kept. Raises KernelError if the program
        cannot be executed, ConnectionError if the sandbox is gone already.
        """
        plan, encoded = program(tuple(argv), tuple(env))
        seal(self._plan, encoded.content)
        begun = time.monotonic()
        self._control.send(b"+")
        watched = _Watched(self, stdin, most)
        late = watched.until_end(None if timeout is None else begun + timeout)
        wall = time.monotonic() - begun
        status = self._inside.init.reap()
        if watched.alone:
            return None
        if said := _last_word(self._control):
            step, errno, log = said
            raise failure(plan.steps[step], errno, log)
        watched.drain()
        used = counted(self._inside.cgroups.places)
        return {
            "returncode": os.waitstatus_to_exitcode(status),
            "stdout": bytes(self._outputs[self._order[0]]),
            "stderr": bytes(self._outputs[self._order[1]]),
            "timed_out": late,
            "oom_killed": used.pop("oom_kills", 0) > 0,
            "usage": {"wall": wall, **used},
            "denied_syscalls": self._inside.denials.names(),
            "truncated": watched.truncated,
        }

    def remove(self) -> None:
        """All of it. Raises Error for what would not go."""
        self._close()
        self._inside.undo()

    def _close(self) -> None:
        self._control.close()
        for fd in (self._input, *self._order, self._pidfd, self._mounts, self._plan):
            if fd >= 0:
                os.close(fd)
        self._input = self._pidfd = self._mounts = self._plan = -1
        self._order = (-1, -1)
        if hasattr(self, "_inside") and hasattr(self._inside, "denials"):
            self._inside.denials.close()


def _last_word(control: socket.socket) -> tuple[int, int, bytes] | None:
    """(step, errno, the kernel's log) of init's if it has failed; None if it has become the program. It has ended.

    Raises ConnectionError if it was killed before it came to either.
    """
    started = False
    try:
        while content := control.recv(MAX_MESSAGE, socket.MSG_DONTWAIT):
            if content != STARTING:
                _, step, errno, length = MESSAGE.unpack_from(content)
                return step, errno, content[MESSAGE.size : MESSAGE.size + length]
            started = True
    except BlockingIOError:
        pass  # who has the other end open now is a process of ours that is just being started
    if not started:
        raise ConnectionResetError("nothing was executed")
    return None


class _Watched:
    """The program while it runs: fed, read, and its refused calls answered."""

    def __init__(self, sandbox: Sandbox, stdin: bytes, most: int) -> None:
        self.truncated = self.alone = False
        self._sandbox = sandbox
        self._left = memoryview(stdin)
        self._most = most
        self._poller = select.poll()
        for fd in (sandbox._pidfd, sandbox.channel.fileno(), *sandbox._order):
            self._poller.register(fd, select.POLLIN)
        self._listener = sandbox._inside.denials.fd
        self._poller.register(self._listener, select.POLLIN)
        if self._left:
            self._poller.register(sandbox._input, select.POLLOUT)
        else:
            self._end_input()

    def until_end(self, deadline: float | None) -> bool:
        """Was it killed at the deadline (time.monotonic())?"""
        late = False
        while True:
            left = None if deadline is None or late else max(0.0, deadline - time.monotonic()) * 1000
            ready = self._poller.poll(left)
            if any(fd == self._sandbox._pidfd for fd, _ in ready):
                return late
            if not ready or (deadline is not None and not late and time.monotonic() >= deadline):
                late = True
                self._kill()
            for fd, event in ready:
                self._serve(fd, event)

    def _serve(self, fd: int, event: int) -> None:
        sandbox = self._sandbox
        if fd in sandbox._outputs:
            if not self._read(fd):
                self._poller.unregister(fd)
        elif fd == sandbox._input:
            self._feed()
        elif fd == self._listener:
            if event & select.POLLIN:
                sandbox._inside.denials.answer()
            if not event & select.POLLIN or sandbox._inside.denials.fd < 0:
                self._poller.unregister(fd)
        else:  # who has asked is gone, or has had enough
            self.alone = True
            self._poller.unregister(fd)
            self._kill()

    def _kill(self) -> None:
        """The first process of a pid namespace takes all others with it (pid_namespaces(7))."""
        try:
            os.kill(self._sandbox._inside.pid, 9)
        except ProcessLookupError:
            pass  # it is a zombie at least: nobody else reaps it

    def _feed(self) -> None:
        try:
            self._left = self._left[os.write(self._sandbox._input, self._left[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self._poller.unregister(self._sandbox._input)
            self._end_input()

    def _end_input(self) -> None:
        os.close(self._sandbox._input)
        self._sandbox._input = -1

    def _read(self, fd: int) -> bool:
        """What is there, up to a chunk; False at its end. Raises BlockingIOError if there is nothing yet."""
        content = os.read(fd, _CHUNK)
        kept = self._sandbox._outputs[fd]
        room = self._most - len(kept)
        kept += content[:room]
        self.truncated |= len(content) > room
        return bool(content)

    def drain(self) -> None:
        """What a program wrote just before its end."""
        for fd in self._sandbox._order:
            try:
                while self._read(fd):
                    continue
            except BlockingIOError:
                continue  # all who could write are gone: who has it open now is a process that is just being started
