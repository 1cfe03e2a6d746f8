"""One container's runs: its descriptors, its first process, and the runtime that makes and removes it."""

from __future__ import annotations

import _socket
import posix
import time

from ocirt.manager.monitor.loop import IN, OUT
from ocirt.manager.monitor.oom import killed_for_memory, memory_folder
from ocirt.manager.monitor.wire import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirt.manager.monitor.loop import Loop

    Ended = Callable[[int, str], None]

MOST_TEXT = 1 << 16
"""Bytes of what a runtime says."""
LEFT_IN_PIPES = 1 << 20
"""What a pipe holds at most, unless root made it larger: read after the end, though others may still write."""
_CATCHABLE = tuple(number for number in range(1, 32) if number not in (9, 19))


def exit_code(status: int) -> int:
    """Of waitpid(2)'s status, as shells have it."""
    return 128 + (status & 127) if status & 127 else status >> 8


def here(name: str) -> str:
    """A file of the run folder, which is our working directory. Some runtimes change to the bundle first, and its own
    path may be too long for a socket (unix(7))."""
    return f"/proc/{posix.getpid()}/cwd/{name}"


def spawn(args: Sequence[str], stdin: int, stdout: int, stderr: int) -> int:
    """A child with these descriptors and no other, all signals as by default. Raises OSError."""
    moves = [(posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, stdout, stderr))]
    return posix.posix_spawn(
        args[0], list(args), posix.environ, file_actions=moves, setsigmask=(), setsigdef=_CATCHABLE
    )


class Container:
    """`output(stream, data)` is called with what it writes, `ended(code, out of memory?)` when it is gone."""

    def __init__(
        self,
        loop: Loop,
        settings: dict[str, Any],
        console: _socket.socket,
        output: Callable[[int, memoryview], None],
        ended: Callable[[int, bool], None],
    ) -> None:
        self.loop = loop
        self.id: str = settings["id"]
        self.folder: str = settings["folder"]
        self.runtime: list[str] = settings["runtime"]
        self.tty: bool = settings["monitor"]["tty"]
        self.open_stdin: bool = settings["monitor"]["open_stdin"]
        self.cgroup: str = settings["cgroup"]
        self.console = console
        self.output = output
        self.ended = ended
        self.pid = 0
        self.began = 0.0
        self.input_held: Callable[[bool], None] = lambda waits: None
        self._sources: dict[int, int] = {}
        self._held = False
        self._stdin = -1
        self._pending = b""
        self._input_over = False
        self._buffer = bytearray(CHUNK)
        self._memory = ""
        console.setblocking(False)

    # --- the runtime

    def call(self, args: Sequence[str], done: Ended) -> None:
        """A verb of the runtime: done(exit code, what it wrote to stderr)."""
        reading, writing = posix.pipe2(posix.O_CLOEXEC)
        posix.set_blocking(reading, False)

        def finished(status: int) -> None:
            text = read_text(reading)
            posix.close(reading)
            done(exit_code(status), text)

        try:
            pid = spawn([*self.runtime, *args], 0, 0, writing)
        except OSError as error:
            posix.close(reading)
            done(127, f"cannot execute {self.runtime[0]}: {error.strerror}")
            return
        finally:
            posix.close(writing)
        self.loop.child(pid, finished)

    def start(self, done: Callable[[str], None]) -> None:
        """done("") when the program runs; done(text) with what the runtime says if it does not, and nothing is left."""
        reading_end: dict[int, int] = {}
        closed: list[int] = []
        given = [0, 0, 0]
        for number in (2,) if self.tty else (1, 2):
            reading, given[number] = posix.pipe2(posix.O_CLOEXEC)
            posix.set_blocking(reading, False)
            reading_end[number] = reading
            closed.append(given[number])
        if self.open_stdin and not self.tty:
            given[0], self._stdin = posix.pipe2(posix.O_CLOEXEC)
            posix.set_blocking(self._stdin, False)
            closed.append(given[0])
        self._input_over = False
        self._pending = b""
        args = [*self.runtime, "run", "--detach", "--bundle", self.folder, "--pid-file", here("pid")]
        if self.tty:
            args += ["--console-socket", here("console")]
        self.loop.keep_unclaimed = True  # the program may have ended before we know its pid

        def finished(status: int) -> None:
            self._made(exit_code(status), reading_end, done)

        try:
            pid = spawn([*args, self.id], *given)
        except OSError as error:
            self._unmade(reading_end)
            done(f"cannot execute {self.runtime[0]}: {error.strerror}")
            return
        finally:
            for fd in closed:
                posix.close(fd)
        self.loop.child(pid, finished)

    def _made(self, code: int, sources: dict[int, int], done: Callable[[str], None]) -> None:
        problem = ""
        if code:
            problem = read_text(sources[2]) or f"{self.runtime[0]} run ended with {code} and said nothing"
        else:
            try:
                self.pid = int(_content("pid"))
                if self.tty:
                    posix.close(sources.pop(2))
                    sources[1] = self._stdin = self._terminal()
                    posix.set_blocking(self._stdin, False)
            except (OSError, ValueError) as error:
                problem = f"{self.runtime[0]} run left no pid or sent no terminal: {error}"
        if problem:
            self.loop.claimed()
            self._unmade(sources)
            if code:
                done(problem)
            else:
                self.call(("delete", "--force", self.id), lambda _code, _text: done(problem))
            return
        self.began = time.monotonic()
        self._memory = memory_folder(self.cgroup, self.pid)
        for stream, fd in sources.items():
            self._sources[fd] = stream
        self._watch()
        done("")
        self.loop.child(self.pid, self._exited)
        self.loop.claimed()

    def _unmade(self, sources: dict[int, int]) -> None:
        for fd in sources.values():
            posix.close(fd)
        if self._stdin >= 0 and self._stdin not in sources.values():
            posix.close(self._stdin)
        self._stdin = -1
        self.pid = 0

    def _terminal(self) -> int:
        """The master that the runtime has sent: it came before `run` ended."""
        fd, _ = self.console._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=fd)
        with_fd = connection.recvmsg(4096, _socket.CMSG_LEN(4))
        connection.close()
        for level, kind, data in with_fd[1]:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                master = int.from_bytes(data[:4], "little")
                posix.set_inheritable(master, False)
                return master
        raise OSError(0, "no descriptor in the message")

    def _exited(self, status: int) -> None:
        """Its first process has ended. The cgroups, which know about memory, are there until it is deleted."""
        code = exit_code(status)
        self.pid = 0
        killed = killed_for_memory(self._memory)
        self.call(("delete", "--force", self.id), lambda _code, _text: self._deleted(code, killed))

    def _deleted(self, code: int, killed: bool) -> None:
        for fd in list(self._sources):
            self._drain(fd)
        for fd in list(self._sources):
            self._close_source(fd)
        self._close_input()
        self.ended(code, killed)

    def signal(self, number: int) -> None:
        """To its first process, which is our child: nobody else has its pid until we have waited for it."""
        if self.pid:
            posix.kill(self.pid, number)

    # --- output

    def hold(self, held: bool) -> None:
        """Do not read its output for now: somebody who wants it does not come along."""
        self._held = held
        self._watch()

    def _watch(self) -> None:
        for fd in self._sources:
            if self._held:
                self.loop.forget(fd)
            elif not self.loop.watches(fd):
                self.loop.watch(fd, IN, lambda _events, fd=fd: self._read(fd))  # type: ignore[misc]
        self._watch_input()

    def _read(self, fd: int) -> None:
        """As much as is there, but not for ever: there are others."""
        for _ in range(16):
            size = self._take(fd)
            if size < CHUNK or self._held:
                return

    def _take(self, fd: int) -> int:
        """One read. Returns its size; 0 at the end, and -1 if there is nothing now."""
        try:
            size = posix.readv(fd, (self._buffer,))
        except BlockingIOError:
            return -1
        except OSError:  # of a terminal that nobody has open: EIO
            size = 0
            if self.tty and self.pid:
                self.loop.forget(fd)
                self.loop.after(1.0, self._watch)  # somebody may open it again
                return -1
        if size:
            self.output(self._sources[fd], memoryview(self._buffer)[:size])
        else:
            self._close_source(fd)
        return size

    def _drain(self, fd: int) -> None:
        taken = 0
        while taken < LEFT_IN_PIPES:
            size = self._take(fd)
            if size <= 0:
                return
            taken += size

    def _close_source(self, fd: int) -> None:
        if fd in self._sources:
            del self._sources[fd]
            self.loop.forget(fd)
            if fd == self._stdin:
                self._stdin = -1
            posix.close(fd)

    # --- input

    def give(self, data: bytes) -> None:
        """To its stdin; what does not fit waits, and so do those who write."""
        if self._stdin < 0 or self._input_over:
            return
        self._pending += data
        self._write_input()

    def end_input(self) -> None:
        """When all is written. A terminal has no such end."""
        self._input_over = True
        if not self._pending:
            self._close_input()

    def _write_input(self) -> None:
        waited = bool(self._pending)
        try:
            while self._pending:
                self._pending = self._pending[posix.write(self._stdin, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more
            self._pending = b""
            self._close_input()
        self._watch_input()
        if waited:
            self.input_held(bool(self._pending))
        if self._input_over and not self._pending:
            self._close_input()

    def _watch_input(self) -> None:
        if self._stdin < 0:
            return
        if self.tty:
            if self._stdin in self._sources and self.loop.watches(self._stdin):
                self.loop.watch(self._stdin, IN | OUT * bool(self._pending), self._terminal_ready)
        elif self._pending:
            self.loop.watch(self._stdin, OUT, lambda _events: self._write_input())
        else:
            self.loop.forget(self._stdin)

    def _terminal_ready(self, events: int) -> None:
        if events & OUT and self._pending:
            self._write_input()
        if self._stdin >= 0 and events & ~OUT:
            self._read(self._stdin)

    def _close_input(self) -> None:
        if self._stdin >= 0 and not self.tty:
            self.loop.forget(self._stdin)
            posix.close(self._stdin)
            self._stdin = -1
        if self._pending:
            self._pending = b""
            self.input_held(False)

    def resize(self, rows: int, columns: int) -> None:
        """Of its terminal."""
        if self.tty and self._stdin >= 0:
            import termios

            termios.tcsetwinsize(self._stdin, (rows, columns))


def read_text(fd: int) -> str:
    """What is in a pipe that does not block, at most MOST_TEXT bytes of it, without space around."""
    found = b""
    try:
        while len(found) < MOST_TEXT and (data := posix.read(fd, MOST_TEXT)):
            found += data
    except BlockingIOError:
        pass
    return found[:MOST_TEXT].decode("utf-8", "replace").strip()


def _content(path: str) -> str:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 64).decode("ascii", "replace")
    finally:
        posix.close(fd)
