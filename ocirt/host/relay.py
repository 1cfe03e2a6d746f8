"""The foreground with a terminal: carry its bytes and its size, besides the signals.

A wake-up descriptor next to the terminal's tells of signals, so that one select(2) waits for everything.
"""

from __future__ import annotations

import _signal
import posix
import select
import sys
import termios
from fcntl import ioctl

from ocirt.host.foreground import FORWARDED, SIGCHLD, SIGWINCH, pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIOCGWINSZ, TIOCSWINSZ = 0x5413, 0x5414


def window(fd: int) -> tuple[int, int]:
    """A terminal's rows and columns."""
    size = ioctl(fd, TIOCGWINSZ, bytes(8))
    return int.from_bytes(size[0:2], sys.byteorder), int.from_bytes(size[2:4], sys.byteorder)


class Terminal:
    """Our own terminal while the container has it: raw, and put back as it was."""

    def __init__(self) -> None:
        self.fd = next((fd for fd in (0, 1, 2) if posix.isatty(fd)), -1)
        self._saved: list[Any] | None = None

    def copy_size(self, to: int) -> None:
        if self.fd >= 0:
            ioctl(to, TIOCSWINSZ, ioctl(self.fd, TIOCGWINSZ, bytes(8)))

    def make_raw(self) -> None:
        """As cfmakeraw(3) says. The keys for signals then go to the container."""
        if not posix.isatty(0):
            return
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
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            self._saved = None


def relay(pid: int, master: int) -> int:
    """Carry bytes between our stdin and stdout and the container's terminal until `pid` ends; returns its wait status.

    What is written while the other side is slow waits here: the container can never block us for good.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*FORWARDED, SIGCHLD, SIGWINCH):
        _signal.signal(number, _noted)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, FORWARDED | {SIGCHLD, SIGWINCH})
    posix.set_blocking(master, False)
    terminal = Terminal()
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
        self.stdin_open = _is_open(0)
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
                self.terminal.copy_size(self.master)
            else:
                pass_on(self.pid, number)

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


def _is_open(fd: int) -> bool:
    try:
        posix.fstat(fd)
    except OSError:
        return False
    return True
