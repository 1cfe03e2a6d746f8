"""What `create` and `run` share: a container is made, up to an init that is ready, or nothing of it is left."""

from __future__ import annotations

import posix
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask
from time import gmtime, time_ns

from ocirt.errors import Error, from_os_error
from ocirt.host.image import init_image
from ocirt.host.launch import ENDING
from ocirt.host.passwd import home_of
from ocirt.plan.inherited import inherited
from ocirt.plan.tags import (
    FD_COPY_FROM,
    FD_COPY_TO,
    FD_PASSWD,
    FD_ROOT,
    FD_TERMINAL,
    SYNC_COPY,
    SYNC_HOOKS,
    SYNC_MAPPED,
    SYNC_READY,
)
from ocirt.plan.wire import OP_CHANNEL
from ocirt.runtime.preparation import Preparation
from ocirt.state.document import dumps
from ocirt.state.process import own_pid, start_time
from ocirt.state.store import CONFIG, MANAGED, START, UNFINISHED_START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ocirt.host.hooks import Hooks
    from ocirt.host.idmap import IdMaps
    from ocirt.plan.step import Slot, Step
    from ocirt.state.store import Entry

FIFO_MODE = 0o622
"""init opens it with the program's user: the folder around it is private."""


_SPAWN_HINTS = {
    11: "a limit on processes is reached: pids.max of the cgroup, or RLIMIT_NPROC",
    22: "RLIMIT_NOFILE of the caller is too low",
    24: "RLIMIT_NOFILE of the caller is too low",
}
"""errno → what it means where init is started: EINVAL is fcntl(2)'s, of a descriptor beyond the limit."""


def now() -> str:
    """The time as RFC 3339 with nanoseconds, as engines parse it."""
    nanoseconds = time_ns()
    when = gmtime(nanoseconds // 10**9)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*when[:6], nanoseconds % 10**9)


class Creation(Preparation):
    """A container being made: `launch` makes it, and `undone` removes all of it if that fails."""

    pid = 0
    entry: Entry | None = None
    stdio: tuple[int, ...] = (0, 1, 2)
    """Which of our descriptors become the program's stdin, stdout and stderr, and `further` ones."""
    _home: bytes | None = None
    _maps: IdMaps | None = None
    _limits_set = False
    _poststop_due = False
    _cgroups_made = False
    _failed: Error | None = None

    def launch(self) -> None:
        """Make the container, up to the point where init only waits to be let go.

        Whatever it raises, and whatever is raised before the container is handed over: `undone` is next.
        """
        self._filling: list[int] = []
        self.late_warnings: list[str] = []
        # A signal that asks us to end must not come between the folder and the knowledge of it.
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            self.entry = self.store.create(self.id)
        finally:
            pthread_sigmask(SIG_SETMASK, before)
        if self.init.is_ahead:
            # Nothing that it does until it meets the host would outlive it, but the folders of mounts in the root file
            # system, which are not undone in any case.
            self.init.go()
        self._prepare()
        self._begin()
        self._poststop_due = True
        self._finish()

    def _begin(self) -> None:
        """The container's first process comes to be."""
        if not self.init.is_ahead:
            self._spawn()
        if self.facts.attached_late and not self._cgroups_made:
            # While init starts. A failure waits until init's pid is known: what has no pid cannot be ended.
            try:
                self._make_cgroups()
            except Error as error:
                self._failed = error
            self._cgroups_made = True
        self.init.follow(self, until=SYNC_READY)

    def _prepare(self) -> None:
        """The intent goes first: whatever happens then, `delete --force` knows what to undo."""
        assert self.entry
        spec = self.config.spec
        creator = posix.getpid()
        self.cgroups.plan()
        self._maps_ids = "user" in self.new_namespaces()
        self.state: dict[str, Any] = {
            "id": self.id,
            "pid": 0,
            "pidStart": 0,
            "creator": [creator, start_time(creator)],
            "bundle": self.config.bundle,
            "config": self.config.path,
            "rootfs": self.facts.rootfs,
            "created": now(),
            "owner": posix.getuid(),
            "ociVersion": spec["ociVersion"],
            "annotations": spec.get("annotations") or {},
            "cgroups": self.cgroups.to_state(),
            "resctrl": self.resctrl.makes if self.resctrl else [],
            "netDevices": self.net_devices.records if self.net_devices else [],
            "privatePids": "pid" in self.new_namespaces(),
            "hooks": [kind for operation in ("start", "delete") for kind in self.hook_kinds.get(operation, ())],
            "last": _after_start(self.compiled.plan.steps) if self.facts.wait_for_start else [],
        }
        if self.resctrl:
            self.state["rdt"] = [self.resctrl.mount, self.resctrl.folder, self.resctrl.monitoring]
        if self.facts.seccomp and (self.facts.seccomp.listens or self.facts.seccomp.blocks):
            from ocirt.runtime.agent import remembered

            self.state["seccomp"] = remembered(spec["linux"]["seccomp"], self.facts)
        self.entry.write_state(self.state)
        if self.notify:
            self.notify.listen(self.entry, make=True)
        if not self.cgroups.follow:
            self.entry.write(MANAGED, dumps(self.state["cgroups"]).encode())
        text = dumps(spec) if self.config.added else self.config.text
        self.entry.write(CONFIG, text.encode())
        # Before a user namespace init takes copies of the host's folders, and these are among them.
        self._cgroups_made = not self.facts.attached_late or self._maps_ids or "user" in self.facts.joined
        if self._cgroups_made:
            self._make_cgroups()

    def _make_cgroups(self) -> None:
        self.cgroups.create()
        spec = self.config.spec
        if self.facts.pure_v2 and (self._maps_ids or spec["process"]["user"]["uid"]):
            from ocirt.cgroups.ownership import give, owner

            uid, folder = owner(spec, self.new_namespaces(), self.facts.joined), self.cgroups.unified()
            if uid and folder:
                give(folder, uid, delegated=self.cgroups.delegated)

    def _spawn(self) -> None:
        assert self.entry
        descriptors = self.descriptors
        try:
            if self.facts.wait_for_start:
                descriptors["fifo"] = self.entry.make_fifo(UNFINISHED_START, FIFO_MODE)
            if self.facts.into_cgroup:
                descriptors["cgroup"] = posix.open(
                    self.cgroups.unified(), posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
                )
            self.init.spawn(init_image(), inherited(self.facts), descriptors, self.stdio)
        except OSError as error:
            hint = _SPAWN_HINTS.get(error.errno or 0, "")
            error.filename = None  # a descriptor's
            raise from_os_error(error, "start the container's init", hint=hint) from None
        finally:
            self.close_descriptors()

    # What init tells us while we follow it (host.launch.Host).

    def started(self, pid: int) -> None:
        """Remember it; then attach it to its cgroups, while it goes on with its mounts.

        On v1 the first write of a pid waits for an RCU grace period: 0.2 ms, or 8 to 14 on a host at rest.
        """
        assert self.entry
        self.pid = pid
        if self._failed:
            raise self._failed
        self.state["pid"], self.state["pidStart"] = pid, start_time(pid)
        self.entry.write_state(self.state)
        if self._maps_ids:
            from ocirt.host.idmap import IdMaps

            self._maps = IdMaps()
            self._maps.begin(pid, self.config.spec["linux"], unprivileged=self.facts.unprivileged)
        limits = self.config.spec["process"].get("rlimits")
        if limits and (self._maps_ids or "user" in self.facts.joined):
            from ocirt.host.limits import raise_limits

            raise_limits(pid, limits)
        score = self.config.spec["process"].get("oomScoreAdj")
        if score is not None:  # 0 is a value
            from ocirt.host.oom import set_oom_score

            self.late_warnings += set_oom_score(pid, score)
        if self.facts.attached_late:
            if not self._cgroups_made:
                self._make_cgroups()
            self.cgroups.attach(pid)
        self.cgroups.joined()
        if self.resctrl:
            self.resctrl.create()
            self.resctrl.attach(pid)
        if self.net_devices:
            # A signal that asks us to end must not come in the middle of a conversation with the kernel.
            before = pthread_sigmask(SIG_BLOCK, ENDING)
            try:
                self.net_devices.enter(pid)
                self.net_devices.move()
            finally:
                pthread_sigmask(SIG_SETMASK, before)

    def received(self, tag: int, fd: int) -> None:
        if tag == FD_TERMINAL:
            self.handing.master = fd
        elif tag == FD_PASSWD:
            self._home = home_of(self.config.spec["process"]["user"]["uid"], fd)
            self._set_limits()
        elif tag in (FD_COPY_FROM, FD_COPY_TO, FD_ROOT):
            self._filling.append(fd)

    def meet(self, tag: int) -> Mapping[Slot, bytes]:
        """SYNC_ATTACHED: that is done, for init's first message was its pid."""
        if tag == SYNC_MAPPED and self._maps:
            self._maps.finish()
        if tag == SYNC_HOOKS:
            self._poststop_due = True
            for kind in self.hook_kinds["create"]:
                self.hooks().run(kind)
        if tag >= SYNC_COPY:
            from ocirt.host.mounting import help_with

            help_with(
                self.config.spec["mounts"],
                tag,
                self.pid,
                self._filling,
                self.facts.directories,
                unprivileged=self.facts.unprivileged,
            )
        return {}

    def hooks(self) -> Hooks:
        from ocirt.host.hooks import Hooks
        from ocirt.runtime.agent import for_hook

        return Hooks(self.config.spec, self.state, self.cgroups, for_hook(self.config.spec))

    def before_program(self) -> None:
        """The hooks that run while init waits to be let go."""
        if self.hook_kinds.get("start"):
            from ocirt.runtime.hooks import before_program

            before_program(self.hooks())

    def after_program(self) -> list[str]:
        """The hooks that run when the program has been executed; returns warnings."""
        if not self.hook_kinds.get("start"):
            return self.late_warnings
        from ocirt.runtime.hooks import after_program

        return self.late_warnings + after_program(self.hooks())

    def after_removal(self) -> list[str]:
        """The hooks that run when all but the container's state is gone; returns warnings."""
        return self.hooks().run_all("poststop") if self.hook_kinds.get("delete") and self._poststop_due else []

    def _set_limits(self) -> None:
        """After init has made its nodes, which the device rules could forbid, and has done what a limit would hinder;
        before the program runs."""
        if not self._limits_set:
            self._limits_set = True
            linux = self.config.spec.get("linux") or {}
            self.cgroups.set_late((linux.get("resources") or {}).get("devices") or ())

    def _finish(self) -> None:
        assert self.entry
        self._set_limits()
        self.handing.deliver(self.pid)
        if self.facts.wait_for_start:
            try:
                self.entry.rename(UNFINISHED_START, START)
            except OSError as error:
                raise from_os_error(error, f"finish {self.entry.folder}") from None

        if self.resctrl or self.net_devices:
            # From now on the class of service that others may share stays, and devices belong to the container.
            self.state["resctrl"] = self.resctrl.removes if self.resctrl else []
            self.state["netDevices"] = []
            self.entry.write_state(self.state)

    def release(self) -> None:
        """Let init go on."""
        compiled = self.compiled
        slots = {compiled.home: self._home or b"/"} if compiled.home else {}
        if compiled.listen_pid:
            slots[compiled.listen_pid] = str(own_pid(self.pid)).encode()
        self.init.answer(slots)
        if self.agent:
            self.agent.serve(self.state, (self.init.channel,))

    def done(self) -> None:
        """Let go of what was only there to undo it all."""
        self.init.close()
        if self.net_devices:
            self.net_devices.close()
        assert self.entry
        self.entry.close()

    def undone(self, error: BaseException) -> BaseException:
        """Undo everything after `error`; returns what to raise: the same, with its place in config.json."""
        hint = ""
        try:
            hint = "; ".join(f"and then: {warning}" for warning in self.undo())
        except Error as second:
            hint = f"and then: {second}; `ocirt delete --force {self.id}` tries again"
        if isinstance(error, Error):
            if hint:
                error.hint = f"{error.hint}; {hint}" if error.hint else hint
            return self.placed(error)
        return error

    def undo(self) -> list[str]:
        """Remove every trace, in the reverse order; no signal may cut that short but where a hook runs. Returns
        warnings."""
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            return self._undo()
        finally:
            pthread_sigmask(SIG_SETMASK, before)
            self.init.restore_mask()

    def _undo(self) -> list[str]:
        if self.agent:
            self.agent.close()
        try:
            if self.net_devices:
                self.net_devices.back()
        finally:
            warnings = self._undo_rest()
        return warnings

    def _undo_rest(self) -> list[str]:
        if self.net_devices:
            self.net_devices.close()
        if self._maps:
            self._maps.close()
        self.init.kill()
        self.handing.undo()
        if self.entry:
            try:
                self.cgroups.remove()
                if self.resctrl:
                    from ocirt.host.resctrl import remove

                    remove(self.resctrl.makes, self.id)
                try:
                    return self.after_removal()
                finally:
                    self.entry.remove()
            finally:
                self.entry.close()
        return []


def _after_start(steps: Sequence[Step]) -> list[list[int | str]]:
    """What `start` needs to explain a failure: the steps from the one on that lets init report to it."""
    first = len(steps) - 1
    while steps[first].op != OP_CHANNEL:
        first -= 1
    return [[at, steps[at].pointer, steps[at].doing, steps[at].call] for at in range(first, len(steps))]
