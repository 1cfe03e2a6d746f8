"""The listener of a sandbox's filter: notes each refused call and answers EPERM (seccomp_unotify(2))."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ocirt.host.listener import let_go, take
from ocirt.host.notices import answer, name_of, next_notice

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
        notice = next_notice(self.fd)
        if notice is None:
            return
        key = (notice.architecture, notice.number)
        self._numbers[key] = self._numbers.get(key, 0) + 1
        if answer(self.fd, notice, EPERM):
            self.answered += 1
        if self.answered >= MOST:
            self.close()

    def names(self) -> dict[str, int]:
        """Name of the call → how often it was refused."""
        found: dict[str, int] = {}
        for (architecture, number), count in self._numbers.items():
            name = name_of(architecture, number) or str(number)
            found[name] = found.get(name, 0) + count
        return found

    def close(self) -> None:
        for fd in (self.fd, self._words):
            if fd >= 0:
                os.close(fd)
        self.fd = self._words = -1
