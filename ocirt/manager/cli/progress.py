"""How a pull or a push goes: bars on a terminal (rich), a line for each step elsewhere, nothing with --quiet.

No thread of its own: a pull forks. The bars are drawn when something is told, at most ten times a second.
"""

from __future__ import annotations

import sys
import time
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ocirt.manager.documents import Descriptor

_SHORT = 12
_BETWEEN = 0.1
_WORDS = {
    "waiting": "Waiting",
    "there": "Already exists",
    "mounted": "Mounted from another repository",
    "whole": "Download complete",
    "sent": "Pushed",
    "unpacking": "Extracting",
    "unpacked": "Pull complete",
}


class Progress(Protocol):
    """A context in which `tell` may be called, by any thread."""

    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def tell(self, what: Descriptor, event: str, size: int) -> None:
        """What `Pull` and `Push` call."""


def progress(*, quiet: bool, push: bool = False, out: TextIO | None = None) -> Progress:
    """The right one for what is written to: stdout, if nothing else is said."""
    out = out or sys.stdout
    if quiet:
        return Silent()
    if out.isatty():
        return Bars(out, push=push)
    return Lines(out, push=push)


class Silent:
    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def tell(self, what: Descriptor, event: str, size: int) -> None:
        pass


class Lines(Silent):
    """A line when something begins, and when it is done."""

    def __init__(self, out: TextIO, *, push: bool) -> None:
        self._out = out
        self._push = push
        self._lock = Lock()
        self._told: set[tuple[str, str]] = set()

    def tell(self, what: Descriptor, event: str, size: int) -> None:
        if event in ("bytes", "unpacking") or (event == "waiting" and self._push):
            return
        with self._lock:
            if (what.digest, event) in self._told or (what.digest, "there") in self._told:
                return
            self._told.add((what.digest, event))
            self._out.write(f"{_id(what)}: {_words(event, push=self._push)}\n")
            self._out.flush()


class Bars:
    """A bar for each blob."""

    def __init__(self, out: TextIO, *, push: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Rich

        self._push = push
        self._lock = Lock()
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0
        self._rich = Rich(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[state]:<17}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=out),
            auto_refresh=False,
        )

    def __enter__(self) -> Bars:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.refresh()
        self._rich.stop()

    def tell(self, what: Descriptor, event: str, size: int) -> None:
        with self._lock:
            task = self._tasks.get(what.digest)
            if task is None:
                task = self._rich.add_task(_id(what), total=what.size, state="")
                self._tasks[what.digest] = task
            if event == "bytes":
                self._rich.update(task, advance=size, state="Pushing" if self._push else "Downloading")
            elif event == "waiting":
                self._rich.update(task, state=_words(event, push=self._push))
            else:
                self._rich.update(task, completed=what.size, state=_words(event, push=self._push))
            now = time.monotonic()
            if event != "bytes" or now - self._drawn > _BETWEEN:
                self._drawn = now
                self._rich.refresh()


def _id(what: Descriptor) -> str:
    return what.digest.partition(":")[2][:_SHORT]


def _words(event: str, *, push: bool) -> str:
    return _WORDS["sent" if push and event == "whole" else event]
