"""Benchmarks: ocirt, crun and runc in turn, in one run, and the ratios of their medians.

usage: tests/isolate python bench/bench.py --ocirt PATH [--rounds N] [--pause SECONDS] [--only ROW]… [--json FILE]
       [--draw FOLDER] [--seccomp]

--json writes all values (default: dist/bench.json), --draw a chart and the timeline of one start as SVG.
--seccomp compares ocirt with itself: `run` with the seccomp profile that podman writes, its filter in the cache, and
without, in turn; the median of the rounds' differences.

Each round runs every runtime once, in a random order. Two figures for `run`: "at rest", with a pause before each
start, as when a container is started on a host that is not starting others; and "back to back". They differ on cgroup
v1, where the first process that is moved waits for an RCU grace period unless another was moved some 10 ms before.
A ratio is the median of the rounds' ratios. Machines are noisy: read ratios, not milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chart
import figures
import floor
import library
import sandbox as sandboxes
import timeline
from measuring import Measured, Runtimes, arguments, make_bundle, shuffled, tmpfs
from peers import Peers

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIGS = Path(__file__).resolve().parents[1] / "tests" / "configs"
PROFILE = CONFIGS / "podman-00.json"
"""Recorded from podman, with the profile of Debian's golang-github-containers-common."""
DOCKER = CONFIGS / "docker-00.json"
"""Recorded from dockerd, `docker run` without options."""
MIB = 1 << 20
MANY = 1000

# A process's peak RSS counts from its parent's at the fork, so the parent has to be small: an interpreter
# without site. What is smaller than that (8 MiB) shows as that.
PEAK = (
    "import posix, sys; quiet = [(posix.POSIX_SPAWN_OPEN, 2, '/dev/null', 1, 0)]; "
    "p = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ, file_actions=quiet); "
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


def docker_bundle(folder: Path) -> Path:
    """Docker's default configuration, with limits on memory, processes and time as `docker run` can set them,
    and without its network's hook; its three files are there."""
    make_bundle(folder, ["/bin/true"])
    config: dict[str, Any] = json.loads(DOCKER.read_text())
    config["root"]["path"] = "rootfs"
    del config["hooks"]
    config["process"]["args"] = ["/bin/true"]
    for mount in config["mounts"]:
        if mount["type"] == "bind":
            file = folder / Path(mount["destination"]).name
            file.touch()
            mount["source"] = str(file)
    config["linux"]["cgroupsPath"] = "/docker/bench"
    config["linux"]["resources"]["memory"]["limit"] = 256 * MIB
    config["linux"]["resources"]["pids"] = {"limit": 512}
    config["linux"]["resources"]["cpu"]["shares"] = 512
    del config["linux"]["resources"]["blockIO"]
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    return folder


class Bench:
    """Fills the rows of the table."""

    def __init__(self, runtimes: Runtimes, work: Path, state: Path, rounds: int, pause: float) -> None:
        self.runtimes = runtimes
        self.work = work
        self.state = state
        self.rounds = rounds
        self.pause = pause
        self.rows = figures.rows()
        self.true = make_bundle(work / "true", ["/bin/true"])
        self.sleep = make_bundle(work / "sleep", ["/bin/sleep", "1000"])

    def nothing(self) -> dict[str, list[float]]:
        """No result yet, of each runtime."""
        return {name: [] for name in self.runtimes.paths}

    def done(self, key: str, values: dict[str, list[float]]) -> None:
        self.rows[key].values = values
        print(figures.line(self.rows[key]), flush=True)

    def run(self) -> None:
        self._run("run", self.true, floor=True)

    def rest(self) -> None:
        self._run("rest", self.true, pause=self.pause)

    def docker(self) -> None:
        bundle = docker_bundle(self.work / "docker")
        for name in self.runtimes.paths:
            self.runtimes.call(name, "run", "--bundle", str(bundle), f"{name}-warm")
        self._run("docker", bundle)

    def _run(self, key: str, bundle: Path, *, pause: float = 0, floor: bool = False) -> None:
        times = self.nothing()
        program = self._floor() if floor else None
        if program:
            times["floor"] = []
        for index, name in shuffled(times, self.rounds):
            time.sleep(pause)
            if name == "floor":
                times[name].append(Measured([str(program)]).ms)
            else:
                times[name].append(self.runtimes.call(name, "run", "--bundle", str(bundle), f"{name}-{key}-{index}").ms)
        self.done(key, times)

    def _floor(self) -> Path | None:
        if Path("/sys/fs/cgroup/cgroup.controllers").exists():
            print("the floor program is for cgroup v1: not measured")
            return None
        return floor.build(self.true, self.work)

    def life(self) -> None:
        """Five processes, and `exec` between them, which is not counted as one of them."""
        steps = ("create", "start", "state", "exec", "kill", "delete")
        times = {step: self.nothing() for step in (*steps, "life")}
        for index, name in shuffled(self.runtimes.paths, max(self.rounds // 2, 10)):
            container = f"{name}-{index}"
            commands: dict[str, Sequence[str]] = {
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
            times["life"][name].append(sum(times[step][name][-1] for step in steps if step != "exec"))
        for key in ("life", *steps):
            self.done(key, times[key])

    def library(self) -> None:
        """In this process: its ocirt is the installed one, whatever --ocirt says."""
        self.done("library", library.lives(self.runtimes, self.true, self.state / "library", self.rounds))

    def many(self) -> None:
        self.done("many", library.many(self.runtimes, self.true, self.state / "library", MANY, {"crun"}))

    def pool(self) -> None:
        found = sandboxes.measure(self.work / "pool", self.runtimes.paths["crun"], self.rounds)
        self.done("pool", {"ocirt": found["pool.run"], "crun": found["crun run"]})

    def peak(self) -> None:
        memory = self.nothing()
        for index in range(5):
            for name in memory:
                argv = self.runtimes.argv(name, "run", "--bundle", str(self.true), f"{name}-peak-{index}")
                done = subprocess.run(
                    ["/usr/bin/python3", "-IS", "-c", PEAK, *argv],
                    env=self.runtimes.environments.get(name, {}),
                    capture_output=True,
                    text=True,
                    check=True,
                )
                memory[name].append(int(done.stderr))
        self.done("peak", memory)

    def waiting(self) -> None:
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
        self.done("waiting", charged)

    def draw(self, folder: Path, versions: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        circumstances = f"medians of {self.rounds} rounds, load {os.getloadavg()[0]:.0f}"
        (folder / "bench.svg").write_text(chart.draw(self.rows, versions, circumstances))
        argv = self.runtimes.argv("ocirt", "run", "--bundle", str(self.true), "timeline-@")
        mount = self.work / "tracefs"
        mount.mkdir()
        (folder / "timeline.svg").write_text(timeline.draw(argv, mount))


PARTS = ("run", "rest", "docker", "life", "library", "many", "pool", "peak", "waiting")


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--json", type=Path, default=Path("dist/bench.json"))
    parser.add_argument("--draw", type=Path, help="write bench.svg and timeline.svg to this folder")
    parser.add_argument("--seccomp", action="store_true", help="only what a seccomp profile costs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=tmpfs(), prefix="b") as short:
        work, state = Path(folder), Path(short)
        peers = Peers(options.ocirt, work)
        if options.seccomp:
            seccomp_cost(peers.paths["ocirt"], work, options.rounds, options.pause)
            return
        print(f"{options.rounds} rounds, load {os.getloadavg()[0]:.1f}; medians (ratio: ours divided by theirs)")
        print(", ".join(f"{name} {version}" for name, version in peers.versions.items()))
        runtimes = Runtimes(peers.paths, state, {"ocirt": {"OCIRT_CACHE": str(work / "cache")}})
        bench = Bench(runtimes, work, state, options.rounds, options.pause)
        for part in options.only or PARTS:
            getattr(bench, part)()
        figures.write(options.json, bench.rows, peers.versions, options.rounds)
        if options.draw:
            bench.draw(options.draw, peers.versions)


if __name__ == "__main__":
    main()
