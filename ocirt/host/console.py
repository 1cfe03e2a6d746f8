"""Hand a descriptor to whoever listens on --console-socket (the terminal's master) or --pidfd-socket."""

from __future__ import annotations

from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from ocirt.errors import Error


def connect(flag: str, path: str) -> socket:
    """A connection to the socket; before anything is made, so that a wrong path leaves nothing behind."""
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise Error(
            f"{flag} {path}: {error.strerror or error}",
            errno=error.errno or 0,
            hint=f"a program must listen there, to take the {'terminal' if 'console' in flag else 'descriptor'}",
        ) from None
    return connection


def send(connection: socket, name: bytes, fd: int) -> None:
    """The protocol of runc and crun: one message, a name as its content, the descriptor by SCM_RIGHTS."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, "little"))]
    connection.sendmsg([name], ancillary)
    connection.close()
