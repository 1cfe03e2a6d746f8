"""The client's end of a monitor's socket (monitor/wire.py)."""

from __future__ import annotations

import _socket
import marshal
import os

from ocirt.manager.containers.state import folder_of
from ocirt.manager.errors import ManagerError
from ocirt.manager.monitor.wire import CHUNK, ERR, EXIT, OUT, PACKET, REPLY, RESIZE, STDIN, packet, request
from ocirt.manager.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Dropped(ManagerError):
    """The monitor has ended the connection: it was killed, or this client did not read for too long."""

    code = "dropped"


class Attachment:
    """A container's output and input, as packets. Only one thread may receive, only one may send.

    Whoever is slower than the container makes it wait, for ten seconds at most: then the attachment is dropped. So
    one who writes to something slow had better keep what comes.
    """

    def __init__(self, connection: _socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """For poll(2): readable when `receive` does not wait."""
        return self._connection.fileno()

    def receive(self) -> tuple[str, Any]:
        """The next thing: ("stdout", bytes), ("stderr", bytes), ("exit", its exit code), or ("restarts", the exit code
        of a run that another one follows). Raises Dropped."""
        while True:
            try:
                data = self._connection.recv(PACKET)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Dropped("the connection to the container was ended")
            kind = data[:1]
            if kind in (OUT, ERR):
                return "stdout" if kind == OUT else "stderr", data[1:]
            if kind == EXIT:
                code, again = marshal.loads(data[1:])
                return "restarts" if again else "exit", code

    def send(self, data: bytes) -> None:
        """To its stdin; waits while it does not read. What nobody reads any more is dropped."""
        for place in range(0, len(data), CHUNK):
            self._send(STDIN + data[place : place + CHUNK])

    def end_input(self) -> None:
        """There is no more. With stdin_once that is the end of the container's stdin."""
        try:
            self._connection.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def resize(self, rows: int, columns: int) -> None:
        """The size of its terminal."""
        self._send(packet(RESIZE, (rows, columns)))

    def close(self) -> None:
        """Detach; the container goes on."""
        self._connection.close()

    def _send(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass


def connect(site: Site, container_id: str) -> _socket.socket | None:
    """To its monitor; None where there is none."""
    try:
        folder = os.open(folder_of(site, container_id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    try:
        connection.connect(f"/proc/self/fd/{folder}/monitor")  # its own path may be too long (unix(7))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    finally:
        os.close(folder)
    return connection


def listen(folder: int, name: str, kind: int) -> _socket.socket:
    """A socket in a folder that is open."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    listener = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC, 0)
    listener.bind(f"/proc/self/fd/{folder}/{name}")
    listener.listen(64)
    return listener


def ask(site: Site, container_id: str, verb: str, **values: Any) -> _socket.socket | None:
    """Send a request. None where there is no monitor (any more)."""
    connection = connect(site, container_id)
    if connection:
        try:
            connection.send(request(verb, **values))
        except (BrokenPipeError, ConnectionResetError):
            connection.close()
            return None
    return connection


def heard(connection: _socket.socket, kind: bytes) -> Any:
    """What the next message of a kind says; None if the monitor went away, whose end the state tells."""
    while True:
        try:
            data = connection.recv(PACKET)
        except ConnectionResetError:
            return None
        if not data:
            return None
        if data[:1] == kind:
            return marshal.loads(data[1:])


def reply(connection: _socket.socket) -> tuple[bool, Any] | None:
    """The answer: was it done, and what there is to say; None as in `heard`."""
    answer: tuple[bool, Any] | None = heard(connection, REPLY)
    return answer
