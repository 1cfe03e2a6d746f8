"""What cgroups cost: ocirt, crun and runc in turn, in one run.

usage: tests/isolate python bench/cgroups.py --ocirt PATH [--rounds N] [--only PART] [--containers N]

PART: memory      the smallest memory.limit with which a static /bin/true runs
      limits      create and delete with limits on all controllers of the host, and without
      verbs       update, and events --stats
      many        create, state, delete and list while many containers run, and while one does

Medians; a ratio is the median of the rounds' ratios, ours divided by theirs. Machines are noisy: read ratios and
differences, not milliseconds. All containers are removed at the end, also after ^C.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Measured, Runtimes, arguments, installed, make_bundle, shuffled, spawn, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from runtime.limits import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KIB = 1 << 10
SIZES = [64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384]
"""KiB."""
TRIES = 5
AT_A_TIME = 4
"""Containers that are made or removed at the same time."""
ROOM = 512
"""Processes that stay free for others."""
EACH = 2 << 20
"""Bytes of memory that a waiting container may cost the host, kernel and all: it is less."""
FOREVER = ["/bin/sleep", "100000"]
CHEAP = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
"""A network namespace is what costs the kernel most."""
SLOWER = ("create", "state", "delete")


def median_difference(a: Sequence[float], b: Sequence[float]) -> float:
    """b - a, pair by pair."""
    return statistics.median(y - x for x, y in zip(a, b, strict=True))


@contextmanager
def removing(runtimes: Runtimes) -> Iterator[None]:
    """Whatever happens inside: afterwards there are no containers any more."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        remove(runtimes)


def remove(runtimes: Runtimes, prefix: str = "") -> None:
    """delete --force every container whose name begins so."""
    commands = [
        runtimes.argv(name, "delete", "--force", folder)
        for name, root in runtimes.roots.items()
        if Path(root).is_dir()
        for folder in sorted(os.listdir(root))
        if folder.startswith(prefix)
    ]
    in_batches(commands, strict=False)


def in_batches(commands: Iterable[Sequence[str]], *, strict: bool = True) -> None:
    """Some at a time. strict: SystemExit at the first that fails, once those that have begun have ended."""
    running: deque[tuple[int, Sequence[str]]] = deque()

    def end_one() -> None:
        pid, argv = running.popleft()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != 0:
            message = f"{' '.join(argv)}: exit code {code}"
            if strict:
                raise SystemExit(message)
            print(f"bench: {message}", file=sys.stderr)

    try:
        for argv in commands:
            if len(running) == AT_A_TIME:
                end_one()
            running.append((spawn(argv), argv))
    finally:
        while running:
            end_one()


class Bench:
    def __init__(self, runtimes: Runtimes, work: Path, rounds: int, containers: int) -> None:
        self.runtimes = runtimes
        self.work = work
        self.rounds = rounds
        self.containers = containers

    def memory(self) -> None:
        """The smallest with which all of some tries run; the largest below was refused, or killed."""
        print(f"smallest memory.limit that runs a static /bin/true ({TRIES} of {TRIES} times)")
        for name in self.runtimes.paths:
            found = next((size for size in SIZES if self._runs(name, size)), None)
            print(f"    {name:8} {f'{found} KiB' if found else f'more than {SIZES[-1]} KiB'}", flush=True)

    def _runs(self, name: str, size: int) -> bool:
        bundle = self.work / f"memory-{size}"
        if not bundle.exists():
            make_bundle(bundle, ["/bin/true"], resources={"memory": {"limit": size * KIB}})
        for index in range(TRIES):
            container = f"{name}-{size}-{index}"
            done = self.runtimes.call(name, "run", "--bundle", str(bundle), container, expect=None)
            if done.code:
                self.runtimes.call(name, "delete", "--force", container, expect=None)
                return False
        return True

    def limits(self) -> None:
        wanted = limits()
        print(f"create and delete, with {', '.join(wanted)} limited")
        bundles = {
            "without": make_bundle(self.work / "without", FOREVER),
            "with": make_bundle(self.work / "with", FOREVER, resources=wanted),
        }
        for name in self.runtimes.paths:
            times: dict[str, dict[str, list[float]]] = {verb: {"without": [], "with": []} for verb in ("create", "all")}
            for index, which in shuffled(bundles, self.rounds):
                container = f"{name}-{which}-{index}"
                create = self.runtimes.call(name, "create", "--bundle", str(bundles[which]), container).ms
                delete = self.runtimes.call(name, "delete", "--force", container).ms
                times["create"][which].append(create)
                times["all"][which].append(create + delete)
            without, with_ = times["all"]["without"], times["all"]["with"]
            print(
                f"    {name:8} without {statistics.median(without):.2f} ms, with {statistics.median(with_):.2f} ms:"
                f" median difference {median_difference(without, with_):+.2f} ms,"
                f" of create alone {median_difference(times['create']['without'], times['create']['with']):+.2f} ms",
                flush=True,
            )

    def verbs(self) -> None:
        """Of a container that does nothing. update: a limit that is another one each time."""
        bundle = make_bundle(self.work / "verbs", FOREVER, resources=limits())
        for name in self.runtimes.paths:
            self.runtimes.call(name, "run", "--detach", "--bundle", str(bundle), f"{name}-verbs")
        for title, args in (
            ("update --pids-limit", lambda index: ("update", "--pids-limit", str(100 + index))),
            ("update, four flags", _four),
            ("events --stats", lambda index: ("events", "--stats")),
        ):
            able = [name for name in self.runtimes.paths if self._can(name, *args(0))]
            if "ocirt" not in able:
                print(f"{title:34} not measured: no such verb")
                continue
            times: dict[str, list[float]] = {name: [] for name in able}
            for index, name in shuffled(able, self.rounds):
                times[name].append(self.runtimes.call(name, *args(index), f"{name}-verbs").ms)
            table(title, times)

    def _can(self, name: str, *args: str) -> bool:
        return self.runtimes.call(name, *args, f"{name}-verbs", expect=None).code == 0

    def many(self) -> None:
        """The same commands while one container runs on this host, then while many do, and then with one again."""
        count = self._affordable()
        crowd = make_bundle(self.work / "crowd", FOREVER, namespaces=CHEAP)
        self.bundle = make_bundle(self.work / "one", FOREVER)
        one, more = "crowd-0", [f"crowd-{index}" for index in range(1, count)]

        def start(container: str) -> list[str]:
            return self.runtimes.argv("ocirt", "run", "--detach", "--bundle", str(crowd), container)

        in_batches([start(one)])
        alone = self._slower("one")
        in_batches(map(start, more))
        print(f"with {count} running containers of ocirt, compared with 1 (before and after)", flush=True)
        crowded = self._slower("many")
        self._list(count)
        remove(self.runtimes, "crowd-")
        in_batches([start(one)])
        again = self._slower("again")
        for key, times in crowded.items():
            base = statistics.median(alone[key] + again[key])
            name, verb = key
            print(
                f"    {name:8} {verb:8} {base:6.2f} ms, {statistics.median(times):6.2f} ms"
                f" (ratio {statistics.median(times) / base:.2f}; alone before {statistics.median(alone[key]):.2f},"
                f" after {statistics.median(again[key]):.2f})"
            )

    def _affordable(self) -> int:
        """As many as were asked for, or as this host has room for."""
        memory = {
            line.split(":")[0]: int(line.split()[1]) * KIB for line in Path("/proc/meminfo").read_text().splitlines()
        }
        taken = sum(name.isdigit() for name in os.listdir("/proc"))
        bounds = [int(Path(f"/proc/sys/kernel/{name}").read_text()) - taken for name in ("pid_max", "threads-max")]
        room = min(min(bounds) - ROOM, memory["MemAvailable"] // 2 // EACH)
        if room < self.containers:
            print(f"there is room for {room} containers only")
        return max(2, min(self.containers, room))

    def _slower(self, label: str) -> dict[tuple[str, str], list[float]]:
        """(runtime, verb) → times. "true" is a command that has nothing to do with containers: the machine's mood."""
        times: dict[tuple[str, str], list[float]] = {
            (name, verb): [] for name in self.runtimes.paths for verb in SLOWER
        } | {("true", ""): []}
        for index, name in shuffled([*self.runtimes.paths, "true"], self.rounds):
            if name == "true":
                times["true", ""].append(Measured(["/bin/true"]).ms)
                continue
            container = f"{name}-{label}-{index}"
            times[name, "create"].append(self.runtimes.call(name, "create", "--bundle", str(self.bundle), container).ms)
            times[name, "state"].append(self.runtimes.call(name, "state", container).ms)
            times[name, "delete"].append(self.runtimes.call(name, "delete", "--force", container).ms)
        return times

    def _list(self, count: int) -> None:
        """With all of them, and with none, in turn. The peers, which would need containers of their own, with fewer."""
        self._list_of("ocirt", count)
        fewer = max(2, count // 10)
        bundle = make_bundle(self.work / "fewer", FOREVER, namespaces=CHEAP)
        for name in self.runtimes.paths:
            if name != "ocirt":
                in_batches(
                    self.runtimes.argv(name, "run", "--detach", "--bundle", str(bundle), f"{name}-{index}")
                    for index in range(fewer)
                )
                self._list_of(name, fewer)
                remove(self.runtimes, f"{name}-")

    def _list_of(self, name: str, count: int) -> None:
        full, empty = self.runtimes.argv(name), [self.runtimes.paths[name], "--root", str(self.work / "empty")]
        (self.work / "empty").mkdir(exist_ok=True)
        for args in (("list",), ("list", "-f", "json"), ("list", "-q")):
            times: dict[str, list[float]] = {"full": [], "empty": []}
            for _, which in shuffled(times, self.rounds):
                times[which].append(Measured([*(full if which == "full" else empty), *args]).ms)
            print(
                f"    {name:8} {' '.join(args):12} of none {statistics.median(times['empty']):.2f} ms, of {count}"
                f" {statistics.median(times['full']):.2f} ms:"
                f" median difference {median_difference(times['empty'], times['full']):+.2f} ms",
                flush=True,
            )


def _four(index: int) -> tuple[str, ...]:
    flags = {"--memory": str(80 + index % 8 << 20), "--cpu-quota": "140000", "--cpu-period": "100000"}
    return ("update", *(word for flag in flags.items() for word in flag), "--pids-limit", str(100 + index))


def main() -> None:
    parts = ("memory", "limits", "verbs", "many")
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--only", choices=parts, action="append", help="this part; may be repeated")
    parser.add_argument("--containers", type=int, default=1000, help="how many `many` are")
    options = parser.parse_args()
    random.seed()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runtimes = Runtimes(installed(options.ocirt), work)
        with removing(runtimes):
            bench = Bench(runtimes, work, options.rounds, options.containers)
            for part in options.only or parts:
                getattr(bench, part)()


if __name__ == "__main__":
    main()
