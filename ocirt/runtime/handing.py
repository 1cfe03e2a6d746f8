"""What a command gives to whoever called it when a process is there: its terminal, its pidfd, a file with its pid."""

from __future__ import annotations

import posix

from ocirt.errors import Error, UsageError, from_os_error
from ocirt.host.console import connect, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

RECEIVER = "run.oci.pidfd_receiver"
"""The annotation that names a socket for the first process's pidfd: crun's, which has no --pidfd-socket."""


class Handing:
    """`connect` before anything is made, `deliver` when the process is, `undo` if it has to go again.

    master     the terminal's, once init has sent it
    receiver   a second socket for the pidfd, which the configuration names
    """

    def __init__(
        self, console_socket: str | None, pidfd_socket: str | None, pid_file: str | None, receiver: str | None = None
    ) -> None:
        self.receiver = receiver
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pid_file = pid_file
        self.master = -1
        self._console: socket | None = None
        self._pidfds: list[socket] = []
        self._written = False

    def check(self, has_terminal: bool, *, terminal_is_ours: bool) -> None:
        """Raises UsageError if there is nobody to take the terminal, or none to be taken."""
        if has_terminal and not self.console_socket and not terminal_is_ours:
            raise UsageError(
                "a terminal needs --console-socket here",
                pointer="/process/terminal",
                hint="only `run` in the foreground, and `exec`, use their own; or set it to false",
            )
        if self.console_socket and (not has_terminal or terminal_is_ours):
            raise UsageError(
                "--console-socket makes no sense here",
                pointer="/process/terminal",
                hint="it needs process.terminal true, and --detach (or create)",
            )

    def connect(self) -> None:
        """Raises Error if nobody listens."""
        if self.console_socket:
            self._console = connect("--console-socket", self.console_socket)
        if self.pidfd_socket:
            self._pidfds.append(connect("--pidfd-socket", self.pidfd_socket))
        if self.receiver:
            try:
                self._pidfds.append(connect(RECEIVER, self.receiver))
            except Error as error:
                self.close()
                error.pointer = f"/annotations/{RECEIVER}"
                raise

    def deliver(self, pid: int) -> None:
        """Raises KernelError. The pid file is last: who waits for it finds all else done."""
        if self._pidfds:
            fd = posix.pidfd_open(pid, 0)
            try:
                while self._pidfds:
                    send(self._pidfds.pop(), b"pidfd", fd)
            finally:
                posix.close(fd)
        if self._console:
            send(self._console, b"/dev/ptmx", self.master)
            posix.close(self.master)
            self.master, self._console = -1, None
        if self.pid_file:
            try:
                write_pid_file(self.pid_file, pid)
            except OSError as error:
                error.filename = None  # the temporary one tells nothing
                raise from_os_error(error, f"write the pid file {self.pid_file}", hint="see --pid-file") from None
            self._written = True

    def undo(self) -> None:
        if self._written and self.pid_file:
            self._written = False
            try:
                posix.unlink(self.pid_file)
            except OSError:
                pass  # removed by someone else
        self.close()

    def close(self) -> None:
        if self.master >= 0:
            posix.close(self.master)
            self.master = -1
        for connection in self._pidfds:
            connection.close()
        self._pidfds = []
        if self._console:
            self._console.close()
            self._console = None


def write_pid_file(path: str, pid: int) -> None:
    """Plain decimal, no newline, by rename, as engines expect it."""
    folder, slash, name = path.rpartition("/")
    temporary = f"{folder}{slash}.{name}.{posix.getpid()}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o644)
    try:
        try:
            posix.write(fd, str(pid).encode())
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError:
        posix.unlink(temporary)
        raise


def check_open(first: int, count: int) -> None:
    """Raises UsageError unless these descriptors, which the program is to have, are there."""
    for fd in range(first, first + count):
        try:
            posix.fstat(fd)
        except OSError:
            raise UsageError(
                f"--preserve-fds {count}, but descriptor {fd} is not open", hint=f"they count from {first} on"
            ) from None


def window_of_ours() -> tuple[int, int] | None:
    """Rows and columns of our own terminal, if there is one."""
    for fd in (0, 1, 2):
        if posix.isatty(fd):
            from ocirt.host.relay import window

            return window(fd)
    return None
