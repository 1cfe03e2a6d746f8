"""Drive CRIU: find it, ask it for one thing at a time, and say what it complained about.

It is asked by its RPC (criu-rpc; `criu swrk`): one process for each request, a socket pair between us. The command line
could not do what a container needs: hand a terminal's master over, say who the restored process is before it runs, and
wait while its namespaces are set up.
"""

from __future__ import annotations

import os
import signal
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from fcntl import fcntl

from ocirt.errors import Error, UnsupportedError, from_os_error
from ocirt.host.criu_wire import FEATURE_CHECK, NOTIFY, RESTORE, VERSION, decode, encode
from ocirt.host.facts import permitted_capabilities
from ocirt.host.launch import ALL_SIGNALS, ENDING, F_DUPFD_CLOEXEC, HIGH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    Notified: TypeAlias = Callable[[str, int, int], object]

LOWEST = (4, 1)
"""The oldest version that is taken: what older ones do on today's kernels nobody tests."""
WANTED = "CRIU 4.1 or newer is needed; Linux 6.18 and newer want 4.2"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where it is looked for, and where it looks for iptables and tar, when the caller has no PATH: engines have none."""
CONTROL = 3
"""Its end of the socket; what it inherits for the container follows."""
MAX_MESSAGE = 1 << 16
HARMLESS = ("rlimit: Can't setup RLIMIT_NOFILE for self", "FAILED")
"""Errors in its log that say nothing: one it goes on after, and that all has failed now."""
SHOWN_ERRORS = 3
"""Of the errors in its log, the last so many are shown."""
LOG_LEVEL = 4
CAP_SYS_RESOURCE = 24


class Criu:
    """path: the executable; "": the one in PATH. Nothing is started yet."""

    def __init__(self, path: str = "") -> None:
        self.search = os.environ.get("PATH") or DEFAULT_PATH
        self.path = path or _find(self.search)

    def check(self) -> tuple[int, int]:
        """(major, minor) of its version. Raises UnsupportedError if it does not work here, or is too old."""
        try:
            answer = Request(self, {"type": VERSION}).finish()
        except Failed as failed:
            raise failed.error("tell its version", hint=WANTED) from None
        version = answer.get("version") or {}
        found = version.get("major_number", 0), version.get("minor_number", 0)
        if found < LOWEST:
            raise UnsupportedError(f"{self.path} is version {found[0]}.{found[1]}", hint=WANTED)
        return found

    def require(self, feature: str, purpose: str) -> None:
        """Raises UnsupportedError unless CRIU finds the feature ("mem_track", "lazy_pages") in this kernel."""
        try:
            answer = Request(self, {"type": FEATURE_CHECK, "features": {feature: True}}).finish()
        except Failed as failed:
            raise failed.error("tell its features") from None
        if not (answer.get("features") or {}).get(feature):
            raise UnsupportedError(f"{purpose}: this kernel cannot do it", hint=_FEATURES[feature])


_FEATURES = {
    "mem_track": "it has to track changed memory: CONFIG_MEM_SOFT_DIRTY",
    "lazy_pages": "it has to let processes handle page faults: CONFIG_USERFAULTFD",
}


def _find(search: str) -> str:
    for folder in search.split(":"):
        path = f"{folder or '.'}/criu"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise UnsupportedError("there is no criu in PATH", hint=f"{WANTED}: install it, or name it with --criu")


class Request:
    """One running `criu swrk`, with what it was asked for: `finish` it, or `end` it.

    inherited   descriptors that it gets as 4, 5 …
    sibling     what it restores becomes a child of ours, so it must share our session
    """

    def __init__(
        self, criu: Criu, message: Mapping[str, Any], *, inherited: Sequence[int] = (), sibling: bool = False
    ) -> None:
        self.criu = criu
        self.message = message
        self.socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        self._output = os.memfd_create("criu", os.MFD_CLOEXEC)
        try:
            self.pid = _spawn(criu, [theirs.fileno(), *inherited], self._output, sibling=sibling)
        except OSError as error:
            self.socket.close()
            os.close(self._output)
            raise from_os_error(error, f"start {criu.path}", hint=WANTED) from None
        finally:
            theirs.close()

    def finish(self, notified: Notified | None = None) -> dict[str, Any]:
        """Ask, and return its answer when it has ended.

        notified: is called with each notification's name, the pid in it (or 0) and the descriptor with it (or -1),
        which is its own; what it raises makes CRIU give up, and is raised. Raises Failed if CRIU fails.
        """
        try:
            self.socket.send(encode(self.message))
            while True:
                answer, fd = self._receive()
                if answer.get("type") != NOTIFY or not answer.get("success"):
                    break
                notice = answer.get("notify") or {}
                try:
                    if notified:
                        notified(notice.get("script", ""), notice.get("pid", 0), fd)
                    elif fd >= 0:
                        os.close(fd)
                except BaseException:
                    # It undoes what it has done by then, so it is not ended but told.
                    self.socket.send(encode({"type": NOTIFY, "notify_success": False}))
                    self._receive()
                    raise
                self.socket.send(encode({"type": NOTIFY, "notify_success": True}))
        except OSError:  # it has closed its end
            answer = {}
        except BaseException:
            self.end()
            raise
        status = self._wait()
        said = self._said()
        # An answer of success is the truth: how it ended afterwards is its own affair (of a pre-dump it is 1).
        if not answer.get("success"):
            raise Failed(self.criu, answer, status, said)
        return answer

    def _receive(self) -> tuple[dict[str, Any], int]:
        content, ancillary, _, _ = self.socket.recvmsg(MAX_MESSAGE, 64)
        fd = -1
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                fd = int.from_bytes(data[:4], "little")
                os.set_inheritable(fd, False)
        return decode(content) if content else {}, fd

    def _wait(self) -> int:
        """Its wait status. The end of the socket ends it as well."""
        self.socket.close()
        pid, self.pid = self.pid, 0
        return os.waitpid(pid, 0)[1] if pid else 0

    def _said(self) -> str:
        """What it wrote to its stderr: before it has a log that is all it says."""
        try:
            os.lseek(self._output, 0, os.SEEK_SET)
            return os.read(self._output, MAX_MESSAGE).decode("utf-8", "replace")
        finally:
            os.close(self._output)

    def end(self) -> None:
        """End it, whatever it does."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._wait()
            os.close(self._output)


class Failed(Exception):
    """CRIU could not do it: `error` makes a sentence of it, with what its log says."""

    def __init__(self, criu: Criu, answer: Mapping[str, Any], status: int, said: str) -> None:
        self.criu = criu
        self.answer = answer
        self.status = status
        self.said = said

    def error(self, doing: str, log: str = "", hint: str = "") -> Error:
        """doing: what CRIU was to do. log: the path of its log, if it may have come so far."""
        words = errors_in(_read(log)) if log else []
        if not words:
            log = ""
            words = [self.answer["cr_errmsg"].strip()] if self.answer.get("cr_errmsg") else last_words(self.said)
        if not words:
            words = [_ending(self.status)]
        number = self.answer.get("cr_errno") or 0
        where = f"see {log}" if log else ""
        if "tables" in "".join(words):
            hint = f"{hint}; --network-lock chooses another way".removeprefix("; ")
        if not permitted_capabilities() >> CAP_SYS_RESOURCE & 1 and "rlimit" in "".join(words):
            hint = f"{hint}; other users' processes need CAP_SYS_RESOURCE".removeprefix("; ")
        return Error(
            f"criu cannot {doing}: {'; '.join(words)}",
            hint="; ".join(part for part in (hint, where) if part),
            errno=number if number > 0 else 0,
        )


def errors_in(log: str) -> list[str]:
    """The last errors of a log of CRIU's, without their time and place in its source."""
    found = []
    for line in log.splitlines():
        _, mark, words = line.partition("Error (")
        if mark:
            words = words.partition("): ")[2].strip()
            if words and words not in found and not any(one in words for one in HARMLESS):
                found.append(words)
    return found[-SHOWN_ERRORS:]


def last_words(said: str) -> list[str]:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return errors_in(said) or lines[-1:]


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"it was ended by signal {os.WTERMSIG(status)}"
    return f"it ended with status {os.WEXITSTATUS(status)}, and said nothing"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _spawn(criu: Criu, descriptors: Sequence[int], output: int, *, sibling: bool) -> int:
    """`descriptors` become CONTROL and what follows."""
    above = max(HIGH, CONTROL + len(descriptors))
    moved: list[int] = []
    try:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        moved.append(null)
        actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, null, 0)]
        for number, fd in [(1, output), (2, output), *enumerate(descriptors, CONTROL)]:
            high = fcntl(fd, F_DUPFD_CLOEXEC, above)
            moved.append(high)
            actions.append((os.POSIX_SPAWN_DUP2, high, number))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            return os.posix_spawn(
                criu.path,
                [criu.path, "swrk", str(CONTROL)],
                {"PATH": criu.search},
                file_actions=actions,
                # A terminal's ^C is for us alone, where that may be. setsigmask: nothing of what we block.
                setsid=not sibling,
                setsigmask=(),
                setsigdef=ALL_SIGNALS,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        for fd in moved:
            os.close(fd)


def restored_pid(answer: Mapping[str, Any]) -> int:
    """Of the answer to RESTORE."""
    assert answer.get("type") == RESTORE
    return int((answer.get("restore") or {}).get("pid", 0))
