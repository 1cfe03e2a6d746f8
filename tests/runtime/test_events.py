"""`ocirt events`: the figures by what containers do, runc's document beside ours, kills, and every way to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.hosts import PURE_V2, ROOT, has, needs
from support import CACHE, OCIRT, Bundle, Runtime

from ocirt.runtime.events import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = ROOT if PURE_V2 else ROOT / "unified"
MIB = 1 << 20
RUNC = shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/usr/bin")

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def counted(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle in the cgroup /counts/c; deleted at the end."""
    bundle.config["linux"]["cgroupsPath"] = "/counts/c"
    yield bundle
    runtime("delete", "--force", "c")


def created(runtime: Runtime, bundle: Bundle, *args: str, **resources: Any) -> None:
    bundle.config["process"]["args"] = list(args) or ["/bin/sleep", "1000"]
    bundle.config["linux"]["resources"].update(resources)
    done = runtime("create", "-b", bundle.write().path, "c")
    assert done.code == 0, done.err


def running(runtime: Runtime, bundle: Bundle, script: str = "", **resources: Any) -> None:
    created(runtime, bundle, *(["/bin/sh", "-c", script] if script else []), **resources)
    done = runtime("start", "c")
    assert done.code == 0, done.err


def stats(runtime: Runtime) -> dict[str, Any]:
    done = runtime("events", "--stats", "c")
    assert (done.code, done.err) == (0, "")
    (line,) = done.out.splitlines()
    document = json.loads(line)
    assert (document.pop("type"), document.pop("id"), set(document)) == ("stats", "c", {"data"})
    data = document["data"]
    assert isinstance(data, dict)
    return data


def once(runtime: Runtime, fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first statistics that fit."""
    until = time.monotonic() + 30
    while not fits(data := stats(runtime)):
        assert time.monotonic() < until, data
        time.sleep(0.05)
    return data


class Follower:
    """`ocirt events` in the background."""

    def __init__(self, runtime: Runtime, interval: str, **options: Any) -> None:
        argv = [OCIRT, "--root", str(runtime.root), "events", "--interval", interval, "c"]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            env={"OCIRT_CACHE": CACHE},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        until = time.monotonic() + 20
        while not any("pidfd" in name for name in self._descriptors()):  # it watches what will happen from now on
            if self.process.poll() is not None:
                break
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.1)

    def _descriptors(self) -> list[str]:
        found = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except OSError:
                continue
        return found

    def line(self) -> dict[str, Any]:
        assert self.process.stdout
        document = json.loads(self.process.stdout.readline())
        assert isinstance(document, dict)
        return document

    def end(self, timeout: float = 20) -> tuple[int, list[dict[str, Any]], str]:
        """(exit code, what it had still printed, its stderr) once it has ended by itself."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def follow(runtime: Runtime) -> Iterator[Callable[..., Follower]]:
    started: list[Follower] = []

    def begin(interval: str = "1h", **options: Any) -> Follower:
        started.append(Follower(runtime, interval, **options))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


# What is counted


def test_processor_time_grows_with_a_busy_loop_and_is_in_nanoseconds(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted, "while :; do :; done")
    begun = time.monotonic()
    first = stats(runtime)["cpu"]["usage"]
    time.sleep(1)
    second = stats(runtime)["cpu"]["usage"]
    elapsed = (time.monotonic() - begun) * 1e9
    assert elapsed / 50 < second["total"] - first["total"] < elapsed * 1.1
    assert second["user"] + second["kernel"] > first["user"] + first["kernel"]
    if not PURE_V2:
        assert sum(second["percpu"]) == pytest.approx(second["total"], rel=0.2)


@needs("memory")
def test_memory_that_is_used_and_its_limit(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted, "head -c 20000000 /dev/zero >/dev/shm/x; sleep 1000", memory={"limit": 100 * MIB})
    memory = once(runtime, lambda data: data["memory"]["usage"]["usage"] > 20_000_000)["memory"]
    assert memory["usage"]["limit"] == 100 * MIB
    assert 20_000_000 < memory["usage"]["usage"] < 40_000_000
    assert memory["cache"] >= 19_000_000
    assert memory["raw"]["shmem"] >= 19_000_000
    assert memory["events"]["oom_kill"] == 0
    assert memory["usage"].get("max", 0) >= 20_000_000 or not (ROOT / "counts/c/memory.peak").exists()


@needs("pids")
def test_processes_and_their_limit(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted, "sleep 1000 & sleep 1000 & sleep 1000 & wait", pids={"limit": 9})
    pids = once(runtime, lambda data: data["pids"]["current"] == 4)["pids"]
    assert pids["limit"] == 9
    folder = next(path for path in (ROOT, ROOT / "pids") if (path / "counts/c/pids.current").exists()) / "counts/c"
    assert ("peak" in pids) == (folder / "pids.peak").exists()
    assert pids.get("peak", 4) >= 4


def test_processes_are_counted_without_a_limit_too(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted)
    pids = stats(runtime)["pids"]
    assert pids["current"] == 1
    assert "limit" not in pids


@needs("cpu")
def test_a_quota_shows_as_throttling(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted, "while :; do :; done", cpu={"quota": 10000, "period": 100000})
    found = once(runtime, lambda data: data["cpu"]["throttling"].get("throttledPeriods", 0) > 2)["cpu"]["throttling"]
    assert found["periods"] >= found["throttledPeriods"]
    assert found["throttledTime"] > 1_000_000  # nanoseconds


@needs("cpuset")
def test_the_processors_that_may_be_used(runtime: Runtime, counted: Bundle) -> None:
    last = max(os.sched_getaffinity(0))
    running(runtime, counted, cpu={"cpus": str(last), "mems": "0"})
    cpuset = stats(runtime)["cpuset"]
    assert (cpuset["cpus"], cpuset["mems"]) == ([last], [0])


@pytest.mark.skipif(not (TREE / "cpu.pressure").exists(), reason="no v2 tree with pressure here")
def test_pressure_is_there_wherever_the_v2_tree_is(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted, "while :; do :; done")
    data = stats(runtime)
    for where in ("cpu", "memory", "blkio"):
        assert set(data[where]["psi"]["some"]) == {"avg10", "avg60", "avg300", "total"}


@needs("hugetlb")
def test_huge_pages(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted)
    assert stats(runtime)["hugetlb"]["2MB"] == {"failcnt": 0}


def test_network_interfaces_are_those_of_the_containers_own_namespace(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted)
    (lo,) = stats(runtime)["network_interfaces"]
    assert lo == {"Name": "lo", **dict.fromkeys(lo.keys() - {"Name"}, 0)}
    assert len(lo) == 9


def test_the_hosts_network_is_not_the_containers(runtime: Runtime, counted: Bundle) -> None:
    counted.config["linux"]["namespaces"] = [
        one for one in counted.config["linux"]["namespaces"] if one["type"] != "network"
    ]
    running(runtime, counted)
    assert stats(runtime)["network_interfaces"] is None


def test_a_container_that_waits_for_start_has_statistics(runtime: Runtime, counted: Bundle) -> None:
    created(runtime, counted)
    assert stats(runtime)["pids"]["current"] == 1


# Beside runc

LEFT_OUT_AT_ZERO = {
    *("total", "cache", "usage", "max", "value", "current", "limit", "throttledTime", "major", "minor"),
    *("ioServiceBytesRecursive", "ioServicedRecursive"),
}
SCRIPT = "head -c 3000000 /dev/zero >/dev/shm/x; while :; do :; done"


def is_zero(value: Any) -> bool:
    """Older versions print what the kernel has not as zeros, the newest leaves it out."""
    return all(map(is_zero, value.values())) if isinstance(value, dict) else not value


def differences(theirs: Any, ours: Any, where: str = "") -> list[str]:
    """What runc has and we have not, or of another type."""
    if type(theirs) is not type(ours):
        return [f"{where}: {type(theirs).__name__}, ours is {type(ours).__name__}"]
    found: list[str] = []
    if isinstance(theirs, dict):
        for key in theirs:
            if key in ours:
                found += differences(theirs[key], ours[key], f"{where}/{key}")
            elif key not in LEFT_OUT_AT_ZERO and not is_zero(theirs[key]):
                found.append(f"{where}/{key} is missing")
    elif isinstance(theirs, list) and theirs and ours:
        found += differences(theirs[0], ours[0], f"{where}/0")
    return found


@pytest.mark.skipif(not RUNC, reason="runc is not installed")
def test_runcs_document_has_nothing_that_ours_has_not(runtime: Runtime, counted: Bundle, tmp_path: Path) -> None:
    assert RUNC
    running(runtime, counted, SCRIPT)
    counted.config["linux"]["cgroupsPath"] = "/counts/r"
    counted.write()
    runc = [RUNC, "--root", str(tmp_path / "runc")]
    null = subprocess.DEVNULL  # runc's run hands its own stdio to the container
    try:
        subprocess.run([*runc, "run", "-d", "-b", counted.path, "r"], check=True, stdin=null, stdout=null, timeout=60)
        time.sleep(0.5)
        done = subprocess.run([*runc, "events", "--stats", "r"], check=True, capture_output=True, text=True, timeout=60)
    finally:
        subprocess.run([*runc, "delete", "-f", "r"], check=True, timeout=60)
    theirs = json.loads(done.stdout)["data"]
    ours = stats(runtime)
    assert theirs.pop("network_interfaces") is None and ours.pop("network_interfaces")
    assert differences(theirs, ours) == []
    assert set(theirs["memory"].get("raw", ())) == set(ours["memory"].get("raw", ()))


# Kills


def expect_oom(follower: Follower) -> None:
    assert follower.line() == {"type": "oom", "id": "c"}


@needs("memory")
def test_a_kill_in_the_cgroup_is_an_event_and_the_container_goes_on(
    runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]
) -> None:
    # The kernel kills another one if the first is slow to die: let that be any but the shell.
    script = "(echo 1000 >/proc/self/oom_score_adj; head -c 40000000 /dev/zero | tail | wc -c); sleep 1000"
    swap = {} if PURE_V2 else {"swap": 20 * MIB}
    created(runtime, counted, "/bin/sh", "-c", script, memory={"limit": 20 * MIB, **swap})
    follower = follow()
    assert runtime("start", "c").code == 0
    expect_oom(follower)
    memory = once(runtime, lambda data: data["memory"]["events"]["oom_kill"] >= 1)["memory"]
    if PURE_V2:  # on v1, Linux 6.18 leaves memory.failcnt at 0
        assert memory["usage"]["failcnt"] > 0
    assert follower.process.poll() is None
    runtime("kill", "c", "KILL")
    code, more, err = follower.end()
    assert (code, err) == (0, "") and all(document["type"] == "oom" for document in more)


@needs("memory")
def test_a_kill_that_ends_the_container_is_told_first(
    runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]
) -> None:
    swap = {} if PURE_V2 else {"swap": 20 * MIB}
    created(runtime, counted, "/bin/tail", "/dev/zero", memory={"limit": 20 * MIB, **swap})
    follower = follow()
    assert runtime("start", "c").code == 0
    code, documents, err = follower.end()
    assert (code, err) == (0, "")
    assert documents and all(document == {"type": "oom", "id": "c"} for document in documents)


def test_an_end_without_a_kill_is_no_event(runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]) -> None:
    running(runtime, counted)
    follower = follow()
    assert runtime("delete", "--force", "c").code == 0  # the cgroups go at the same time
    assert follower.end() == (0, [], "")


# Again and again


def test_the_first_statistics_come_after_the_interval_and_the_last_with_the_end(
    runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]
) -> None:
    running(runtime, counted)
    follower = follow("300ms")
    documents = [follower.line() for _ in range(4)]
    assert time.monotonic() - follower.begun >= 4 * 0.3
    assert [document["type"] for document in documents] == ["stats"] * 4
    assert documents[0]["data"].keys() == stats(runtime).keys()
    runtime("kill", "c", "KILL")
    code, _, err = follower.end()
    assert (code, err) == (0, "")


def test_waiting_takes_no_processor_time(runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]) -> None:
    running(runtime, counted)
    follower = follow("1h")

    def ticks() -> int:
        fields = Path(f"/proc/{follower.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1)
    assert ticks() - before <= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_word(
    runtime: Runtime, counted: Bundle, follow: Callable[..., Follower], number: signal.Signals
) -> None:
    running(runtime, counted)
    follower = follow("200ms")
    follower.line()
    follower.process.send_signal(number)
    code, _, err = follower.end()
    assert (code, err) == (128 + number, "")
    assert runtime.state("c")["status"] == "running"


@pytest.mark.parametrize("interval", ["1h", "100ms"])
def test_it_ends_when_nobody_reads_it(
    runtime: Runtime, counted: Bundle, follow: Callable[..., Follower], interval: str
) -> None:
    running(runtime, counted)
    reader, writer = os.pipe()
    follower = follow(interval, stdout=writer)
    os.close(writer)
    os.close(reader)
    assert follower.process.wait(20) == 0
    assert follower.process.stderr and follower.process.stderr.read() == ""


def test_into_a_file(runtime: Runtime, counted: Bundle, follow: Callable[..., Follower], tmp_path: Path) -> None:
    running(runtime, counted)
    with (tmp_path / "out").open("w") as file:
        follower = follow("100ms", stdout=file)
        time.sleep(0.5)
        runtime("kill", "c", "KILL")
        assert follower.process.wait(20) == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines and all(json.loads(line)["type"] == "stats" for line in lines)


def test_the_library_leaves_no_descriptor(runtime: Runtime, counted: Bundle) -> None:
    running(runtime, counted)
    before = os.listdir("/proc/self/fd")
    documents = events(str(runtime.root), "c", 0.01)
    assert next(documents)["type"] == "stats"
    documents.close()
    assert os.listdir("/proc/self/fd") == before


# Errors


@pytest.mark.parametrize("interval", ["0", "-1s", "5", "soon"])
@pytest.mark.parametrize("once", [True, False])
def test_a_bad_interval_is_refused(runtime: Runtime, counted: Bundle, interval: str, once: bool) -> None:
    running(runtime, counted)
    done = runtime("events", *(["--stats"] if once else []), "--interval", interval, "c")
    assert (done.code, done.out) == (1, "")
    assert f'"{interval}"' in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("flags", [["--stats"], []])
def test_an_unknown_and_a_stopped_container(runtime: Runtime, counted: Bundle, flags: list[str]) -> None:
    done = runtime("events", *flags, "c")
    assert (done.code, done.out, done.err) == (1, "", 'ocirt: container "c" does not exist\n')
    running(runtime, counted, "exit 0")
    until = time.monotonic() + 10
    while runtime.state("c")["status"] != "stopped":
        assert time.monotonic() < until
    done = runtime("events", *flags, "c")
    assert (done.code, done.out, done.err) == (1, "", 'ocirt: container not running: "c" is stopped\n')


@pytest.fixture
def elsewhere() -> Iterator[Callable[[int], Path]]:
    """Moves a process out of its cgroup, on the hierarchy that counts processes or on the only one, and removes it."""
    name = "" if PURE_V2 else "pids"
    other = ROOT / name / "elsewhere"
    other.mkdir()

    def move(pid: int) -> Path:
        (other / "cgroup.procs").write_text(str(pid))
        folder = ROOT / name / "counts/c"
        until = time.monotonic() + 10
        while folder.exists():
            assert time.monotonic() < until
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.01)
        return folder

    yield move
    until = time.monotonic() + 10
    while other.exists():
        assert time.monotonic() < until
        try:
            other.rmdir()
        except OSError:
            time.sleep(0.01)


@pytest.mark.skipif(not (PURE_V2 or has("pids")), reason="no pids hierarchy")
def test_a_cgroup_that_is_gone_under_a_running_container(
    elsewhere: Callable[[int], Path], runtime: Runtime, counted: Bundle, follow: Callable[..., Follower]
) -> None:
    running(runtime, counted)
    follower = follow("2s")
    folder = elsewhere(runtime.state("c")["pid"])
    message = f'ocirt: {folder} is gone, and "c" is still running (another program has removed it)\n'
    done = runtime("events", "--stats", "c")
    assert (done.code, done.out, done.err) == (1, "", message)
    assert follower.end() == (1, [], message)
    again = runtime("events", "c")
    assert (again.code, again.out) == (1, "") and again.err.count("\n") == 1
    assert runtime("delete", "--force", "c").code == 0
