"""What a monitor does: runs of one container, by its restart policy, and what clients ask for."""

from __future__ import annotations

import _socket
import posix
import time

from ocirt.manager.monitor.clients import STREAMS, Client, Clients
from ocirt.manager.monitor.container import Container, spawn
from ocirt.manager.monitor.document import dumps, timestamp, write_file
from ocirt.manager.monitor.frames import Log
from ocirt.manager.monitor.health import Health
from ocirt.manager.monitor.loop import Loop
from ocirt.manager.monitor.restart import Restart
from ocirt.manager.monitor.wire import ERR, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SIGKILL = 9
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8


class Monitor:
    """settings: what launch.py's `_settings` says. lock: the descriptor by which others see that this container has
    somebody who looks after it; it is closed when that is over."""

    def __init__(self, settings: dict[str, Any], lock: int, listener: _socket.socket, console: _socket.socket) -> None:
        monitor = settings["monitor"]
        self.settings = settings
        self.lock = lock
        self.loop = Loop()
        self.log: Log | None = None
        if monitor["log"]["driver"] != "none":
            self.log = Log(settings["log"], monitor["log"]["max_size"], monitor["log"]["max_file"])
        self.container = Container(self.loop, settings, console, self._output, self._ended)
        self.clients = Clients(self.loop, listener, monitor["patience"], self._requested)
        self.clients.give_input = self.container.give
        self.clients.input_ended = self._input_ended
        self.clients.resize = self.container.resize
        self.clients.hold = self.container.hold
        self.clients.gone = self._client_gone
        self.container.input_held = self.clients.input_held
        self.restart = Restart(monitor["restart"]["policy"], monitor["restart"].get("most", 0))
        self.health = Health(self, monitor["health"]) if monitor["health"] else None
        self.state: dict[str, Any] = {
            "status": "created",
            "pid": 0,
            "exit_code": 0,
            "error": "",
            "oom_killed": False,
            "restarts": 0,
            "stopped": False,
            "started": timestamp(0),
            "finished": timestamp(0),
            "boot": settings["boot"],
            "health": None,
        }
        self.starter: Client | None = None
        self.stopping: list[Client] = []
        self.signals: list[int] = []
        self.stopped = False
        self.busy = False
        self._timer = 0  # of the next run, while it waits for that
        self._over = False

    # --- the life of the container

    def run(self, starter: _socket.socket, values: dict[str, Any]) -> None:
        """All of it. starter: the connection of the one who asked for the start, and may stay attached."""
        self.starter = self.clients.add(starter)
        self.starter.kind = "ask"
        if values.get("attach"):
            self._attach(self.starter, values)
        self._start()
        self.loop.run()

    def write_state(self) -> None:
        """What lasts. A disk that is full must not end the container."""
        try:
            write_file(f"{self.settings['folder']}/state.json", dumps(self.state).encode("utf-8", "replace"))
        except OSError:
            pass

    def _start(self) -> None:
        self._timer = 0
        self.container.start(self._started)

    def _started(self, problem: str) -> None:
        starter, self.starter = self.starter, None
        if problem:
            problem = with_reason(problem)
            self.state.update(status="exited" if self.state["restarts"] else "created", pid=0, error=problem)
            self.state["exit_code"] = failure_code(problem)
            self._finish(starter, problem)
            return
        self.state.update(status="running", pid=self.container.pid, error="", oom_killed=False, exit_code=0)
        self.state["started"] = timestamp(time.time_ns())
        if self.health:
            self.state["health"] = self.health.begin()
        self.write_state()
        if starter:
            starter.reply(True)
        signals, self.signals = self.signals, []
        for number in signals:
            self.container.signal(number)

    def _output(self, stream: int, data: memoryview) -> None:
        if self.log:
            self.log.write(time.time_ns(), stream, data)
        if self.clients.all:
            self.clients.output(OUT if stream == 1 else ERR, data)

    def _ended(self, code: int, killed: bool) -> None:
        if self.health:
            self.health.end()
        delay = self.restart.delay(code, time.monotonic() - self.container.began, self.stopped)
        self.state.update(pid=0, exit_code=code, oom_killed=killed, finished=timestamp(time.time_ns()))
        if delay is None:
            self.state["status"] = "exited"
            self._finish(None, "")
            return
        self.state.update(status="restarting", restarts=self.restart.count)
        self.write_state()
        self.clients.exited(code, True)
        self._timer = self.loop.after(delay, self._start)

    def _finish(self, starter: Client | None, problem: str) -> None:
        """The last run is over. Whoever is told so may start or remove the container at once: so first all goes that
        only this monitor has."""
        self.state["stopped"] = self.stopped
        self._over = True
        unmount(f"{self.settings['folder']}/rootfs")
        self.write_state()
        for name in ("monitor", "console", "pid", "health", "health.pid"):
            try:
                posix.unlink(name)
            except OSError:
                pass
        posix.close(self.lock)
        if starter:
            starter.reply(False, (self.state["exit_code"], problem))
        for client in self.stopping:
            client.reply(True)
        self.clients.exited(self.state["exit_code"], False)
        if self.settings["monitor"]["auto_remove"] and not problem:
            if not any(client.removes for client in self.clients.all):
                self._remove()
        else:
            self._leave()

    def _remove(self) -> None:
        """Nobody who has promised to remove it is there, or it was not done."""
        try:
            pid = spawn(self.settings["remove"], 0, 0, 2)
        except OSError:
            self._leave()
            return
        self.loop.child(pid, lambda _status: self._leave())

    def _leave(self) -> None:
        self.clients.exited(self.state["exit_code"], False, removed=True)
        self.clients.dismiss()
        if self.clients.all:
            self.loop.after(self.clients.patience, self.loop.stop)
        else:
            self.loop.stop()

    # --- clients

    def _requested(self, client: Client, verb: str, values: dict[str, Any]) -> None:
        handler: Callable[[Client, dict[str, Any]], None] | None = getattr(self, f"_{verb}_asked", None)
        if self._over:
            client.close()  # it asks the state instead
        elif handler:
            handler(client, values)
        else:
            client.reply(False, f"the monitor does not know {verb}")

    def _attach(self, client: Client, values: dict[str, Any]) -> None:
        client.kind = "attach"
        client.streams = tuple(kind for name, kind in STREAMS.items() if values.get(name, True))
        client.stdin = bool(values.get("stdin")) and self.container.open_stdin
        client.removes = bool(values.get("removes")) and self.settings["monitor"]["auto_remove"]
        client.poll()

    def _attach_asked(self, client: Client, values: dict[str, Any]) -> None:
        self._attach(client, values)
        client.reply(True)

    def _wait_asked(self, client: Client, values: dict[str, Any]) -> None:
        client.kind = "wait"
        client.until_removed = bool(values.get("removed"))

    def _follow_asked(self, client: Client, _values: dict[str, Any]) -> None:
        client.kind = "follow"
        client.reply(True)

    def _resize_asked(self, client: Client, values: dict[str, Any]) -> None:
        self.container.resize(values["rows"], values["columns"])
        client.reply(True)

    def _kill_asked(self, client: Client, values: dict[str, Any]) -> None:
        number = values["signal"]
        ends = number in (SIGKILL, self.settings["monitor"]["stop_signal"])
        self.stopped = self.stopped or ends
        problem = ""
        if not self._timer:
            try:
                self._signal(number, ends)
            except OSError as error:
                problem = f"signal {number}: {error.strerror}"
        client.reply(not problem, problem)
        if ends and self._timer:
            self._give_up()

    def _stop_asked(self, client: Client, values: dict[str, Any]) -> None:
        self.stopped = True
        self.stopping.append(client)
        client.kind = "stop"
        if self._timer:
            self._give_up()
            return
        self._signal(values["signal"], True)
        if values["timeout"] >= 0:
            self.loop.after(values["timeout"], lambda: self._signal(SIGKILL, True))

    def _signal(self, number: int, ends: bool) -> None:
        """A program that is paused takes it when it goes on."""
        if not self.container.pid:
            self.signals.append(number)
            return
        self.container.signal(number)
        if ends and self.state["status"] == "paused":
            self._change("resume", "running", None)

    def _give_up(self) -> None:
        """It waits for its next run, and there will be none."""
        self.loop.cancel(self._timer)
        self._timer = 0
        self.state["status"] = "exited"
        self._finish(None, "")

    def _pause_asked(self, client: Client, _values: dict[str, Any]) -> None:
        self._change("pause", "paused", client)

    def _unpause_asked(self, client: Client, _values: dict[str, Any]) -> None:
        self._change("resume", "running", client)

    def _change(self, verb: str, status: str, client: Client | None) -> None:
        """By the runtime: pause or resume."""

        def done(code: int, text: str) -> None:
            if not code and self.container.pid:
                self.state["status"] = status
                self.write_state()
            if client:
                client.reply(not code, text)

        if self.state["status"] in ("running", "paused"):
            self.container.call((verb, self.container.id), done)
        elif client:
            client.reply(False, f"it is {self.state['status']}")

    def _input_ended(self) -> None:
        if self.settings["monitor"]["stdin_once"]:
            self.container.end_input()

    def _client_gone(self, client: Client) -> None:
        if not self._over:
            return
        if client.removes:
            try:
                posix.stat(self.settings["folder"])
            except FileNotFoundError:
                self._leave()
            else:
                self._remove()
        elif not self.clients.all:
            self.loop.stop()


def failure_code(problem: str) -> int:
    """What docker's exit code is for a program that could not be started: by the words of runtimes."""
    text = problem.lower()
    if any(words in text for words in ("executable file not found", "no such file or directory", "not a directory")):
        return 127
    return 126 if "permission denied" in text else 128


def with_reason(problem: str) -> str:
    """Newer runc finds out by itself that the program is a folder, and does not say what execve(2) would: EACCES."""
    text = problem.lower()
    return problem + ": permission denied" if "is a directory" in text and "permission denied" not in text else problem


def unmount(rootfs: str) -> None:
    """What was mounted for this run. One that is not a mount point stays."""
    from ocirt import _sys

    try:
        _sys.umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW)  # somebody may be copying from it
    except OSError:
        pass
