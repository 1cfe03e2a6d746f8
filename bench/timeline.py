"""Where the time of one `ocirt run` goes: host and init side by side, by the kernel's own times (tracing.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svg import Drawing
from tracing import Call, Trace, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMES = 60
WIDTH, LEFT, RIGHT, TALL, THIN = 980, 64, 16, 26, 10
WAITING = {"recvmsg", "recvfrom", "wait4", "rt_sigtimedwait", "read"}
FEW = 25
"""ms: up to here the scale has a line for each."""
LONG = 0.05
"""ms: a call of these that takes longer has waited for the other side."""
TINTS = ("#8ec6d6", "#bfe0e8", "#f0c987", "#f7e1b5", "#d99a9d", "#eccacb", "#a8c8a0", "#d3e4ce")


@dataclass
class Phase:
    name: str
    start: float
    end: float


def draw(argv: Sequence[str], mount: Path) -> str:
    """The quickest of some runs, as SVG."""
    trace = record(argv, mount, TIMES)
    container = next(pid for pid, _, _ in trace.executed if pid not in (trace.first, _spawned(trace)))
    host, init = _host(trace), _init(trace, container)
    drawing = Drawing(WIDTH)
    scale = (WIDTH - LEFT - RIGHT) / trace.end
    drawing.words(12, 24, f"One ocirt run of true, back to back: {trace.end:.1f} ms", size=15)
    for tick in range(0, int(trace.end) + 1, 1 if trace.end < FEW else 5):
        x = LEFT + tick * scale
        drawing.line(x, 44, x, 44 + 2 * (TALL + THIN) + 46, "#ddd")
        drawing.words(x, 40, f"{tick}", size=10, anchor="middle", color="#555")
    drawing.words(LEFT - 8, 40, "ms", size=10, anchor="end", color="#555")
    y = 52
    lanes = (("host", host, [trace.first]), ("init", init, [_spawned(trace), container]))
    number = 1
    for name, phases, pids in lanes:
        drawing.words(LEFT - 8, y + 17, name, anchor="end")
        for index, phase in enumerate(phases):
            x, width = LEFT + phase.start * scale, (phase.end - phase.start) * scale
            drawing.box(x, y, width, TALL, TINTS[index % len(TINTS)], f"{phase.name}: {phase.end - phase.start:.2f} ms")
            if width > 16:
                drawing.words(x + width / 2, y + 17, f"{number + index}", anchor="middle")
        for pid in pids:
            _calls(drawing, trace.of(pid), y + TALL + 1, scale)
        number += len(phases)
        y += TALL + THIN + 22
    drawing.box(LEFT, y - 5, 10, 8, "#444")
    drawing.words(LEFT + 15, y + 3, "in the kernel, by a call", size=11)
    drawing.box(LEFT + 190, y - 5, 10, 8, "#e6e6e6")
    drawing.words(LEFT + 205, y + 3, "waiting for the other side; else its own code, and pages that come in", size=11)
    return drawing.document(_table(drawing, trace, (host, init), (lanes[0][2], lanes[1][2]), y + 30))


def _calls(drawing: Drawing, calls: list[Call], y: float, scale: float) -> None:
    for call in calls:
        end = call.end if call.end is not None else call.start
        waits = call.name in WAITING and end - call.start > LONG
        drawing.box(LEFT + call.start * scale, y, (end - call.start) * scale, THIN, "#e6e6e6" if waits else "#444")


def _table(
    drawing: Drawing, trace: Trace, lanes: tuple[list[Phase], ...], pids: tuple[list[int], ...], top: float
) -> float:
    """The phases by their numbers: how long, how many calls, how many pages came in."""
    number, lowest = 1, top
    for index, phases in enumerate(lanes):
        x, y = 12 + index * WIDTH / 2, top
        for right, title in ((330, "ms"), (380, "calls"), (440, "faults")):
            drawing.words(x + right, y, title, size=11, anchor="end", color="#555")
        for at, phase in enumerate(phases):
            y += 18
            calls = sum(phase.start <= call.start < phase.end for pid in pids[index] for call in trace.of(pid))
            faults = sum(phase.start <= when < phase.end for pid in pids[index] for when in trace.faults.get(pid, ()))
            drawing.box(x, y - 10, 11, 11, TINTS[at % len(TINTS)])
            drawing.words(x + 16, y, f"{number}  {phase.name}")
            for right, text in ((330, f"{phase.end - phase.start:.2f}"), (380, f"{calls}"), (440, f"{faults}")):
                drawing.words(x + right, y, text, anchor="end")
            number += 1
        lowest = max(lowest, y)
    return lowest + 16


def _spawned(trace: Trace) -> int:
    """The process that becomes ocirt-init and clones itself into the container."""
    return next(pid for pid, _, file in trace.executed if file.startswith("/proc/self/fd/"))


def _first(calls: list[Call], name: str, after: float = 0) -> Call:
    return next(call for call in calls if call.name == name and call.start >= after)


def _host(trace: Trace) -> list[Phase]:
    calls = trace.of(trace.first)
    main, python = _first(calls, "rt_sigprocmask").start, _first(calls, "gettid").start
    made = _first(calls, "socketpair").start
    # Between the last of the facts and the socket to init nothing is called, but for memory.
    known = [call for call in calls if call.start < made and call.name not in ("brk", "mmap", "munmap")][-1]
    spawned = _first(calls, "recvmsg").start
    ready = _first(calls, "sendto", spawned)
    last = [call for call in calls if call.name == "sendto"][-1].start
    ended = _first(calls, "rt_sigtimedwait", ready.start)
    return _phases(
        ("load libc and the picture", main),
        ("grace period's helper, known pages", python),
        ("arguments, config.json, what the host can", known.end or known.start),
        ("compile, verify, encode", made),
        ("state, init's file", spawned),
        ("cgroups, devices, passwd", last),
        ("the program starts and runs", ended.end or ended.start),
        ("remove cgroups and state, end", trace.end),
    )


def _init(trace: Trace, container: int) -> list[Phase]:
    parent, calls = trace.of(_spawned(trace)), trace.of(container)
    clone = [call for call in parent if call.name == "clone3"][-1].start
    execve = _first(calls, "execve")
    pivot = _first(calls, "pivot_root").start
    return _phases(
        ("start init", clone),
        ("clone into namespaces", calls[0].start),
        ("mounts", _first(calls, "mknodat").start),
        ("devices, masked and readonly paths", pivot),
        ("change of root", _first(calls, "prctl", pivot).start),
        ("rights, look up the program", execve.start),
        ("execve, the program", trace.exits[container]),
        start=trace.executed[1][1],
    )


def _phases(*ends: tuple[str, float], start: float = 0) -> list[Phase]:
    phases = []
    for name, end in ends:
        phases.append(Phase(name, start, max(start, end)))
        start = max(start, end)
    return phases
