"""Benchmarks: ocirt, crun and runc in turn, in one run, and the ratios of their medians.

usage: tests/isolate python bench/bench.py --ocirt PATH [--rounds N] [--pause SECONDS] [--seccomp]

--seccomp compares ocirt with itself: `run` with the seccomp profile that podman writes, its filter in the cache, and
without, in turn; the median of the rounds' differences.

Each round runs every runtime once, in a random order. Two figures for `run`: "at rest", with a pause before each
start, as when a container is started on a host that is not starting others; and "back to back". They differ on cgroup
v1, where the first process that is moved waits for an RCU grace period unless another was moved some 10 ms before.
A ratio is the median of the rounds' ratios. Machines are noisy: read ratios, not milliseconds.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from measuring import Measured, Runtimes, arguments, installed, make_bundle, shuffled, table

PROFILE = Path(__file__).resolve().parents[1] / "tests" / "configs" / "podman-00.json"
"""Recorded from podman, with the profile of Debian's golang-github-containers-common."""


# A process's peak RSS counts from its parent's at the fork, so the parent has to be small: an interpreter
# without site. What is smaller than that (8 MiB) shows as that.
PEAK = (
    "import posix, sys; p = posix.posix_spawn(sys.argv[1], sys.argv[1:], {}); "
    "posix.write(2, str(posix.wait4(p, 0)[2].ru_maxrss).encode())"
)


def seccomp_cost(ocirt: str, work: Path, rounds: int, pause: float) -> None:
    """What a profile costs whose filter is in the cache: the larger config.json, the look-up, the load."""
    plain, filtered = (make_bundle(work / name, ["/bin/true"]) for name in ("plain", "filtered"))
    config = json.loads((filtered / "config.json").read_text())
    config["linux"]["seccomp"] = json.loads(PROFILE.read_text())["linux"]["seccomp"]
    (filtered / "config.json").write_text(json.dumps(config, indent=4))
    argv = [ocirt, "--root", str(work / "state"), "run", "--bundle"]
    environment = {"OCIRT_CACHE": str(work / "cache")}
    cold = Measured([*argv, str(filtered), "cold"], environment=environment).ms
    times: dict[Path, list[float]] = {plain: [], filtered: []}
    for index in range(rounds):
        for bundle in random.sample((plain, filtered), 2):
            time.sleep(pause)
            times[bundle].append(Measured([*argv, str(bundle), f"run-{index}"], environment=environment).ms)
    without, with_it = (statistics.median(values) for values in times.values())
    difference = statistics.median(b - a for a, b in zip(times[plain], times[filtered], strict=True))
    print(
        f"run true without a profile {without:.2f} ms, with podman's {with_it:.2f} ms, not in the cache {cold:.1f} ms"
    )
    print(f"median difference with the filter in the cache: {difference:+.2f} ms")


class Bench:
    def __init__(self, runtimes: Runtimes, work: Path, rounds: int) -> None:
        self.runtimes = runtimes
        self.rounds = rounds
        self.true = make_bundle(work / "true", ["/bin/true"])
        self.sleep = make_bundle(work / "sleep", ["/bin/sleep", "1000"])

    def nothing(self) -> dict[str, list[float]]:
        """No result yet, of each runtime."""
        return {name: [] for name in self.runtimes.paths}

    def run(self, pause: float) -> None:
        times = self.nothing()
        for index, name in shuffled(times, self.rounds):
            time.sleep(pause)
            times[name].append(self.runtimes.call(name, "run", "--bundle", str(self.true), f"{name}-{index}").ms)
        table(f"run true, {'at rest' if pause else 'back to back'}", times)

    def peak(self) -> None:
        memory = self.nothing()
        for index in range(5):
            for name in memory:
                argv = self.runtimes.argv(name, "run", "--bundle", str(self.true), f"{name}-peak-{index}")
                done = subprocess.run(
                    ["/usr/bin/python3", "-IS", "-c", PEAK, *argv], env={}, capture_output=True, text=True, check=True
                )
                memory[name].append(int(done.stderr))
        table("run true, peak RSS", memory, "KiB")

    def verbs(self) -> None:
        times = {step: self.nothing() for step in ("create", "start", "state", "exec", "kill", "delete")}
        for index, name in shuffled(self.runtimes.paths, max(self.rounds // 2, 10)):
            container = f"{name}-{index}"
            commands = {
                "create": ("create", "--bundle", str(self.sleep), container),
                "start": ("start", container),
                "state": ("state", container),
                "exec": ("exec", container, "/bin/true"),
                "kill": ("kill", container, "KILL"),
                "delete": ("delete", container),
            }
            for step, args in commands.items():
                if step == "delete":
                    self.runtimes.wait_until_stopped(name, container)
                times[step][name].append(self.runtimes.call(name, *args).ms)
        for step, results in times.items():
            table(step, results)

    def memory_of_created(self) -> None:
        """What is charged to a container that waits for `start`, once all that can be freed is (v1: force_empty)."""
        charged = self.nothing()
        for index in range(5):
            for name in charged:
                container = f"{name}-memory-{index}"
                self.runtimes.call(name, "create", "--bundle", str(self.sleep), container)
                cgroup = next(iter(Path("/sys/fs/cgroup/memory").rglob(container)), None)
                if cgroup is None:
                    print("memory of a created container: no v1 memory controller here, not measured")
                    self.runtimes.call(name, "delete", "--force", container)
                    return
                (cgroup / "memory.force_empty").write_text("0")
                charged[name].append(int((cgroup / "memory.usage_in_bytes").read_text()) / 1024)
                self.runtimes.call(name, "delete", "--force", container)
        table("created and waiting, drained", charged, "KiB")


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--seccomp", action="store_true", help="only what a seccomp profile costs")
    options = parser.parse_args()
    paths = installed(options.ocirt)
    if options.seccomp:
        with tempfile.TemporaryDirectory() as folder:
            seccomp_cost(paths["ocirt"], Path(folder), options.rounds, options.pause)
        return
    print(f"{options.rounds} rounds; medians; a ratio is ours divided by theirs")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bench = Bench(Runtimes(paths, work), work, options.rounds)
        bench.run(options.pause)
        bench.run(0)
        bench.verbs()
        bench.peak()
        bench.memory_of_created()


if __name__ == "__main__":
    main()
