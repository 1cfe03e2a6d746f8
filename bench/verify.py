"""What `verify` costs: the default bundle's plan proved over and over, in this process.

usage: python bench/verify.py [TIMES]

Prints the median and the quickest, in milliseconds, of the whole and of the part that compares with the configuration.
No test: asked are at most 0.8 ms, on a machine at rest.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from plan.cases import compile_case

from ocirt.plan.verify import verify
from ocirt.plan.verify_asked import prove_asked

WARM = 50


def measured(work: Callable[[], object], times: int) -> tuple[float, float]:
    """(median, minimum) in milliseconds."""
    taken = []
    for _ in range(WARM + times):
        start = perf_counter()
        work()
        taken.append((perf_counter() - start) * 1000)
    return statistics.median(taken[WARM:]), min(taken[WARM:])


def main(times: int) -> None:
    plan = compile_case("default").plan
    print(f"the default bundle's plan, {len(plan.steps)} steps, {times} times")
    for name, work in (("verify", lambda: verify(plan)), ("of it prove_asked", lambda: prove_asked(plan))):
        median, least = measured(work, times)
        print(f"{name}: median {median:.3f} ms, minimum {least:.3f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
