"""cgroups.systemd.bus and scope against a systemd that is a thread of the test: what is asked, in which order, and what
becomes of each answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jeepney import DBusAddress, HeaderFields, MessageFlag, Parser, new_error, new_method_return, new_signal

from ocirt.cgroups.layout import Layout, Mounted
from ocirt.cgroups.systemd import bus as bus_module
from ocirt.cgroups.systemd import scope as scope_module
from ocirt.cgroups.systemd.bus import Bus, BusError, own_address, sockets_of
from ocirt.cgroups.systemd.scope import SystemdCgroups
from ocirt.errors import ConfigError, ContainerError, Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNIT = "ocirt-c.scope"
JOB = "/org/freedesktop/systemd1/job/7"


class Systemd:
    """Listens at `folder`/bus. answers: member → (signature, body), a BusError, or a function that makes one of them.

    calls: (member, body) of what was asked. jobs: how the next jobs end; None: they do not.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "bus")
        self.address = f"unix:path={self.path}"
        self.calls: list[tuple[str, Any]] = []
        self.jobs: list[str | None] = []
        self.rejects = False
        self.silent = False
        self.loaded: dict[str, str] = {}
        self.properties = {"Version": "252.4-1", "ControlGroup": "", "ActiveState": "active", "Description": ""}
        self.answers: dict[str, Callable[[Any], tuple[str, Any]]] = {}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            self._talk(connection)
        except OSError:
            pass  # it has not waited for all answers

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            lines = connection.makefile("rb", buffering=0)
            first = lines.readline()
            assert first in (b"\0AUTH EXTERNAL\r\n", b""), first  # without saying who
            if self.rejects:
                connection.sendall(b"REJECTED EXTERNAL\r\n")
                return
            connection.sendall(b"DATA\r\n")
            assert lines.readline() == b"DATA\r\n"
            connection.sendall(b"OK 1234\r\n")
            assert lines.readline() == b"BEGIN\r\n"
            parser, serial = Parser(), 0
            while data := connection.recv(4096):
                for message in parser.feed(data):
                    for reply in self._replies(message):
                        serial += 1
                        connection.sendall(reply.serialise(serial=serial))

    def _replies(self, message: Any) -> Iterator[Any]:
        fields = message.header.fields
        member = fields[HeaderFields.member]
        self.calls.append((member, message.body))
        if message.header.flags & MessageFlag.no_reply_expected or self.silent:
            return
        try:
            signature, body = self._answer(member, message.body)
        except BusError as error:
            yield new_error(message, "org.freedesktop.systemd1." + error.name, "s", (error.message,))
            return
        emitter = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")
        if signature == "o" and body == (JOB,) and (result := self.jobs.pop(0) if self.jobs else "done"):
            yield new_signal(emitter, "JobRemoved", "uoss", (7, JOB, UNIT, result))
        yield new_method_return(message, signature, body)

    def _answer(self, member: str, body: Any) -> tuple[str, Any]:
        if member in self.answers:
            return self.answers[member](body)
        if member == "Hello":
            return "s", (":1.5",)
        if member == "GetUnit":
            if body[0] not in self.loaded:
                raise BusError("x.NoSuchUnit", f"Unit {body[0]} not loaded.")
            return "o", ("/org/freedesktop/systemd1/unit/x",)
        if member == "Get":
            kind, name = body
            if name == "ActiveState":
                return "v", (("s", self.loaded[UNIT]),)
            if name == "ControlGroup" and not kind.endswith("Manager"):
                return "v", (("s", f"/system.slice/{UNIT}"),)
            return "v", (("s", self.properties[name]),)
        if member == "StartTransientUnit":
            if body[0] in self.loaded:
                raise BusError("x.UnitExists", f"Unit {body[0]} was already loaded or has a fragment file.")
            self.loaded[body[0]] = "active"
            self.properties["Description"] = dict(body[2])["Description"][1]
            return "o", (JOB,)
        if member in ("StopUnit", "ResetFailedUnit"):
            if self.loaded.pop(body[0], None) is None:
                raise BusError("x.NoSuchUnit", f"Unit {body[0]} not loaded.")
            return ("o", (JOB,)) if member == "StopUnit" else ("", ())
        return "", ()

    def called(self, member: str) -> list[Any]:
        return [body for name, body in self.calls if name == member]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    server = Systemd(tmp_path)
    monkeypatch.setattr(scope_module, "own_address", lambda: server.address)
    yield server
    server.socket.close()


@pytest.fixture
def cgroups(systemd: Systemd, tmp_path: Path) -> SystemdCgroups:
    """On a v2 tree that is a plain folder."""
    root = tmp_path / "cgroup"
    for folder in (root, root / "user.slice", root / "system.slice"):
        folder.mkdir()
        for name in ("cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"):
            (folder / name).write_text("pids memory\n" if name.endswith("controllers") else "")
    layout = Layout([Mounted("", (), str(root), "/", v2=True)], pure_v2=True)
    return SystemdCgroups.for_unit(layout, "system.slice:ocirt:c", "c", {})


def attached(cgroups: SystemdCgroups) -> None:
    """A folder that is no cgroup has no cgroup.procs of its own."""
    (path,) = (path for _, _, _, _, path in cgroups.places)
    os.makedirs(path, exist_ok=True)
    Path(path, "cgroup.procs").write_text("")
    cgroups.attach(4711)
    Path(path, "cgroup.procs").unlink()


# The connection


@pytest.mark.parametrize(
    ("address", "sockets"),
    [
        ("unix:path=/run/user/1000/bus", ["/run/user/1000/bus"]),
        ("unix:path=/a%20b,guid=1234", ["/a b"]),
        ("tcp:host=x,port=1;unix:abstract=/tmp/x,guid=1;unix:path=/y", ["\0/tmp/x", "/y"]),
    ],
)
def test_an_address_has_sockets(address: str, sockets: list[str]) -> None:
    assert sockets_of(address) == sockets


@pytest.mark.parametrize("address", ["", "tcp:host=x", "autolaunch:", "unix:", "nonsense"])
def test_an_address_without_one_is_an_error(address: str) -> None:
    with pytest.raises(Error, match="is not the address of a bus that can be reached"):
        sockets_of(address)


@dataclass
class Caller:
    """Who we are, as own_address finds out: set its fields."""

    uid: int = 1000
    host_uid: int = 1000
    in_user_namespace: bool = False
    systems_own: bool = False
    environ: dict[bytes, bytes] = field(default_factory=dict)
    there: tuple[str, ...] = ()


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    one = Caller()
    monkeypatch.setattr(bus_module.posix, "geteuid", lambda: one.uid)
    monkeypatch.setattr(bus_module.posix, "environ", one.environ)
    monkeypatch.setattr(bus_module, "host_uid", lambda: one.host_uid)
    monkeypatch.setattr(bus_module, "in_user_namespace", lambda: one.in_user_namespace)
    monkeypatch.setattr(bus_module, "_is_systems_own", lambda: one.systems_own)
    monkeypatch.setattr(bus_module, "exists", lambda path: path in one.there)
    return one


def test_root_of_the_host_talks_to_the_systems_manager(caller: Caller) -> None:
    caller.uid = 0
    caller.environ[b"XDG_RUNTIME_DIR"] = b"/run/user/7"
    assert own_address() == bus_module.SYSTEM
    caller.in_user_namespace = True
    assert own_address() == "unix:path=/run/user/7/bus"
    caller.systems_own = True  # a whole system in a user namespace
    assert own_address() == bus_module.SYSTEM


def test_a_users_address_is_in_the_environment(caller: Caller) -> None:
    caller.environ |= {b"XDG_RUNTIME_DIR": b"/r", b"DBUS_SESSION_BUS_ADDRESS": b"unix:path=/x"}
    assert own_address() == "unix:path=/x"
    caller.environ |= {b"DBUS_SESSION_BUS_ADDRESS": b""}
    assert own_address() == "unix:path=/r/bus"
    caller.environ |= {b"XDG_RUNTIME_DIR": "/a b,ü".encode()}
    assert sockets_of(own_address()) == ["/a b,ü/bus"]


@pytest.mark.parametrize("there", ["/run/user/1000/bus", "/run/user/1000/systemd/private"])
def test_without_it_the_bus_is_where_systemd_has_it_for_our_uid_on_the_host(caller: Caller, there: str) -> None:
    caller.uid, caller.in_user_namespace, caller.there = 0, True, (there,)
    assert own_address() == "unix:path=/run/user/1000/bus"


def test_without_any_the_error_says_how_to_get_one(caller: Caller) -> None:
    caller.environ |= {b"XDG_RUNTIME_DIR": b"", b"DBUS_SESSION_BUS_ADDRESS": b""}
    with pytest.raises(Error) as caught:
        own_address()
    assert "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set, and /run/user/1000 has no bus" in str(
        caught.value
    )
    assert "`loginctl enable-linger 1000`" in caught.value.hint


def test_without_a_server_there_is_one_line_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(Error) as caught:
        Bus(f"unix:path={tmp_path}/bus").call("Version")
    assert str(caught.value) == (
        f"connect to the user's systemd over D-Bus: {tmp_path}/bus: No such file or directory;"
        f" {tmp_path}/systemd/private: No such file or directory"
        " (is systemd running? `--cgroup-manager cgroupfs` does without it)"
    )


def test_one_that_does_not_let_us_in(systemd: Systemd) -> None:
    systemd.rejects = True
    with pytest.raises(Error, match="it does not let us in: REJECTED"):
        Bus(systemd.address).call("Version")


def test_one_that_does_not_answer(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus(systemd.address)
    bus.call("Hello")
    monkeypatch.setattr(bus_module, "CALL_TIMEOUT", 0.1)
    systemd.silent = True
    with pytest.raises(Error, match="call systemd's Version: no answer in time"):
        bus.call("Version")


def test_a_job_that_does_not_end_has_no_result(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "JOB_TIMEOUT", 0.1)
    systemd.jobs = [None]
    systemd.loaded[UNIT] = "active"
    assert Bus(systemd.address).run_job(UNIT, "StopUnit", "ss", (UNIT, "replace")) == ""


def test_an_exception_in_a_conversation_ends_it(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked before must not be answered later, when something else is asked."""
    bus = Bus(systemd.address)
    bus.call("Hello")

    class Interrupted(BaseException):
        pass

    def interrupted(self: Bus, timeout: float) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Bus, "_receive", interrupted)
        with pytest.raises(Interrupted):
            bus.call("GetUnit", "s", ("x",))
    assert bus.get("/", "Manager", "Version") == "252.4-1"
    assert [name for name, _ in systemd.calls].count("Hello") == 3  # two of them the connections' own


def test_it_listens_before_it_asks(systemd: Systemd) -> None:
    systemd.loaded[UNIT] = "active"
    bus = Bus(systemd.address)
    assert bus.run_job(UNIT, "StopUnit", "ss", (UNIT, "replace")) == "done"
    assert [name for name, _ in systemd.calls] == ["Hello", "AddMatch", "StopUnit"]
    (rule,) = systemd.called("AddMatch")[0]
    assert "member='JobRemoved'" in rule and f"arg2='{UNIT}'" in rule


# The driver


def test_the_manager_says_where_its_cgroups_are(systemd: Systemd) -> None:
    systemd.properties["ControlGroup"] = "/user.slice/user@1000.service"
    layout = Layout([Mounted("", (), "/cg", "/", v2=True)], pure_v2=True)
    (place,) = SystemdCgroups.for_unit(layout, "", "c", {}).places
    assert place == ("", (), True, "/cg", f"/cg/user.slice/user@1000.service/user.slice/{UNIT}")


def test_on_v1_a_users_manager_is_refused(systemd: Systemd) -> None:
    layout = Layout([Mounted("pids", ("pids",), "/cg/pids", "/", v2=False)], pure_v2=False)
    with pytest.raises(Error, match="on pure cgroup v2 only"):
        SystemdCgroups.for_unit(layout, "", "c", {})


def test_a_wrong_path_needs_no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope_module, "own_address", lambda: "unix:path=/no/such/bus")
    with pytest.raises(ConfigError, match="expected SLICE:PREFIX:NAME"):
        SystemdCgroups.for_unit(Layout([], pure_v2=True), "/a/b", "c", {})


def test_a_scope_starts_with_the_process_in_it(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    cgroups.plan()
    attached(cgroups)
    ((name, mode, properties, auxiliary),) = systemd.called("StartTransientUnit")
    assert (name, mode, auxiliary) == (UNIT, "fail", [])
    found = dict(properties)
    assert found["PIDs"] == ("au", [4711])
    assert found["Slice"] == ("s", "system.slice")
    assert found["Delegate"] == ("b", True)
    assert found["DefaultDependencies"] == ("b", False)
    assert found["CollectMode"] == ("s", "inactive-or-failed")
    assert found["Description"] == ("s", "ocirt container c")
    assert {name for name in found if name.endswith("Accounting")} == {
        "CPUAccounting",
        "MemoryAccounting",
        "TasksAccounting",
        "IOAccounting",
    }


def test_the_state_is_enough_to_stop_it(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    cgroups.plan()
    attached(cgroups)
    again = SystemdCgroups.from_state(cgroups.to_state())
    again.remove()
    assert systemd.called("StopUnit") == [(UNIT, "replace")]
    assert systemd.loaded == {}
    assert not os.path.exists(again.unified())


def test_the_intent_is_enough_when_nothing_was_started(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    cgroups.plan()
    SystemdCgroups.from_state(cgroups.to_state()).remove()
    assert not systemd.called("StopUnit")


def test_another_ones_unit_is_not_stopped(
    systemd: Systemd, cgroups: SystemdCgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken the name between our intent and our start."""
    killed: list[bool] = []
    monkeypatch.setattr(SystemdCgroups, "kill", lambda self: killed.append(True))
    cgroups.plan()
    systemd.loaded[UNIT] = "active"
    systemd.properties["Description"] = "a service of somebody's"
    with pytest.raises(ContainerError, match=f"systemd has a unit {UNIT} already: it is active"):
        attached(cgroups)
    Path(cgroups.unified(), "cgroup.procs").write_text("4711\n")
    cgroups.remove()
    SystemdCgroups.from_state(cgroups.to_state()).remove()
    assert not systemd.called("StopUnit")
    assert not killed


@pytest.mark.parametrize("status", ["active", "activating", "deactivating"])
def test_a_name_that_is_taken_is_refused_before_anything_is_made(
    systemd: Systemd, cgroups: SystemdCgroups, status: str
) -> None:
    systemd.loaded[UNIT] = status
    with pytest.raises(ContainerError) as caught:
        cgroups.plan()
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert cgroups.made == [] and not cgroups.claimed


@pytest.mark.parametrize("status", ["failed", "inactive"])
def test_what_an_ended_unit_left_is_forgotten(systemd: Systemd, cgroups: SystemdCgroups, status: str) -> None:
    systemd.loaded[UNIT] = status
    cgroups.plan()
    attached(cgroups)
    assert len(systemd.called("StartTransientUnit")) == 2
    assert systemd.called("ResetFailedUnit") == [(UNIT,)]


def test_but_only_once(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    systemd.loaded[UNIT] = "failed"
    systemd.answers["ResetFailedUnit"] = lambda body: ("", ())
    cgroups.plan()
    with pytest.raises(ContainerError, match="already: it is failed"):
        attached(cgroups)
    assert len(systemd.called("StartTransientUnit")) == 2


@pytest.mark.parametrize(
    ("result", "words"), [("failed", "its job ended as failed"), (None, "systemd has not done it in 30 s")]
)
def test_a_start_that_does_not_succeed(
    systemd: Systemd, cgroups: SystemdCgroups, monkeypatch: pytest.MonkeyPatch, result: str | None, words: str
) -> None:
    monkeypatch.setattr(bus_module, "JOB_TIMEOUT", 0.1)
    systemd.jobs = [result]
    cgroups.plan()
    with pytest.raises(Error, match=words):
        attached(cgroups)


def raises(name: str, message: str) -> Callable[[Any], tuple[str, Any]]:
    def answer(body: Any) -> tuple[str, Any]:
        raise BusError("org.freedesktop." + name, message)

    return answer


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("DBus.Error.AccessDenied", "Permission denied", "loginctl enable-linger"),
        ("DBus.Error.InteractiveAuthorizationRequired", "Interactive authentication required.", "loginctl enable-"),
        ("DBus.Error.Failed", "no idea", ""),
    ],
)
def test_what_systemd_refuses_is_said_in_its_words(
    systemd: Systemd, cgroups: SystemdCgroups, name: str, message: str, hint: str
) -> None:
    systemd.answers["StartTransientUnit"] = raises(name, message)
    cgroups.plan()
    with pytest.raises(Error) as caught:
        attached(cgroups)
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert caught.value.message == f"start the unit {UNIT}: {message}"
    assert hint in caught.value.hint and bool(hint) == bool(caught.value.hint)


def test_a_property_that_it_refuses_is_named_by_its_place(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    cgroups.limit({"pids": {"limit": 5}})
    cgroups.plan()
    attached(cgroups)
    systemd.answers["SetUnitProperties"] = raises("DBus.Error.InvalidArgs", "TasksMax= is out of range")
    with pytest.raises(ConfigError) as caught:
        cgroups.tell_manager({"pids": {"limit": 5}})
    assert caught.value.pointer == "/linux/resources/pids/limit"


def test_a_cgroup_at_another_place_is_an_error(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    systemd.answers["Get"] = lambda body: ("v", (("s", "/elsewhere" if body[1] == "ControlGroup" else "252"),))
    cgroups.plan()
    with pytest.raises(Error, match="has the cgroup /elsewhere, which is not the one that was expected"):
        attached(cgroups)


def test_update_tells_the_limits(systemd: Systemd, cgroups: SystemdCgroups) -> None:
    cgroups.plan()
    attached(cgroups)
    cgroups.tell_manager({"pids": {"limit": 5}, "cpu": {"cpus": "1"}, "devices": [{"allow": False, "access": "rwm"}]})
    (unit, runtime, properties) = systemd.called("SetUnitProperties")[-1]
    assert (unit, runtime) == (UNIT, True)
    assert dict(properties) == {"AllowedCPUs": ("ay", b"\x02"), "TasksMax": ("t", 5)}


def test_what_annotations_ask_for_takes_precedence(systemd: Systemd, tmp_path: Path) -> None:
    annotations = {"org.systemd.property.Description": "'mine'", "org.systemd.property.CollectMode": "'inactive'"}
    layout = Layout([Mounted("", (), str(tmp_path), "/", v2=True)], pure_v2=True)
    cgroups = SystemdCgroups.for_unit(layout, "system.slice:ocirt:c", "c", annotations)
    cgroups.plan()
    attached(cgroups)
    names = [name for name, _ in systemd.called("StartTransientUnit")[0][2]]
    assert names.count("Description") == 1 and names.count("CollectMode") == 1
    assert cgroups.to_state()["description"] == "mine"


def test_processes_of_others_are_killed_only_by_force(
    systemd: Systemd, cgroups: SystemdCgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups.plan()
    attached(cgroups)
    killed: list[int] = []
    monkeypatch.setattr(SystemdCgroups, "processes", lambda self: [] if killed else [4711])
    monkeypatch.setattr(SystemdCgroups, "kill", lambda self: killed.append(4711))
    with pytest.raises(ContainerError, match="has processes of others: 4711"):
        cgroups.remove(kill=False)
    assert not killed and not systemd.called("StopUnit")
    cgroups.remove()
    assert killed and systemd.called("StopUnit")


def test_a_signal_that_comes_before_the_answer_is_not_lost(systemd: Systemd) -> None:
    """The fake one sends JobRemoved before its answer."""
    systemd.loaded[UNIT] = "active"
    started = time.monotonic()
    assert Bus(systemd.address).run_job(UNIT, "StopUnit", "ss", (UNIT, "replace")) == "done"
    assert time.monotonic() - started < 5


def test_it_asks_for_nothing_before_it_is_let_in(tmp_path: Path) -> None:
    """systemd's own server forgets, for a while, what comes together with BEGIN."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "bus"))
    listening.listen()
    seen: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            seen.append(connection.recv(4096))
            time.sleep(0.2)
            connection.settimeout(0)
            try:
                seen.append(connection.recv(4096))
            except BlockingIOError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(Error):
        Bus(f"unix:path={tmp_path}/bus").call("Version")
    thread.join()
    listening.close()
    assert seen == [b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"]


def test_what_systemd_clears_away_is_made_again(systemd: Systemd, tmp_path: Path) -> None:
    """A new slice on v1: in a hierarchy that it does not need systemd removes what is empty below it."""
    systemd.properties["ControlGroup"] = ""
    (tmp_path / "pids").mkdir()
    layout = Layout([Mounted("pids", ("pids",), str(tmp_path / "pids"), "/", v2=False)], pure_v2=False)
    cgroups = SystemdCgroups(
        [], scope_module.unit_for("system.slice:ocirt:c", "c", user=True), Bus(systemd.address), "d"
    )
    folder = tmp_path / "pids/system.slice" / UNIT
    cgroups.places = (("pids", ("pids",), False, layout.hierarchies[0].mount, str(folder)),)
    cgroups.plan()
    assert cgroups.made == [str(folder.parent), str(folder)]
    with pytest.raises(Error, match=r"join the pids cgroup .*cgroup.procs"):  # a plain folder has no such file
        cgroups.attach(4711)
    assert folder.is_dir()
