"""Benchmark of the library: containers from inside one Python process, beside crun's and runc's commands, in turn.

usage: tests/isolate python bench/library.py --ocirt PATH [--rounds N] [--many N]

"create + start + wait + delete" in one process is compared with the peers' `run`; then --many containers, 32 at a time,
from one Python process and by a shell that starts the peers' `run`, 32 at a time. A ratio is the median of the rounds'.
ocirt is this Python's. bench.py has both as rows of its table.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measuring import Runtimes, arguments, installed, make_bundle, shuffled, table, tmpfs

import ocirt

AT_ONCE = 32
ROUNDS_OF_MANY = 3


def once(bundle: Path, root: Path) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    with ocirt.Container.create(bundle, root=root) as container:
        container.start()
        code = container.wait()
    if code != 0:
        raise SystemExit(f"true ended with {code}")
    return (time.perf_counter() - start) * 1e3


def many_of_ours(bundle: Path, root: Path, count: int) -> float:
    """Milliseconds for each, of all together."""
    start = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: once(bundle, root), range(count)))
    return (time.perf_counter() - start) * 1e3 / count


def many_of_theirs(argv: list[str], count: int) -> float:
    """The same. argv: of one container's `run`, with its id at the end."""
    start = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(AT_ONCE), "-I{}", *argv[:-1], argv[-1] + "-{}"],
        input="\n".join(map(str, range(count))),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return (time.perf_counter() - start) * 1e3 / count


def lives(runtimes: Runtimes, bundle: Path, root: Path, rounds: int) -> dict[str, list[float]]:
    """A container's life in this process, and the peers' `run`: milliseconds of each round. root: our state root."""
    once(bundle, root)  # what happens once
    times: dict[str, list[float]] = {name: [] for name in runtimes.paths}
    for index, name in shuffled(times, rounds):
        if name == "ocirt":
            times[name].append(once(bundle, root))
        else:
            times[name].append(runtimes.call(name, "run", "--bundle", str(bundle), f"{name}-life-{index}").ms)
    return times


def many(runtimes: Runtimes, bundle: Path, root: Path, count: int, peers: set[str]) -> dict[str, list[float]]:
    """`count` containers, 32 at a time: milliseconds for each of them, in each round."""
    once(bundle, root)
    times: dict[str, list[float]] = {name: [] for name in runtimes.paths if name == "ocirt" or name in peers}
    for index, name in shuffled(times, ROUNDS_OF_MANY):
        if name == "ocirt":
            times[name].append(many_of_ours(bundle, root, count))
        else:
            argv = runtimes.argv(name, "run", "--bundle", str(bundle), f"many-{index}")
            times[name].append(many_of_theirs(argv, count))
    return times


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--many", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=tmpfs(), prefix="b") as short:
        bundle = make_bundle(Path(folder) / "true", ["/bin/true"])
        runtimes = Runtimes(installed(options.ocirt), Path(short))
        root = Path(short) / "library"
        table("create, start, wait, delete", lives(runtimes, bundle, root, options.rounds))
        each = many(runtimes, bundle, root, options.many, set(runtimes.paths))
        table(f"{options.many} containers, {AT_ONCE} at a time, each", each)


if __name__ == "__main__":
    main()
