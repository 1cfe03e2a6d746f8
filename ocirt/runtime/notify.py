"""NOTIFY_SOCKET: the program in a container tells the service manager outside that it is ready (sd_notify(3)).

As runc and crun have it: the container gets a socket of its own, /run/notify/notify.sock, and what arrives there is
passed on. With `create` and `start`, and with `run --detach`, we wait until it is ready, name it as the service's
process, and end; `run` in the foreground passes on all there is, beside what it does otherwise.

Imported only when the caller's environment has NOTIFY_SOCKET.
"""

from __future__ import annotations

import posix
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from ocirt.errors import UsageError, from_os_error
from ocirt.state.process import open_process
from ocirt.state.store import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.config.read import Config
    from ocirt.state.entry import Entry

SOCKET, INSIDE = "notify.sock", "/run/notify"
VARIABLE = "NOTIFY_SOCKET"
LARGEST = 65536
"""Bytes of a message; systemd takes 4096."""
PATIENCE = 5.0
"""Seconds that a manager has, to take what is left when the program has ended."""
_NOT_PASSED_ON = (b"MAINPID", b"FDSTORE", b"FDNAME", b"FDPOLL", b"BARRIER")
"""Numbers and descriptors are others inside. Who sends BARRIER=1 waits for its descriptor to be closed: it is."""


class Notify:
    """What is between the service manager and one container."""

    def __init__(self) -> None:
        """Raises UsageError if nobody listens at NOTIFY_SOCKET."""
        self.own: socket | None = None
        path = posix.environ[VARIABLE.encode()]
        self.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        try:
            self.manager.connect(b"\0" + path[1:] if path.startswith(b"@") else path)
        except OSError as error:
            self.manager.close()
            text = path.decode(errors="replace")
            raise UsageError(
                f"{VARIABLE}={text} in the environment: {error.strerror or error}",
                errno=error.errno or 0,
                hint="a service manager must listen there; or unset it",
            ) from None

    def listen(self, entry: Entry, *, make: bool) -> None:
        """Take what the container says from now on. make: with the folder that is mounted there; the socket is another
        one for each process that listens. Raises KernelError."""
        try:
            folder = entry.make_folder(NOTIFY, 0o755) if make else entry.open_folder(NOTIFY)
            path = f"/proc/self/fd/{folder}/{SOCKET}"
            try:
                try:
                    posix.unlink(path)
                except FileNotFoundError:
                    pass
                self.own = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
                self.own.bind(path)
                posix.chmod(path, 0o777)  # only the container can come here, whatever users it has
            finally:
                posix.close(folder)
        except OSError as error:
            error.filename = None
            raise from_os_error(error, f"make {entry.folder}/{NOTIFY}/{SOCKET}") from None

    def wait(self, pid: int) -> None:
        """Pass on what it says until it is ready, which makes it the service's main process, or has ended."""
        self._pass_on(pid, until_ready=True)

    def stay(self, pid: int) -> None:
        """Pass on all that it says, in a thread: only what this process sends is believed."""
        from _thread import allocate_lock, start_new_thread

        self._working = allocate_lock()
        self._working.acquire()
        start_new_thread(self._stay, (pid,))

    def _stay(self, pid: int) -> None:
        try:
            self._pass_on(pid)
        finally:
            self._working.release()

    def finish(self) -> None:
        """When the program has ended: what it said last is passed on before."""
        self._working.acquire(timeout=PATIENCE)

    def _pass_on(self, pid: int, *, until_ready: bool = False) -> None:
        assert self.own
        try:
            process = open_process(pid)
        except OSError:  # it has ended, and is reaped
            process = -1
        try:
            poller = select.poll()
            poller.register(self.own.fileno(), select.POLLIN)
            if process >= 0:
                poller.register(process, select.POLLIN)
            while True:
                ready = dict(poller.poll(None if process >= 0 else 0))
                if self.own.fileno() not in ready:
                    return
                lines = [
                    line for line in self.own.recv(LARGEST).split(b"\n") if line and not line.startswith(_NOT_PASSED_ON)
                ]
                is_ready = b"READY=1" in lines
                if is_ready and until_ready:
                    lines.append(b"MAINPID=%d" % pid)
                if lines:
                    self.manager.send(b"\n".join(lines))
                if is_ready and until_ready:
                    return
        except OSError:
            return  # the manager is gone: nobody waits for it
        finally:
            if process >= 0:
                posix.close(process)

    def close(self) -> None:
        self.manager.close()
        if self.own:
            self.own.close()


def mounted(config: Config, folder: str) -> str:
    """Add the socket's folder to the configuration. Returns its place on the host, which has yet to be made; "" if the
    configuration has a NOTIFY_SOCKET of its own: an engine's."""
    process = config.spec["process"]
    env = list(process.get("env") or ())
    if any(word.startswith(f"{VARIABLE}=") for word in env):
        return ""
    source = f"{folder}/{NOTIFY}"
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mount = {"destination": INSIDE, "type": "bind", "source": source, "options": options}
    config.spec["mounts"] = [*(config.spec.get("mounts") or ()), mount]
    process["env"] = [*env, f"{VARIABLE}={INSIDE}/{SOCKET}"]
    return source


def of_started(entry: Entry) -> Notify | None:
    """For `start`: of a container that `create` gave such a folder."""
    try:
        posix.close(entry.open_folder(NOTIFY))
    except OSError:
        return None
    notify = Notify()
    notify.listen(entry, make=False)
    return notify
