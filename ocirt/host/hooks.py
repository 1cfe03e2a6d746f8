"""Run hooks (config.md, "POSIX-platform Hooks"): their processes, stdin, time, output and how they end.

Imported only where a configuration has hooks. Each hook is started by ocirt-init with a plan of its own (plan.enter).
"""

from __future__ import annotations

import posix
import select
from _signal import SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, pthread_sigmask
from time import monotonic

from ocirt.config.hooks import CONTAINER, KINDS
from ocirt.config.names import NAMESPACES
from ocirt.config.read import Config
from ocirt.errors import Error, HookError, from_os_error
from ocirt.host.enter import Container, facts_to_enter
from ocirt.host.image import init_image
from ocirt.host.launch import ENDING, Init
from ocirt.host.listener import make_words
from ocirt.host.oom import Lent, set_oom_score
from ocirt.plan.encode import encode
from ocirt.plan.enter import CALLER, PROGRAM, ROOT, compile_hook, inherited_to_enter
from ocirt.plan.tags import SYNC_ATTACHED
from ocirt.plan.verify_enter import verify_enter
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from ocirt.cgroups.manager import Cgroups
    from ocirt.plan.facts import Facts
    from ocirt.plan.step import Slot

    class Agent(Protocol):
        """runtime.agent's, as far as a hook needs it."""

        def serve(self, known: dict[str, Any], channels: Sequence[int], *, pid: int, status: str) -> None: ...
        def close(self) -> None: ...


RIGHTS = {"createContainer": ROOT, "startContainer": PROGRAM}
STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}
STDOUT, STDERR = "run.oci.hooks.stdout", "run.oci.hooks.stderr"
"""Annotations that name files for the hooks' output: crun's."""
KEPT = 2048
"""Bytes of a hook's output that are kept: its end."""
SHOWN = 600
"""Characters of it that an error shows."""
LEFT_BEHIND = 1 << 20
"""Bytes that are still read when the hook has ended: what it started may go on writing for ever."""
CHUNK = 65536
POLL_MS = 3_600_000
"""poll(2) takes an int: a longer timeout is waited for in parts."""


class Hooks:
    """The hooks of one container.

    known: its state (state.store); cgroups: what its processes are in; call_agent: connects to the agent that answers
    SCMP_ACT_NOTIFY for one hook, whose words (host.listener) it is given.
    """

    def __init__(
        self, spec: dict[str, Any], known: dict[str, Any], cgroups: Cgroups, call_agent: Callable[[int], Agent]
    ) -> None:
        self.call_agent = call_agent
        self.spec = spec
        self.known = known
        self.cgroups = cgroups
        self.config = Config(spec, "", known["bundle"])

    def run(self, kind: str, *, status: str = "") -> None:
        """All of a kind, in order. Raises HookError for the first that fails: the others are not run."""
        facts = self._facts(kind)
        for index in range(len(self.spec["hooks"].get(kind) or ())):
            self._run(kind, index, facts, status)

    def run_all(self, kind: str) -> list[str]:
        """All of a kind, whatever the others do. Returns what failed, as warnings."""
        warnings = []
        facts = self._facts(kind)
        for index in range(len(self.spec["hooks"].get(kind) or ())):
            try:
                self._run(kind, index, facts, "")
            except Error as error:
                warnings.append(str(error))
        return warnings

    def _facts(self, kind: str) -> Facts:
        return facts_to_enter(self.config, self.known["id"], as_program=RIGHTS.get(kind) == PROGRAM)

    def _run(self, kind: str, index: int, facts: Facts, status: str) -> None:
        hook = self.spec["hooks"][kind][index]
        container = None
        try:
            if KINDS[kind][1] == CONTAINER:
                container = Container(self.known["pid"], self.known["pidStart"], self.cgroups)
            plan = compile_hook(
                self.config,
                facts,
                container.entrance if container else None,
                rights=RIGHTS.get(kind, CALLER),
                kind=kind,
                index=index,
                folder=self.known["rootfs" if container else "bundle"],
            )
            verify_enter(plan, RIGHTS.get(kind, CALLER))
            with Outputs(self.known["annotations"], self.known["bundle"]) as outputs:
                running = Running(Init(plan, encode(plan)), container, outputs, self.spec["process"], facts)
                try:
                    if container and facts.seccomp and facts.seccomp.listens:
                        words = container.descriptors["words"] = make_words()
                        running.agent = self.call_agent(words)
                    running.start(self._state(kind, status or STATUS[kind], container))
                    # A hook may take for ever: the signals that ask us to end may do so, even while all is undone.
                    before = pthread_sigmask(SIG_UNBLOCK, ENDING)
                    try:
                        running.release(self.known)
                        running.attend(hook.get("timeout"))
                    finally:
                        pthread_sigmask(SIG_SETMASK, before)
                finally:
                    running.end()
        except OSError as error:
            raise _failed(kind, index, hook, str(from_os_error(error, "start it"))) from None
        except Failed as failed:
            raise _failed(kind, index, hook, str(failed)) from None
        except Error as error:
            if error.code == "plan" or (error.pointer or "").startswith("/annotations/"):
                raise
            raise _failed(kind, index, hook, error.message, error) from None
        finally:
            if container:
                container.close()

    def _state(self, kind: str, status: str, container: Container | None) -> bytes:
        """What a hook finds on its stdin (runtime.md, "State"): one line. After the end there is no pid."""
        known = self.known
        state: dict[str, Any] = {"ociVersion": known["ociVersion"], "id": known["id"], "status": status}
        if kind != "poststop":
            state["pid"] = container.own_pid if container else known["pid"]
        state["bundle"] = known["bundle"]
        if known["annotations"]:
            state["annotations"] = known["annotations"]
        return dumps(state).encode() + b"\n"


class Failed(Exception):
    """How a hook ended, in words."""


def _failed(kind: str, index: int, hook: dict[str, Any], how: str, error: Error | None = None) -> HookError:
    return HookError(
        f"the {kind} hook {hook['path']} failed: {how}",
        pointer=f"/hooks/{kind}/{index}",
        hint=error.hint if error else "",
        errno=error.errno if error else 0,
        call=error.call if error else "",
    )


class Outputs:
    """Where a hook's stdout and stderr go: into a pipe, whose end we keep, or to the files that the annotations
    run.oci.hooks.stdout and run.oci.hooks.stderr name, as crun has it."""

    def __init__(self, annotations: Mapping[str, str], bundle: str) -> None:
        self.reader, writer = posix.pipe2(posix.O_CLOEXEC)
        posix.set_blocking(self.reader, False)
        self.kept = b""
        self.writers = [writer]
        try:
            self.stdout = self._open(annotations, STDOUT, bundle)
            self.stderr = self._open(annotations, STDERR, bundle)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, annotations: Mapping[str, str], name: str, bundle: str) -> int:
        path = annotations.get(name)
        if not path:
            return self.writers[0]
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOCTTY
        flags |= posix.O_NONBLOCK  # to open a FIFO that nobody reads would take for ever
        try:
            fd = posix.open(path if path.startswith("/") else f"{bundle}/{path}", flags, 0o600)
        except OSError as error:
            raise from_os_error(error, f"open {path}", pointer=f"/annotations/{name}") from None
        self.writers.append(fd)
        posix.set_blocking(fd, True)
        return fd

    def close_writers(self) -> None:
        """The hook has them now: when nobody else has, reading ends."""
        while self.writers:
            posix.close(self.writers.pop())

    def read(self) -> int:
        """What is there; returns how much, 0 at the end or if there is nothing."""
        try:
            content = posix.read(self.reader, CHUNK)
        except BlockingIOError:
            return 0
        self.kept = (self.kept + content)[-KEPT:]
        return len(content)

    def said(self) -> str:
        """The end of the output for an error: its last lines, as one."""
        lines = [line.strip() for line in self.kept.decode("utf-8", "replace").splitlines()]
        text = "; ".join(line for line in lines if line)
        if not text:
            return ""
        return f', its output ends: "{text if len(text) <= SHOWN else "…" + text[-SHOWN:]}"'

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_writers()
        posix.close(self.reader)


class Running:
    """One hook's process, from its start to its end. process: the configuration's, for what the host sets of it."""

    def __init__(
        self, init: Init, container: Container | None, outputs: Outputs, process: dict[str, Any], facts: Facts
    ) -> None:
        self.facts = facts
        self.agent: Agent | None = None
        self.init = init
        self.process = process
        self.container = container
        self.outputs = outputs
        self.stdin = -1
        self.pidfd = -1
        self.state = memoryview(b"")

    def start(self, state: bytes) -> None:
        """Up to the point where it is in its namespaces' order, in its cgroups, and waits for our word."""
        reader, self.stdin = posix.pipe2(posix.O_CLOEXEC)
        try:
            posix.set_blocking(self.stdin, False)
            self.state = memoryview(state)
            score = self.process.get("oomScoreAdj") if self.container and self.facts.unprivileged else None
            with Lent(score):
                self.init.spawn(
                    init_image(),
                    inherited_to_enter(self.container.entrance if self.container else None, self.facts),
                    self.container.descriptors if self.container else {},
                    (reader, self.outputs.stdout, self.outputs.stderr),
                )
        finally:
            posix.close(reader)
            self.outputs.close_writers()
        self.init.follow(self, until=SYNC_ATTACHED)

    # What init tells us (host.launch.Host).

    def started(self, pid: int) -> None:
        self.pidfd = posix.pidfd_open(pid, 0)
        if not self.container:
            return
        if not self.container.entrance.into_cgroup:
            self.container.cgroups.attach(pid)
        score, limits = self.process.get("oomScoreAdj"), self.process.get("rlimits")
        if score is not None and not self.facts.unprivileged:
            set_oom_score(pid, score)
        if limits and self.container.entrance.namespaces & NAMESPACES["user"]:
            from ocirt.host.limits import raise_limits

            raise_limits(pid, limits)

    def received(self, tag: int, fd: int) -> None:
        posix.close(fd)  # its plan sends none

    def meet(self, tag: int) -> Mapping[Slot, bytes]:
        return {}  # its plan has one meeting only

    def release(self, known: dict[str, Any]) -> None:
        """Let it run. Raises Error if the agent cannot be told of its filter."""
        self.init.answer({})
        if self.agent:
            self.agent.serve(known, (self.init.channel,), pid=self.init.pid, status=STATUS["startContainer"])

    def attend(self, timeout: int | None) -> None:
        """Feed it, read it, and wait for its end. Raises Failed, or Error if it could not be executed."""
        until = None if timeout is None else monotonic() + timeout
        control = self.init.channel
        poller = select.poll()
        poller.register(control, select.POLLIN)
        poller.register(self.pidfd, select.POLLIN)
        poller.register(self.stdin, select.POLLOUT)
        poller.register(self.outputs.reader, select.POLLIN)
        ended = False
        while not ended:
            left = POLL_MS if until is None else max(0, int((until - monotonic()) * 1000) + 1)
            for fd, _ in poller.poll(min(left, POLL_MS)):
                if fd == control:
                    poller.unregister(fd)
                    self.init.wait_for_program()
                    control = -1
                elif fd == self.stdin:
                    if not self._feed():
                        poller.unregister(fd)
                        self._close_stdin()
                elif fd == self.pidfd:
                    ended = True
                elif not self.outputs.read():
                    poller.unregister(fd)
            if not ended and until is not None and monotonic() >= until:
                raise Failed(f"it has not ended after {timeout} s, and was killed{self.outputs.said()}")
        if control >= 0:
            self.init.wait_for_program()
        self._judge()

    def _feed(self) -> bool:
        """Is there more to write? A hook need not read its stdin: EPIPE is no error."""
        try:
            self.state = self.state[posix.write(self.stdin, self.state[:CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.state)

    def _close_stdin(self) -> None:
        if self.stdin >= 0:
            posix.close(self.stdin)
            self.stdin = -1

    def _judge(self) -> None:
        count = 0
        while count < LEFT_BEHIND and (got := self.outputs.read()):
            count += got
        result = posix.waitid(posix.P_PID, self.init.pid, posix.WEXITED | posix.WNOWAIT)
        assert result
        if result.si_code == posix.CLD_EXITED and result.si_status == 0:
            posix.waitpid(self.init.pid, 0)
            self.init.pid = 0
            return
        how = "exit status" if result.si_code == posix.CLD_EXITED else "killed by signal"
        raise Failed(f"{how} {result.si_status}{self.outputs.said()}")

    def end(self) -> None:
        """After a failure, a timeout or a signal to us: the hook's whole process group ends. A zombie still holds the
        number of its group."""
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            if self.init.pid:
                try:
                    posix.kill(-self.init.pid, 9)
                except ProcessLookupError:
                    pass  # it had not come so far as to lead one
            self.init.kill()
            if self.agent:
                self.agent.close()
            self._close_stdin()
            if self.pidfd >= 0:
                posix.close(self.pidfd)
                self.pidfd = -1
            self.init.restore_mask()
        finally:
            pthread_sigmask(SIG_SETMASK, before)
