"""What a sandbox costs: ocirt.sandbox beside crun, in turn, in one run.

usage: tests/isolate python bench/sandbox.py [--rounds N] [--crun PATH] [--json FILE]

ocirt is this Python's. The program is true, in a root file system of busybox. Rows: `crun run` of the default bundle;
`sandbox.run`, which makes and removes a sandbox; `pool.run`, from a pool that is full.

Medians; a ratio is the median of the rounds' ratios, ours divided by crun's. Machines are noisy: read ratios, not
milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import PEERS, Measured, make_bundle, shuffled

from ocirt import sandbox

PROGRAM = ["/bin/true"]


def timed(call: Callable[[], sandbox.Result]) -> float:
    """Milliseconds. A run that fails ends the benchmark."""
    start = time.perf_counter()
    result = call()
    elapsed = (time.perf_counter() - start) * 1e3
    if result.returncode != 0:
        raise SystemExit(f"true ended with {result.returncode}: {result.stderr!r}")
    return elapsed


def measure(work: Path, crun: str, rounds: int) -> dict[str, list[float]]:
    """Row → milliseconds of each round."""
    bundle = make_bundle(work / "bundle", PROGRAM)
    rootfs = bundle / "rootfs"
    argv = [crun, "--root", str(work / "state"), "run", "--bundle", str(bundle), "bench"]
    found: dict[str, list[float]] = {"crun run": [], "sandbox.run": [], "pool.run": []}
    with sandbox.Pool(4, PROGRAM, rootfs=rootfs) as pool:

        def from_pool() -> float:
            pool.wait()
            return timed(pool.run)

        calls = {
            "crun run": lambda: Measured(argv).ms,
            "sandbox.run": lambda: timed(lambda: sandbox.run(PROGRAM, rootfs=rootfs)),
            "pool.run": from_pool,
        }
        for call in calls.values():
            call()  # what happens once
        for _, name in shuffled(calls, rounds):
            pool.wait()  # nobody is disturbed by what is made in the background
            found[name].append(calls[name]())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--crun", default=PEERS["crun"])
    parser.add_argument("--json", help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocirt-bench-") as work:
        found = measure(Path(work), options.crun, options.rounds)
    theirs = found["crun run"]
    document = {}
    for name, values in found.items():
        ratio = statistics.median(ours / other for ours, other in zip(values, theirs, strict=True))
        document[name] = {"ms": statistics.median(values), "ratio": ratio}
        print(f"{name:16} {document[name]['ms']:8.1f} ms   {ratio:.2f} x crun run")
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
