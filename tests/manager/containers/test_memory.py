"""What monitors cost: many at once, measured as the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from by_hand import Workshop, monitor_pid

from ocirt.manager.containers import lifecycle

pytestmark = pytest.mark.root
COUNT = 20
MOST = 4096
"""Kilobytes for each, private to it (proc(5), smaps_rollup)."""


def memory(pid: int, *names: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return sum(found[name] for name in names)


def test_many_monitors_are_small(workshop: Workshop) -> None:
    warm = workshop.sh("true")  # the first one may have to compile the modules
    lifecycle.start(workshop.site, warm)
    lifecycle.wait(workshop.site, warm)
    health = {"test": ["CMD", "/bin/true"], "interval": 3_600_000_000_000}
    records = [workshop.sh("head -c 1000000 /dev/zero; exec sleep 1000", health=health) for _ in range(COUNT)]
    for record in records:
        lifecycle.start(workshop.site, record)
    pids = [monitor_pid(workshop.state(record).pid) for record in records]
    private = [memory(pid, "Private_Dirty", "Private_Clean") for pid in pids]
    shares = [memory(pid, "Pss") for pid in pids]
    print(f"private: {sum(private) / COUNT:.0f} kB each, Pss {sum(shares) / COUNT:.0f} kB each")
    assert sum(private) / COUNT < MOST
