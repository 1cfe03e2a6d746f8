"""Benchmark of the library: containers from inside one Python process, beside crun's and runc's commands, in turn.

usage: tests/isolate python bench/library.py --ocirt PATH [--rounds N] [--many N]

"create + start + wait + delete" in one process is compared with the peers' `run`; then --many containers, 32 at a time,
from one Python process and by a shell that starts the peers' `run`, 32 at a time. A ratio is the median of the rounds'.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measuring import Runtimes, arguments, installed, make_bundle, shuffled, table

import ocirt

AT_ONCE = 32


def once(bundle: Path, root: Path) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    with ocirt.Container.create(bundle, root=root) as container:
        container.start()
        code = container.wait()
    assert code == 0
    return (time.perf_counter() - start) * 1e3


def many_of_ours(bundle: Path, root: Path, count: int) -> float:
    """Containers a second."""
    start = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: once(bundle, root), range(count)))
    return count / (time.perf_counter() - start)


def many_of_theirs(argv: list[str], count: int) -> float:
    start = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(AT_ONCE), "-I{}", *argv[:-1], argv[-1] + "-{}"],
        input="\n".join(map(str, range(count))),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--many", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = make_bundle(work / "true", ["/bin/true"])
        runtimes = Runtimes(installed(options.ocirt), work)
        root = work / "library"
        once(bundle, root)
        times: dict[str, list[float]] = {name: [] for name in runtimes.paths}
        for index, name in shuffled(times, options.rounds):
            if name == "ocirt":
                times[name].append(once(bundle, root))
            else:
                times[name].append(runtimes.call(name, "run", "--bundle", str(bundle), f"{name}-{index}").ms)
        table("create, start, wait, delete", times)
        rates: dict[str, list[float]] = {name: [] for name in runtimes.paths}
        for index, name in shuffled(rates, 3):
            if name == "ocirt":
                rates[name].append(many_of_ours(bundle, root, options.many))
            else:
                argv = runtimes.argv(name, "run", "--bundle", str(bundle), f"many-{index}")
                rates[name].append(many_of_theirs(argv, options.many))
        table(f"{options.many} containers, {AT_ONCE} at a time", rates, "/s")


main()
