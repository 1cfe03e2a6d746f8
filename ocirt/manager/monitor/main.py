"""Where a monitor begins: lifecycle.py starts it with one end of a socket pair as its stdin."""

from __future__ import annotations

import _signal
import _socket
import marshal
import posix

from ocirt import _sys
from ocirt.manager.monitor.monitor import Monitor
from ocirt.manager.monitor.wire import PACKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (1, 2, 3, 10, 12, 15)
"""HUP, INT, QUIT, USR1, USR2, TERM"""


def main() -> None:
    """Takes the request to start, and leaves the one who asked: a child of the first process goes on."""
    if posix.fork():
        posix._exit(0)
    posix.setsid()
    posix.closerange(3, 1 << 20)  # what whoever started ocim has left open
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)  # a container ends by itself, or by a client's word
    _sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    starter = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=posix.dup(0))
    posix.dup2(null, 0)
    posix.dup2(null, 1)
    posix.close(null)
    request, lock, listener, console = _receive(starter)
    posix.chdir(request["run"])
    Monitor(request, lock, listener, console).run(starter, request["start"])
    posix._exit(0)


def _receive(starter: _socket.socket) -> tuple[dict[str, Any], int, _socket.socket, _socket.socket]:
    """The request and its descriptors: the lock, the listening socket of clients, that of the terminal."""
    data, ancillary, _, _ = starter.recvmsg(PACKET, _socket.CMSG_SPACE(12))
    if not data:
        posix._exit(1)  # who asked has been killed
    passed = ancillary[0][2]
    fds = [int.from_bytes(passed[place : place + 4], "little") for place in range(0, len(passed), 4)]
    for fd in fds:
        posix.set_inheritable(fd, False)
    _, values = marshal.loads(data)
    lock, clients, console = fds
    return (
        values,
        lock,
        _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=clients),
        _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=console),
    )
