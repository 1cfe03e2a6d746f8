"""Load and soak: thousands of containers in sequence and hundreds at a time, and nothing is left of them.

usage: tests/isolate python bench/soak.py --ocirt PATH [--sequence N] [--at-once N] [--rounds N] [--write FILE]

In sequence: half by the executable (`run`, and each tenth by create, start, exec, kill and delete), half by the
library, in this one process. At once: so many are made by the executable, all of them run, each has an exec and its
limits changed, then all are killed and deleted; that --rounds times. Before, after a tenth, and at the end all that
could be left is counted; what has grown is printed, and the exit status is 1. What the kernel itself keeps for a while
(dying cgroups, slabs) is printed and not judged. /run is an empty one, so all that is in it is ours.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from soak_counts import JUDGED, Counts, count

import ocirt

PR_SET_CHILD_SUBREAPER = 36
WORKERS = 16
ROOT = "/run/ocirt"


class Soak:
    """program: the executable. quick: a bundle of /bin/true; waiting: one whose program does not end."""

    def __init__(self, program: str, work: Path) -> None:
        self.program = program
        self.quick = make_bundle(program, work / "quick", ["/bin/true"])
        self.waiting = make_bundle(program, work / "waiting", ["/bin/sleep", "1000"])
        self.errors = 0

    def command(self, *words: str | Path) -> None:
        argv = [self.program, "--root", ROOT, *words]
        # A file, not a pipe: a container keeps its stderr, so a pipe's end-of-file would not come.
        with tempfile.TemporaryFile("w+") as errors:
            null = subprocess.DEVNULL
            done = subprocess.run(argv, env={}, stdin=null, stdout=null, stderr=errors, check=False, timeout=120)
            if done.returncode:
                self.errors += 1
                errors.seek(0)
                print(f"ocirt {' '.join(map(str, words))}: {done.returncode}: {errors.read()}", file=sys.stderr)

    def one(self, number: int) -> None:
        """A container's life, one way or another."""
        name = f"soak-{number}"
        if number % 2:
            with ocirt.Container.create(self.quick, root=ROOT, id=name) as container:
                container.start()
                self.errors += container.wait() != 0
        elif number % 10:
            self.command("run", "--bundle", self.quick, name)
        else:
            self.command("create", "--bundle", self.waiting, name)
            self.command("start", name)
            self.command("exec", name, "/bin/true")
            self.leave(name)

    def begin(self, name: str) -> None:
        self.command("run", "--detach", "--bundle", self.waiting, name)
        self.command("exec", name, "/bin/true")
        self.command("update", "--pids-limit", "50", name)

    def leave(self, name: str) -> None:
        """We are who adopts it, so we wait for it, as an engine's shim does."""
        pid = ocirt.Container.load(name, root=ROOT).pid
        self.command("kill", name, "KILL")
        os.waitpid(pid, 0)
        self.command("delete", name)

    def sequence(self, numbers: range) -> float:
        """Seconds."""
        began = time.monotonic()
        for number in numbers:
            self.one(number)
        return time.monotonic() - began

    def at_once(self, many: int) -> tuple[float, int]:
        """(seconds, how many there were at the same time)."""
        began = time.monotonic()
        names = [f"crowd-{number}" for number in range(many)]
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self.begin, names))
            there = sum(one["status"] == "running" for one in ocirt.Container.list(root=ROOT))
            list(pool.map(self.leave, names))
        return time.monotonic() - began, there


def make_bundle(program: str, folder: Path, args: list[str]) -> Path:
    """`ocirt spec`'s, with a seccomp filter and limits, which engines ask for; busybox is in it."""
    binary = folder / "rootfs" / "bin"
    binary.mkdir(parents=True)
    shutil.copy("/bin/busybox", binary / "busybox")
    for applet in ("true", "sleep"):
        (binary / applet).symlink_to("busybox")
    subprocess.run([program, "spec", "--bundle", folder], check=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=args)
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
    }
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}}
    path.write_text(json.dumps(config))
    return folder


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocirt", required=True, help="the executable")
    parser.add_argument("--sequence", type=int, default=10_000, metavar="N")
    parser.add_argument("--at-once", type=int, default=200, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often so many at once")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the report as Markdown, too")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if os.environ.get("OCIRT_ISOLATED") != "1":
        raise SystemExit("run it under tests/isolate: it covers /run and adopts processes")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options.ocirt, Path(folder))
        soak.sequence(range(20))  # what is made once: caches, threads' memory, cgroup parents
        soak.at_once(2)
        before = count(folder)
        tenth = options.sequence // 10
        seconds = soak.sequence(range(tenth))
        middle = count(folder)
        seconds += soak.sequence(range(tenth, options.sequence))
        in_sequence = count(folder)
        crowds = [soak.at_once(options.at_once) for _ in range(options.rounds)]
        after = count(folder)
    report = [
        f"{options.sequence} containers in sequence: {seconds:.0f} s, {1e3 * seconds / options.sequence:.1f} ms each",
        *(f"{many} of {options.at_once} at a time, with exec, update and kill: {took:.1f} s" for took, many in crowds),
        f"commands that failed: {soak.errors}",
    ]
    grown = {name: (before[name], after[name]) for name in JUDGED if after[name] > before[name]}
    whole = all(many == options.at_once for _, many in crowds)
    columns = {
        "before": before,
        f"after {tenth}": middle,
        f"after {options.sequence}": in_sequence,
        "at the end": after,
    }
    lines = table(columns)
    print("\n".join([*report, "", *lines]))
    for name, (then, now) in grown.items():
        print(f"soak: {name} has grown from {then} to {now}", file=sys.stderr)
    if options.write:
        write(options.write, report, lines)
    return 1 if grown or soak.errors or not whole else 0


def table(columns: dict[str, Counts]) -> list[str]:
    lines = [f"| what | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in next(iter(columns.values())):
        mark = "" if name in JUDGED else " *"
        lines.append(f"| {name}{mark} | {' | '.join(str(counts[name]) for counts in columns.values())} |")
    return lines


def write(file: Path, report: list[str], lines: list[str]) -> None:
    version = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.procs") else "v1"
    machine = f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} processors, cgroup {version}"
    text = file.read_text().partition("<!-- figures -->")[0] if file.exists() else "# Load and soak\n\n"
    items = [f"- {line}" for line in report]
    file.write_text(text + "\n".join(["<!-- figures -->", "", f"On {machine}:", "", *items, "", *lines, ""]))


if __name__ == "__main__":
    sys.exit(main())
