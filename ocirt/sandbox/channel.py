"""How a program and the keeper of its sandboxes talk: one stream socket for each sandbox.

A message is its length, 8 bytes, and a value as marshal(3) of this Python has it: both ends run the same one. The
descriptors of a message ride along with its first bytes. End-of-file means: the other side is done with this sandbox.
"""

from __future__ import annotations

import marshal
import socket
from collections.abc import Sequence
from typing import Any

from ocirt import errors
from ocirt.errors import Error

_HEAD = 8
_FIELDS = ("message", "pointer", "hint", "errno", "call", "phase", "place")


def packed(message: dict[str, Any]) -> bytes:
    content = marshal.dumps(message)
    return len(content).to_bytes(_HEAD, "little") + content


def send(channel: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    content = packed(message)
    sent = socket.send_fds(channel, [content], list(descriptors)) if descriptors else 0
    channel.sendall(memoryview(content)[sent:])


def receive(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message, None at end-of-file, and the descriptors that came with it."""
    head, descriptors, _, _ = socket.recv_fds(channel, _HEAD, 4)
    rest = _exactly(channel, _HEAD - len(head)) if head else b""
    content = _exactly(channel, int.from_bytes(head + rest, "little")) if rest is not None and head else None
    return unpacked(content), list(descriptors)


def unpacked(content: bytes | None) -> dict[str, Any] | None:
    """What follows a message's length; None for nothing."""
    message: dict[str, Any] | None = marshal.loads(content) if content else None
    return message


def _exactly(channel: socket.socket, length: int) -> bytes | None:
    """That many bytes; None if the other side is gone before."""
    content = bytearray()
    while len(content) < length:
        chunk = channel.recv(min(length - len(content), 1 << 20))
        if not chunk:
            return None
        content += chunk
    return bytes(content)


def failure(error: Error) -> dict[str, Any]:
    """An error as a message."""
    return {"error": type(error).__name__, "fields": {name: getattr(error, name) for name in _FIELDS}}


def checked(message: dict[str, Any] | None) -> dict[str, Any]:
    """The message, unless it is an error or there is none: then that is raised."""
    if message is None:
        raise Error("the keeper of the sandboxes has ended", hint="was it killed? the next call starts another one")
    if "error" in message:
        fields = dict(message["fields"])
        kind: type[Error] = getattr(errors, message["error"])
        raise kind(fields.pop("message"), **fields)
    return message
