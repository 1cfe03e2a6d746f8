"""What ocim and a monitor say to each other: packets of a unix socket, SOCK_SEQPACKET, run/ID/monitor.

    client → monitor   the first packet: a request, marshalled: (verb, values)
                       then, if it attached: STDIN and bytes, or RESIZE and two marshalled numbers; shutdown(2) of the
                       writing half is the end of stdin
    monitor → client   REPLY and (True, value) or (False, text), once (to "wait": none); then OUT and ERR with bytes,
                       EXIT with (code, does another run follow?), NEWS when the log has grown

The kernel keeps the bounds of packets. The folder is the owner's alone (mode 0700), and the monitor asks for the peer's
user besides: marshal is not for strangers.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 1 << 16
"""Bytes of output or input in a packet, at most."""
PACKET = 1 << 17
"""What a reader must have room for."""
REPLY, OUT, ERR, EXIT, NEWS = b"R", b"1", b"2", b"X", b"N"
STDIN, RESIZE = b"I", b"W"


def request(verb: str, **values: Any) -> bytes:
    """A first packet."""
    return marshal.dumps((verb, values))


def packet(kind: bytes, value: Any) -> bytes:
    """REPLY, EXIT or RESIZE with what belongs to it."""
    return kind + marshal.dumps(value)
