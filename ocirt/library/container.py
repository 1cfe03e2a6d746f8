"""Containers as objects: what the verbs of the command line do, from a Python program.

Nothing that belongs to the whole process is touched: no signal handler, no working directory, no umask, no child of
another's. No Python code runs between fork and exec. So it is safe beside threads and event loops.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, TypeAlias

from ocirt.errors import ContainerError, Error, UsageError
from ocirt.library.child import Child
from ocirt.library.documents import Path, request_of, text_of
from ocirt.library.stdio import Stream, Streams
from ocirt.library.threads import let_others_run
from ocirt.runtime import delete as deletion
from ocirt.runtime import events, kill, pause, ps, start, update
from ocirt.runtime import list as listing
from ocirt.runtime import state as looking
from ocirt.runtime.exec import Execution, execution_of
from ocirt.runtime.handing import Handing
from ocirt.runtime.remembered import RememberingCreation
from ocirt.state.place import own_folder
from ocirt.state.process import open_process, start_time
from ocirt.state.store import Store

let_others_run()

Texts: TypeAlias = "list[str]"
Pids: TypeAlias = "list[int]"
Documents: TypeAlias = "list[dict[str, Any]]"
"""In the class, `list` is a method."""


class _Made(RememberingCreation):
    """A container of a program: what a service manager has handed to that is not the container's."""

    takes_activation = False
    notifies = False


class Process(Child):
    """A further process in a container, of `Container.exec`."""

    def __repr__(self) -> str:
        return f"<ocirt.Process {self.pid}>"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        """Killed, unless it has ended."""
        if self.poll() is None:
            try:
                self.send_signal(9)
            except ContainerError:
                pass
            self.wait()
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pidfd", -1) >= 0:
            if self.poll() is None and self._ours:
                warnings.warn(f"{self!r} was neither waited for nor closed", ResourceWarning, source=self, stacklevel=2)
            self.close()


class Container:
    """One container. Make it with `create`, or find it with `load`.

    >>> with Container.create("/srv/bundle", stdout=PIPE) as container:
    ...     container.start()
    ...     out, _ = container.communicate()
    ...     container.wait()

    As a context manager it is killed and deleted at the end of the block. Every method raises ocirt.Error, whose fields
    say what failed, where in config.json and why.
    """

    id: str
    """Its name below the state root."""
    root: str
    """The state root: the folder that the command line calls --root."""
    warnings: Texts
    """What the configuration asks for and this host cannot do, and failures of hooks that change nothing."""

    def __init__(self, container_id: str, root: str, child: Child, *, made: bool) -> None:
        """Not to be called: see `create` and `load`."""
        self.id = container_id
        self.root = root
        self.warnings = []
        self._child = child
        self._made = made
        self._deleted = False

    @classmethod
    def create(
        cls,
        bundle: Path | None = None,
        *,
        id: str | None = None,
        root: Path | None = None,
        config: Mapping[str, Any] | Path | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        console_socket: Path | None = None,
        manager: str = "cgroupfs",
        new_keyring: bool = True,
        strict: bool = False,
    ) -> Container:
        """Make a container that waits for `start`. Raises Error; then nothing of it is left.

        bundle       the folder of config.json; without it, `config` says all, with an absolute root.path
        id           None: a new one. root: the state root; None: that of the command line
        config       another file, or the document itself (config.md)
        stdin …      as in subprocess: None (our own), PIPE, DEVNULL, STDOUT, a descriptor, an open file
        manager      who makes its cgroups: "cgroupfs", "systemd", "disabled"
        new_keyring, strict, console_socket: as `ocirt create` has them
        """
        container_id = id if id is not None else "ocirt-" + os.urandom(8).hex()
        place = _root(root)
        file, text = None, None
        if isinstance(config, Mapping):
            text = text_of(config)
        elif config is not None:
            file = os.fspath(config)
        elif bundle is None:
            raise UsageError("neither a bundle nor a config", hint="Container.create(bundle), or create(config={…})")
        streams = Streams(stdin, stdout, stderr)
        try:
            with _during("create"):
                creation = _Made(
                    place,
                    container_id,
                    os.fspath(bundle) if bundle is not None else "/",
                    wait_for_start=True,
                    console_socket=os.fspath(console_socket) if console_socket is not None else None,
                    config_file=file,
                    config_text=text,
                    new_keyring=new_keyring,
                    strict=strict,
                    manager=manager,
                )
                creation.stdio = streams.theirs
                pidfd = -1
                try:
                    creation.launch()
                    pidfd = os.pidfd_open(creation.pid)
                    creation.release()
                except BaseException as error:
                    if pidfd >= 0:
                        os.close(pidfd)
                    raise creation.undone(error) from None
                creation.done()
        except BaseException:
            streams.close()
            raise
        streams.given()
        made = cls(container_id, place, Child(creation.pid, pidfd, streams), made=True)
        made.warnings = creation.warnings + creation.late_warnings
        return made

    @classmethod
    def run(
        cls,
        bundle: Path | None = None,
        *,
        id: str | None = None,
        root: Path | None = None,
        config: Mapping[str, Any] | Path | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        console_socket: Path | None = None,
        manager: str = "cgroupfs",
        new_keyring: bool = True,
        strict: bool = False,
    ) -> Container:
        """`create` and `start`. Raises Error; then nothing of it is left."""
        container = cls.create(
            bundle,
            id=id,
            root=root,
            config=config,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            console_socket=console_socket,
            manager=manager,
            new_keyring=new_keyring,
            strict=strict,
        )
        try:
            container.start()
        except BaseException:
            container.delete(force=True)
            raise
        return container

    @classmethod
    def load(cls, id: str, *, root: Path | None = None) -> Container:
        """One that exists, whoever has made it. Raises NotFoundError.

        Its return code cannot be known: only a parent is told.
        """
        place = _root(root)
        with _during("state"):
            known = Store(place).read(id)
            pid, pidfd = known["pid"], -1
            try:
                pidfd = open_process(pid) if pid else -1
            except ProcessLookupError:
                pid = 0
            if pidfd >= 0 and start_time(pid) != known["pidStart"]:
                os.close(pidfd)
                pid, pidfd = 0, -1
        return cls(id, place, Child(pid, pidfd, ours=False), made=False)

    @classmethod
    def list(cls, *, root: Path | None = None) -> Documents:
        """The state documents of all containers below a root (runtime.md, "State"), by id."""
        with _during("list"):
            return listing.list_containers(_root(root))[0]

    @property
    def pid(self) -> int:
        """Of its first process, as the host has it; 0 if that was gone when it was loaded."""
        return self._child.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        """The pipe to its standard input, if that was PIPE."""
        return self._child.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._child.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        return self._child.stderr

    @property
    def returncode(self) -> int | None:
        """What `wait` or `poll` has found."""
        return self._child.returncode

    def fileno(self) -> int:
        """A pidfd of its first process: readable once that has ended."""
        return self._child.fileno()

    def start(self) -> None:
        """Returns when its program has been executed. Raises Error if it cannot be."""
        with _during("start"):
            self.warnings += start.start(self.root, self.id)

    def state(self) -> dict[str, Any]:
        """The state document (runtime.md, "State"), with owner, rootfs and created beside it."""
        with _during("state"):
            return looking.state(self.root, self.id)

    @property
    def status(self) -> str:
        """ "creating", "created", "running", "paused" or "stopped", as the kernel says now."""
        return str(self.state()["status"])

    def exec(
        self,
        argv: Sequence[str] | None = None,
        *,
        process: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: tuple[int, int] | int | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        ignore_paused: bool = False,
    ) -> Process:
        """One more process; returns when its program has been executed.

        argv         the program and its arguments; everything else is as for the container's own, but for
        env          variables to add, cwd, user: (uid, gid) or uid
        process      instead of all that, a process object (config.md, "Process")
        """
        with _during("exec"):
            request = request_of(argv, process, env, cwd, user)
            streams = Streams(stdin, stdout, stderr)
            try:
                execution = execution_of(
                    self.root, self.id, request, Handing(None, None, None), ignore_paused=ignore_paused
                )
                execution.stdio = streams.theirs
                pidfd = _launched(execution)
            except BaseException:
                streams.close()
                raise
        streams.given()
        return Process(execution.init.pid, pidfd, streams)

    def kill(self, signal: int | str = "TERM", *, everyone: bool = False) -> None:
        """Signal its first process, or all of them. Raises ContainerError if it is not running."""
        with _during("kill"):
            self.warnings += kill.kill(
                self.root, self.id, str(int(signal)) if isinstance(signal, int) else signal, everyone=everyone
            )

    def poll(self) -> int | None:
        """The return code if it has ended, else None."""
        return self._child.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of its first process; see Child.wait. The container stays, stopped, for `delete`."""
        return self._child.wait(timeout)

    def communicate(self, content: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Write to stdin, read stdout and stderr to their ends (those that are PIPE), and wait; see Child."""
        return self._child.communicate(content, timeout)

    def stats(self) -> dict[str, Any]:
        """What it uses: {"cpu": …, "memory": …, "pids": …, "blkio": …}, as `ocirt events --stats` has it in "data"."""
        with _during("events"):
            found: dict[str, Any] = events.stats(self.root, self.id)["data"]
            return found

    def ps(self) -> Pids:
        """The pids of all its processes, as the host has them."""
        with _during("ps"):
            return ps.processes(self.root, self.id)

    def pause(self) -> None:
        """Returns when every process has stopped."""
        with _during("pause"):
            pause.pause(self.root, self.id)

    def resume(self) -> None:
        with _during("resume"):
            pause.resume(self.root, self.id)

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change limits: a linux.resources object with what is to change (config-linux.md). All of it or nothing."""
        with _during("update"):
            text = text_of(resources)
            wanted = update.Wanted(json.loads(text), text=text, place="resources")
            self.warnings += update.update(self.root, self.id, wanted)

    def delete(self, *, force: bool = False) -> None:
        """Remove it. Raises ContainerError if it runs, unless `force`, which kills it. A second time does nothing."""
        if self._deleted:
            return
        with _during("delete"):
            self.warnings += deletion.delete(self.root, self.id, force=force)
        self._deleted = True
        self._child.close()

    def detach(self) -> None:
        """Leave it to whoever knows its id: it goes on, and is not deleted with this object."""
        self._deleted = True
        self._child.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete(force=True)

    def __repr__(self) -> str:
        return f"<ocirt.Container {self.id!r} of {self.root}>"

    def __del__(self) -> None:
        if getattr(self, "_made", False) and not self._deleted:
            warnings.warn(f"{self!r} was neither deleted nor detached", ResourceWarning, source=self, stacklevel=2)
        if hasattr(self, "_child"):
            self._child.close()


@contextmanager
def _during(phase: str) -> Iterator[None]:
    """Errors say which operation was under way."""
    try:
        yield
    except Error as error:
        error.phase = error.phase or phase
        raise


def _root(root: Path | None) -> str:
    if root is None:
        return own_folder("ocirt")
    place = os.fspath(root)
    # A working directory that is gone matters only to what counts from it.
    return place if os.path.isabs(place) else os.path.join(os.getcwd(), place)


def _launched(execution: Execution) -> int:
    """A pidfd of the process, whose program has been executed."""
    try:
        execution.launch(wait=False)
        return os.pidfd_open(execution.init.pid)
    except BaseException as error:
        raise execution.undone(error) from None
