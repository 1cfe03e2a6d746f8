"""An agent for SCMP_ACT_NOTIFY (seccomp_unotify(2)): takes the state, and answers what it is asked."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
TIMEOUT = 20.0


class Agent:
    """Listens at `path`; answers each call that it is asked about with `errno`, and notes the numbers."""

    def __init__(self, path: Path, errno: int) -> None:
        self.errno = errno
        self.states: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.descriptors: list[str] = []
        self.ended = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(TIMEOUT)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed by the test
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT)
            content, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
            while more := connection.recv(1 << 16):
                content += more
        self.ended = True  # the connection was closed after one state
        self.states.append(json.loads(content))
        self.descriptors = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
        try:
            self._answer(fds[0])
        finally:
            for fd in fds:
                os.close(fd)

    def _answer(self, listener: int) -> None:
        while True:
            asked = bytearray(80)
            try:
                fcntl.ioctl(listener, NOTIF_RECV, asked)
                identity, _, _, number = struct.unpack_from("<QIII", asked)
                self.calls.append(number)
                fcntl.ioctl(listener, NOTIF_SEND, struct.pack("<QqiI", identity, 0, -self.errno, 0))
            except OSError:  # nobody is left who could ask
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._socket.close()
        self._thread.join(TIMEOUT)
