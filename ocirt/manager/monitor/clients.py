"""Who is connected: attached clients with their output and input, and those that wait for an answer."""

from __future__ import annotations

import _socket
import marshal
import posix
import time

from ocirt.manager.monitor.loop import GONE, IN, OUT
from ocirt.manager.monitor.wire import ERR, EXIT, NEWS, PACKET, REPLY, RESIZE, STDIN, packet
from ocirt.manager.monitor.wire import OUT as OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.manager.monitor.loop import Loop

    Requested = Callable[["Client", str, dict[str, Any]], None]

MOST_CLIENTS = 256
MOST_QUEUED = 1 << 18
"""Bytes that wait for a slow client. When there are more, the container has to wait for it too, but no longer than its
patience lasts without the client reading anything: then it is dropped."""


class Client:
    """One connection. kind: "" until it has said what it wants, then "attach", "wait", "follow" or "ask"."""

    def __init__(self, clients: Clients, connection: _socket.socket) -> None:
        self.clients = clients
        self.connection = connection
        self.fd = connection.fileno()
        self.kind = ""
        self.streams: tuple[bytes, ...] = ()
        self.stdin = False
        self.removes = False
        self.until_removed = False
        self.told = False
        self.queue: list[bytes] = []
        self.queued = 0
        self.progress = 0.0
        self.leaving = False
        self.reading = True
        connection.setblocking(False)
        self.poll()

    def poll(self) -> None:
        """Watch for what it may do next."""
        loop = self.clients.loop
        held = self.stdin and self.clients.input_waits
        loop.watch(self.fd, IN * (self.reading and not held) | OUT * bool(self.queue), self.ready)

    def ready(self, events: int) -> None:
        if events & OUT:
            self.flush()
        if events & IN and self.reading:
            try:
                self.read()
            except Exception as error:  # whatever a client says, the container has its monitor
                posix.write(2, f"a client was dropped: {error!r}\n".encode())
                self.close()
        elif events & GONE and self.stdin:  # what it has written is still to be read, when there is room
            if self.clients.input_waits:
                self.clients.loop.forget(self.fd)
        elif events & GONE:
            self.close()

    def read(self) -> None:
        try:
            data = self.connection.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended()
        elif not self.kind:
            self.ask(data)
        elif data[:1] == STDIN and self.stdin:
            self.clients.give_input(data[1:])
        elif data[:1] == RESIZE and self.kind == "attach":
            self.clients.resize(*_values(data, (0, 0)))

    def ask(self, data: bytes) -> None:
        """Its first packet."""
        verb, values = _values(data, ("", {}), marked=False)
        self.kind = "ask"
        self.clients.requested(self, verb, values)

    def ended(self) -> None:
        """It writes no more. One that is attached may still read; for others that is the end."""
        self.reading = False
        if self.stdin:
            self.stdin = False
            self.clients.input_ended()
        if self.kind != "attach":
            self.close()
        elif self.fd >= 0:
            self.poll()

    def send(self, data: bytes) -> None:
        """A packet, as soon as it can take it."""
        self.deliver((data,))

    def deliver(self, parts: tuple[bytes | memoryview, ...]) -> None:
        """The parts as one packet; they are copied if they have to wait."""
        if self.fd < 0:
            return
        if not self.queue:
            try:
                self.connection.sendmsg(parts)
                return
            except BlockingIOError:
                self.progress = time.monotonic()
            except OSError:
                self.lost()
                return
        data = b"".join(parts)
        self.queue.append(data)
        self.queued += len(data)
        self.poll()
        if self.queued > MOST_QUEUED:
            self.clients.slow(self)

    def flush(self) -> None:
        sent = 0
        try:
            for data in self.queue:
                self.connection.send(data)
                sent += 1
                self.queued -= len(data)
        except BlockingIOError:
            pass
        except OSError:
            self.lost()
            return
        if sent:
            self.progress = time.monotonic()
            del self.queue[:sent]
        if not self.queue and self.leaving:
            self.close()
            return
        self.poll()
        self.clients.faster()

    def lost(self) -> None:
        """It reads no more. What it has written may still be there."""
        self.streams = ()
        self.queue = []
        self.queued = 0
        if not self.stdin:
            self.close()
        self.clients.faster()

    def reply(self, done: bool, value: Any = None) -> None:
        """The answer to its request; one that asked only that is through."""
        self.send(packet(REPLY, (done, value)))
        if self.kind == "ask":
            self.leave()

    def leave(self) -> None:
        """Close it when all that waits is sent."""
        self.leaving = True
        if not self.queue:
            self.close()

    def close(self) -> None:
        if self.fd < 0:
            return
        self.clients.loop.forget(self.fd)
        self.connection.close()
        self.fd = -1
        self.queue = []
        self.queued = 0
        self.clients.left(self)


class Clients:
    """All of them. patience: seconds. `requested` is called with each first packet; the rest is what the
    monitor does for them."""

    def __init__(self, loop: Loop, listener: _socket.socket, patience: float, requested: Requested) -> None:
        self.loop = loop
        self.listener = listener
        self.patience = patience
        self.requested = requested
        self.all: list[Client] = []
        self.input_waits = False
        self.give_input: Callable[[bytes], None] = lambda data: None
        self.input_ended: Callable[[], None] = lambda: None
        self.resize: Callable[[int, int], None] = lambda rows, columns: None
        self.hold: Callable[[bool], None] = lambda held: None
        self.gone: Callable[[Client], None] = lambda client: None
        self._held = False
        self._open = True
        listener.setblocking(False)
        loop.watch(listener.fileno(), IN, self._accept)

    def add(self, connection: _socket.socket) -> Client:
        client = Client(self, connection)
        self.all.append(client)
        return client

    def _accept(self, _events: int) -> None:
        if len(self.all) >= MOST_CLIENTS:  # the next one waits until another leaves
            self.loop.forget(self.listener.fileno())
            return
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
        except OSError:
            return
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(peer[4:8], "little") in (0, posix.geteuid()):
            self.add(connection)
        else:
            connection.close()

    def output(self, kind: bytes, data: memoryview) -> None:
        """OUT or ERR for all who want it; the log has it already."""
        for client in self.all[:]:
            if kind in client.streams:
                client.deliver((kind, data))
            elif client.kind == "follow" and not client.queue:
                client.send(NEWS)

    def exited(self, code: int, again: bool, *, removed: bool = False) -> None:
        """A run has ended; again: another one follows, for which the attached stay. removed: also the container is
        gone, or stays for good."""
        for client in self.all[:]:
            waits = client.kind == "wait" and (removed or not client.until_removed)
            if not client.told and (waits or (client.kind == "attach" and not again)):
                client.told = True
                client.send(packet(EXIT, (code, again)))
                if not client.removes:
                    client.leave()

    def slow(self, client: Client) -> None:
        """It has more to read than may wait: the container waits for it, for a while."""
        if not self._held:
            self._held = True
            self.hold(True)
        self.loop.after(self.patience, lambda: self._drop(client))

    def _drop(self, client: Client) -> None:
        if client.fd < 0 or client.queued <= MOST_QUEUED:
            return
        idle = time.monotonic() - client.progress
        if idle >= self.patience:
            client.close()
        else:
            self.loop.after(self.patience - idle, lambda: self._drop(client))

    def faster(self) -> None:
        """One has read, or left."""
        if self._held and all(client.queued <= MOST_QUEUED for client in self.all):
            self._held = False
            self.hold(False)

    def left(self, client: Client) -> None:
        self.all.remove(client)
        if client.stdin:
            client.stdin = False
            self.input_ended()
        if self._open:
            self.loop.watch(self.listener.fileno(), IN, self._accept)
        self.gone(client)
        self.faster()

    def input_held(self, waits: bool) -> None:
        """The container does not read what it has got already."""
        self.input_waits = waits
        for client in self.all:
            if client.stdin:
                client.poll()

    def dismiss(self) -> None:
        """The last run is over: nobody else comes, and all leave when they have read what is theirs."""
        self._open = False
        self.loop.forget(self.listener.fileno())
        self.listener.close()
        for client in self.all[:]:
            client.leave()


def _values(data: bytes, otherwise: Any, marked: bool = True) -> Any:
    try:
        return marshal.loads(data[1:] if marked else data)
    except (EOFError, ValueError, TypeError):
        return otherwise


STREAMS = {"stdout": OUTPUT, "stderr": ERR}
