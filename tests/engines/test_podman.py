"""podman on runc and on ocirt: what its user sees is the same."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from engines.engine import IMAGE, RUNTIMES, eventually
from engines.podman import Podman

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

LOOP = "trap 'exit 5' TERM; echo out; echo err >&2; while :; do sleep 0.05; done"


@pytest.fixture(scope="module", params=RUNTIMES)
def engine(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Podman:
    return Podman(workplace / f"podman-{request.param}", request.param, image)


@pytest.fixture
def podman(engine: Podman) -> Iterator[Podman]:
    yield engine
    engine.clear()


@pytest.fixture
def running(podman: Podman) -> Podman:
    """With a container `a` that runs."""
    podman.ok("run", "-d", "--name", "a", "--net", "none", "--stop-timeout", "5", IMAGE, "sh", "-c", LOOP)
    eventually(lambda: "out" in podman.ok("logs", "a"))
    return podman


# run


ENDS = {
    "true": (["true"], 0, ""),
    "7": (["sh", "-c", "exit 7"], 7, ""),
    "not-found": (["nothing"], 127, "executable file not found in $PATH"),
    "no-such-path": (["/nothing"], 127, "OCI runtime attempted to invoke a command that was not found"),
    "no-program": (["/etc/passwd"], 126, "permission denied"),
    "directory": (["/etc"], 126, "OCI permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), ENDS.values(), ids=ENDS)
def test_exit_code_of_run(podman: Podman, args: list[str], code: int, error: str) -> None:
    done = podman("run", "--rm", "--net", "none", IMAGE, *args)
    assert done.code == code, done
    assert error in done.err
    assert bool(error) == bool(done.err)
    assert podman.ok("ps", "-aq") == ""


def test_output_and_errors_are_two_streams_and_stdin_is_read(podman: Podman) -> None:
    done = podman("run", "--rm", "-i", "--net", "none", IMAGE, "sh", "-c", "cat; echo err >&2", stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "in\n", "err\n")


CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"
INSIDE = {
    "hostname": (["--hostname", "h"], "hostname", "h"),
    "environment": (["-e", "A=b c"], 'echo "$A $OF_IMAGE $HOME"', "b c yes /root"),
    "working directory": (["-w", "/tmp"], "pwd", "/tmp"),
    "user": (["--user", "user"], "id; echo $HOME", "uid=1000(user) gid=1000(user) groups=1000(user)\n/home/user"),
    "numbers": (["--user", "77:88"], "id", "uid=77(77) gid=88(88) groups=88(88)"),
    "more groups": (["--user", "1000:1000", "--group-add", "55"], "id -G", "1000 55"),
    "umask": (["--umask", "0027"], "umask", "0027"),
    "readonly": (["--read-only"], "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes", "no\nyes"),
    "tmpfs": (["--tmpfs", "/data:size=1m"], "cat /data/file; stat -f -c %T /data", "of the image\ntmpfs"),
    "mounted tmpfs": (["--mount", "type=tmpfs,dst=/data,notmpcopyup"], "ls /data; stat -f -c %T /data", "tmpfs"),
    "shm": (["--shm-size", "3m"], "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2", "3072"),
    "all capabilities dropped": (["--cap-drop", "all"], CAPABILITIES, "0000000000000000"),
    "one capability": (["--cap-drop", "all", "--cap-add", "chown"], CAPABILITIES, "0000000000000001"),
    "usual capabilities": ([], CAPABILITIES, "00000000a80425fb"),
    "capabilities of a user": (["--user", "1000", "--cap-add", "kill"], CAPABILITIES, "0000000000000020"),
    "usual profile": (
        [],
        "grep Seccomp: /proc/self/status; unshare -m true 2>&1 | tail -n 1",
        "Seccomp:\t2\nunshare: unshare(0x20000): Operation not permitted",
    ),
    "unconfined": (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
    "no new privileges": (["--security-opt", "no-new-privileges"], "grep NoNew /proc/self/status", "NoNewPrivs:\t1"),
    "masked": (["--security-opt", "mask=/data"], "ls /data", ""),
    "unmasked": (["--security-opt", "unmask=/proc/acpi"], "test -d /proc/sys && echo yes", "yes"),
    "file limit": (["--ulimit", "nofile=100:200", "--ulimit", "nproc=9:9"], "ulimit -Sn; ulimit -Hn", "100\n200"),
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
    "no network": (["--net", "none"], "ls /sys/class/net", "lo"),
    "own pids": ([], "echo $$", "1"),
    "user namespace": (
        ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"],
        "id -u; tr -s ' ' </proc/self/uid_map; stat -c %u:%g /data",
        "0\n 0 100000 1000\n0:0",
    ),
    "terminal": (["-t"], "tty; test -t 0 && test -t 1 && test -t 2 && echo yes", "/dev/pts/0\nyes"),
    "init": (
        ["--init", "--init-path", "/usr/bin/tini-static"],
        "tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1; grep -c . /proc/1/status >/dev/null",
        "/run/podman-init",
    ),
    "nothing inherited": ([], "ls /proc/self/fd", "0\n1\n2\n3"),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(podman: Podman, flags: list[str], script: str, out: str) -> None:
    network = [] if "--net" in flags else ["--net", "none"]
    done = podman("run", "--rm", *network, *flags, IMAGE, "sh", "-c", script)
    assert (done.code, done.out.rstrip("\n"), done.err) == (0, out, ""), done


def test_no_signal_is_blocked_or_ignored(podman: Podman) -> None:
    if podman.runtime == "runc":
        pytest.skip("runc 1.1 hands on what it inherits")
    look = ["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f 2"]
    assert podman.ok("run", "--rm", "--net", "none", IMAGE, *look).split() == ["0" * 16] * 2


def test_volumes(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    look = "cat /v/f; echo x 2>/dev/null >/v/new || echo no; cat /data/file; echo y >/data/file"
    flags = ["--rm", "--net", "none", "-v", f"{tmp_path}:/v:ro", "-v", "mine:/data"]
    assert podman.ok("run", *flags, IMAGE, "sh", "-c", look) == "host\nno\nof the image"
    assert podman.ok("run", *flags, IMAGE, "cat", "/data/file") == "y"
    podman.ok("run", "--rm", "--net", "none", "-v", f"{tmp_path}:/v:rshared", IMAGE, "sh", "-c", "echo z >/v/new")
    assert (tmp_path / "new").read_text() == "z\n"


def test_out_of_memory(podman: Podman) -> None:
    done = podman("run", "--name", "a", "--net", "none", "-m", "16m", IMAGE, "sh", "-c", "exec tail /dev/zero")
    assert done.code == 137, done
    state = podman.inspect("a")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


def test_what_the_kernel_refuses_is_the_runtimes_error(podman: Podman) -> None:
    done = podman("run", "--rm", "--net", "none", "--ulimit", "nofile=4294967290:4294967290", IMAGE, "true")
    assert (done.code, done.out) == (126, "")
    assert "OCI permission denied" in done.err


def test_restarts_as_often_as_it_may(podman: Podman) -> None:
    podman.ok("run", "-d", "--name", "a", "--net", "none", "--restart", "on-failure:2", IMAGE, "sh", "-c", "exit 3")
    eventually(lambda: podman.inspect("a")["RestartCount"] == 2)
    assert podman.ok("wait", "a") == "3"
    assert podman.inspect("a")["State"]["ExitCode"] == 3


def test_without_cgroups(podman: Podman) -> None:
    if podman.runtime == "runc":
        pytest.skip("podman knows that runc cannot do it")
    done = podman("run", "--rm", "--net", "none", "--cgroups", "disabled", IMAGE, "echo", "hi")
    assert (done.code, done.out) == (0, "hi\n"), done


@pytest.mark.parametrize("mode", ["no-conmon", "enabled"])
def test_modes_of_cgroups(podman: Podman, mode: str) -> None:
    assert podman.ok("run", "--rm", "--net", "none", "--cgroups", mode, IMAGE, "echo", "hi") == "hi"


def test_privileged(podman: Podman) -> None:
    script = "mkdir /m && mount -t tmpfs x /m && echo mounted; grep Seccomp: /proc/self/status"
    inside = podman.ok("run", "--rm", "--net", "none", "--privileged", IMAGE, "sh", "-c", script)
    assert inside == "mounted\nSeccomp:\t0"


# The life of a container


def test_created_started_and_removed(podman: Podman) -> None:
    podman.ok("create", "--name", "a", "--net", "none", "-m", "64m", IMAGE, "sh", "-c", LOOP)
    found = podman.inspect("a")
    assert (found["State"]["Status"], found["State"]["Pid"], found["HostConfig"]["Memory"]) == ("created", 0, 67108864)
    podman.ok("init", "a")
    assert podman.inspect("a")["State"]["Status"] in ("initialized", "created")
    podman.ok("start", "a")
    found = podman.inspect("a")
    assert (found["State"]["Status"], found["OCIRuntime"]) == ("running", podman.runtime)
    assert found["State"]["Pid"] > 0
    podman.ok("rm", "--force", "--time", "0", "a")
    assert podman.ok("ps", "-aq") == ""


def test_stop_sends_the_signal_and_reads_the_exit_code(running: Podman) -> None:
    running.ok("stop", "a")
    state = running.inspect("a")["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"], state["Pid"]) == ("exited", 5, False, 0)
    done = running("logs", "a")
    assert (done.out, done.err) == ("out\n", "err\n")
    running.ok("start", "a")
    assert running.inspect("a")["State"]["Status"] == "running"
    running.ok("restart", "--time", "5", "a")
    assert running.inspect("a")["State"]["Status"] == "running"


def test_kill(running: Podman) -> None:
    running.ok("kill", "--signal", "KILL", "a")
    assert running.ok("wait", "a") == "137"
    assert running.inspect("a")["State"]["ExitCode"] == 137
    done = running("kill", "a")
    assert done.code == 125
    assert "can only kill running containers" in done.err


def test_pause_and_unpause(running: Podman) -> None:
    running.ok("pause", "a")
    assert running.inspect("a")["State"]["Status"] == "paused"
    assert running("exec", "a", "true").code == 255
    running.ok("unpause", "a")
    assert running.inspect("a")["State"]["Status"] == "running"
    assert running.ok("exec", "a", "echo", "again") == "again"
    running.ok("pause", "a")
    running.ok("rm", "--force", "--time", "0", "a")
    assert running.ok("ps", "-aq") == ""


def test_update(running: Podman) -> None:
    running.ok("update", "--memory", "80m", "--cpus", "0.7", "a")
    files = "memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us"
    assert running.ok("exec", "a", "cat", *(f"/sys/fs/cgroup/{file}" for file in files)) == "83886080\n70000"


def test_top_and_stats(running: Podman) -> None:
    lines = running.ok("top", "a", "pid", "user", "comm").splitlines()
    assert [line.split() for line in lines[:2]] == [["PID", "USER", "COMMAND"], ["1", "root", "sh"]]
    assert "sh -c" in running.ok("top", "a", "-eo", "pid,args")
    [stats] = json.loads(running.ok("stats", "--no-stream", "--format", "json", "a"))
    assert stats["name"] == "a"
    assert int(stats["pids"]) >= 1
    assert stats["mem_usage"][0] != "0"


def test_healthcheck(podman: Podman) -> None:
    health = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"]
    podman.ok("run", "-d", "--name", "a", "--net", "none", *health, IMAGE, "sleep", "1000")
    assert podman("healthcheck", "run", "a").code == 1
    assert podman.inspect("a")["State"]["Health"]["Status"] == "unhealthy"
    podman.ok("exec", "a", "touch", "/tmp/well")
    assert podman("healthcheck", "run", "a").code == 0
    assert podman.inspect("a")["State"]["Health"]["Status"] == "healthy"


# exec


EXECS = {
    "true": (["true"], 0, ""),
    "9": (["sh", "-c", "exit 9"], 9, ""),
    "killed": (["sh", "-c", "kill -9 $$"], 137, ""),
    "not-found": (["nothing"], 127, "executable file not found in $PATH"),
    "no-program": (["/etc/passwd"], 126, "permission denied"),
    "directory": (["/etc"], 126, "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), EXECS.values(), ids=EXECS)
def test_exit_code_of_exec(running: Podman, args: list[str], code: int, error: str) -> None:
    done = running("exec", "a", *args)
    assert done.code == code, done
    assert error in done.err
    assert bool(error) == bool(done.err)


def test_exec_with_everything(running: Podman) -> None:
    script = "id; pwd; echo $A $HOME; cat"
    done = running("exec", "-i", "-u", "user", "-w", "/tmp", "-e", "A=b", "a", "sh", "-c", script, stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "uid=1000(user) gid=1000(user)\n/tmp\nb /home/user\nin\n", "")


def test_exec_with_a_terminal(running: Podman) -> None:
    done = running("exec", "-t", "a", "sh", "-c", "tty; echo err >&2; exit 3")
    assert (done.code, done.out) == (3, "/dev/pts/0\nerr\n")


def test_exec_detached(running: Podman) -> None:
    running.ok("exec", "-d", "a", "sh", "-c", "echo x >/tmp/detached")
    eventually(lambda: running("exec", "a", "cat", "/tmp/detached").out == "x\n")


def test_exec_has_the_containers_limits_and_rights(running: Podman) -> None:
    cgroups = "cat /proc/self/cgroup >/tmp/e; cat /proc/1/cgroup >/tmp/i; cmp /tmp/e /tmp/i"
    script = f"{CAPABILITIES}; grep Seccomp: /proc/self/status; {cgroups}"
    assert running.ok("exec", "a", "busybox", "sh", "-c", script) == "00000000a80425fb\nSeccomp:\t2"


def test_execs_leave_no_zombie(running: Podman) -> None:
    for _ in range(10):
        assert running.ok("exec", "a", "echo", "hi") == "hi"
    pids = running.ok("top", "a", "pid", "state").splitlines()[1:]
    assert not [line for line in pids if line.split()[1] == "Z"]


# Namespaces of others


@pytest.mark.parametrize("kind", ["pid", "net", "ipc", "uts"])
def test_namespace_of_the_host(podman: Podman, kind: str) -> None:
    flags = [f"--{kind}", "host"] + ([] if kind == "net" else ["--net", "none"])
    inside = podman.ok("run", "--rm", *flags, IMAGE, "readlink", f"/proc/self/ns/{kind}")
    assert inside == os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize("kind", ["pid", "net", "ipc"])
def test_namespace_of_a_container(running: Podman, kind: str) -> None:
    flags = [f"--{kind}", "container:a"] + ([] if kind == "net" else ["--net", "none"])
    look = ["readlink", f"/proc/self/ns/{kind}"]
    assert running.ok("run", "--rm", *flags, IMAGE, *look) == running.ok("exec", "a", *look)


# Pods


def test_pod(podman: Podman) -> None:
    podman.ok("pod", "create", "--name", "p", "--network", "none", "--hostname", "of-pod")
    for name in ("a", "b"):
        podman.ok("run", "-d", "--pod", "p", "--name", name, IMAGE, "sh", "-c", LOOP)
    assert podman.ok("exec", "a", "hostname") == "of-pod"
    look = ["sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts"]
    assert podman.ok("exec", "a", *look) == podman.ok("exec", "b", *look)
    podman.ok("pod", "pause", "p")
    assert podman.inspect("b")["State"]["Status"] == "paused"
    podman.ok("pod", "unpause", "p")
    assert podman.inspect("b")["State"]["Status"] == "running"
    podman.ok("pod", "kill", "p")
    eventually(lambda: podman.inspect("a")["State"]["Status"] == "exited")
    assert podman.inspect("a")["State"]["ExitCode"] == 137
    podman.ok("pod", "start", "p")
    podman.ok("pod", "stop", "--time", "5", "p")
    eventually(lambda: podman.inspect("a")["State"]["Status"] == "exited")
    podman.ok("pod", "rm", "--force", "p")
    assert podman.ok("ps", "-aq") == ""


KUBE = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: k}}
spec:
  containers:
  - name: c
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, "echo $GREETING; exec sleep 1000"]
    env: [{{name: GREETING, value: hello}}]
    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
    securityContext: {{readOnlyRootFilesystem: true, runAsUser: 1000}}
"""


def test_play_kube(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "k.yaml").write_text(KUBE)
    podman.ok("play", "kube", "--network", "none", tmp_path / "k.yaml")
    eventually(lambda: podman.ok("logs", "k-c") == "hello")
    assert podman.inspect("k-c")["HostConfig"]["Memory"] == 67108864
    assert podman.ok("exec", "k-c", "id", "-u") == "1000"
    podman.ok("play", "kube", "--down", tmp_path / "k.yaml")
    assert podman.ok("ps", "-aq") == ""


# Files


def test_files_go_in_and_out(running: Podman, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("copied\n")
    running.ok("cp", tmp_path / "f", "a:/tmp/f")
    assert running.ok("exec", "a", "cat", "/tmp/f") == "copied"
    running.ok("exec", "a", "sh", "-c", "echo new >/new")
    running.ok("cp", "a:/new", tmp_path / "new")
    assert (tmp_path / "new").read_text() == "new\n"
    assert (
        "A /new" in running.ok("container", "diff", "a").splitlines()
    )  # without "container", an image whose id begins with a
    running.ok("commit", "--quiet", "a", "localhost/other")
    assert running.ok("run", "--rm", "--net", "none", "localhost/other", "cat", "/new") == "new"
    running.ok("rmi", "--force", "localhost/other")
