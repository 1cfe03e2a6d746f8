"""containerd on runc and on ocirt: its shim io.containerd.runc.v2 drives both, ctr shows the same."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines.containerd import CGROUPS, Containerd
from engines.engine import IMAGE, RUNTIMES, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

LOOP = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"


@pytest.fixture(scope="module", params=RUNTIMES)
def engine(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Containerd]:
    one = Containerd(workplace / f"containerd-{request.param}", request.param, image)
    yield one
    one.end()
    one.end_shims()


@pytest.fixture
def containerd(engine: Containerd) -> Iterator[Containerd]:
    yield engine
    engine.clear()


@pytest.fixture
def running(containerd: Containerd) -> Containerd:
    """With a task `a` that runs."""
    containerd.ok("run", "-d", *containerd.run_flags, "--memory-limit", "67108864", IMAGE, "a", "sh", "-c", LOOP)
    return containerd


ENDS = {
    "true": (["true"], 0, ""),
    "7": (["sh", "-c", "exit 7"], 7, ""),
    "not-found": (["nothing"], 1, r'"nothing": executable file not found in \$PATH'),
    "no-program": (["/etc/passwd"], 1, "permission denied"),
    "directory": (["/etc"], 1, "permission denied|is a directory"),  # the latter since runc 1.1.6
}


@pytest.mark.parametrize(("args", "code", "error"), ENDS.values(), ids=ENDS)
def test_exit_code_of_run(containerd: Containerd, args: list[str], code: int, error: str) -> None:
    done = containerd("run", "--rm", *containerd.run_flags, IMAGE, "a", *args)
    assert done.code == code, done
    assert re.search(error, done.err)
    assert bool(error) == bool(done.err)
    assert containerd.ok("task", "ls", "-q") == ""


def test_output_and_errors_are_two_streams_and_stdin_is_read(containerd: Containerd) -> None:
    script = ["sh", "-c", "head -n 1; echo err >&2"]  # ctr does not hand the end of its stdin on
    done = containerd("run", "--rm", *containerd.run_flags, IMAGE, "a", *script, stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "in\n", "err\n")


INSIDE = {
    "environment": (["--env", "A=b"], 'echo "$A $OF_IMAGE"', "b yes"),
    "working directory": (["--cwd", "/tmp"], "pwd", "/tmp"),
    "readonly": (["--read-only"], "touch /x 2>/dev/null || echo no", "no"),
    "capability dropped": (["--cap-drop", "CAP_CHOWN"], CAPABILITIES, "00000000a80425fa"),
    "capability added": (["--cap-add", "CAP_SYS_TIME"], CAPABILITIES, "00000000aa0425fb"),
    "no new privileges": ([], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    "profile": (["--seccomp"], "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    "privileged": (
        ["--privileged"],
        "grep Seccomp: /proc/self/status; mkdir /m; mount -t tmpfs x /m && echo yes",
        "Seccomp:\t0\nyes",
    ),
    "own network": ([], "ls /sys/class/net", "lo"),
    "own pids": ([], "echo $$", "1"),
    "tmpfs": (["--mount", "type=tmpfs,src=x,dst=/data,options=nosuid"], "stat -f -c %T /data", "tmpfs"),
    "nothing inherited": ([], "ls /proc/self/fd", "0\n1\n2\n3"),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(containerd: Containerd, flags: list[str], script: str, out: str) -> None:
    done = containerd("run", "--rm", *containerd.run_flags, *flags, IMAGE, "a", "sh", "-c", script)
    assert (done.code, done.out.rstrip("\n"), done.err) == (0, out, ""), done


def test_no_signal_is_blocked_or_ignored(containerd: Containerd) -> None:
    if containerd.runtime == "runc":
        pytest.skip("runc 1.1 hands on what it inherits")
    look = ["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f 2"]
    assert containerd.ok("run", "--rm", *containerd.run_flags, IMAGE, "a", *look).split() == ["0" * 16] * 2


def test_bind_mount(containerd: Containerd, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    mount = f"type=bind,src={tmp_path},dst=/data,options=rbind:ro"
    look = ["sh", "-c", "cat /data/f; touch /data/new 2>/dev/null || echo no"]
    assert containerd.ok("run", "--rm", *containerd.run_flags, "--mount", mount, IMAGE, "a", *look) == "host\nno"


def test_network_of_the_host(containerd: Containerd) -> None:
    look = ["readlink", "/proc/self/ns/net"]
    inside = containerd.ok("run", "--rm", *containerd.run_flags, "--net-host", IMAGE, "a", *look)
    assert inside == os.readlink("/proc/self/ns/net")


def test_limits(containerd: Containerd) -> None:
    limits = ["--memory-limit", "33554432", "--cpus", "0.5", "--cpu-shares", "512"]
    containerd.ok("run", "-d", *containerd.run_flags, *limits, IMAGE, "a", "sleep", "1000")
    expected = {"memory/default/a/memory.limit_in_bytes": "33554432", "cpu/default/a/cpu.cfs_quota_us": "50000"}
    expected["cpu/default/a/cpu.shares"] = "512"
    assert {file: Path(CGROUPS, file).read_text().strip() for file in expected} == expected
    containerd.ok("task", "kill", "-s", "KILL", "a")
    eventually(lambda: containerd.status("a") == "STOPPED")
    containerd("task", "delete", "a")
    assert not [file for file in expected if Path(CGROUPS, file).exists()]


def test_terminal(containerd: Containerd) -> None:
    script = ["sh", "-c", "tty; test -t 0 && test -t 2 && echo yes; sleep 0.3; exit 3"]  # ctr forgets last words
    done = containerd.at_terminal("run", "--rm", "--tty", *containerd.run_flags, IMAGE, "a", *script)
    assert (done.code, done.out.split()) == (3, ["/dev/pts/0", "yes"]), done


def test_stopped_by_a_signal(running: Containerd) -> None:
    assert running.status("a") == "RUNNING"
    running.ok("task", "kill", "--signal", "TERM", "a")
    eventually(lambda: running.status("a") == "STOPPED")
    assert "exit code 5" in running("task", "delete", "a").err
    assert running.status("a") == ""
    assert "not found" in running("task", "kill", "a").err


def test_killed_with_all_its_processes(running: Containerd) -> None:
    running.ok("task", "exec", "-d", "--exec-id", "e", "a", "sleep", "1000")
    running.ok("task", "kill", "--all", "--signal", "KILL", "a")
    eventually(lambda: running.status("a") == "STOPPED")
    assert "exit code 137" in running("task", "delete", "a").err


def test_deleted_by_force(running: Containerd) -> None:
    running("task", "delete", "--force", "a")
    assert running.status("a") == ""
    assert not Path(CGROUPS, "memory/default/a").exists()


def test_pause_and_resume(running: Containerd) -> None:
    running.ok("task", "pause", "a")
    assert running.status("a") == "PAUSED"
    assert running("task", "exec", "--exec-id", "e", "a", "true").code == 1
    running.ok("task", "resume", "a")
    assert running.status("a") == "RUNNING"
    assert running.ok("task", "exec", "--exec-id", "e", "a", "echo", "again") == "again"


def test_metrics_and_processes(running: Containerd) -> None:
    rows = [line.split() for line in running.ok("task", "metrics", "a").splitlines()]
    metrics = {row[0]: row[1] for row in rows if len(row) >= 2}
    assert metrics["memory.limit_in_bytes"] == "67108864"
    assert int(metrics["memory.usage_in_bytes"]) > 0
    assert int(metrics["pids.current"]) >= 1
    running.ok("task", "exec", "-d", "--exec-id", "e", "a", "sleep", "1000")
    assert re.search('ExecID:e|exec_id:"e"', running.ok("task", "ps", "a"))  # the latter since containerd 1.7


EXECS = {
    "true": (["true"], 0, ""),
    "9": (["sh", "-c", "exit 9"], 9, ""),
    "killed": (["sh", "-c", "kill -9 $$"], 137, ""),
    "not-found": (["nothing"], 1, "executable file not found in $PATH"),
    "no-program": (["/etc/passwd"], 1, "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), EXECS.values(), ids=EXECS)
def test_exit_code_of_exec(running: Containerd, args: list[str], code: int, error: str) -> None:
    done = running("task", "exec", "--exec-id", "e", "a", *args)
    assert done.code == code, done
    assert error in done.err
    assert bool(error) == bool(done.err)


def test_exec_with_everything(running: Containerd) -> None:
    flags = ["--user", "1000:1000", "--cwd", "/tmp"]
    script = ["sh", "-c", "id -u; pwd; head -n 1; echo err >&2"]
    done = running("task", "exec", "--exec-id", "e", *flags, "a", *script, stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "1000\n/tmp\nin\n", "err\n")


def test_exec_with_a_terminal(running: Containerd) -> None:
    done = running.at_terminal("task", "exec", "--exec-id", "e", "--tty", "a", "sh", "-c", "tty; sleep 0.3; exit 3")
    assert done.code == 3, done
    assert done.out.startswith("/dev/pts/0\r"), done  # ctr may add that it could not resize it any more


def test_execs_leave_no_zombie(running: Containerd) -> None:
    for number in range(10):
        assert running.ok("task", "exec", "--exec-id", f"e{number}", "a", "echo", "hi") == "hi"
    states = running.ok(
        "task", "exec", "--exec-id", "e", "a", "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null | grep State:"
    )
    assert "Z (zombie)" not in states


def test_the_daemon_begins_again(running: Containerd) -> None:
    running.end()
    running.start()
    assert running.status("a") == "RUNNING"
    assert running.ok("task", "exec", "--exec-id", "e", "a", "echo", "hi") == "hi"
    running.ok("task", "kill", "--signal", "KILL", "a")
    eventually(lambda: running.status("a") == "STOPPED")


def test_fifty_at_once(containerd: Containerd) -> None:
    """All are started at the same time, and all run."""
    names = [f"n{number}" for number in range(50)]
    with ThreadPoolExecutor(50) as threads:
        run = ["run", "-d", *containerd.run_flags, IMAGE]
        done = list(threads.map(lambda name: containerd(*run, name, "sleep", "1000"), names))
    assert [one for one in done if one.code or one.err] == []
    assert containerd.statuses() == dict.fromkeys(names, "RUNNING")
