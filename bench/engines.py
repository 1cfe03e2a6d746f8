"""`run --rm` of `true` under podman, ctr and docker: the same engine on ocirt, crun and runc in turn, in one run.

usage: tests/isolate python bench/engines.py --ocirt PATH [--rounds N] [--only ENGINE] [--calls]

Each round runs every runtime once, in a random order. A ratio is the median of the rounds' ratios, ours divided by
theirs; "of the faster" divides by whichever of crun and runc was faster in the whole. `true` is a container without a
network. --calls shows besides which calls of the runtime such a run consists of, and how long each takes: the runtime
is then behind a script that notes it, in rounds of their own.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Measured, arguments, installed, shuffled, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.remove(str(Path(__file__).resolve().parent))  # where "engines" is this file
from engines.containerd import Containerd
from engines.docker import Docker
from engines.engine import IMAGE, PLACES, archive, cover_fixed_places
from engines.podman import Podman

if TYPE_CHECKING:
    from engines.engine import Engine

NOTING = """\
#!/usr/bin/python3 -IS
import posix, sys, time
start = time.perf_counter()
child = posix.posix_spawn("{path}", ["{path}", *sys.argv[1:]], dict(posix.environ))
status = posix.waitpid(child, 0)[1]
ms = (time.perf_counter() - start) * 1e3
verbs = "create start run state kill delete exec pause resume ps update list events features --version".split()
verb = next((word for word in sys.argv[1:] if word in verbs), "?")
log = posix.open("{log}", posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT)
posix.write(log, f"{{verb}} {{ms}}\\n".encode())
sys.exit(posix.waitstatus_to_exitcode(status))
"""
"""Hands all descriptors and the environment on, and writes "VERB MS" to the log."""
NETWORK = {"podman": ("--net", "none"), "ctr": (), "docker": ("--net", "none")}


def engines(which: str, work: Path, paths: dict[str, str], image: Path) -> dict[str, Engine]:
    """The engine once for each runtime: the same configuration, and nothing shared."""
    PLACES.update(paths)
    kind = {"podman": Podman, "ctr": Containerd, "docker": Docker}[which]
    return {name: kind(work / name, name, image) for name in paths}


def argv(which: str, engine: Engine, index: int) -> list[str]:
    if isinstance(engine, Containerd):
        return [*engine.client, "run", "--rm", *engine.run_flags, IMAGE, f"bench-{index}", "true"]
    return [*engine.client, "run", "--rm", *NETWORK[which], IMAGE, "true"]


def measure(which: str, running: dict[str, Engine], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in running}
    for index, name in shuffled(running, rounds + 1):
        engine = running[name]
        ms = Measured(argv(which, engine, index), environment=engine.environment).ms
        if index:  # the first of all fills caches
            times[name].append(ms)
    return times


def calls(running: dict[str, Engine], logs: dict[str, Path], which: str, rounds: int) -> None:
    """Per runtime: how often each verb was called in a run, and the median of its time."""
    for log in logs.values():
        log.unlink(missing_ok=True)
    measure(which, running, rounds - 1)
    for name, log in logs.items():
        found: dict[str, list[float]] = defaultdict(list)
        for line in log.read_text().splitlines():
            verb, ms = line.split()
            found[verb].append(float(ms))
        cells = [f"{verb} {len(ms) / rounds:.1f} × {statistics.median(ms):.1f} ms" for verb, ms in found.items()]
        total = sum(sum(ms) for ms in found.values()) / rounds
        print(f"    {name:8} {'   '.join(cells)}   in all {total:.1f} ms", flush=True)


def noting(work: Path, paths: dict[str, str]) -> tuple[dict[str, str], dict[str, Path]]:
    """Scripts in front of the runtimes, and what they write to."""
    work.mkdir()
    scripts, logs = {}, {}
    for name, path in paths.items():
        logs[name] = work / f"{name}.log"
        script = work / f"{name}.py"
        script.write_text(NOTING.format(path=path, log=logs[name]))
        script.chmod(0o755)
        scripts[name] = str(script)
    return scripts, logs


def one(which: str, work: Path, paths: dict[str, str], image: Path, rounds: int, *, with_calls: bool) -> None:
    work.mkdir()
    running = engines(which, work, paths, image)
    try:
        times = measure(which, running, rounds)
    finally:
        for engine in running.values():
            engine.end()
    table(f"{which} run --rm true", times)
    if len(times) > 2:
        faster = min((name for name in times if name != "ocirt"), key=lambda name: statistics.median(times[name]))
        ratios = [a / b for a, b in zip(times["ocirt"], times[faster], strict=True)]
        print(f"    of the faster, {faster}: ratio {statistics.median(ratios):.2f}", flush=True)
    if not with_calls:
        return
    scripts, logs = noting(work / "calls", paths)
    running = engines(which, work / "calls", scripts, image)
    try:
        calls(running, logs, which, min(rounds, 10))
    finally:
        for engine in running.values():
            engine.end()


def main() -> None:
    names = tuple(NETWORK)
    parser = arguments(__doc__.split("\n")[0])
    parser.set_defaults(rounds=20)
    parser.add_argument("--only", choices=names, action="append", help="this engine; may be repeated")
    parser.add_argument("--calls", action="store_true", help="how long each call of the runtime takes")
    options = parser.parse_args()
    if os.environ.get("OCIRT_ISOLATED") != "1":
        sys.exit("bench: run it under tests/isolate, as `make bench-engines` does")
    print(f"{options.rounds} rounds; medians; a ratio is ours divided by theirs")
    work = cover_fixed_places()
    image = archive(work)
    for which in options.only or names:
        one(which, work / which, installed(options.ocirt), image, options.rounds, with_calls=options.calls)


if __name__ == "__main__":
    main()
