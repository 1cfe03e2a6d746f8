"""Hand the master of a container's terminal to whoever listens on --console-socket."""

from __future__ import annotations

from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from ocirt.errors import Error


def connect(path: str) -> socket:
    """A connection to the console socket; before anything is made, so that a wrong path leaves nothing behind."""
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise Error(
            f"--console-socket {path}: {error.strerror or error}",
            errno=error.errno or 0,
            hint="a program must listen there, to take the terminal",
        ) from None
    return connection


def send(connection: socket, master: int) -> None:
    """The protocol of runc and crun: one message, the name as its content, the descriptor by SCM_RIGHTS."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, master.to_bytes(4, "little"))]
    connection.sendmsg([b"/dev/ptmx"], ancillary)
    connection.close()
