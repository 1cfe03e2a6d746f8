"""exec: what the process has and sees, how it ends, and what a failure leaves: nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.hosts import PURE_V2, ROOT, needs
from runtime.life import Life, until_gone, wait_until
from support import OCIRT, Done, command, inits, needs_kernel, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

UNIFIED = PURE_V2 or (ROOT / "unified/cgroup.procs").exists()


@pytest.fixture
def running(life: Life) -> Iterator[Life]:
    """A container that sleeps; at the end no process of an exec is left."""
    life.bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    life.bundle.write()
    yield life
    life("delete", "--force", "c")
    assert not inits()


def begin(life: Life) -> Life:
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    return life


def sh(life: Life, script: str, *flags: str, **options: Any) -> Done:
    return life.runtime("exec", *flags, "c", "/bin/sh", "-c", script, **options)


def lines(life: Life, script: str, *flags: str) -> list[str]:
    done = sh(life, script, *flags)
    assert done.code == 0, done.err
    return done.out.splitlines()


# How it ends


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_programs(running: Life, script: str, code: int) -> None:
    begin(running)
    assert sh(running, script).code == code
    assert running.status == "running"


def test_stdin_stdout_and_stderr_are_ours(running: Life) -> None:
    begin(running)
    done = sh(running, "cat; echo bad >&2", stdin="hello\n")
    assert (done.out, done.err) == ("hello\n", "bad\n")


def test_signals_are_passed_on(running: Life) -> None:
    begin(running)
    argv = [OCIRT, "--root", str(running.runtime.root), "exec", "c", "/bin/sh", "-c"]
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen([*argv, script], stdout=subprocess.PIPE, env={}, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9
    process.stdout.close()


def test_detached_it_goes_on_and_its_pid_is_in_the_file(running: Life, tmp_path: Path) -> None:
    begin(running)
    done = running("exec", "--detach", "--pid-file", tmp_path / "pid", "c", "/bin/sleep", "1000")
    assert (done.code, done.out, done.err) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\x001000\x00"
    assert pid in json.loads(running("ps", "--format", "json", "c").out)
    assert running("delete", "--force", "c").code == 0
    until_gone(pid)


def test_it_ends_with_the_container(running: Life) -> None:
    begin(running)
    argv = [OCIRT, "--root", str(running.runtime.root), "exec", "c", "/bin/sh", "-c", "echo ready; sleep 1000"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env={}, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    assert running("kill", "c", "KILL").code == 0
    assert process.wait(20) == 137
    process.stdout.close()


# What it has


def test_it_is_in_all_namespaces_and_the_root_of_the_container(running: Life) -> None:
    begin(running)
    (running.bundle.rootfs / "bin/readlink").symlink_to("busybox")
    inside = lines(running, "for n in cgroup ipc mnt net pid uts user time; do readlink /proc/self/ns/$n; done")
    expected = [os.readlink(f"/proc/{running.pid}/ns/{n}") for n in "cgroup ipc mnt net pid uts user time".split()]
    assert inside == expected
    assert lines(running, "hostname") == ["ocirt"]
    assert "bin" in lines(running, "cd /; for f in *; do echo $f; done")


def test_it_is_in_the_cgroups_of_the_container(running: Life) -> None:
    running.bundle.config["linux"]["cgroupsPath"] = "/exec/c"
    begin(running)
    shown = Path(f"/proc/{running.pid}/cgroup").read_text()
    process = subprocess.Popen(
        [OCIRT, "--root", str(running.runtime.root), "exec", "c", "/bin/sh", "-c", "echo $$; sleep 1000"],
        stdout=subprocess.PIPE,
        env={},
        text=True,
    )
    assert process.stdout and process.stdout.readline()
    (other,) = [pid for pid in json.loads(running("ps", "-f", "json", "c").out) if pid != running.pid][:1]
    assert Path(f"/proc/{other}/cgroup").read_text() == shown
    running("kill", "--all", "c", "KILL")
    process.wait(20)
    process.stdout.close()


def status_of(life: Life, *flags: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in lines(life, "cat /proc/self/status", *flags) if ":\t" in line)


def test_its_rights_are_the_containers(running: Life) -> None:
    running.bundle.config["process"]["noNewPrivileges"] = True
    running.bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o27}
    begin(running)
    ours = status_of(running)
    theirs = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{running.pid}/status").read_text().splitlines() if ":\t" in line
    )
    for name in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Umask"):
        assert ours[name] == theirs[name], name
    limits = lines(running, "cat /proc/self/limits")
    assert limits == Path(f"/proc/{running.pid}/limits").read_text().splitlines()


def test_the_filter_is_loaded(running: Life) -> None:
    running.bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}],
    }
    begin(running)
    assert status_of(running)["Seccomp"] == "2"
    assert status_of(running)["Seccomp_filters"] == "1"
    assert sh(running, "/bin/pwd").code != 0


def test_the_environment_is_the_containers_and_home_its_users(running: Life) -> None:
    running.bundle.config["process"]["env"] = ["PATH=/bin", "A=1", "B=2"]
    begin(running)
    shown = lines(running, "env", "--env", "A=3", "-e", "C=4")
    assert {"PATH=/bin", "A=3", "B=2", "C=4", "HOME=/root"} <= set(shown)
    assert "HOME=/home/user" in lines(running, "env", "--user", "1000")
    assert "HOME=/x" in lines(running, "env", "--user", "1000", "--env", "HOME=/x")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "uid=0(root) gid=0(root)"),
        (("-u", "1000"), "uid=1000(user) gid=0(root)"),
        (("--user", "1000:1000"), "uid=1000(user) gid=1000(user)"),
        (("--user", "5:6", "-g", "7", "--additional-gids", "8,9"), "uid=5 gid=6 groups=7,8,9"),
    ],
)
def test_users_and_groups_are_numbers(running: Life, flags: tuple[str, ...], expected: str) -> None:
    begin(running)
    assert lines(running, "id", *flags) == [expected]


def test_cwd_capabilities_and_no_new_privileges(running: Life) -> None:
    running.bundle.config["process"]["cwd"] = "/etc"
    running.bundle.config["process"]["noNewPrivileges"] = False
    begin(running)
    assert lines(running, "pwd") == ["/etc"]
    assert lines(running, "pwd", "--cwd", "/tmp") == ["/tmp"]
    before, after = status_of(running), status_of(running, "--cap", "CAP_SYS_PTRACE", "--no-new-privs")
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(after[name], 16) == int(before[name], 16) | 1 << 19
    assert after["CapInh"] == before["CapInh"]
    assert (before["NoNewPrivs"], after["NoNewPrivs"]) == ("0", "1")


def test_a_process_object_says_all_and_what_it_leaves_out_of_rights_is_the_containers(
    running: Life, tmp_path: Path
) -> None:
    running.bundle.config["process"]["noNewPrivileges"] = True
    begin(running)
    process: dict[str, Any] = {"args": ["cat", "/proc/self/status"], "cwd": "/", "user": {"uid": 5, "gid": 6}}
    process["env"] = ["PATH=/bin"]
    (tmp_path / "p.json").write_text(json.dumps(process))
    done = running("exec", "--process", tmp_path / "p.json", "c")
    assert done.code == 0, done.err
    shown = dict(line.split(":\t", 1) for line in done.out.splitlines() if ":\t" in line)
    assert shown["Uid"].split()[0] == "5"
    assert shown["NoNewPrivs"] == "1"
    assert shown["CapBnd"] == status_of(running)["CapBnd"]
    process["capabilities"] = {"bounding": []}
    process["noNewPrivileges"] = False
    (tmp_path / "p.json").write_text(json.dumps(process))
    shown = dict(
        line.split(":\t", 1)
        for line in running("exec", "-p", tmp_path / "p.json", "c").out.splitlines()
        if ":\t" in line
    )
    assert int(shown["CapBnd"], 16) == 0
    assert shown["NoNewPrivs"] == "0"


@needs("pids")
def test_limits_hold_for_it_too(running: Life) -> None:
    running.bundle.config["linux"]["resources"]["pids"] = {"limit": 2}
    begin(running)
    assert sh(running, "exit 0").code == 0
    done = sh(running, "(exit 0); echo forked")
    assert "forked" not in done.out


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
@pytest.mark.parametrize(
    "when", [pytest.param("initial", marks=needs_kernel(6, 2, "an affinity that outlives a cpuset's")), "final"]
)
def test_it_runs_on_the_processors_of_its_affinity(running: Life, when: str) -> None:
    """Before Linux 6.2 who joins a cpuset gets its processors, whatever was set before."""
    last = max(os.sched_getaffinity(0))
    running.bundle.config["process"]["execCPUAffinity"] = {when: str(last)}
    begin(running)
    assert status_of(running)["Cpus_allowed_list"] == str(last)
    assert os.sched_getaffinity(running.pid) != {last}


def with_descriptors(file: Path, *arguments: str | Path) -> Done:
    """Run ocirt with 3, 4 and 77 open on a file, and none else above stderr."""
    return command("/bin/bash", "-c", 'exec "$@" 3<"$0" 4<"$0" 77<"$0"', file, OCIRT, *arguments)


def test_no_descriptor_of_ours_reaches_it_but_those_that_are_handed_on(running: Life, tmp_path: Path) -> None:
    begin(running)
    (tmp_path / "f").write_text("content\n")
    to_exec = ("--root", running.runtime.root, "exec")
    script = "for f in /proc/self/fd/*; do echo ${f##*/}; done"
    done = with_descriptors(tmp_path / "f", *to_exec, "c", "/bin/sh", "-c", script)
    assert done.out.split() == ["0", "1", "2", "3"]  # 3 is the shell's own, of the folder
    done = with_descriptors(tmp_path / "f", *to_exec, "--preserve-fds", "1", "c", "/bin/sh", "-c", f"cat <&3; {script}")
    assert done.out.split() == ["content", "0", "1", "2", "3", "4"]
    done = with_descriptors(tmp_path / "f", *to_exec, "--preserve-fds", "3", "c", "/bin/true")
    assert done.code == 255
    assert done.err == "ocirt: --preserve-fds 3, but descriptor 5 is not open (they count from 3 on)\n"


def test_signals_and_their_dispositions_are_fresh(running: Life) -> None:
    begin(running)

    def spoil() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    done = running.runtime("exec", "c", "/bin/cat", "/proc/self/status", preexec_fn=spoil)
    shown = dict(line.split(":\t", 1) for line in done.out.splitlines() if ":\t" in line)
    assert int(shown["SigBlk"], 16) == 0
    assert int(shown["SigIgn"], 16) == 0


# Cgroups below the container's


def below() -> list[Path]:
    return list(ROOT.rglob("exec/c"))


def test_it_can_be_put_into_a_cgroup_below_the_containers(running: Life) -> None:
    running.bundle.config["linux"]["cgroupsPath"] = "/exec/c"
    begin(running)
    pids = ROOT if PURE_V2 else ROOT / "freezer"
    sub = pids / "exec/c/sub"
    sub.mkdir()
    wanted = "sub" if PURE_V2 else "freezer:/sub"
    done = running(
        "exec", "--detach", "--pid-file", running.bundle.path / "pid", "--cgroup", wanted, "c", "/bin/sleep", "1000"
    )
    assert done.code == 0, done.err
    assert (sub / "cgroup.procs").read_text().split() == [(running.bundle.path / "pid").read_text()]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("nowhere", "there is no cgroup" if UNIFIED else "the container is in no such hierarchy"),
        ("nothing:/x", "the container is in no such hierarchy: nothing"),
        ("../..", '".." has no place in a cgroup path'),
    ],
)
def test_a_cgroup_that_is_not_there_is_said(running: Life, flag: str, words: str) -> None:
    begin(running)
    done = sh(running, "true", "--cgroup", flag)
    assert done.code == 255
    assert words in done.err


@pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")
def test_a_container_that_has_divided_its_cgroup_is_entered_where_its_first_process_is(running: Life) -> None:
    config = running.bundle.config
    config["linux"]["cgroupsPath"] = "/exec/c"
    for mount in config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
    config["process"]["args"] = [
        *("/bin/sh", "-c"),
        "cd /sys/fs/cgroup; mkdir sub && echo 0 > sub/cgroup.procs"
        " && for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control; done;"
        " echo > /tmp/ready; exec sleep 1000",
    ]
    begin(running)
    wait_until((running.bundle.rootfs / "tmp/ready").exists)
    if not (ROOT / "exec/c/cgroup.subtree_control").read_text().strip():
        pytest.skip("no controller to divide")
    assert lines(running, "cat /proc/self/cgroup")[-1].endswith("/sub")


# What is refused leaves nothing


REFUSED = [
    (("c", "nothing"), 'exec "nothing": executable file not found in $PATH'),
    (("c", "/nothing"), 'exec "/nothing": no such file or directory in the container'),
    (("c", "/etc/passwd"), 'exec "/etc/passwd": permission denied'),
    (("c", "/etc"), 'exec "/etc": permission denied: Is a directory'),  # engines look for the first two words
    (("--cwd", "/nowhere", "c", "true"), "--cwd: enter /nowhere: No such file or directory"),
    (("--cwd", "relative", "c", "true"), '--cwd: expected an absolute path, got "relative"'),
    (("--user", "root", "c", "true"), '--user: expected a number from 0 to 4294967294, got "root"'),
    (("--user", "0x0", "c", "true"), "--user: expected a number"),
    (("--user", "-1", "c", "true"), "--user: expected a number"),
    (("--user", "", "c", "nothing"), "executable file not found"),
    (("--user", "1:", "c", "true"), '--user: expected a number from 0 to 4294967294, got ""'),
    (("--user", "4294967295", "c", "true"), "--user: expected a number"),
    (("--user", "99999999999999999999", "c", "true"), "--user: expected a number"),
    (("--additional-gids", "wheel", "c", "true"), "--additional-gids: expected a number"),
    (("--env", "X", "c", "true"), '--env: expected NAME=value, got "X"'),
    (("--cap", "CAP_SYS_ADMINN", "c", "true"), 'unknown capability "CAP_SYS_ADMINN" (did you mean CAP_SYS_ADMIN?)'),
    (("--apparmor", "p", "c", "true"), "AppArmor"),
    (("c",), "exec needs a command, or --process"),
    (("--process", "/nowhere.json", "c"), "/nowhere.json: cannot open it"),
    (("--process", "/dev/null", "c", "true"), '"true" and --process are two answers to one question'),
    (("--console-socket", "/nowhere", "-d", "-t", "c", "true"), "--console-socket /nowhere: No such file or directory"),
    (("--console-socket", "/nowhere", "-d", "c", "true"), "--tty: --console-socket makes no sense here"),
    (("-d", "-t", "c", "true"), "--tty: a terminal needs --console-socket here"),
    (("--pidfd-socket", "/nowhere", "c", "true"), "--pidfd-socket /nowhere: No such file or directory"),
    (("--pid-file", "/nowhere/pid", "c", "true"), "write the pid file /nowhere/pid: No such file or directory"),
    (("--preserve-fds", "x", "c", "true"), "--preserve-fds: expected a number"),
]


@pytest.mark.parametrize(("args", "words"), REFUSED, ids=lambda value: " ".join(value)[:50])
def test_what_is_refused_is_said_in_one_line_and_leaves_nothing(
    running: Life, args: tuple[str, ...], words: str
) -> None:
    begin(running)
    before = traces(running.runtime.root, running.bundle.rootfs)
    done = running("exec", *args)
    assert done.code in (1, 255)
    assert words in done.err, done.err
    assert len(done.err.splitlines()) == 1
    wait_until(lambda: traces(running.runtime.root, running.bundle.rootfs) == before)
    assert running.status == "running"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"args": ["true"], "user": {"uid": 0, "gid": 0}}', "p.json:1:1: /cwd: expected a value"),
        ('{"args": ["true"],\n "cwd": 5, "user": {"uid": 0, "gid": 0}}', "p.json:2:2: /cwd: expected a string, got 5"),
        ('{"args": [], "cwd": "/", "user": {"uid": 0, "gid": 0}}', "p.json:1:2: /args: args must not be empty"),
        ('{"args": ["x"], "cwd": "/", "user": {"uid": "0", "gid": 0}}', "/user/uid: expected an integer"),
        ("[]", "p.json:1:1: expected a process object"),
        ("{", "p.json:1:2: not JSON"),
        ('{"args": ["nothing"], "cwd": "/", "user": {"uid": 0, "gid": 0}}', "p.json:1:11: /args/0: exec"),
    ],
)
def test_a_bad_process_object_is_named_with_its_place(running: Life, tmp_path: Path, text: str, words: str) -> None:
    begin(running)
    (tmp_path / "p.json").write_text(text)
    done = running("exec", "--process", tmp_path / "p.json", "c")
    assert done.code == 255
    assert words in done.err, done.err


def test_a_container_in_another_status_is_not_entered(life: Life) -> None:
    assert "does not exist" in sh(life, "true").err
    life.reach("stopped")
    done = sh(life, "true")
    assert done.code == 255
    assert 'container not running: "c" is stopped' in done.err


def test_one_that_waits_for_start_can_be_entered(life: Life) -> None:
    life.reach("created")
    assert lines(life, "echo in") == ["in"]
    assert life.status == "created"


def test_a_paused_one_only_with_a_flag_and_then_when_it_is_resumed(life: Life) -> None:
    life.reach("paused")
    done = sh(life, "true")
    assert done.code == 255
    assert '"c" is paused' in done.err
    argv = [OCIRT, "--root", str(life.runtime.root), "exec", "--ignore-paused", "c", "/bin/true"]
    process = subprocess.Popen(argv, env={})
    time.sleep(0.3)
    assert process.poll() is None
    assert life("resume", "c").code == 0
    assert process.wait(20) == 0


# Together


def test_many_at_once(running: Life) -> None:
    begin(running)
    argv = [OCIRT, "--root", str(running.runtime.root), "exec", "c", "/bin/sh", "-c"]
    processes = [subprocess.Popen([*argv, f"exit {number}"], env={}, stdin=subprocess.DEVNULL) for number in range(20)]
    assert [process.wait(60) for process in processes] == list(range(20))


def test_two_hundred_health_checks_leave_no_zombie_and_no_growth(running: Life) -> None:
    begin(running)

    def size() -> tuple[int, int]:
        state = sum(path.stat().st_size for path in running.runtime.root.rglob("*") if path.is_file())
        return state, len(json.loads(running("ps", "--format", "json", "c").out))

    assert sh(running, "true").code == 0
    before = size()
    for _ in range(200):
        assert command(OCIRT, "--root", running.runtime.root, "exec", "c", "/bin/true").code == 0
    assert size() == before
    children = subprocess.run(["ps", "-A", "-o", "ppid=,stat="], capture_output=True, text=True, check=True).stdout
    zombies = [line for line in children.splitlines() if line.split()[0] == str(running.pid) and "Z" in line]
    assert zombies == []


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[[], tuple[bytes, list[int]]]]:
    """A socket at tmp_path/sock; calling it takes one message and its descriptors."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "sock"))
    server.listen()
    server.settimeout(20)

    def take() -> tuple[bytes, list[int]]:
        connection, _ = server.accept()
        with connection:
            content, fds, _, _ = socket.recv_fds(connection, 100, 4)
        return content, fds

    yield take
    server.close()


def test_the_terminals_master_goes_to_the_console_socket(
    running: Life, tmp_path: Path, listener: Callable[[], tuple[bytes, list[int]]]
) -> None:
    begin(running)
    done = running(
        *("exec", "-d", "-t", "--console-socket", tmp_path / "sock", "c", "/bin/sh", "-c"),
        "tty; stty size; [ -t 0 ] && echo yes",
    )
    assert done.code == 0, done.err
    content, (master,) = listener()
    assert content == b"/dev/ptmx"
    shown = b""
    try:
        while chunk := os.read(master, 1000):
            shown += chunk
    except OSError:
        pass  # EIO: it has ended
    os.close(master)
    assert shown.split()[0] == b"/dev/pts/0"
    assert shown.split()[-1] == b"yes"


@pytest.mark.parametrize("verb", ["exec", "create", "run"])
def test_a_pidfd_of_the_process_goes_to_the_pidfd_socket(
    running: Life, tmp_path: Path, listener: Callable[[], tuple[bytes, list[int]]], verb: str
) -> None:
    flags = ("--pidfd-socket", tmp_path / "sock", "--pid-file", tmp_path / "pid")
    if verb == "exec":
        begin(running)
        assert running("exec", "-d", *flags, "c", "/bin/sleep", "1000").code == 0
    else:
        detach = ("--detach",) if verb == "run" else ()
        assert running(verb, *detach, *flags, "--bundle", running.bundle.path, "c").code == 0
    _, (pidfd,) = listener()
    shown = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    assert f"\nPid:\t{(tmp_path / 'pid').read_text()}\n" in shown
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    until_gone(int((tmp_path / "pid").read_text()))
    os.close(pidfd)


@pytest.mark.parametrize("verb", ["create", "run"])
def test_descriptors_are_handed_on_by_create_and_run(running: Life, tmp_path: Path, verb: str) -> None:
    (tmp_path / "f").write_text("content\n")
    script = "cat <&3 > /tmp/out; for f in /proc/self/fd/*; do echo ${f##*/}; done >> /tmp/out; mv /tmp/out /tmp/done"
    running.bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
    (running.bundle.rootfs / "bin/mv").symlink_to("busybox")
    running.bundle.write()
    flags = ("--preserve-fds", "1", "--bundle", running.bundle.path, "c")
    done = with_descriptors(tmp_path / "f", "--root", running.runtime.root, verb, *flags)
    assert done.code == 0, done.err
    if verb == "create":
        assert running("start", "c").code == 0
    wait_until((running.bundle.rootfs / "tmp/done").exists)
    content, *numbers = (running.bundle.rootfs / "tmp/done").read_text().split()
    assert content == "content"
    assert set(numbers) - {"10"} == {"0", "1", "2", "3", "4"}  # 4 is the folder's, and 10 the shell's own stdout
