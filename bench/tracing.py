"""The system calls of one command and all its children with the kernel's own times, by its trace events (tracefs): some
0.5 µs each, where strace(1) stops a process twice a call, for 30 µs and more. Needs root."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENTS = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit", "exceptions/page_fault_user", "sched/sched_process_fork")
EVENTS += ("sched/sched_process_exec", "sched/sched_process_exit")
_LINE = re.compile(r"^.{16}-(\d+) +\[\d+\] \S+ +(\d+\.\d+): (\w+): (.*)$")


@dataclass
class Call:
    """A system call: when it began and ended, in ms since the command's execve; `end` is None if it never came back."""

    pid: int
    name: str
    start: float
    end: float | None
    value: int = 0


@dataclass
class Trace:
    calls: list[Call]
    parents: dict[int, int]
    """Process → who made it."""
    executed: list[tuple[int, float, str]]
    """(process, when, file), the command's own execve first, at 0."""
    exits: dict[int, float]
    faults: dict[int, list[float]]
    """Process → when it touched a page that was not mapped, or not for writing."""

    @property
    def first(self) -> int:
        """The command's process."""
        return self.executed[0][0]

    def of(self, pid: int) -> list[Call]:
        return [call for call in self.calls if call.pid == pid]

    @property
    def end(self) -> float:
        return self.exits[self.first]


def _names() -> dict[int, str]:
    """Numbers of system calls, as the C library's headers have them."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    header = Path("/usr/include") / multiarch / "asm" / "unistd_64.h"
    return {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}


@contextmanager
def _instance(folder: Path) -> Iterator[Path]:
    """A ring buffer of our own: others who trace are not disturbed."""
    subprocess.run(["mount", "-t", "tracefs", "tracefs", folder], check=True)
    own = folder / "instances" / f"ocirt-bench-{os.getpid()}"
    try:
        own.mkdir()
        try:
            (own / "trace_clock").write_text("mono")
            (own / "buffer_size_kb").write_text("4096")
            (own / "options" / "event-fork").write_text("1")
            yield own
        finally:
            (own / "tracing_on").write_text("0")
            own.rmdir()
    finally:
        subprocess.run(["umount", folder], check=True)


def record(argv: Sequence[str], folder: Path, times: int) -> Trace:
    """Trace a command some times and return the quickest; "@" in an argument becomes the number of the run. `folder`:
    to mount tracefs on."""
    with _instance(folder) as own:
        traces = [_parse(_run([word.replace("@", str(number)) for word in argv], own)) for number in range(times)]
    return min(traces, key=lambda trace: trace.end)


def _run(argv: Sequence[str], own: Path) -> str:
    go, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.read(go, 1)
        os.close(ready)
        os.execve(argv[0], argv, {})
    (own / "trace").write_text("")
    (own / "set_event_pid").write_text(str(pid))
    for event in EVENTS:
        (own / "events" / event / "enable").write_text("1")
    os.write(ready, b"g")
    _, status = os.waitpid(pid, 0)
    for event in EVENTS:
        (own / "events" / event / "enable").write_text("0")
    os.close(go)
    os.close(ready)
    if status:
        raise SystemExit(f"{' '.join(argv)}: status {status}")
    return (own / "trace").read_text()


def _parse(text: str) -> Trace:
    names = _names()
    trace = Trace([], {}, [], {}, {})
    open_calls: dict[int, Call] = {}
    zero = None
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        pid, seconds, event, rest = int(found[1]), float(found[2]), found[3], found[4]
        fields = dict(re.findall(r"(\w+)=(\S+)", rest))
        if event == "sched_process_exec" and zero is None:
            zero = seconds
        if zero is None:
            continue
        when = (seconds - zero) * 1e3
        if event == "sys_enter":
            call = open_calls[pid] = Call(pid, names.get(int(rest.split()[1]), "?"), when, None)
            trace.calls.append(call)
        elif event == "sys_exit" and pid in open_calls:
            call = open_calls.pop(pid)
            call.end, call.value = when, int(rest.split()[-1])
        elif event == "page_fault_user":
            trace.faults.setdefault(pid, []).append(when)
        elif event == "sched_process_fork":
            trace.parents[int(fields["child_pid"])] = pid
        elif event == "sched_process_exec":
            trace.executed.append((pid, when, fields["filename"]))
        elif event == "sched_process_exit":
            trace.exits[pid] = when
    if not trace.executed or trace.first not in trace.exits:
        raise SystemExit("bench: the trace is not whole")
    return trace
