"""What `run` does while the container is in the foreground: pass signals on, carry the terminal's bytes, wait.

Signals are blocked and taken one by one (sigwaitinfo), or by a wake-up descriptor next to the terminal's: no handler
does any work.
"""

from __future__ import annotations

import _signal
import posix
import select
import sys
from fcntl import ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGCHLD, SIGWINCH, SIGURG = 17, 28, 23
TIOCGWINSZ, TIOCSWINSZ = 0x5413, 0x5414
TCGETS, TCSETS = 0x5401, 0x5402
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
            _pass_on(pid, number)


def _pass_on(pid: int, number: int) -> None:
    try:
        posix.kill(pid, number)
    except ProcessLookupError:
        pass


class Terminal:
    """Our own terminal while the container has it: raw, and put back as it was."""

    def __init__(self) -> None:
        self.fd = next((fd for fd in (0, 1, 2) if posix.isatty(fd)), -1)
        self._saved: list[Any] | None = None

    def window(self) -> tuple[int, int] | None:
        """Rows and columns, or None without a terminal."""
        if self.fd < 0:
            return None
        size = ioctl(self.fd, TIOCGWINSZ, bytes(8))
        return int.from_bytes(size[0:2], sys.byteorder), int.from_bytes(size[2:4], sys.byteorder)

    def make_raw(self) -> None:
        """As cfmakeraw(3) says. The keys for signals then go to the container."""
        if self.fd < 0 or not posix.isatty(0):
            return
        import termios

        self._saved = termios.tcgetattr(0)
        mode = termios.tcgetattr(0)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(0, termios.TCSANOW, mode)

    def restore(self) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            self._saved = None


def relay(pid: int, master: int, terminal: Terminal) -> int:
    """Carry bytes between our stdin and stdout and the container's terminal until `pid` ends; returns its wait status.

    What is written while the other side is slow waits here: the container can never block us for good.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*FORWARDED, SIGCHLD, SIGWINCH):
        _signal.signal(number, _noted)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, FORWARDED | {SIGCHLD, SIGWINCH})
    posix.set_blocking(master, False)
    terminal.make_raw()
    try:
        return _Relay(pid, master, reader, terminal).run()
    finally:
        _signal.set_wakeup_fd(-1)
        terminal.restore()


def _noted(number: int, frame: object) -> None:
    """The wake-up descriptor tells the relay; a handler must merely exist."""


class _Relay:
    def __init__(self, pid: int, master: int, signals: int, terminal: Terminal) -> None:
        self.pid = pid
        self.master = master
        self.signals = signals
        self.terminal = terminal
        self.to_container = b""
        self.to_user = b""
        self.stdin_open = True
        self.master_open = True
        self.status: int | None = None

    def run(self) -> int:
        self._reap()
        while self.status is None or (self.master_open and self._more_output()):
            self._turn(None if self.status is None else 0)
        while self.to_user and self._write_user():
            pass
        return self.status

    def _more_output(self) -> bool:
        return bool(self.to_user) or bool(select.select([self.master], [], [], 0)[0])

    def _turn(self, timeout: float | None) -> None:
        reading = [self.signals]
        writing = []
        if self.master_open and len(self.to_user) < 65536:
            reading.append(self.master)
        if self.stdin_open and len(self.to_container) < 65536:
            reading.append(0)
        if self.to_container and self.master_open:
            writing.append(self.master)
        if self.to_user:
            writing.append(1)
        readable, writable, _ = select.select(reading, writing, [], timeout)
        if self.signals in readable:
            self._take_signals()
        if self.master in readable:
            self._read_master()
        if 0 in readable:
            self._read_stdin()
        if self.master in writable and self.to_container:
            self._write_master()
        if 1 in writable:
            self._write_user()

    def _take_signals(self) -> None:
        for number in set(posix.read(self.signals, 4096)):
            if number == SIGCHLD:
                self._reap()
            elif number == SIGWINCH:
                if self.terminal.fd >= 0:
                    ioctl(self.master, TIOCSWINSZ, ioctl(self.terminal.fd, TIOCGWINSZ, bytes(8)))
            else:
                _pass_on(self.pid, number)

    def _reap(self) -> None:
        if self.status is None:
            done, status = posix.waitpid(self.pid, posix.WNOHANG)
            if done:
                self.status = status

    def _read_master(self) -> None:
        try:
            content = posix.read(self.master, 32768)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process has closed the terminal
            content = b""
        self.to_user += content
        self.master_open = bool(content)

    def _read_stdin(self) -> None:
        try:
            content = posix.read(0, 32768)
        except OSError:
            content = b""
        # End-of-file is a key to a terminal.
        self.to_container += content or b"\x04"
        self.stdin_open = bool(content)

    def _write_master(self) -> None:
        try:
            self.to_container = self.to_container[posix.write(self.master, self.to_container) :]
        except BlockingIOError:
            return
        except OSError:
            self.to_container = b""

    def _write_user(self) -> bool:
        try:
            self.to_user = self.to_user[posix.write(1, self.to_user) :]
        except OSError:  # nobody reads any more; the container goes on
            self.to_user = b""
            return False
        return True
