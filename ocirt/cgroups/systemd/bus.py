"""Talking with systemd over D-Bus (org.freedesktop.systemd1(5), the D-Bus specification). jeepney makes the messages.

The system's manager for root of the host; for all others, root of a user namespace too, the user's own. Where no bus
runs, systemd listens at a private socket of its own, as systemctl(1) uses it: no bus, so no names and no match rules.
"""

from __future__ import annotations

import posix
import socket
from time import monotonic

from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, Parser, new_method_call

from ocirt.cgroups.delegation import host_uid
from ocirt.cgroups.layout import exists, in_user_namespace
from ocirt.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"

CONNECT_TIMEOUT = 10.0
CALL_TIMEOUT = 25.0
JOB_TIMEOUT = 30.0
"""Seconds."""

SYSTEM = ""
"""The address of the system's manager, as the state keeps it."""
_SYSTEM_BUS = "/run/dbus/system_bus_socket"
_SYSTEM_PRIVATE = "/run/systemd/private"
_DENIED = ("AccessDenied", "InteractiveAuthorizationRequired", "AuthFailed")


class BusError(Exception):
    """systemd's, or the bus's, answer is an error. name: without what comes before the last dot."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name.rpartition(".")[2]
        self.message = message

    def hint(self, *, user: bool) -> str:
        """What to do about it, or ""."""
        if self.name not in _DENIED and "authentication required" not in self.message.lower():
            return ""
        if user:
            return "is it your own session? `loginctl enable-linger` gives you a manager; see Delegate= in systemd(1)"
        return "only root may; as a user you need a manager of your own: `loginctl enable-linger`"


def own_address() -> str:
    """SYSTEM, or the address of the user's bus: from the environment, where an empty variable is an unset one, or else
    where systemd has it for our uid as the host knows it.

    Root of a user namespace in which systemd is pid 1, as in a container of a whole system, is root of that host.
    Raises Error if there is none.
    """
    if posix.geteuid() == 0 and (not in_user_namespace() or _is_systems_own()):
        return SYSTEM
    if address := posix.environ.get(b"DBUS_SESSION_BUS_ADDRESS"):
        return address.decode("utf-8", "surrogateescape")
    if folder := posix.environ.get(b"XDG_RUNTIME_DIR"):
        return f"unix:path={_escaped(folder)}/bus"
    usual = f"/run/user/{host_uid()}"
    if exists(usual + "/bus") or exists(usual + "/systemd/private"):
        return f"unix:path={usual}/bus"
    raise Error(
        "there is no user's systemd to make cgroups: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set,"
        f" and {usual} has no bus",
        hint=f"`loginctl enable-linger {host_uid()}` starts one; or use `--cgroup-manager cgroupfs` or `disabled`",
    )


def _is_systems_own() -> bool:
    """Is pid 1 systemd, and in our user namespace?"""
    if not exists("/run/systemd/system"):
        return False
    try:
        return posix.readlink("/proc/1/ns/user") == posix.readlink("/proc/self/ns/user")
    except OSError:
        return False  # we may not look: it is the host's


def _escaped(path: bytes) -> str:
    """As a D-Bus address has it ("Server Addresses"): what is neither a letter, a digit nor one of -_/.\\ as %XX."""
    return "".join(chr(byte) if bytes((byte,)).isalnum() or byte in b"-_/.\\" else f"%{byte:02x}" for byte in path)


class Bus:
    """A connection to the manager at an address; it is made when it is needed, and again after `close`.

    A signal handler's exception in the middle of a conversation ends the connection, so that the next one does not
    get the answers that were meant for this.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._serial = 0
        self._parser = Parser()
        self._waiting: list[Any] = []
        self._jobs: dict[str, str] = {}
        self._matched: set[str] = set()
        self._private = False

    @property
    def user(self) -> bool:
        return self.address != SYSTEM

    # Messages

    def call(
        self,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
        *,
        path: str = MANAGER_PATH,
        interface: str = MANAGER,
    ) -> tuple[Any, ...]:
        """Call a method of systemd's and return the answer. Raises BusError; Error if there is no connection."""
        try:
            self._connect()
            until = monotonic() + CALL_TIMEOUT
            serial = self._send(SYSTEMD, path, interface, member, signature, body)
            return self._answer(serial, until)
        except BusError:
            raise
        except OSError as error:
            self.close()
            raise self._failed(f"call systemd's {member}", error) from None
        except BaseException:
            self.close()
            raise

    def get(self, path: str, interface: str, name: str) -> Any:
        """A property of an object. Raises as `call` does."""
        ((_, value),) = self.call("Get", "ss", (f"{SYSTEMD}.{interface}", name), path=path, interface=PROPERTIES)
        return value

    def run_job(self, unit: str, member: str, signature: str, body: tuple[Any, ...]) -> str:
        """Call a method that returns a job of this unit, and wait for the job. Returns its result: "done", "failed",
        "timeout" … or "" if it has none after 30 s. Raises as `call` does."""
        try:
            self._connect()
            if unit not in self._matched and not self._private:
                rule = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved',arg2='{unit}'"
                self._send_to_bus("AddMatch", "s", (rule,), answered=False)
                self._matched.add(unit)
            (job,) = self.call(member, signature, body)
            until = monotonic() + JOB_TIMEOUT
            while job not in self._jobs:
                if (left := until - monotonic()) <= 0:
                    return ""
                try:
                    self._note(self._receive(left))
                except TimeoutError:
                    return ""
            return self._jobs.pop(job)
        except OSError as error:
            self.close()
            raise self._failed(f"wait for systemd's job for {unit}", error) from None
        except BusError:
            raise
        except BaseException:
            self.close()
            raise

    def _send(
        self,
        to: str,
        path: str,
        interface: str,
        member: str,
        signature: str,
        body: tuple[Any, ...],
        *,
        answered: bool = True,
    ) -> int:
        address = DBusAddress(path, bus_name=to, interface=interface)
        message = new_method_call(address, member, signature or None, body)
        self._serial += 1
        if not answered:
            message.header.flags |= MessageFlag.no_reply_expected
        assert self._socket
        self._socket.settimeout(CALL_TIMEOUT)
        self._socket.sendall(message.serialise(serial=self._serial))
        return self._serial

    def _send_to_bus(
        self, member: str, signature: str = "", body: tuple[Any, ...] = (), *, answered: bool = True
    ) -> int:
        name = "org.freedesktop.DBus"
        return self._send(name, "/org/freedesktop/DBus", name, member, signature, body, answered=answered)

    def _answer(self, serial: int, until: float) -> tuple[Any, ...]:
        while True:
            message = self._receive(max(until - monotonic(), 0.001))
            header = message.header
            if header.fields.get(HeaderFields.reply_serial) != serial:
                self._note(message)
            elif header.message_type == MessageType.error:
                words = message.body[0] if message.body and isinstance(message.body[0], str) else ""
                raise BusError(header.fields[HeaderFields.error_name], words)
            else:
                body: tuple[Any, ...] = message.body
                return body

    def _note(self, message: Any) -> None:
        """Of what nobody asked for only the ends of jobs matter."""
        fields = message.header.fields
        if message.header.message_type == MessageType.signal and fields.get(HeaderFields.member) == "JobRemoved":
            _, job, _, result = message.body
            self._jobs[job] = result

    def _receive(self, timeout: float) -> Any:
        """The next message. Raises OSError, also if there is none in time."""
        while not self._waiting:
            assert self._socket
            self._socket.settimeout(timeout)
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError(104, "the other side has closed the connection")
            self._waiting = self._parser.feed(data)
        return self._waiting.pop(0)

    # The connection

    def _connect(self) -> None:
        if self._socket:
            return
        reasons = []
        for path, private in self._places():
            try:
                self._open(path, private=private)
                return
            except OSError as error:
                self.close()
                reasons.append(f"{_shown(path)}: {error.strerror or error}")
            except BusError as error:
                self.close()
                reasons.append(f"{_shown(path)}: {error.message}")
        kind = "the user's" if self.user else "the system's"
        hint = "is systemd running? `--cgroup-manager cgroupfs` does without it"
        raise Error(f"connect to {kind} systemd over D-Bus: {'; '.join(reasons)}", hint=hint)

    def _places(self) -> list[tuple[str, bool]]:
        """(socket, is it private?) in the order in which they are tried."""
        if not self.user:
            return [(_SYSTEM_BUS, False), (_SYSTEM_PRIVATE, True)]
        places = [(path, False) for path in sockets_of(self.address)]
        folders = [path.removesuffix("/bus") for path, _ in places if path.endswith("/bus")]
        return places + [(folder + "/systemd/private", True) for folder in folders]

    def _open(self, path: str, *, private: bool) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(CONNECT_TIMEOUT)
        self._socket.connect(path)
        self._authenticate()
        self._private = private
        if not private:
            self._answer(self._send_to_bus("Hello"), monotonic() + CONNECT_TIMEOUT)

    def _authenticate(self) -> None:
        """EXTERNAL, without saying who we are: the server asks the kernel, whose answer is also right in a user
        namespace, where our own uid would be a wrong one.

        All in one piece, as systemd's own clients have it: its server does not look at a message that came together
        with BEGIN before the next one comes. A systemd before 246 says OK to the first line, and ERROR to the second.
        """
        assert self._socket
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        answers = [self._line()]
        if not answers[0].startswith(b"REJECTED"):
            answers.append(self._line())
        if not any(answer.startswith(b"OK") for answer in answers):
            words = answers[0].decode("ascii", "replace").strip()
            raise BusError("AuthFailed", f"it does not let us in: {words}")

    def _line(self) -> bytes:
        assert self._socket
        line = b""
        while not line.endswith(b"\r\n"):
            data = self._socket.recv(1)  # not one byte of what comes after
            if not data or len(line) > 4096:
                raise ConnectionResetError(104, "it ends the connection")
            line += data
        return line

    def _failed(self, doing: str, error: OSError) -> Error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return Error(f"{doing}: {reason}", hint="is systemd busy, or being stopped? see `systemctl list-jobs`")

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None
        self._serial = 0
        self._parser = Parser()
        self._waiting, self._jobs, self._matched = [], {}, set()

    def __del__(self) -> None:
        self.close()  # of a container that was refused before it was made


def sockets_of(address: str) -> list[str]:
    """The unix sockets of a D-Bus address ("unix:path=/run/user/1000/bus,guid=…;unix:abstract=…"), in their order; an
    abstract one begins with a NUL."""
    found = []
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        if transport != "unix":
            continue
        for pair in rest.split(","):
            key, _, value = pair.partition("=")
            if key in ("path", "abstract"):
                found.append(("\0" if key == "abstract" else "") + _unescaped(value))
    if not found:
        raise Error(f'"{address}" is not the address of a bus that can be reached', hint="see DBUS_SESSION_BUS_ADDRESS")
    return found


def _unescaped(value: str) -> str:
    first, *rest = value.encode("utf-8", "surrogateescape").split(b"%")
    try:
        path = first + b"".join(bytes((int(part[:2], 16),)) + part[2:] for part in rest)
    except ValueError:
        return value
    return path.decode("utf-8", "surrogateescape")


def _shown(path: str) -> str:
    return "@" + path[1:] if path.startswith("\0") else path
