"""What docker's users and podman's see alike: each scenario with both engines, each on runc and on ocirt."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from engines.engine import IMAGE, eventually, has_all_capabilities
from engines.ocim import Ocim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engines.engine import DockerLike

pytestmark = pytest.mark.root

LOOP = ("sh", "-c", "trap 'exit 5' TERM; trap 'echo usr1' USR1; echo out; echo err >&2; while :; do sleep 0.05; done")
STUBBORN = ("sh", "-c", "trap '' TERM; echo out; while :; do sleep 0.05; done")
CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"


@pytest.fixture
def running(engine: DockerLike) -> DockerLike:
    """With a container `box` that runs."""
    return run(engine, LOOP)


def run(engine: DockerLike, args: Sequence[str], *flags: str) -> DockerLike:
    """Start `box`; it says "out" once it has set its traps."""
    engine.run(*flags, args=args)
    eventually(lambda: "out" in engine.ok("logs", "box"))
    return engine


# run


ENDS = {
    "true": (["true"], 0, ""),
    "7": (["sh", "-c", "exit 7"], 7, ""),
    "not-found": (["nothing"], 127, "executable file not found in $PATH"),
    "no-such-path": (["/nothing"], 127, "no such file or directory"),
    "no-program": (["/etc/passwd"], 126, "permission denied"),
    "directory": (["/etc"], 126, "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), ENDS.values(), ids=ENDS)
def test_exit_code_of_run(engine: DockerLike, args: list[str], code: int, error: str) -> None:
    done = engine("run", "--rm", "--net", "none", IMAGE, *args)
    assert done.code == code, done
    assert error in done.err
    assert bool(error) == bool(done.err)
    eventually(engine.gone)


def test_output_and_errors_are_two_streams_and_stdin_is_read(engine: DockerLike) -> None:
    done = engine("run", "--rm", "-i", "--net", "none", IMAGE, "sh", "-c", "cat; echo err >&2", stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "in\n", "err\n")


INSIDE = {
    "hostname": (["--hostname", "h"], "hostname", "h"),
    "environment": (["-e", "A=b c"], 'echo "$A $OF_IMAGE $HOME"', "b c yes /root"),
    "working directory": (["-w", "/tmp"], "pwd", "/tmp"),
    "user": (["--user", "user", "--group-add", "55"], "id -u; id -G; echo $HOME", "1000\n1000 55\n/home/user"),
    "numbers": (["--user", "77:88"], "id -u; id -g", "77\n88"),
    "readonly": (
        ["--read-only", "--tmpfs", "/tmp"],
        "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes",
        "no\nyes",
    ),
    "tmpfs": (
        ["--tmpfs", "/new:rw,noexec,size=2m,mode=751"],
        "stat -f -c %T /new; stat -c %a /new; df -k /new | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2;"
        " grep ' /new ' /proc/mounts | grep -o noexec",
        "tmpfs\n751\n2048\nnoexec",
    ),
    "shm": (["--shm-size", "3m"], "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2", "3072"),
    "all capabilities dropped": (["--cap-drop", "all"], CAPABILITIES, "0000000000000000"),
    "one capability": (["--cap-drop", "all", "--cap-add", "chown"], CAPABILITIES, "0000000000000001"),
    "usual capabilities": ([], CAPABILITIES, "00000000a80425fb"),
    "usual profile": (
        [],
        "grep Seccomp: /proc/self/status; unshare -m true 2>&1 | tail -n 1",
        "Seccomp:\t2\nunshare: unshare(0x20000): Operation not permitted",
    ),
    "unconfined": (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
    "no new privileges": (["--security-opt", "no-new-privileges"], "grep NoNew /proc/self/status", "NoNewPrivs:\t1"),
    "limits": (
        "--ulimit nofile=100:200 --ulimit nproc=9:9 --ulimit core=0 --ulimit fsize=1048576:2097152".split(),
        "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Sf; ulimit -Hf",
        "100\n200\n0\n2048\n4096",
    ),
    "sysctl": (["--sysctl", "kernel.msgmax=4096"], "cat /proc/sys/kernel/msgmax", "4096"),
    "device": (["--device", "/dev/null:/dev/mine"], "stat -c '%F %t:%T' /dev/mine", "character special file 1:3"),
    "no other device": ([], "mknod /n c 1 11; (: >/n) 2>/dev/null || echo no", "no"),
    "a device allowed": (["--device-cgroup-rule", "c 1:11 rw"], "mknod /n c 1 11; (: >/n) && echo yes", "yes"),
    "OOM score": (["--oom-score-adj", "100"], "cat /proc/self/oom_score_adj", "100"),
    "memory": (
        ["-m", "64m", "--memory-reservation", "32m"],
        "cd /sys/fs/cgroup/memory; cat memory.limit_in_bytes memory.soft_limit_in_bytes",
        "67108864\n33554432",
    ),
    "pids": (["--pids-limit", "50"], "cat /sys/fs/cgroup/pids/pids.max", "50"),
    "cpu": (
        ["--cpus", "0.5", "--cpu-shares", "512"],
        "cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.cfs_period_us cpu.shares",
        "50000\n100000\n512",
    ),
    "cpuset": (
        ["--cpuset-cpus", "0"],
        "cat /sys/fs/cgroup/cpuset/cpuset.cpus; grep Cpus_allowed_list /proc/self/status | cut -f 2",
        "0\n0",
    ),
    "no network": ([], "ls /sys/class/net", "lo"),
    "own pids": ([], "echo $$", "1"),
    "terminal": (["-t"], "tty; test -t 0 && test -t 1 && test -t 2 && echo yes", "/dev/pts/0\nyes"),
    "nothing inherited": ([], "ls /proc/self/fd", "0\n1\n2\n3"),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(engine: DockerLike, flags: list[str], script: str, out: str) -> None:
    done = engine("run", "--rm", "--net", "none", *flags, IMAGE, "sh", "-c", script)
    assert (done.code, done.out.rstrip("\r\n").replace("\r", "")) == (0, out), done


def test_no_signal_is_blocked_or_ignored(engine: DockerLike) -> None:
    if engine.runtime == "runc":
        pytest.skip("runc 1.1 hands on what it inherits")
    assert engine.shell("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f 2").split() == ["0" * 16] * 2


def test_privileged(engine: DockerLike) -> None:
    if engine.needs_all_capabilities and engine.runtime == "runc" and not has_all_capabilities():
        pytest.skip("runc 1.1 fails where the caller itself lacks capabilities; the specification wants a warning")
    script = "mkdir /m && mount -t tmpfs x /m && echo mounted; grep Seccomp: /proc/self/status"
    assert engine.shell(script, "--privileged") == "mounted\nSeccomp:\t0"


def test_profile_of_the_user(engine: DockerLike, tmp_path: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    flags = ["--security-opt", f"seccomp={tmp_path}/profile.json"]
    assert engine.shell("mkdir /x 2>&1; touch /y && echo yes", *flags) == (
        "mkdir: can't create directory '/x': Operation not permitted\nyes"
    )


def test_volumes(engine: DockerLike, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    flags = ["-v", f"{tmp_path}:/v:ro", "-v", "mine:/data"]
    look = "cat /v/f; echo x 2>/dev/null >/v/new || echo no; cat /data/file; echo y >/data/file"
    assert engine.shell(look, *flags) == "host\nno\nof the image"
    assert engine.shell("cat /data/file", *flags) == "y"
    engine.ok("volume", "rm", "mine")
    engine.shell("echo z >/v/new", "-v", f"{tmp_path}:/v")
    assert (tmp_path / "new").read_text() == "z\n"


@pytest.mark.parametrize(("propagation", "seen"), [("rprivate", "no"), ("rslave", "yes"), ("rshared", "yes")])
def test_mounts_propagate(engine: DockerLike, tmp_path: Path, propagation: str, seen: str) -> None:
    (tmp_path / "later").mkdir()
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        engine.run("-v", f"{tmp_path}:/v:{propagation}")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "later"], check=True)
        (tmp_path / "later" / "f").touch()
        assert engine.in_box("test -e /v/later/f && echo yes || echo no") == seen
        engine.clear()
        subprocess.run(["umount", tmp_path / "later"], check=True)
    finally:
        subprocess.run(["umount", "-R", tmp_path], check=True)


def test_out_of_memory(engine: DockerLike) -> None:
    done = engine("run", "--name", "box", "--net", "none", "-m", "16m", IMAGE, "sh", "-c", "exec tail /dev/zero")
    assert done.code == 137, done
    state = engine.state()
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert state["OOMKilled"] or not engine.sees_out_of_memory


# The life of a container


def test_created_started_and_removed(engine: DockerLike) -> None:
    engine.ok("create", "--name", "box", "--net", "none", "-m", "64m", IMAGE, *LOOP)
    found = engine.inspect()
    assert (found["State"]["Status"], found["State"]["Pid"], found["HostConfig"]["Memory"]) == ("created", 0, 67108864)
    engine.ok("start", "box")
    state = engine.state()
    assert (state["Status"], state["Running"], state["Paused"]) == ("running", True, False)
    assert state["Pid"] > 0
    engine.ok("rm", "--force", "box")
    assert engine.gone()


def test_stop_sends_the_signal_and_reads_the_exit_code(running: DockerLike) -> None:
    running.ok("stop", "--time", "20", "box")
    state = running.state()
    assert (state["Status"], state["ExitCode"], state["OOMKilled"], state["Pid"]) == ("exited", 5, False, 0)
    done = running("logs", "box")
    assert (done.out, done.err) == ("out\n", "err\n")
    running.ok("start", "box")
    first = running.state()
    assert first["Status"] == "running"
    running.ok("restart", "--time", "20", "box")
    again = running.state()
    assert again["Status"] == "running"
    assert again["Pid"] != first["Pid"]


def test_stop_loses_its_patience(engine: DockerLike) -> None:
    run(engine, STUBBORN)
    engine.ok("stop", "--time", "1", "box")
    assert (engine.state()["Status"], engine.state()["ExitCode"]) == ("exited", 137)


def test_kill(running: DockerLike) -> None:
    running.ok("kill", "--signal", "USR1", "box")
    eventually(lambda: "usr1" in running.ok("logs", "box"))
    assert running.state()["Status"] == "running"
    running.ok("kill", "box")
    assert running.ok("wait", "box") == "137"
    eventually(lambda: running.state()["Status"] == "exited")
    assert running.state()["ExitCode"] == 137
    assert "running" in running("kill", "box").err


def test_pause_and_unpause(running: DockerLike) -> None:
    running.ok("pause", "box")
    assert running.state()["Status"] == "paused"
    assert running("exec", "box", "true").code == running.paused_for_exec
    running.ok("unpause", "box")
    assert running.state()["Status"] == "running"
    assert running.in_box("echo again") == "again"


def test_a_paused_container_is_removed(running: DockerLike) -> None:
    running.ok("pause", "box")
    running.clear()
    assert running.gone()


def test_restarts_as_often_as_it_may(engine: DockerLike) -> None:
    engine.run("--restart", "on-failure:2", args=["sh", "-c", "exit 3"])
    eventually(lambda: engine.inspect()["RestartCount"] == 2 and engine.state()["Status"] == "exited")
    assert engine.state()["ExitCode"] == 3


def test_restarts_always_what_somebody_else_has_killed(engine: DockerLike) -> None:
    engine.run("--restart", "always", args=LOOP)
    first = engine.state()["Pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: engine.state()["Status"] == "running" and engine.state()["Pid"] not in (0, first))
    assert engine.inspect()["RestartCount"] == 1
    assert engine.in_box("echo hi") == "hi"


def test_top_and_stats(running: DockerLike) -> None:
    look = "{{.Name}} {{.PIDs}} {{.MemUsage}}"
    name, pids, usage, *_ = running.ok("stats", "--no-stream", "--format", look, "box").split()
    assert (name, int(pids) >= 1, usage not in ("0B", "--")) == ("box", True, True)
    heading, first, *_ = running.ok("top", "box", "-eo", "pid,args").splitlines()
    assert heading.split() == ["PID", "COMMAND"]
    assert " sh -c trap" in first


# exec


EXECS = {
    "true": (["true"], 0, ""),
    "9": (["sh", "-c", "exit 9"], 9, ""),
    "killed": (["sh", "-c", "kill -9 $$"], 137, ""),
    "not-found": (["nothing"], None, "executable file not found in $PATH"),
    "no-program": (["/etc/passwd"], 126, "permission denied"),
    "directory": (["/etc"], 126, "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), EXECS.values(), ids=EXECS)
def test_exit_code_of_exec(running: DockerLike, args: list[str], code: int | None, error: str) -> None:
    done = running("exec", "box", *args)
    assert done.code == (running.not_found_by_exec if code is None else code), done
    said = done.out + done.err  # docker's client prints what the daemon calls output
    assert error in said
    assert bool(error) == bool(said)


def test_exec_with_everything(running: DockerLike) -> None:
    script = "id -un; id -gn; pwd; echo $A $HOME; cat; echo err >&2"
    flags = ["-i", "-u", "user", "-w", "/tmp", "-e", "A=b"]
    done = running("exec", *flags, "box", "sh", "-c", script, stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "user\nuser\n/tmp\nb /home/user\nin\n", "err\n")


def test_exec_with_a_terminal(running: DockerLike) -> None:
    if isinstance(running, Ocim) and running.runtime == "runc":
        pytest.skip("runc's exec --tty wants the caller to have a terminal: ocim becomes runc's exec")
    done = running("exec", "-t", "box", "sh", "-c", "tty; echo err >&2; exit 3")
    assert (done.code, done.out.replace("\r", "")) == (3, "/dev/pts/0\nerr\n"), done


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_size_of_the_users_terminal(engine: DockerLike, verb: str) -> None:
    engine.run()
    where = ["exec", "-it", "box"] if verb == "exec" else ["run", "-it", "--rm", "--net", "none", IMAGE]
    # The size comes a little later. Where a session's first process ends, the kernel may drop its last words.
    wait = 'until [ "$(stty size)" = "30 100" ]; do sleep 0.05; done; echo sized; sleep 0.3; exit 3'
    words = shlex.join([*engine.client, *where, "sh", "-c", wait])
    done = engine.command("/usr/bin/script", "-qec", f"stty rows 30 cols 100; {words}", "/dev/null")
    assert (done.code, "sized" in done.out) == (3, True), done


def test_exec_detached(running: DockerLike) -> None:
    running.ok("exec", "-d", "box", "sh", "-c", "echo x >/tmp/detached")
    eventually(lambda: running("exec", "box", "cat", "/tmp/detached").out == "x\n")


def test_exec_has_the_containers_limits_and_rights(running: DockerLike) -> None:
    cgroups = "cat /proc/self/cgroup >/tmp/e; cat /proc/1/cgroup >/tmp/i; cmp /tmp/e /tmp/i"
    script = f"{CAPABILITIES}; grep Seccomp: /proc/self/status; {cgroups}"
    assert running.in_box(script) == "00000000a80425fb\nSeccomp:\t2"


# Namespaces of others


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_namespace_of_the_host(engine: DockerLike, kind: str) -> None:
    inside = engine.shell(f"readlink /proc/self/ns/{kind}", f"--{kind}", "host")
    assert inside == os.readlink(f"/proc/self/ns/{kind}")


def test_namespaces_of_a_container(engine: DockerLike) -> None:
    engine.run("--ipc", "shareable")
    look = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in ("pid", "ipc", "net"))
    shared = engine.shell(look, "--pid", "container:box", "--ipc", "container:box", network="container:box")
    assert shared == engine.in_box(look)


# Files


def test_files_go_in_and_out(running: DockerLike, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("copied\n")
    running.ok("cp", tmp_path / "f", "box:/tmp/f")
    assert running.in_box("cat /tmp/f; echo new >/new; rm /data/file") == "copied"
    running.ok("cp", "box:/new", tmp_path / "new")
    assert (tmp_path / "new").read_text() == "new\n"
    assert {"A /new", "D /data/file"} <= set(running.ok("container", "diff", "box").splitlines())
    running.ok("commit", "box", "localhost/other")
    assert running.ok("run", "--rm", "--net", "none", "localhost/other", "cat", "/new") == "new"
    running.ok("rmi", "--force", "localhost/other")
