"""What the benchmarks share: bundles, the time of one command, runtimes in turn, the ratios of their medians."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PEERS = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}


def tmpfs() -> str:
    """A folder on a tmpfs, as runtimes have /run by default; there are hosts on which /run is none."""
    mounted = {line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    for folder in ("/run", "/dev/shm"):
        if mounted.get(folder) == "tmpfs":
            return folder
    raise SystemExit("bench: neither /run nor /dev/shm is a tmpfs")


def spawn(argv: Sequence[str], environment: dict[str, str] | None = None) -> int:
    """Start a command that reads and writes nothing; its pid."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        return os.posix_spawn(argv[0], argv, environment or {}, file_actions=actions)
    finally:
        os.close(null)


class Measured:
    """Wall time in ms of one command. `expect`: its exit code; None: any."""

    def __init__(
        self, argv: Sequence[str], *, expect: int | None = 0, environment: dict[str, str] | None = None
    ) -> None:
        start = time.perf_counter()
        pid = spawn(argv, environment)
        _, status = os.waitpid(pid, 0)
        self.ms = (time.perf_counter() - start) * 1e3
        self.code = os.waitstatus_to_exitcode(status)
        if expect is not None and self.code != expect:
            raise SystemExit(f"{' '.join(argv)}: exit code {self.code}, expected {expect}")


class Runtimes:
    """The executables, each with a state root of its own, and the environments of those that need one."""

    def __init__(
        self, paths: dict[str, str], work: Path, environments: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.paths = paths
        self.roots = {name: str(work / f"state-{name}") for name in paths}
        self.environments = environments or {}

    def argv(self, name: str, *args: str) -> list[str]:
        return [self.paths[name], "--root", self.roots[name], *args]

    def call(self, name: str, *args: str, expect: int | None = 0) -> Measured:
        return Measured(self.argv(name, *args), expect=expect, environment=self.environments.get(name))

    def status(self, name: str, container: str) -> str:
        done = subprocess.run(
            self.argv(name, "state", container),
            env=self.environments.get(name, {}),
            capture_output=True,
            text=True,
            check=True,
        )
        return str(json.loads(done.stdout)["status"])

    def wait_until_stopped(self, name: str, container: str) -> None:
        while self.status(name, container) != "stopped":
            time.sleep(0.005)


def shuffled(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, name): each name once a round, in another order each time."""
    for index in range(rounds):
        order = list(names)
        random.shuffle(order)
        for name in order:
            yield index, name


def make_bundle(folder: Path, args: list[str], **linux: Any) -> Path:
    """runc's default bundle, without a terminal, with a root file system of busybox; `linux` replaces properties."""
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
    config["linux"].update(linux)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    return folder


def table(title: str, results: dict[str, list[float]], unit: str = "ms") -> None:
    """Medians; a ratio is the median of the rounds' ratios, ours divided by theirs."""
    ours = results["ocirt"]
    cells = []
    for name, values in results.items():
        cell = f"{name} {statistics.median(values):.1f} {unit}"
        if name != "ocirt":
            ratio = statistics.median(a / b for a, b in zip(ours, values, strict=True))
            cell += f" (ratio {ratio:.2f})"
        cells.append(cell)
    print(f"{title:34} {'   '.join(cells)}", flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--ocirt", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    return parser


def installed(ocirt: str) -> dict[str, str]:
    """Name → executable, ours first; exits if there is nobody to compare with."""
    paths = {"ocirt": os.path.realpath(ocirt)}
    paths |= {name: path for name, path in PEERS.items() if os.access(path, os.X_OK)}
    if len(paths) == 1:
        sys.exit("bench: neither crun nor runc is installed")
    return paths
