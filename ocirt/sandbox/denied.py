"""The listener of a sandbox's filter: notes each refused call and answers EPERM (seccomp_unotify(2))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from fcntl import ioctl
from typing import Any

from ocirt.host.listener import let_go, take
from ocirt.host.seccomp import library

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
_NOTIF = struct.Struct("<QIIiIQ6Q")  # id, pid, flags, then seccomp_data: nr, arch, ip, args
_RESP = struct.Struct("<QqiI")  # id, val, error, flags
EPERM = 1
MOST = 10_000
"""Answers for one sandbox. Then the listener is closed, and the kernel answers ENOSYS by itself: a program that asks
and asks costs the host no more."""


class Denials:
    """In place of runtime.agent.Agent: keeps the listener. fd: to poll, -1 before there is one and after MOST."""

    def __init__(self, words: int) -> None:
        self._words = os.dup(words)
        self.fd = -1
        self.answered = 0
        self._numbers: dict[tuple[int, int], int] = {}

    def serve(self, known: dict[str, Any], channels: Sequence[int]) -> None:
        """Take the listener from init, which then goes on; nothing happens if init has failed before."""
        words, self._words = self._words, -1
        try:
            listener = take(known["pid"], words, channels)
            if listener is not None:
                self.fd = listener
                let_go(words)
        finally:
            os.close(words)

    def answer(self) -> None:
        """One call that waits."""
        notice = bytearray(_NOTIF.size)
        try:
            ioctl(self.fd, NOTIF_RECV, notice)
            cookie, _, _, number, architecture, *_ = _NOTIF.unpack(notice)
            key = (architecture, number)
            self._numbers[key] = self._numbers.get(key, 0) + 1
            ioctl(self.fd, NOTIF_SEND, _RESP.pack(cookie, 0, -EPERM, 0))
        except FileNotFoundError:
            return  # who asked is gone
        self.answered += 1
        if self.answered >= MOST:
            self.close()

    def names(self) -> dict[str, int]:
        """Name of the call → how often it was refused."""
        if not self._numbers:
            return {}
        resolve = library().seccomp_syscall_resolve_num_arch
        resolve.restype = ctypes.c_void_p
        resolve.argtypes = (ctypes.c_uint32, ctypes.c_int)
        free = ctypes.CDLL(None).free
        free.argtypes = (ctypes.c_void_p,)
        found: dict[str, int] = {}
        for (architecture, number), count in self._numbers.items():
            text = resolve(architecture, number)
            name = ctypes.string_at(text).decode() if text else str(number)
            free(text)
            found[name] = found.get(name, 0) + count
        return found

    def close(self) -> None:
        for fd in (self.fd, self._words):
            if fd >= 0:
                os.close(fd)
        self.fd = self._words = -1
