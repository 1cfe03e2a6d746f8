"""The caller's terminal, raw while a container has it; and the keys that detach."""

from __future__ import annotations

import fcntl
import termios

from ocirt.manager.errors import GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

DETACH = "ctrl-p,ctrl-q"
_CONTROL = {letter: bytes((number,)) for number, letter in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}


class Raw:
    """The terminal behind a descriptor, raw (cfmakeraw(3)) until the end of the `with`, whatever ends it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[object] | None = None

    def __enter__(self) -> Raw:
        self._before = termios.tcgetattr(self._fd)
        iflag, oflag, cflag, lflag, ispeed, ospeed, characters = termios.tcgetattr(self._fd)
        t = termios
        iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
        oflag &= ~t.OPOST
        lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
        cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
        characters = list(characters)
        characters[t.VMIN], characters[t.VTIME] = 1, 0
        t.tcsetattr(self._fd, t.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, characters])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)  # type: ignore[arg-type]
            except termios.error:
                pass  # it was closed: there is nothing to give back


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; (0, 0) if it is none or does not know."""
    try:
        found = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    return int.from_bytes(found[:2], "little"), int.from_bytes(found[2:4], "little")


def keys(text: str) -> bytes:
    """What --detach-keys says: letters and ctrl-X, separated by commas; "" is never. Raises GrammarError."""
    found = b""
    for part in text.split(",") if text else ():
        control = part.removeprefix("ctrl-")
        if part != control and control in _CONTROL:
            found += _CONTROL[control]
        elif len(part) == 1 and part.isascii():
            found += part.encode()
        else:
            raise GrammarError(
                f"--detach-keys: {part!r} is no key", hint="a letter, or ctrl- and one of a-z @ [ ] \\ ^ _"
            )
    return found


class Keys:
    """Finds the keys in what is typed, also over several reads."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is the program's, were the keys pressed?). The beginning of the keys is held back until it is clear."""
        if not self._wanted:
            return data, False
        data = self._held + data
        at = data.find(self._wanted)
        if at >= 0:
            self._held = b""
            return data[:at], True
        most = min(len(data), len(self._wanted) - 1)
        held = next((count for count in range(most, 0, -1) if self._wanted.startswith(data[-count:])), 0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held], False
