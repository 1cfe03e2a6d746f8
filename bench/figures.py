"""What was measured, compared with what is asked for: printed, and as JSON."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass
class Row:
    """One line of the table. `most`: peer → the ratio that is asked for at most; `at_most`: of ours, in `unit`."""

    title: str
    most: dict[str, float] = field(default_factory=dict)
    unit: str = "ms"
    at_most: float | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def ratio(self, name: str) -> float:
        """Ours divided by theirs: the median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.values["ocirt"], self.values[name], strict=True))

    def misses(self) -> list[str]:
        """What is asked for and not reached."""
        wrong = [name for name, most in self.most.items() if name in self.values and self.ratio(name) > most]
        if self.at_most is not None and "ocirt" in self.values and self.median("ocirt") > self.at_most:
            wrong.append(f"{self.at_most:g} {self.unit}")
        return wrong


def rows() -> dict[str, Row]:
    """The figures that issue 7 asks for, and those that only inform."""
    return {
        "run": Row("run true, back to back", {"crun": 0.9, "runc": 0.35, "floor": 3}),
        "rest": Row("run true, at rest"),
        "docker": Row("the same, Docker's config, warm", {"crun": 0.9}),
        "life": Row("create start state kill delete", {"crun": 1.2, "runc": 0.6}),
        "create": Row("    create"),
        "start": Row("    start"),
        "state": Row("state", {"crun": 1.6, "runc": 1.1}),
        "kill": Row("    kill"),
        "delete": Row("    delete"),
        "exec": Row("exec true", {"crun": 1.2, "runc": 0.35}),
        "peak": Row("run true, peak RSS", {"runc": 0.9}, unit="KiB"),
        "library": Row("library: create start wait delete", {"crun": 0.45}),
        # At least 1.5 times crun's rate.
        "many": Row("library: 1,000, 32 at a time, each", {"crun": round(1 / 1.5, 3)}),
        "pool": Row("sandbox.run from a warm pool", {"crun": 0.3}),
        "waiting": Row("waiting for start, drained", unit="KiB", at_most=256),
    }


def line(row: Row) -> str:
    """One line: medians, ratios, what was asked."""
    cells = []
    for name in row.values:
        cell = f"{name} {row.median(name):.{0 if row.unit == 'KiB' else 1}f}"
        if name != "ocirt":
            most = f" of {row.most[name]:g}" if name in row.most else ""
            cell += f" ({row.ratio(name):.2f}{most})"
        cells.append(cell)
    missed = row.misses()
    return f"{row.title:34} {row.unit:4} {'  '.join(cells)}" + (f"  MISSED: {', '.join(missed)}" if missed else "")


def write(path: Path, measured: Mapping[str, Row], versions: Mapping[str, str], rounds: int) -> None:
    """All that was measured, the rounds' values in their order, as JSON."""
    system = os.uname()
    content: dict[str, Any] = {
        "kernel": system.release,
        "machine": system.machine,
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rounds": rounds,
        "versions": dict(versions),
        "rows": {
            key: {
                "title": row.title.strip(),
                "unit": row.unit,
                "median": {name: round(row.median(name), 3) for name in row.values},
                "ratio": {name: round(row.ratio(name), 3) for name in row.values if name != "ocirt"},
                "most": row.most,
                "at_most": row.at_most,
                "missed": row.misses(),
                "values": {name: [round(value, 3) for value in values] for name, values in row.values.items()},
            }
            for key, row in measured.items()
            if row.values
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
