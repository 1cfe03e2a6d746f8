"""What a sandbox has used, from its cgroups (cgroup-v1/memory.rst, cpuacct.rst, blkio-controller.rst; cgroup-v2.rst).

Not by cgroups.stats: that reads ten times as many files, and whoever has asked for a run waits for this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ocirt.cgroups.layout import read

Parse: TypeAlias = Callable[[str], dict[str, float]]
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def _number(name: str) -> Parse:
    return lambda text: {name: int(text)}


def _lines(**names: tuple[str, float]) -> Parse:
    """name → (the line's first word, what one is worth)."""

    def parse(text: str) -> dict[str, float]:
        words = text.split()
        return {
            name: int(words[words.index(word) + 1]) * worth for name, (word, worth) in names.items() if word in words
        }

    return parse


def _v1_io(text: str) -> dict[str, float]:
    """Lines of device, "Read" or "Write" and bytes; and totals."""
    rows = [line.split() for line in text.splitlines()]
    return {
        name: sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == kind)
        for name, kind in (("io_read", "Read"), ("io_written", "Write"))
    }


def _v2_io(text: str) -> dict[str, float]:
    """Lines of device and key=value pairs."""
    pairs = [word.partition("=") for word in text.split()]
    return {
        name: sum(int(value) for key, _, value in pairs if key == wanted)
        for name, wanted in (("io_read", "rbytes"), ("io_written", "wbytes"))
    }


_V1: tuple[tuple[str, str, Parse], ...] = (
    ("cpuacct", "cpuacct.stat", _lines(cpu_user=("user", _TICK), cpu_system=("system", _TICK))),
    ("memory", "memory.max_usage_in_bytes", _number("memory_peak")),
    ("memory", "memory.oom_control", _lines(oom_kills=("oom_kill", 1))),
    ("pids", "pids.peak", _number("pids_peak")),
    ("blkio", "blkio.throttle.io_service_bytes", _v1_io),
)
_V2: tuple[tuple[str, str, Parse], ...] = (
    ("", "cpu.stat", _lines(cpu_user=("user_usec", 1e-6), cpu_system=("system_usec", 1e-6))),
    ("", "memory.peak", _number("memory_peak")),
    ("", "memory.events", _lines(oom_kills=("oom_kill", 1))),
    ("", "pids.peak", _number("pids_peak")),
    ("", "io.stat", _v2_io),
)
"""Controller, file, and what is in it: fields of a Usage, and "oom_kills"."""


def counted(places: Sequence[tuple[str, tuple[str, ...], bool, str, str]]) -> dict[str, float]:
    """places: as Cgroups has them. Without what this kernel, or this hierarchy, does not count."""
    found: dict[str, float] = {}
    for _, controllers, is_v2, _, path in places:
        for controller, file, parse in _V2 if is_v2 else _V1:
            if controller and controller not in controllers:
                continue
            try:
                text = read(f"{path}/{file}")
            except OSError:
                continue
            found = {**parse(text), **found}  # v1's come first on a hybrid host
    return found
