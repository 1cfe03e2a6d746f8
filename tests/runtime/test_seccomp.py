"""linux.seccomp over the executable: what programs in containers get from the kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime.hooks import Notes
from runtime.life import wait_until
from runtime.seccomp_agent import Agent
from support import Bundle, Done, Runtime, traces

from ocirt.state.process import has_executed

pytestmark = pytest.mark.root

PROBE = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    unsigned long a[6] = { 0 };
    for (int i = 2; i < argc && i < 8; i++)
        a[i - 2] = strtoul(argv[i], 0, 0);
    long result = syscall(atol(argv[1]), a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result < 0)
        printf("errno %d\n", errno);
    else
        printf("%ld\n", result);
    return 0;
}
"""
GETPPID, SETHOSTNAME, PERSONALITY, MADE_UP = 110, 170, 135, 2000
EPERM, ENOSYS, EXDEV = 1, 38, 18
SIGSYS = 31


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    subprocess.run(["gcc", "-static", "-O1", "-o", folder / "probe", folder / "probe.c"], check=True)
    return folder / "probe"


@pytest.fixture
def box(bundle: Bundle, probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    """A bundle with /bin/probe."""
    (bundle.rootfs / "bin" / "probe").write_bytes(probe.read_bytes())
    (bundle.rootfs / "bin" / "probe").chmod(0o755)
    yield bundle


class Filtered:
    """Runs /bin/probe in a container with a profile."""

    def __init__(self, runtime: Runtime, bundle: Bundle, cache: Path) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.env = {"OCIRT_CACHE": str(cache)}

    def profile(self, **seccomp: Any) -> None:
        self.bundle.config["linux"]["seccomp"] = seccomp

    def __call__(self, *args: str | int, flags: tuple[str, ...] = ()) -> Done:
        self.bundle.config["process"]["args"] = [str(arg) for arg in args]
        self.bundle.write()
        return self.runtime(*flags, "run", "--bundle", self.bundle.path, "filtered", env=self.env)

    def probe(self, number: int, *args: int) -> str:
        done = self("/bin/probe", number, *args)
        assert done.code == 0, done
        return done.out.strip()


@pytest.fixture
def filtered(runtime: Runtime, box: Bundle, tmp_path: Path) -> Filtered:
    return Filtered(runtime, box, tmp_path / "cache")


def rule(name: str, action: str, *args: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"names": [name], "action": f"SCMP_ACT_{action}", **more}
    return found | {"args": list(args)} if args else found


def with_privileges(bundle: Bundle, *capabilities: str) -> None:
    process = bundle.config["process"]
    process["noNewPrivileges"] = False
    for name in ("bounding", "effective", "permitted"):
        process["capabilities"][name] = [*process["capabilities"][name], *capabilities]


ALLOWED = {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("action", "more", "answer"),
    [("ERRNO", {}, "errno 1"), ("ERRNO", {"errnoRet": 18}, "errno 18"), ("ERRNO", {"errnoRet": 0}, "0")],
)
def test_errno(filtered: Filtered, action: str, more: dict[str, Any], answer: str) -> None:
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", action, **more)])
    assert filtered.probe(GETPPID) == answer


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_what_kills(filtered: Filtered, action: str) -> None:
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", action)])
    done = filtered("/bin/probe", GETPPID)
    assert (done.code, done.out) == (128 + SIGSYS, "")


def test_trace_without_a_tracer_is_enosys(filtered: Filtered) -> None:
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", "TRACE")])
    assert filtered.probe(GETPPID) == f"errno {ENOSYS}"


@pytest.mark.parametrize("action", ["LOG", "ALLOW"])
def test_what_lets_the_call_happen(filtered: Filtered, action: str) -> None:
    filtered.profile(defaultAction="SCMP_ACT_LOG", syscalls=[rule("getppid", action)])
    assert filtered.probe(GETPPID) == "0"


def test_conditions_compare_arguments(filtered: Filtered) -> None:
    """personality(2) of a made-up value, so that nothing but the filter can be the reason."""
    equal = {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}
    masked = {"index": 0, "value": 0xF00, "valueTwo": 0x300, "op": "SCMP_CMP_MASKED_EQ"}
    rules = [rule("personality", "ERRNO", one, errnoRet=EXDEV) for one in (equal, masked)]
    filtered.profile(**ALLOWED, syscalls=rules)
    assert filtered.probe(PERSONALITY, 5) == f"errno {EXDEV}"
    assert filtered.probe(PERSONALITY, 0x3FF) == f"errno {EXDEV}"
    assert filtered.probe(PERSONALITY, 0) == "0"


def test_newer_calls_than_the_profile_knows_do_not_exist(filtered: Filtered) -> None:
    names = Path(__file__).parents[1] / "configs" / "docker-00.json"
    import json

    profile = json.loads(names.read_text())["linux"]["seccomp"]
    filtered.profile(**profile)
    assert filtered.probe(MADE_UP) == f"errno {ENOSYS}"
    assert filtered.probe(SETHOSTNAME) == f"errno {EPERM}"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("privileges", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_with_and_without_no_new_privs_the_program_has_its_own_rights(
    filtered: Filtered, uid: int, privileges: bool, mapped: bool
) -> None:
    """Without no_new_privs init needs CAP_SYS_ADMIN to load the filter; the program must not see anything of that."""
    process = filtered.bundle.config["process"]
    if mapped:
        linux = filtered.bundle.config["linux"]
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    process["user"] = {"uid": uid, "gid": uid}
    process["noNewPrivileges"] = not privileges
    process["capabilities"]["inheritable"] = process["capabilities"]["ambient"] = ["CAP_KILL"]
    script = ["grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status"]
    without = filtered(*script)
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", "ERRNO")])
    done = filtered(*script)
    assert done.code == 0, done.err
    assert done.out == without.out.replace("Seccomp:\t0", "Seccomp:\t2")
    assert without.out.count("Seccomp:\t0") == 1
    assert filtered.probe(GETPPID) == f"errno {EPERM}"


def test_a_program_that_has_cap_sys_admin_keeps_it(filtered: Filtered) -> None:
    with_privileges(filtered.bundle, "CAP_SYS_ADMIN")
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", "ERRNO"), rule("capset", "KILL")])
    assert filtered.probe(GETPPID) == f"errno {EPERM}"
    assert filtered.probe(SETHOSTNAME, 0, 0) == "0"


def test_the_filter_may_forbid_all_that_init_does_before_it(filtered: Filtered) -> None:
    """Only what a static program needs is allowed, and execve: none of umask, close_range, openat2, prctl, capset."""
    names = "execve brk mmap arch_prctl set_tid_address set_robust_list rseq prlimit64 readlinkat getrandom mprotect"
    names += " newfstatat fstat write exit_group getppid uname readlink open close read"
    filtered.profile(defaultAction="SCMP_ACT_KILL_PROCESS", syscalls=[rule(name, "ALLOW") for name in names.split()])
    assert filtered.probe(GETPPID) == "0"


@pytest.mark.parametrize("flag", ["TSYNC", "LOG", "SPEC_ALLOW"])
def test_every_flag_is_taken(filtered: Filtered, flag: str) -> None:
    filtered.profile(
        **ALLOWED, flags=[f"SECCOMP_FILTER_FLAG_{flag}"], syscalls=[rule("getppid", "ERRNO", errnoRet=EXDEV)]
    )
    assert filtered.probe(GETPPID) == f"errno {EXDEV}"


def test_an_empty_profile_asks_for_nothing(filtered: Filtered) -> None:
    filtered.profile()
    assert "Seccomp:\t0" in filtered("grep", "Seccomp:", "/proc/self/status").out


# What cannot start has to say so.


@pytest.mark.parametrize("forbidden", ["execve", "execve write", "execve write exit_group"])
@pytest.mark.parametrize("action", ["ERRNO", "KILL", "KILL_PROCESS", "TRAP"])
@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_profile_that_forbids_execve_is_no_success(
    filtered: Filtered, runtime: Runtime, forbidden: str, action: str, verb: str
) -> None:
    filtered.profile(**ALLOWED, syscalls=[rule(name, action) for name in forbidden.split()])
    before = traces(runtime.root)
    if verb == "run":
        done = filtered("/bin/true")
    else:
        filtered.bundle.write()
        created = runtime("create", "--bundle", filtered.bundle.path, "filtered", env=filtered.env)
        assert created.code == 0, created.err
        done = runtime("start", "filtered")
        assert runtime.state("filtered")["status"] == "stopped"
        assert runtime("delete", "filtered").code == 0
    assert done.code == 1, done
    assert "before the program was executed" in done.err or 'exec "/bin/true": operation not permitted' in done.err
    runtime.root.mkdir(exist_ok=True)
    after = traces(runtime.root)
    assert after.inits == before.inits and after.cgroups == before.cgroups
    assert not list(runtime.root.iterdir())


def test_a_profile_without_capset_says_what_to_do(filtered: Filtered) -> None:
    filtered.bundle.config["process"]["noNewPrivileges"] = False
    filtered.profile(**ALLOWED, syscalls=[rule("capset", "ERRNO")])
    done = filtered("/bin/true")
    assert done.code == 1
    assert "/linux/seccomp: give up CAP_SYS_ADMIN" in done.err and "the profile forbids capset" in done.err
    filtered.bundle.config["process"]["noNewPrivileges"] = True
    assert filtered("/bin/true").code == 0


def test_a_process_has_executed_once_it_is_another_program() -> None:
    """What tells end-of-file by execve from one by death: also of a zombie, and unknown of who is gone."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reading, 1)
        os.execv("/bin/true", ["true"])
    try:
        assert has_executed(pid) is False
        os.write(writing, b"x")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert has_executed(pid) is True
    finally:
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
    assert has_executed(pid) is None


def test_a_program_that_was_reaped_at_once_was_started(filtered: Filtered, runtime: Runtime, agent: Agent) -> None:
    """Its parent waits for it while `start` looks: nobody is there any more to look at."""
    filtered.bundle.config["process"]["args"] = ["/bin/true"]
    filtered.bundle.write()
    assert runtime("create", "--bundle", filtered.bundle.path, "filtered", env=filtered.env).code == 0
    try:
        assert runtime("start", "filtered").code == 0
    finally:
        runtime("delete", "--force", "filtered")


def test_check_warns_of_it(filtered: Filtered, runtime: Runtime) -> None:
    filtered.bundle.config["process"]["noNewPrivileges"] = False
    filtered.profile(**ALLOWED, syscalls=[rule("execve", "ERRNO"), rule("capset", "KILL")])
    filtered.bundle.write()
    done = runtime("check", filtered.bundle.path)
    assert "SCMP_ACT_ERRNO for execve, which the program's start needs" in done.out + done.err
    assert "SCMP_ACT_KILL for capset, which giving up CAP_SYS_ADMIN" in done.out + done.err


# SCMP_ACT_NOTIFY


@pytest.fixture
def agent(filtered: Filtered, tmp_path: Path) -> Iterator[Agent]:
    """It answers with EXDEV; the container has a profile that asks it about getppid."""
    made = Agent(tmp_path / "agent.sock", EXDEV)
    filtered.profile(
        **ALLOWED,
        syscalls=[rule("getppid", "NOTIFY")],
        listenerPath=str(tmp_path / "agent.sock"),
        listenerMetadata="told",
    )
    yield made
    made.close()


def told(agent: Agent, filtered: Filtered, pid: int | None = None) -> None:
    (state,) = agent.states
    assert agent.ended
    assert agent.descriptors == ["anon_inode:seccomp notify"]
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "told"
    assert state["ociVersion"] == filtered.bundle.config["ociVersion"]
    inner = state["state"]
    assert (inner["id"], inner["status"]) == ("filtered", "created")
    assert inner["bundle"] == str(filtered.bundle.path)
    assert inner["pid"] == state["pid"]
    if pid:
        assert state["pid"] == pid


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("privileges", [False, True])
@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_TSYNC"], ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]])
def test_run_hands_the_listener_to_the_agent(
    filtered: Filtered, agent: Agent, uid: int, privileges: bool, flags: list[str]
) -> None:
    process = filtered.bundle.config["process"]
    process["user"] = {"uid": uid, "gid": uid}
    process["noNewPrivileges"] = not privileges
    filtered.bundle.config["linux"]["seccomp"]["flags"] = flags
    assert filtered.probe(GETPPID) == f"errno {EXDEV}"
    told(agent, filtered)
    assert GETPPID in agent.calls


def test_the_filter_may_forbid_all_that_sending_would_need(filtered: Filtered, agent: Agent) -> None:
    names = "write sendmsg sendto futex nanosleep clock_nanosleep poll ppoll read recvmsg openat openat2 mmap".split()
    seccomp = filtered.bundle.config["linux"]["seccomp"]
    seccomp["syscalls"] += [rule(name, "NOTIFY") for name in names]
    done = filtered("/bin/probe", GETPPID)
    assert done.code == 0
    assert GETPPID in agent.calls
    told(agent, filtered)


def test_start_hands_the_listener_to_the_agent(filtered: Filtered, runtime: Runtime, agent: Agent) -> None:
    filtered.bundle.config["process"]["args"] = ["/bin/sh", "-c", "/bin/probe 110; sleep 1000"]
    filtered.bundle.write()
    assert runtime("create", "--bundle", filtered.bundle.path, "filtered", env=filtered.env).code == 0
    pid = runtime.state("filtered")["pid"]
    assert not agent.states
    try:
        done = runtime("start", "filtered")
        assert done.code == 0, done.err
        assert runtime.state("filtered")["status"] == "running"
        assert not [name for name in os.listdir(f"/proc/{pid}/fd") if int(name) > 2]
    finally:
        assert runtime("delete", "--force", "filtered").code == 0
    told(agent, filtered, pid)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_hook_under_the_filter_has_a_listener_of_its_own(
    filtered: Filtered, runtime: Runtime, agent: Agent, verb: str
) -> None:
    notes = Notes(filtered.bundle)
    notes.add("startContainer", "/bin/probe 110 > {notes}/hook")
    filtered.bundle.config["process"]["args"] = ["/bin/sh", "-c", "/bin/probe 110 > /notes/program"]
    filtered.bundle.write()
    done = runtime(verb, "--bundle", filtered.bundle.path, "filtered", env=filtered.env)
    assert done.code == 0, done.err
    if verb == "create":
        assert runtime("start", "filtered").code == 0
        wait_until((notes.path / "program").exists)
        runtime("delete", "--force", "filtered")
    assert notes.read("hook") == notes.read("program") == f"errno {EXDEV}\n"
    hook, program = agent.states
    assert hook["pid"] != program["pid"]
    assert {one["state"]["pid"] for one in agent.states} == {program["pid"]}
    assert {one["state"]["status"] for one in agent.states} == {"created"}


@pytest.mark.parametrize("uid", [0, 1000])
def test_exec_has_a_listener_of_its_own(filtered: Filtered, runtime: Runtime, agent: Agent, uid: int) -> None:
    filtered.bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    filtered.bundle.write()
    done = runtime("run", "--detach", "--bundle", filtered.bundle.path, "filtered", env=filtered.env)
    assert done.code == 0, done.err
    try:
        done = runtime("exec", "--user", uid, "filtered", "/bin/probe", GETPPID, env=filtered.env)
        assert (done.code, done.out.strip(), done.err) == (0, f"errno {EXDEV}", "")
        _, told_of = agent.states
        assert told_of["pid"] != told_of["state"]["pid"] == runtime.state("filtered")["pid"]
        assert told_of["state"]["status"] == "running"
    finally:
        runtime("delete", "--force", "filtered")


def test_a_hook_whose_agent_is_gone(filtered: Filtered, runtime: Runtime, tmp_path: Path) -> None:
    """It is asked for the first time when the hook is started: then the container has to go."""
    (tmp_path / "agent.sock").write_text("")
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", "NOTIFY")], listenerPath=str(tmp_path / "agent.sock"))
    Notes(filtered.bundle).add("startContainer", "true")
    before = traces(runtime.root)
    done = filtered("/bin/true")
    assert done.code == 1 and "/linux/seccomp/listenerPath" in done.err
    assert traces(runtime.root) == before


@pytest.mark.parametrize(
    ("verb", "kind", "words"),
    [
        ("create", "absent", "No such file"),
        ("create", "file", "not a socket"),
        ("run", "absent", "No such file"),
        ("run", "file", "refused"),
        ("run", "deaf", "refused"),
    ],
)
def test_an_agent_that_is_not_there(
    filtered: Filtered, runtime: Runtime, tmp_path: Path, verb: str, kind: str, words: str
) -> None:
    path = tmp_path / "agent.sock"
    if kind == "file":
        path.write_text("")
    elif kind == "deaf":
        import socket

        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
    filtered.profile(**ALLOWED, syscalls=[rule("getppid", "NOTIFY")], listenerPath=str(path))
    filtered.bundle.write()
    before = traces(tmp_path, filtered.bundle.rootfs)
    done = runtime(verb, "--bundle", filtered.bundle.path, "filtered", env=filtered.env)
    assert done.code == 1
    assert words in done.err and "/linux/seccomp/listenerPath" in done.err
    after = traces(tmp_path, filtered.bundle.rootfs)
    after.state = {name for name in after.state if "cache" not in name}
    assert vars(after) == vars(before)


def test_start_without_the_agent_can_be_tried_again(
    filtered: Filtered, runtime: Runtime, agent: Agent, tmp_path: Path
) -> None:
    filtered.bundle.config["process"]["args"] = ["/bin/probe", "110"]
    filtered.bundle.write()
    assert runtime("create", "--bundle", filtered.bundle.path, "filtered", env=filtered.env).code == 0
    try:
        os.rename(tmp_path / "agent.sock", tmp_path / "elsewhere")
        done = runtime("start", "filtered")
        assert done.code == 1 and "No such file" in done.err, done.err
        assert runtime.state("filtered")["status"] == "created"
        os.rename(tmp_path / "elsewhere", tmp_path / "agent.sock")
        assert runtime("start", "filtered").code == 0
    finally:
        runtime("delete", "--force", "filtered")
    assert agent.states


@pytest.mark.parametrize("end", ["kill", "delete"])
def test_a_container_that_waits_for_an_agent_can_be_ended(
    filtered: Filtered, runtime: Runtime, tmp_path: Path, end: str
) -> None:
    """The agent takes the listener and never answers: the program hangs in its system call."""
    import socket

    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        filtered.profile(**ALLOWED, syscalls=[rule("getppid", "NOTIFY")], listenerPath=str(path))
        filtered.bundle.config["process"]["args"] = ["/bin/probe", "110"]
        filtered.bundle.write()
        assert runtime("create", "--bundle", filtered.bundle.path, "filtered", env=filtered.env).code == 0
        assert runtime("start", "filtered").code == 0
        connection, _ = silent.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
        try:
            if end == "kill":
                assert runtime("kill", "filtered", "KILL").code == 0
                until = time.monotonic() + 10
                while runtime.state("filtered")["status"] != "stopped":
                    assert time.monotonic() < until
                assert runtime("delete", "filtered").code == 0
            else:
                assert runtime("delete", "--force", "filtered").code == 0
        finally:
            for fd in fds:
                os.close(fd)
    assert not list(runtime.root.iterdir())
