"""The layers of one image on their way from blobs to folders, side by side, each in one of a few processes.

The processes are forked when an `Unpacking` is made, which must be before its owner starts threads. A layer may be
given while it still comes: its process reads the part that is there and waits for the rest. If that goes wrong, for the
download began anew or brought something else, the layer is unpacked once more when its blob is whole, and only that
counts. What comes of it all becomes true in one transaction at the end, after one syncfs(2); a process that is killed
before leaves folders that no row names, which `sweep` removes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ocirt.manager import documents, errors
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import DigestError, ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.snapshots.drivers import Driver
    from ocirt.manager.snapshots.worker import Job

MOST_PROCESSES = 6

Progress = Callable[[Descriptor, str, int], object]
"""Is told (layer, "unpacking" | "unpacked", how many bytes of the blob are used since the last time)."""


@dataclass(eq=False, slots=True)
class Task:
    """One layer that is not unpacked yet.

    name, diff_id   of the snapshot that it becomes; below: the task whose folder it begins with (chains), or None
    below_folder    the same where that snapshot is there already
    part            where the blob is coming in, or "" ; whole: where it is, or ""
    """

    name: str
    diff_id: str
    layer: Descriptor
    below: Task | None = None
    below_folder: str = ""
    part: str = ""
    whole: str = ""
    state: str = "waiting"  # "early": at work with the part; "working"; "done"
    folder: str = ""
    lock: int = -1
    size: int = 0
    taken: int = 0
    tried: bool = False  # with the part, in vain
    lost: list[str] = field(default_factory=list)
    implied: list[bytes] = field(default_factory=list)


class Unpacking:
    """A context manager; `finish` waits for all of it. Left without, everything is thrown away.

    make     gives a new folder upon another's: (name, path, descriptor that holds its lock)
    drop     removes a folder by its name
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        make: Callable[[str], tuple[str, Path, int]],
        drop: Callable[[str], None],
        driver: Driver,
        progress: Progress | None = None,
    ) -> None:
        self.tasks = tasks
        self._make = make
        self._drop = drop
        self._driver = driver
        self._progress = progress or (lambda what, event, size: None)
        self._changed = threading.Condition()
        self.failure: BaseException | None = None  # of the first layer that cannot be unpacked
        self._ended = False
        self._paths: dict[str, Path] = {}
        self._processes: list[tuple[int, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        # One more than there are processors: one of them may be waiting for a download.
        for _ in range(min(len(tasks), len(os.sched_getaffinity(0)) + 1, MOST_PROCESSES)):
            self._processes.append(self._fork())
        self._most_early = max(1, len(self._processes) - 1)

    def _fork(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            try:
                _only(theirs)
            finally:
                os._exit(0)
        theirs.close()
        return pid, ours

    def coming(self, layer: Descriptor, part: Path) -> None:
        """A layer's blob is on its way, into this file. Threads may call this and `whole`."""
        self._told(layer, "part", str(part))

    def whole(self, layer: Descriptor, path: Path) -> None:
        """A layer's blob is there. Raises what went wrong with another layer, so that a pull ends early."""
        self._told(layer, "whole", str(path))
        if self.failure is not None:
            raise self.failure

    def _told(self, layer: Descriptor, what: str, path: str) -> None:
        with self._changed:
            for task in self.tasks:
                if task.layer.digest == layer.digest:
                    setattr(task, what, path)
            self._changed.notify_all()
        if not self._threads:  # the first of them only now: the processes are forked by now
            self._start()

    def _start(self) -> None:
        with self._changed:
            if self._threads or self._ended:
                return
            for _, channel in self._processes:
                thread = threading.Thread(target=self._drive, args=(channel,), name="unpack", daemon=True)
                self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    # One thread for each process.

    def _drive(self, channel: socket.socket) -> None:
        try:
            with channel.makefile("rb") as answers:
                while (task := self._take()) is not None:
                    self._do(task, channel, answers)
        except BaseException as error:
            with self._changed:
                self.failure = self.failure or error
                self._changed.notify_all()

    def _take(self) -> Task | None:
        """The next: of those whose blob is whole the largest, else the largest that comes; None at the end."""
        with self._changed:
            while True:
                if self._ended or self.failure is not None or all(task.state == "done" for task in self.tasks):
                    return None
                possible = [
                    task
                    for task in self.tasks
                    if task.state == "waiting" and (task.below is None or task.below.state == "done")
                ]
                chosen = [task for task in possible if task.whole]
                if not chosen and sum(task.state == "early" for task in self.tasks) < self._most_early:
                    chosen = [task for task in possible if task.part and not task.tried]
                if chosen:
                    task = max(chosen, key=lambda task: task.layer.size)
                    task.state = "working" if task.whole else "early"
                    return task
                self._changed.wait()

    def _do(self, task: Task, channel: socket.socket, answers: object) -> None:
        early = task.state == "early"
        below = str(self._paths[task.below.folder]) if task.below else task.below_folder
        task.folder, path, task.lock = self._make(below)
        self._paths[task.folder] = path
        job: Job = {
            "blob": task.part if early else task.whole,
            "size": task.layer.size if early else 0,
            "compression": documents.compression(task.layer),
            "diff_id": task.diff_id,
            "folder": str(path),
            "opaque": self._driver.opaque,
            "below": below if self._driver.copied else "",
        }
        channel.sendall(json.dumps(job).encode() + b"\n")
        problem = self._answer(task, answers)
        with self._changed:
            if problem is None:
                task.state = "done"
            elif early:
                self._again(task)
            else:
                raise problem
            self._changed.notify_all()
        if task.state == "done":
            self._count(task, task.layer.size)
            self._progress(task.layer, "unpacked", 0)

    def _answer(self, task: Task, answers: object) -> ManagerError | None:
        """What came of it, after the numbers that say how far it is."""
        while True:
            line = answers.readline()  # type: ignore[attr-defined]
            if not line:
                return ManagerError(
                    f"layer {task.layer.digest}: the process that unpacked it was ended", hint="out of memory?"
                )
            answer = json.loads(line)
            if "taken" in answer:
                self._count(task, int(answer["taken"]))
                continue
            if "error" in answer:
                kind = _KINDS.get(answer["error"], ManagerError)
                return kind(f"layer {task.layer.digest}: {answer['message']}", hint=answer["hint"])
            if answer["diff_id"] != task.diff_id:
                return DigestError(
                    f"layer {task.layer.digest} has the content {answer['diff_id']}, and the configuration says"
                    f" {task.diff_id}"
                )
            task.size = int(answer["size"])
            task.lost = answer["lost"]
            task.implied = [os.fsencode(path) for path in answer["implied"]]
            return None

    def _count(self, task: Task, taken: int) -> None:
        self._progress(task.layer, "unpacking", taken - task.taken)
        task.taken = taken

    def _again(self, task: Task) -> None:
        task.tried = True
        task.state = "waiting"
        self._release(task)
        self._drop(task.folder)

    def _release(self, task: Task) -> None:
        if task.lock >= 0:
            os.close(task.lock)
        task.lock = -1

    # The end.

    def finish(self) -> None:
        """Wait until all layers are unpacked, and on disk. Raises what went wrong."""
        if not self.tasks:
            return
        self._start()
        with self._changed:
            while self.failure is None and any(task.state != "done" for task in self.tasks):
                missing = [task for task in self.tasks if not (task.whole or task.part)]
                assert not missing, "a layer was never given"
                self._changed.wait()
        if self.failure is not None:
            raise self.failure

    def close(self, keep: bool) -> None:
        """End the processes. keep: the folders have rows now."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for pid, channel in self._processes:
            if not keep:
                os.kill(pid, signal.SIGKILL)
            channel.shutdown(socket.SHUT_RDWR)
        for pid, _ in self._processes:
            os.waitpid(pid, 0)
        for thread in self._threads:
            thread.join()
        for _, channel in self._processes:
            channel.close()
        self._processes.clear()
        for task in self.tasks:
            self._release(task)
            if task.folder and not keep:
                self._drop(task.folder)


def _only(channel: socket.socket) -> None:
    """What the forked process is: it has nothing open but its socket."""
    from ocirt.manager.snapshots import worker

    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        if number > 2 and number != channel.fileno():
            try:
                os.close(number)
            except OSError:
                continue  # the listing's own
    worker.serve(channel)


_KINDS = {
    kind.code: kind
    for kind in (errors.ArchiveError, errors.LimitError, errors.DigestError, errors.MissingError, errors.GrammarError)
}
