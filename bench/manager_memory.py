"""The memory of processes: of a command with all that it starts, and of monitors that stand side by side."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

EVERY = 0.01  # seconds between two looks


def _children(pid: int) -> list[int]:
    """All processes that it has started, and theirs (proc(5), children)."""
    found = [pid]
    for one in found:
        try:
            for thread in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{thread}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _rollup(pid: int, *names: str) -> int:
    """KiB of these fields of smaps_rollup together; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names)


def largest(argv: list[str], environment: dict[str, str]) -> int:
    """KiB: the most that a command and its children held together, what they share counted once (Pss). Not wait4's
    maxrss, in which the memory of the process that forked is counted too."""
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
    together = 0
    while True:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            break
        together = max(together, sum(_rollup(one, "Pss") for one in _children(process.pid)))
        time.sleep(EVERY)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: {' '.join(argv)}: exit code {process.returncode}")
    return together


def private_of_monitors(pids: list[int]) -> tuple[int, int]:
    """(KiB of private memory, how many): the parents of these processes, the first of containers."""
    monitors = set()
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        monitors.add(int(status.partition("PPid:")[2].split()[0]))
    if len(monitors) != len(pids):
        raise SystemExit(f"bench: {len(pids)} containers have {len(monitors)} parents")
    return sum(_rollup(one, "Private_Clean", "Private_Dirty") for one in monitors), len(monitors)
