"""The side of the program that wants sandboxes: it starts a keeper once, and has one socket for each sandbox."""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from ocirt.errors import Error, UsageError
from ocirt.host.itself import command
from ocirt.sandbox import channel
from ocirt.sandbox.options import Bind, options, program_of
from ocirt.sandbox.result import Result

PLACE = "/run/ocirt-sandbox"
_PASSED_ON = ("PATH", "OCIRT_CACHE", "XDG_RUNTIME_DIR")
_MOST_STDIN = 1 << 30
_TRIES = 3
_UNREAD = (BrokenPipeError, ConnectionResetError)
"""What the kernel says of a message that the other side has not read before it went (unix(7)): nothing has happened."""
_AT_ONCE = "the keeper of the sandboxes ends at once"


class _Keeper:
    """The keeper's process and the socket to it, from its first use on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    @property
    def pid(self) -> int:
        """Of its process, 0 if there is none."""
        return self._process.pid if self._process else 0

    def ask(self, request: dict[str, Any]) -> socket.socket:
        """The socket of a new sandbox, to which the request has been sent."""
        with self._lock:
            ours = self._connected()
            self._open.add(ours)
        try:
            channel.send(ours, request)
        except BaseException:
            ours.close()
            raise
        return ours

    def exchange(self, request: dict[str, Any]) -> tuple[socket.socket, dict[str, Any] | None]:
        """The socket of a new sandbox, and the first answer to the request; None if the keeper has ended."""
        for _ in range(_TRIES):
            pid = self.pid
            try:
                ours = self.ask(request)
                try:
                    return ours, channel.receive(ours)[0]
                except BaseException:
                    ours.close()
                    raise
            except _UNREAD:
                self.lost(pid)
        raise Error(_AT_ONCE)

    def lost(self, pid: int) -> None:
        """The keeper with this pid was killed and has not read what it was asked: the next one is asked the same."""
        with self._lock:
            if self.pid == pid:
                self._drop()

    def _connected(self) -> socket.socket:
        for _ in range(2):  # one that was killed is replaced
            if self._control is None:
                self._start()
            assert self._control
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                    return ours
                except OSError:
                    ours.close()
                    self._drop()
        raise Error(_AT_ONCE)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command("ocirt.sandbox.keeper", str(theirs.fileno()), PLACE),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            channel.checked(channel.receive(ours)[0])
        except BaseException:
            ours.close()
            if self._process:
                self._process.wait()
                self._process = None
            raise
        self._control = ours

    def _drop(self) -> None:
        """It ends when its last sandbox is gone."""
        if self._control:
            self._control.close()
        if self._process:
            self._process.wait()
        self._control = self._process = None

    def close(self) -> None:
        with self._lock:
            self._drop()

    def end(self) -> None:
        """With the interpreter. A pool that nobody has closed, or a daemon thread's run, ends now."""
        for one in list(self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed
        self.close()

    def forget(self) -> None:
        """In a child after fork(2): the keeper is the parent's, and must see the parent's end."""
        self._lock = threading.Lock()
        for one in (self._control, *self._open):
            if one:
                one.close()
        if self._process:
            self._process.returncode = 0  # not ours to wait for
        self._control = self._process = None


keeper = _Keeper()
atexit.register(keeper.end)
os.register_at_fork(after_in_child=keeper.forget)


def close() -> None:
    """End the keeper, which waits for the sandboxes that there are; the next run starts another one. Happens by itself
    when the interpreter ends."""
    keeper.close()


def content_of(stdin: bytes | str | int | None) -> bytes:
    """What a program is to read: a descriptor is read to its end. Raises UsageError."""
    if stdin is None:
        return b""
    if isinstance(stdin, str):
        return stdin.encode()
    if isinstance(stdin, int):
        with os.fdopen(stdin, "rb", closefd=False) as file:
            content = file.read(_MOST_STDIN + 1)
    else:
        content = bytes(stdin)
    if len(content) > _MOST_STDIN:
        raise UsageError(f"stdin: more than {_MOST_STDIN} bytes", hint="bind a file: binds=[...]")
    return content


def run(
    argv: Sequence[str],
    rootfs: str | os.PathLike[str] | None = None,
    *,
    overlay: bool = True,
    timeout: float | None = None,
    memory: int | str | None = None,
    pids: int | None = None,
    cpus: float | None = None,
    network: bool = False,
    stdin: bytes | str | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    user: int | str = 0,
    binds: Sequence[Bind] = (),
    max_output: int | str = 1 << 20,
) -> Result:
    """Run a program in a sandbox of its own and wait for its end; nothing of the sandbox is left then.

    argv         the program, looked up in the sandbox's PATH, and its arguments
    rootfs       the folder that is its root; None: the host's programs (/usr), and /etc and /opt as nobody sees them
    overlay      a writable layer over it, which vanishes; without, it is read-only but for /tmp
    timeout      seconds until it is killed; memory: bytes or "64M" (default 256M); pids: processes and threads (128)
    cpus         how many at once, 0.5 is half of one; network: the host's, instead of none
    stdin        what it reads: bytes, text, or a descriptor that is read to its end first; None: nothing
    env          variables beside PATH, HOME and LANG; cwd: its working directory; user: "UID" or "UID:GID" inside
    binds        files and folders of the host: "SOURCE:DESTINATION", read-only unless ":rw" follows
    max_output   bytes of stdout, and of stderr, that are kept

    Raises UsageError for a keyword that makes no sense, Error if there can be no such sandbox, KernelError if the
    program cannot be executed. How the program ends is no error: see Result.
    """
    request = _request(argv, stdin, locals())
    ours, reply = keeper.exchange(request)
    with ours:
        return Result.from_reply(channel.checked(reply))


async def run_async(
    argv: Sequence[str],
    rootfs: str | os.PathLike[str] | None = None,
    *,
    stdin: bytes | str | int | None = None,
    **keywords: Any,
) -> Result:
    """`run` for asyncio: the event loop goes on meanwhile. Cancelled, it kills and removes the sandbox."""
    request = _request(argv, stdin, {**keywords, "rootfs": rootfs})
    loop = asyncio.get_running_loop()
    for _ in range(_TRIES):
        pid = keeper.pid
        try:
            with await loop.run_in_executor(None, keeper.ask, request) as ours:
                ours.setblocking(False)
                head = await _exactly(loop, ours, 8)
                content = await _exactly(loop, ours, int.from_bytes(head, "little")) if head else b""
                return Result.from_reply(channel.checked(channel.unpacked(content)))
        except _UNREAD:
            await loop.run_in_executor(None, keeper.lost, pid)
    raise Error(_AT_ONCE)


async def _exactly(loop: asyncio.AbstractEventLoop, ours: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        chunk = await loop.sock_recv(ours, min(length - len(content), 1 << 20))
        if not chunk:
            return b""
        content += chunk
    return bytes(content)


_KEYWORDS = tuple("rootfs overlay timeout memory pids cpus network env cwd user binds max_output".split())


def _request(argv: Sequence[str], stdin: bytes | str | int | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := [name for name in keywords if name not in (*_KEYWORDS, "argv", "stdin")]:
        raise UsageError(f"unknown keyword: {unknown[0]}", hint=f"one of {', '.join(_KEYWORDS)}")
    chosen = options(program_of(argv), **{name: keywords[name] for name in _KEYWORDS if name in keywords})
    return {**chosen, "waits": False, "stdin": content_of(stdin)}
