"""Printing, and the log that engines read."""

from __future__ import annotations

import posix

from ocirt.errors import Error
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Out:
    """Where a command's words go: stdout, stderr, and the file of --log.

    A log has exactly one object for a failure, because podman reads the whole file as one JSON document; warnings go
    there only with --debug.
    """

    def __init__(self, root: str, log: str | None, log_format: str, *, debug: bool) -> None:
        self.root = root
        self.log = log
        self.json = log_format == "json"
        self.debug = debug

    def print(self, text: str) -> bool:
        """False if nobody reads it any more."""
        return _write(1, text + "\n")

    def warn(self, warnings: Sequence[str], *, always: bool = False) -> None:
        """On stderr for a person who looks: with --debug, `always`, or on a terminal and without a log. To an engine,
        which has a log, stderr is the container's own. The log has them with --debug only."""
        for warning in warnings:
            if self.debug or always or (not self.log and posix.isatty(2)):
                _write(2, f"ocirt: warning: {warning}\n")
            if self.debug:
                self._log("warning", warning, {})

    def fail(self, error: Error) -> None:
        _write(2, f"ocirt: {error}\n")
        self._log("error", str(error), error.fields())

    def _log(self, level: str, message: str, fields: dict[str, str | int]) -> None:
        if not self.log:
            return
        from ocirt.runtime.creation import now

        if self.json:
            line = dumps({"level": level, "msg": message, "time": now(), **fields})
        else:
            line = f'time="{now()}" level={level} msg={dumps(message)}'
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
            fd = posix.open(self.log, flags, 0o644)
            try:
                posix.write(fd, line.encode() + b"\n")
            finally:
                posix.close(fd)
        except OSError as error:
            _write(2, f"ocirt: cannot write the log {self.log}: {error.strerror}\n")


def _write(fd: int, text: str) -> bool:
    """All of it, past what a slow reader lets wait; a reader that is gone (podman closes early) is no error."""
    view = memoryview(text.encode("utf-8", "surrogateescape"))
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except OSError:
            return False
    return True
