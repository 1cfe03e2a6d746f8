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

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[1] / "tests" / "configs" / "podman-00.json"
"""Recorded from podman, with the profile of Debian's golang-github-containers-common."""
PEERS = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}


# A process's peak RSS counts from its parent's at the fork, so the parent has to be small: an interpreter
# without site. What is smaller than that (8 MiB) shows as that.
PEAK = (
    "import posix, sys; p = posix.posix_spawn(sys.argv[1], sys.argv[1:], {}); "
    "posix.write(2, str(posix.wait4(p, 0)[2].ru_maxrss).encode())"
)


class Measured:
    """Wall time in ms of one command."""

    def __init__(self, argv: list[str], *, expect: int = 0, environment: dict[str, str] | None = None) -> None:
        null = os.open("/dev/null", os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        start = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, environment or {}, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        self.ms = (time.perf_counter() - start) * 1e3
        os.close(null)
        code = os.waitstatus_to_exitcode(status)
        if code != expect:
            raise SystemExit(f"{' '.join(argv)}: exit code {code}, expected {expect}")


def make_bundle(folder: Path, args: list[str]) -> Path:
    """runc's default bundle, without a terminal, with a root file system of busybox."""
    binary = folder / "rootfs" / "bin"
    binary.mkdir(parents=True)
    shutil.copy("/bin/busybox", binary / "busybox")
    for applet in ("true", "sleep"):
        (binary / applet).symlink_to("busybox")
    (folder / "rootfs" / "etc").mkdir()
    (folder / "rootfs" / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    subprocess.run([PEERS["runc"], "spec"], cwd=folder, check=True)
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(terminal=False, args=args)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    return folder


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
    def __init__(self, runtimes: dict[str, str], work: Path, rounds: int) -> None:
        self.runtimes = runtimes
        self.rounds = rounds
        self.true = make_bundle(work / "true", ["/bin/true"])
        self.sleep = make_bundle(work / "sleep", ["/bin/sleep", "1000"])
        self.roots = {name: str(work / f"state-{name}") for name in runtimes}

    def call(self, name: str, *args: str) -> Measured:
        return Measured([self.runtimes[name], "--root", self.roots[name], *args])

    def table(self, title: str, results: dict[str, list[float]], unit: str = "ms") -> None:
        ours = results["ocirt"]
        cells = []
        for name, values in results.items():
            cell = f"{name} {statistics.median(values):.1f} {unit}"
            if name != "ocirt":
                ratio = statistics.median(a / b for a, b in zip(ours, values, strict=True))
                cell += f" (ratio {ratio:.2f})"
            cells.append(cell)
        print(f"{title:34} {'   '.join(cells)}")

    def run(self, pause: float) -> None:
        times: dict[str, list[float]] = {name: [] for name in self.runtimes}
        for index in range(self.rounds):
            names = list(self.runtimes)
            random.shuffle(names)
            for name in names:
                time.sleep(pause)
                done = self.call(name, "run", "--bundle", str(self.true), f"{name}-{index}")
                times[name].append(done.ms)
        self.table(f"run true, {'at rest' if pause else 'back to back'}", times)

    def peak(self) -> None:
        memory: dict[str, list[float]] = {name: [] for name in self.runtimes}
        for index in range(5):
            for name, path in self.runtimes.items():
                argv = [path, "--root", self.roots[name], "run", "--bundle", str(self.true), f"{name}-peak-{index}"]
                done = subprocess.run(
                    ["/usr/bin/python3", "-IS", "-c", PEAK, *argv], env={}, capture_output=True, text=True, check=True
                )
                memory[name].append(int(done.stderr))
        self.table("run true, peak RSS", memory, "KiB")

    def verbs(self) -> None:
        steps = ("create", "start", "state", "kill", "delete")
        times: dict[str, dict[str, list[float]]] = {step: {name: [] for name in self.runtimes} for step in steps}
        for index in range(max(self.rounds // 2, 10)):
            names = list(self.runtimes)
            random.shuffle(names)
            for name in names:
                container = f"{name}-{index}"
                commands = {
                    "create": ("create", "--bundle", str(self.sleep), container),
                    "start": ("start", container),
                    "state": ("state", container),
                    "kill": ("kill", container, "KILL"),
                    "delete": ("delete", container),
                }
                for step, args in commands.items():
                    if step == "delete":
                        self.wait_until_stopped(name, container)
                    times[step][name].append(self.call(name, *args).ms)
        for step in steps:
            self.table(step, times[step])

    def statistics(self) -> None:
        """`events --stats`, which crun has not, of a container that does nothing."""
        names = [name for name in self.runtimes if name != "crun"]
        times: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            self.call(name, "run", "--detach", "--bundle", str(self.sleep), f"{name}-stats")
        for _ in range(self.rounds):
            random.shuffle(names)
            for name in names:
                times[name].append(self.call(name, "events", "--stats", f"{name}-stats").ms)
        for name in names:
            self.call(name, "delete", "--force", f"{name}-stats")
        self.table("events --stats", times)

    def wait_until_stopped(self, name: str, container: str) -> None:
        while True:
            argv = [self.runtimes[name], "--root", self.roots[name], "state", container]
            done = subprocess.run(argv, env={}, capture_output=True, text=True, check=True)
            if json.loads(done.stdout)["status"] == "stopped":
                return
            time.sleep(0.005)

    def memory_of_created(self) -> None:
        """What is charged to a container that waits for `start`, once all that can be freed is (v1: force_empty)."""
        charged: dict[str, list[float]] = {name: [] for name in self.runtimes}
        for index in range(5):
            for name in self.runtimes:
                container = f"{name}-memory-{index}"
                self.call(name, "create", "--bundle", str(self.sleep), container)
                cgroup = next(iter(Path("/sys/fs/cgroup/memory").rglob(container)), None)
                if cgroup is None:
                    print("memory of a created container: no v1 memory controller here, not measured")
                    self.call(name, "delete", "--force", container)
                    return
                (cgroup / "memory.force_empty").write_text("0")
                charged[name].append(int((cgroup / "memory.usage_in_bytes").read_text()) / 1024)
                self.call(name, "delete", "--force", container)
        self.table("created and waiting, drained", charged, "KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ocirt", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--seccomp", action="store_true", help="only what a seccomp profile costs")
    options = parser.parse_args()
    runtimes = {"ocirt": os.path.realpath(options.ocirt)}
    runtimes |= {name: path for name, path in PEERS.items() if os.access(path, os.X_OK)}
    if len(runtimes) == 1:
        sys.exit("bench: neither crun nor runc is installed")
    if options.seccomp:
        with tempfile.TemporaryDirectory() as folder:
            seccomp_cost(runtimes["ocirt"], Path(folder), options.rounds, options.pause)
        return
    print(f"{options.rounds} rounds; medians; a ratio is ours divided by theirs")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(runtimes, Path(work), options.rounds)
        bench.run(options.pause)
        bench.run(0)
        bench.verbs()
        bench.statistics()
        bench.peak()
        bench.memory_of_created()


if __name__ == "__main__":
    main()
