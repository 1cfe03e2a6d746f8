"""The keeper: a process of its own that makes, watches and removes the sandboxes of one program.

It is what lets a sandbox end with the program that asked for it, however that ends: the keeper sees end-of-file on the
sandbox's socket, kills what is in it and removes all of it. It also has the mount namespace in which root file systems
are put together, so that no mount is ever made on the host. One thread for each sandbox.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import Any

from ocirt._sys import unshare
from ocirt.cgroups.layout import detect
from ocirt.errors import Error
from ocirt.host.image import init_image
from ocirt.host.memfd import sealed
from ocirt.runtime.delete import delete
from ocirt.sandbox.channel import failure, receive, send
from ocirt.sandbox.host import check_controllers, check_rights, counts_swap
from ocirt.sandbox.inside import Sandbox
from ocirt.sandbox.rootfs import Roots
from ocirt.sandbox.spec import environment, spec_of
from ocirt.state.process import INIT_NAME, start_time
from ocirt.state.store import Store

CLONE_NEWNS = 0x00020000


class Keeper:
    """place: a folder with `state`, as of any container, for what a keeper that was killed has left, and `roots`, where
    a keeper mounts."""

    def __init__(self, place: str) -> None:
        check_rights()
        layout = detect()
        check_controllers(layout)
        self._swap = counts_swap(layout)
        self.state = f"{place}/state"
        collect(self.state)
        unshare(CLONE_NEWNS)
        self.roots = Roots(f"{place}/roots")
        self._image = sealed(INIT_NAME, init_image(), executable=True)
        self._lock = threading.Lock()
        self._count = 0
        pid = os.getpid()
        self._prefix = f"{pid}-{start_time(pid)}-"

    def serve(self, control: socket.socket) -> None:
        """Until end-of-file; then until the last sandbox is gone. Each message is the socket of a new sandbox."""
        threads: list[threading.Thread] = []
        while True:
            content, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not content:
                break
            for fd in descriptors:
                thread = threading.Thread(target=self._talk, args=(socket.socket(fileno=fd),))
                thread.start()
                threads = [one for one in threads if one.is_alive()] + [thread]
        for thread in threads:
            thread.join()

    def _talk(self, channel: socket.socket) -> None:
        with channel:
            try:
                self._one(channel)
            except Error as error:
                error.place = ""  # in a file that is gone, and that nobody has written but us
                _tell(channel, failure(error))
            except OSError as error:
                _tell(channel, failure(Error(f"the sandbox failed: {error}", errno=error.errno or 0)))

    def _one(self, channel: socket.socket) -> None:
        options, descriptors = receive(channel)
        for fd in descriptors:
            os.close(fd)
        if options is None:
            return
        sandbox = self._make(options, channel)
        reply = None
        try:
            if options["waits"]:
                _tell(channel, {"ready": True})
                asked = receive(channel)[0] if sandbox.wait() else None
            else:
                asked = options
            if asked is not None:
                reply = _reply(sandbox, options, asked)
                if reply and options["waits"]:
                    # Who has a pool wants the answer now. That all of it goes, it asks for when it has time to spare.
                    _tell(channel, reply)
                    receive(channel)
        finally:
            sandbox.remove()
        if reply and not options["waits"]:
            _tell(channel, reply)

    def _make(self, options: dict[str, Any], channel: socket.socket) -> Sandbox:
        with self._lock:
            self._count += 1
            name = f"{self._prefix}{self._count}"
        root = self.roots.make(name, options["rootfs"], overlay=options["overlay"], size=options["memory"])
        try:
            config = json.dumps(spec_of(options, root, swap=self._swap))
            return Sandbox(self.state, name, self.roots.place, config, self._image, channel)
        finally:
            self.roots.drop(name)


def _reply(sandbox: Sandbox, options: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any] | None:
    """What a run has come to, as a message; None if nobody waits for it any more."""
    env = environment(options, asked["env"])
    try:
        return sandbox.run(asked["argv"], env, asked["stdin"], asked["timeout"], asked["max_output"])
    except ConnectionError as error:  # it was killed, in the moment in which it was asked for
        gone = Error(f"the sandbox was killed before it ran: {error}", hint="out of memory? see dmesg")
        return {**failure(gone), "vanished": True}
    except Error as error:
        error.place = ""
        return failure(error)


def _tell(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        send(channel, message)
    except OSError:
        pass  # nobody listens any more


def collect(state: str) -> list[str]:
    """Remove the sandboxes of keepers that are gone, which only SIGKILL can bring about; returns their names."""
    store = Store(state)
    found = []
    for name in store.ids():
        pid, _, rest = name.partition("-")
        started = rest.partition("-")[0]
        if not (pid.isdigit() and started.isdigit()) or start_time(int(pid)) == int(started):
            continue
        try:
            delete(state, name, force=True)
            found.append(name)
        except Error:
            continue  # another keeper does the same right now, or the next one tries again
    return found


def main(words: list[str]) -> None:
    """Of the keeper's process. words: its socket's descriptor, and the place."""
    number, place = int(words[0]), words[1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it reaches the program, which then lets go of us
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with socket.socket(fileno=number) as control:
        try:
            keeper = Keeper(place)
        except Error as error:
            send(control, failure(error))
        except OSError as error:
            send(control, failure(Error(f"cannot keep sandboxes: {error}", errno=error.errno or 0)))
        else:
            send(control, {"ready": True})
            keeper.serve(control)
