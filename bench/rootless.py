"""Benchmarks of an ordinary user: ocirt, crun and runc in turn, in one run, and the ratios of their medians.

usage: tests/isolate python bench/rootless.py --ocirt PATH [--rounds N] [--pause SECONDS]

Root makes the user, who is gone with tests/isolate, and becomes them once: what measures is this script without root.
Each round runs every runtime once, in a random order; "at rest" and "back to back" as in bench.py. "one id": a user
namespace with the user's own id alone, so without newuidmap; "a range": with it and newgidmap. A ratio is the median of
the rounds' ratios. Machines are noisy: read ratios, not milliseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Measured, Runtimes, arguments, installed, make_bundle, shuffled, table
from rootless_case import PATH, Person, base
from rootless_table import made_by_root, of_this_user


class InPath(Runtimes):
    """With a PATH: runc looks for newuidmap in it."""

    def call(self, name: str, *args: str, expect: int | None = 0) -> Measured:
        return Measured(self.argv(name, *args), expect=expect, environment={"PATH": PATH})


class Bench:
    def __init__(self, runtimes: Runtimes, work: Path, person: Person, rounds: int) -> None:
        self.runtimes = runtimes
        self.work = work
        self.rounds = rounds
        self.person = person

    def bundle(self, name: str, args: list[str], *, ranges: bool = False) -> Path:
        """The usual bundle, with what runc's `spec --rootless` changes: a user namespace, and nothing of a cgroup."""
        folder = make_bundle(self.work / name, args)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        linux = config["linux"]
        maps = base(self.person)["linux"]
        for kind in ("uidMappings", "gidMappings"):
            linux[kind] = maps[kind]
            if ranges:
                more = {"containerID": 1, "hostID": self.person.first, "size": self.person.size}
                linux[kind] = [*linux[kind], more]
        linux["namespaces"].append({"type": "user"})
        del linux["resources"]
        config["mounts"] = [one for one in config["mounts"] if one["type"] != "cgroup"]
        for mount in config["mounts"]:
            mount["options"] = [option for option in mount.get("options") or () if ranges or option != "gid=5"]
        (folder / "config.json").write_text(json.dumps(config, indent=4))
        return folder

    def run(self, pause: float, kind: str, bundle: Path) -> None:
        times: dict[str, list[float]] = {name: [] for name in self.runtimes.paths}
        for index, name in shuffled(times, self.rounds):
            time.sleep(pause)
            times[name].append(self.runtimes.call(name, "run", "--bundle", str(bundle), f"{name}-{index}").ms)
        table(f"run true, {kind}, {'at rest' if pause else 'back to back'}", times)

    def verbs(self, bundle: Path) -> None:
        steps = ("create", "start", "state", "exec", "kill", "delete")
        times: dict[str, dict[str, list[float]]] = {step: {name: [] for name in self.runtimes.paths} for step in steps}
        for index, name in shuffled(self.runtimes.paths, max(self.rounds // 2, 10)):
            container = f"{name}-verbs-{index}"
            more = {"create": ["--bundle", str(bundle)]}
            behind = {"exec": ["/bin/true"], "kill": ["KILL"]}
            for step in steps:
                if step == "delete":
                    self.runtimes.wait_until_stopped(name, container)
                argv = [step, *more.get(step, []), container, *behind.get(step, [])]
                times[step][name].append(self.runtimes.call(name, *argv).ms)
        for step, results in times.items():
            table(step, results)


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--pause", type=float, default=0.1)
    options = parser.parse_args()
    if os.getuid() == 0:
        person, ocirt = made_by_root(str(Path(options.ocirt).resolve()))
        here = Path(__file__).resolve().parents[1]
        checkout = person.folder.parent / "checkout"  # which may lie in a folder of root's alone
        checkout.mkdir()
        subprocess.run(["mount", "--bind", here, checkout], check=True)
        python = str(Path(ocirt).with_name("python"))  # of the environment that ocirt is installed in
        again = [python, str(checkout / "bench" / "rootless.py"), "--ocirt", ocirt]
        again += ["--rounds", str(options.rounds), "--pause", str(options.pause)]
        environment = {"PATH": PATH, "TMPDIR": str(person.folder)}
        done = subprocess.run([*person.become, *again], env=environment, cwd="/", check=False)
        sys.exit(done.returncode)
    paths = installed(options.ocirt)
    person = of_this_user()
    print(f"uid {os.getuid()}; {options.rounds} rounds; medians; a ratio is ours divided by theirs")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bench = Bench(InPath(paths, work), work, person, options.rounds)
        one = bench.bundle("one", ["/bin/true"])
        bench.run(options.pause, "one id", one)
        bench.run(0, "one id", one)
        if person.size:
            ranges = bench.bundle("ranges", ["/bin/true"], ranges=True)
            bench.run(options.pause, "a range", ranges)
            bench.run(0, "a range", ranges)
        bench.verbs(bench.bundle("sleep", ["/bin/sleep", "1000"]))


if __name__ == "__main__":
    main()
