"""exec: one more process in a container that is there.

It has what the container's own program has (rights, filter, limits, cgroups), but for what its process object says. The
container is not locked: health checks come by the hundred, and an exec may last as long as the container.
"""

from __future__ import annotations

import posix
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask

from ocirt.cgroups.manager import Cgroups
from ocirt.config.read import Config, parse
from ocirt.errors import ContainerError, Error, from_os_error
from ocirt.host.enter import Container, facts_to_enter
from ocirt.host.image import init_image
from ocirt.host.launch import ENDING, Init
from ocirt.host.passwd import home_of
from ocirt.plan.encode import encode
from ocirt.plan.enter import EXEC, inherited_to_enter
from ocirt.plan.enter_exec import compile_exec
from ocirt.plan.inherited import CONTROL
from ocirt.plan.kernel import CLONE_NEWUSER
from ocirt.plan.tags import FD_PASSWD, FD_TERMINAL, SYNC_READY
from ocirt.plan.verify_enter import verify_enter
from ocirt.runtime.copied import config_text
from ocirt.runtime.handing import Handing, check_open, window_of_ours
from ocirt.state.status import CREATING, PAUSED, RUNNING, STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ocirt.plan.step import Slot
    from ocirt.runtime.agent import Agent
    from ocirt.runtime.process import Request


def exec_process(
    root: str,
    container_id: str,
    request: Request,
    *,
    detach: bool = False,
    console_socket: str | None = None,
    pidfd_socket: str | None = None,
    pid_file: str | None = None,
    preserve_fds: int = 0,
    cgroups_below: Sequence[str] = (),
    ignore_paused: bool = False,
    committed: Callable[[], object] | None = None,
    warn: Callable[[Sequence[str]], object] | None = None,
) -> int:
    """The program's exit code, or 128 + the signal that ended it; 0 with `detach`. Raises Error, leaving nothing.

    cgroups_below: "CONTROLLERS:PATH" or "PATH", existing cgroups below the container's to run in.
    committed, warn: as `run` has them.
    """
    execution = execution_of(
        root,
        container_id,
        request,
        Handing(console_socket, pidfd_socket, pid_file),
        terminal_is_ours=not detach,
        preserve_fds=preserve_fds,
        cgroups_below=cgroups_below,
        ignore_paused=ignore_paused,
    )
    try:
        if warn:
            warn(execution.warnings)
        execution.launch(wait=not detach)
        if warn:
            warn(execution.join_warnings)
        if committed:
            committed()
    except BaseException as error:
        raise execution.undone(error) from None
    return 0 if detach else execution.wait()


def execution_of(
    root: str,
    container_id: str,
    request: Request,
    handing: Handing,
    *,
    terminal_is_ours: bool = False,
    preserve_fds: int = 0,
    cgroups_below: Sequence[str] = (),
    ignore_paused: bool = False,
) -> Execution:
    """A process that could be made. Raises Error."""
    store = Store(root)
    known = store.read(container_id)
    status = status_of(known, store.folder(container_id))
    if status in (STOPPED, CREATING):
        raise ContainerError(f'container not running: "{container_id}" is {status}')
    if status == PAUSED and not ignore_paused:
        raise ContainerError(
            f'"{container_id}" is paused: the process would stop before it began', hint="--ignore-paused waits"
        )
    text = config_text(store, container_id)
    config = Config(parse(text), text, known["bundle"], known.get("config") or "")
    try:
        return Execution(
            known,
            config,
            request,
            handing,
            terminal_is_ours=terminal_is_ours,
            preserve_fds=preserve_fds,
            cgroups_below=cgroups_below,
        )
    except Error as error:
        raise request.named(error, config) from None


class Execution:
    """A process being made in a container: `launch` makes it, `undo` ends it.

    stdio: which of our descriptors become its stdin, stdout and stderr.
    """

    stdio = (0, 1, 2)

    def __init__(
        self,
        known: dict[str, Any],
        config: Config,
        request: Request,
        handing: Handing,
        *,
        terminal_is_ours: bool,
        preserve_fds: int,
        cgroups_below: Sequence[str],
    ) -> None:
        self.known = known
        self.request = request
        self.containers = config
        self.config = config = request.applied_to(config)
        self.process: dict[str, Any] = config.spec["process"]
        self.handing = handing
        self.home: bytes | None = None
        self.agent: Agent | None = None
        self.container: Container | None = None
        self.join_warnings: list[str] = []
        handing.check(bool(self.process.get("terminal")), terminal_is_ours=terminal_is_ours)
        check_open(CONTROL, preserve_fds)
        cgroups = Cgroups.from_state(known["cgroups"])
        if cgroups_below:
            from ocirt.cgroups.below import below

            cgroups = below(cgroups, cgroups_below)
        window = window_of_ours() if terminal_is_ours and self.process.get("terminal") else None
        self.facts = facts_to_enter(config, known["id"], as_program=True, preserved=preserve_fds, window=window)
        try:
            self.container = Container(known["pid"], known["pidStart"], cgroups)
            if self.facts.seccomp and self.facts.seccomp.listens:
                self._find_agent()
            self.compiled = compile_exec(config, self.facts, self.container.entrance)
            verify_enter(self.compiled.plan, EXEC)
            self.init = Init(self.compiled.plan, encode(self.compiled.plan))
            handing.connect()
        except BaseException:
            self._close()
            raise

    @property
    def warnings(self) -> list[str]:
        return self.config.warnings + self.compiled.warnings

    def _find_agent(self) -> None:
        """A filter of its own asks the agent, by a connection of its own."""
        from ocirt.host.listener import make_words
        from ocirt.runtime.agent import Agent

        assert self.container
        words = self.container.descriptors["words"] = make_words()
        self.agent = Agent(self.config.spec["linux"]["seccomp"], words, connected=True)

    def launch(self, *, wait: bool) -> None:
        """Returns when the program has been executed. Raises Error."""
        assert self.container
        numbers = inherited_to_enter(self.container.entrance, self.facts)
        try:
            if self.facts.unprivileged and self.process.get("oomScoreAdj") is not None:
                from ocirt.host.oom import Lent

                with Lent(self.process["oomScoreAdj"]):
                    self.init.spawn(init_image(), numbers, self.container.descriptors, self.stdio)
            else:
                self.init.spawn(init_image(), numbers, self.container.descriptors, self.stdio)
        except OSError as error:
            error.filename = None  # a descriptor's
            raise from_os_error(error, "start the process's init") from None
        self.init.follow(self, until=SYNC_READY)
        self._close_container()
        self.handing.deliver(self.init.pid)
        if wait:
            from ocirt.host.foreground import block_signals

            block_signals()
        slots = {self.compiled.home: self.home or b"/"} if self.compiled.home else {}
        self.init.answer(slots)
        if self.agent:
            self.agent.serve(self.known, (self.init.channel,), pid=self.init.pid, status=RUNNING)
        self.init.wait_for_program()

    # What init tells us while we follow it (host.launch.Host).

    def started(self, pid: int) -> None:
        assert self.container
        if not self.container.entrance.into_cgroup:
            self.join_warnings = self.container.cgroups.join(pid)
        score, limits = self.process.get("oomScoreAdj"), self.process.get("rlimits")
        if score is not None and not self.facts.unprivileged:
            from ocirt.host.oom import set_oom_score

            set_oom_score(pid, score)
        if limits and self.container.entrance.namespaces & CLONE_NEWUSER:
            from ocirt.host.limits import raise_limits

            raise_limits(pid, limits)

    def received(self, tag: int, fd: int) -> None:
        if tag == FD_TERMINAL:
            self.handing.master = fd
        elif tag == FD_PASSWD:
            self.home = home_of(self.process["user"]["uid"], fd)

    def meet(self, tag: int) -> Mapping[Slot, bytes]:
        return {}  # SYNC_ATTACHED: its pid came first

    def wait(self) -> int:
        if self.handing.master >= 0:
            from ocirt.host.relay import relay

            status = relay(self.init.pid, self.handing.master)
        else:
            from ocirt.host.foreground import wait

            status = wait(self.init.pid)
        return posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)

    def undone(self, error: BaseException) -> BaseException:
        """Undo everything after `error`; returns what to raise: the same, with the place of what it is about."""
        self.undo()
        return self.request.named(error, self.containers) if isinstance(error, Error) else error

    def undo(self) -> None:
        """End the process, if there is one, and take back what was handed out."""
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            self.init.kill()
            self.handing.undo()
            self._close()
            self.init.restore_mask()
        finally:
            pthread_sigmask(SIG_SETMASK, before)

    def _close_container(self) -> None:
        if self.container:
            self.container.close()
            self.container = None

    def _close(self) -> None:
        self._close_container()
        if self.agent:
            self.agent.close()
        self.handing.close()
