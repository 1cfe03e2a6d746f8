"""ocim beside dockerd, podman and skopeo with umoci: pull, push, run, exec, ps, logs, and the memory of it.

usage: tests/isolate python bench/manager.py --ocim PATH [--rounds N] [--only ROW …] [--image NAME …]

All stand on one disk and talk to one registry on loopback (Debian's docker-registry); docker runs runc, podman what it
finds first. Each round asks everybody once, in a random order, of an empty store where it is a pull; a ratio is the
median of the rounds' ratios, ours divided by theirs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from manager_images import SHAPES, make
from manager_memory import largest, private_of_monitors
from manager_peers import Docker, Ocim, Peer, Podman, Skopeo, registry
from measuring import shuffled

PORTS = count(5060)
WITH = 200  # containers
LOG_LINES = 1_000_000
LINE = "0123456789" * 10  # with its end 101 bytes: 101 MB


def row(title: str, times: dict[str, list[float]], limits: dict[str, float]) -> None:
    """Medians, ratios, and what was asked for."""
    cells = []
    for name, values in times.items():
        cell = f"{name} {statistics.median(values):.0f} ms"
        if name != "ocim":
            ratio = statistics.median(a / b for a, b in zip(times["ocim"], values, strict=True))
            cell += f" (ratio {ratio:.2f}" + (f", asked {limits[name]})" if name in limits else ")")
        cells.append(cell)
    print(f"{title:22} {'   '.join(cells)}", flush=True)


class Bench:
    """The peers, the images in a registry, and a row for each thing that is measured."""

    def __init__(self, work: Path, ocim: str, rounds: int, images: list[str]) -> None:
        self.work = work
        self.rounds = rounds
        self.images = images
        self.ocim = Ocim(work / "ocim", ocim)
        self.podman = Podman(work / "podman")
        self.skopeo = Skopeo(work / "skopeo")
        self.docker = Docker(work / "docker")

    def pulls(self, address: str) -> None:
        for name in self.images:
            image = f"{address}/bench:{name}"
            everybody: dict[str, Peer] = {one.name: one for one in (self.ocim, self.docker, self.podman, self.skopeo)}
            times: dict[str, list[float]] = {one: [] for one in everybody}
            for _, one in shuffled(everybody, self.rounds):
                times[one].append(everybody[one].pull(image))
                everybody[one].forget(image)
            row(f"pull {name}", times, {"docker": 0.6, "podman": 0.4, "skopeo+umoci": 0.4})

    def pushes(self, address: str) -> None:
        """Each into an empty registry: what is there already is not sent."""
        two = {one.name: one for one in (self.ocim, self.docker)}
        for name in self.images:
            image = f"{address}/bench:{name}"
            times: dict[str, list[float]] = {one: [] for one in two}
            for peer in two.values():
                peer.pull(image)
            for _, one in shuffled(two, self.rounds):
                with registry(self.work / "empty", next(PORTS)) as target:
                    times[one].append(two[one].push(image, f"{target}/pushed:{name}"))
            for peer in two.values():
                peer.forget(image)
            row(f"push {name}", times, {"docker": 0.5})

    def containers(self, address: str) -> None:
        """run, exec, ps."""
        image = f"{address}/bench:box"
        three = {one.name: one for one in (self.ocim, self.docker, self.podman)}
        for peer in three.values():
            peer.pull(image)
            peer.output("run", "-d", "--name", "one", *peer.network, image, "sleep", "100000")
        for title, argv, limits in (
            ("run --rm true", ("run", "--rm", "--network", "none", image, "true"), {"docker": 0.3, "podman": 0.3}),
            ("exec true", ("exec", "one", "true"), {"docker": 0.6}),
        ):
            times: dict[str, list[float]] = {one: [] for one in three}
            for index, one in shuffled(three, self.rounds * 5 + 1):
                ms = three[one].call(*argv)
                if index:  # the first of all fills caches
                    times[one].append(ms)
            row(title, times, limits)
        for peer in three.values():
            peer.output("rm", "--force", "one")

    def many(self, address: str) -> None:
        """`ps` with many containers and with none, and the memory of their monitors."""
        image = f"{address}/bench:box"
        if image not in self.ocim.output("images", "--format", "{{.Repository}}:{{.Tag}}"):
            self.ocim.pull(image)
        none = [self.ocim.call("ps") for _ in range(self.rounds * 5)]
        for index in range(WITH):
            self.ocim.output("run", "-d", "--name", f"many{index}", "--network", "none", image, "sleep", "100000")
        with_many = [self.ocim.call("ps") for _ in range(self.rounds * 5)]
        more = statistics.median(with_many) - statistics.median(none)
        print(f"{f'ps with {WITH}':22} ocim {more:.0f} ms more than with none (asked 100)")
        names = [f"many{index}" for index in range(WITH)]
        firsts = self.ocim.output("inspect", "--format", "{{.State.Pid}}", *names).split()
        kib, monitors = private_of_monitors([int(pid) for pid in firsts])
        print(f"{'a monitor':22} {kib / monitors:.0f} KiB of private memory, {monitors} together (asked 4096)")
        for index in range(WITH):
            self.ocim.output("rm", "--force", f"many{index}")

    def logs(self, address: str) -> None:
        """From the start of a container that writes a hundred megabytes to its end, all of it in the log."""
        image = f"{address}/bench:box"
        two = {one.name: one for one in (self.ocim, self.docker)}
        times: dict[str, list[float]] = {one: [] for one in two}
        command = ("sh", "-c", f"yes {LINE} | head -n {LOG_LINES}")
        for peer in two.values():
            peer.pull(image)
        for _, one in shuffled(two, self.rounds):
            peer = two[one]
            began = time.perf_counter()
            name = f"log{next(PORTS)}"
            large = ("--log-opt", "max-size=1g")
            peer.output("run", "-d", "--name", name, *peer.network, *large, image, *command)
            peer.output("wait", name)
            times[one].append((time.perf_counter() - began) * 1e3)
            read = subprocess.Popen([*peer.client, "logs", name], env=peer.environment, stdout=subprocess.PIPE)
            assert read.stdout is not None
            size = sum(len(piece) for piece in iter(lambda out=read.stdout: out.read(1 << 20), b""))
            if read.wait() or size != LOG_LINES * (len(LINE) + 1):
                raise SystemExit(f"bench: {one} lost some of the log: {size} bytes")
            peer.output("rm", name)
        row("100 MB into the log", times, {"docker": 1.0})

    def memory(self, address: str) -> None:
        """Of all processes of a pull together, at the worst moment."""
        for name in self.images:
            image = f"{address}/bench:{name}"
            peaks = []
            for _ in range(min(self.rounds, 3)):
                peaks.append(largest([*self.ocim.client, "pull", "--quiet", image], self.ocim.environment))
                self.ocim.forget(image)
            print(
                f"{f'peak of a pull, {name}':22} {statistics.median(peaks) / 1024:.0f} MiB (asked 100 MB)", flush=True
            )

    def end(self) -> None:
        for left in self.ocim.output("ps", "--quiet").split():
            self.ocim.output("rm", "--force", left)
        for peer in (self.ocim, self.docker, self.podman):
            peer.end()


ROWS = ("pulls", "pushes", "containers", "many", "logs", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ocim", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=ROWS, action="append")
    parser.add_argument(
        "--image", choices=tuple(SHAPES), action="append", help="pull and push this one; may be repeated"
    )
    options = parser.parse_args()
    images = options.image or list(SHAPES)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))  # what runs is ended all the same
    if os.environ.get("OCIRT_ISOLATED") != "1":
        sys.exit("bench: run it under tests/isolate, as `make bench-manager` does")
    work = Path(tempfile.mkdtemp(prefix="ocim-bench-", dir="/var/tmp"))
    bench = Bench(work, os.path.realpath(options.ocim), options.rounds, images)
    try:
        layout = make(work / "layout", {name: SHAPES[name] for name in images})
        with registry(work / "registry", next(PORTS)) as address:
            for name in (*images, "box"):
                copy = ["/usr/bin/skopeo", "--insecure-policy", "copy", "--quiet", "--format", "v2s2"]
                source, target = f"oci:{layout.folder}:{name}", f"docker://{address}/bench:{name}"
                subprocess.run([*copy, "--dest-tls-verify=false", source, target], check=True)
            print(f"{options.rounds} rounds; medians; a ratio is ours divided by theirs")
            for each in options.only or ROWS:
                getattr(bench, each)(address)
    finally:
        bench.end()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
