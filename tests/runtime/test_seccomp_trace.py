"""run --seccomp-trace: the program notices nothing, and what was denied is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime.life import wait_until
from runtime.ordinary import Ordinary, ordinary_users
from support import CACHE, OCIRT, REPOSITORY, Bundle, Done, Runtime, traces

pytestmark = pytest.mark.root

PROBE = r"""
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_signal(int number)
{
    (void)!write(1, "caught\n", 7);
}

/* Each argument is a call, NUMBER,ARG…; "fork": the rest is a child's; "catch": a handler for SIGSYS; "block": it is
   blocked; "int80". */
int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IONBF, 0);
    for (int at = 1; at < argc; at++) {
        if (!strcmp(argv[at], "fork")) {
            pid_t child = fork();
            int status;
            if (child) {
                waitpid(child, &status, 0);
                printf("child %d\n", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
                return 0;
            }
            continue;
        }
        if (!strcmp(argv[at], "catch")) {
            signal(SIGSYS, on_signal);
            continue;
        }
        if (!strcmp(argv[at], "block")) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGSYS);
            sigprocmask(SIG_BLOCK, &set, 0);
            continue;
        }
        if (!strcmp(argv[at], "int80")) {  /* getpgrp(2) of 32 bits */
            long result = 65;
            __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
            printf("int80 %ld\n", result);
            continue;
        }
        unsigned long a[7] = { 0 };
        char *next = argv[at];
        for (int i = 0; i < 7 && *next; i++, next += *next == ',')
            a[i] = strtoul(next, &next, 0);
        long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
        printf("%ld %s\n", result, result < 0 ? strerrorname_np(errno) : "");
    }
    return 3;
}
"""
GETPPID, SETHOSTNAME, PERSONALITY, GETPGRP, UMASK = 110, 170, 135, 111, 95
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["umask"], "action": "SCMP_ACT_TRAP"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_GE"}],
        },
    ],
}


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    (folder / "probe.c").write_text("#define _GNU_SOURCE\n" + PROBE)
    subprocess.run(["gcc", "-static", "-O1", "-o", folder / "probe", folder / "probe.c"], check=True)
    return folder / "probe"


class Box:
    """Runs the probe in a container with a profile."""

    def __init__(self, runtime: Runtime, bundle: Bundle, probe: Path, profile: dict[str, Any]) -> None:
        self.runtime, self.bundle = runtime, bundle
        (bundle.rootfs / "bin" / "probe").write_bytes(probe.read_bytes())
        (bundle.rootfs / "bin" / "probe").chmod(0o755)
        bundle.config["linux"]["seccomp"] = profile
        self.file = bundle.path / "trace.json"

    def run(self, *args: str, flags: tuple[str, ...] = ()) -> Done:
        self.bundle.config["process"]["args"] = ["/bin/probe", *args]
        self.bundle.write()
        return self.runtime("run", *flags, "--bundle", self.bundle.path, "traced")

    def both(self, *args: str) -> tuple[Done, dict[str, Any]]:
        """Without a trace and with one: the same. Returns it and the trace."""
        plain = self.run(*args)
        self.file.unlink(missing_ok=True)
        done = self.run(*args, flags=(f"--seccomp-trace={self.file}",))
        assert (done.code, done.out) == (plain.code, plain.out), (done, plain)
        return done, json.loads(self.file.read_text())


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle, probe: Path) -> Box:
    return Box(runtime, bundle, probe, json.loads(json.dumps(PROFILE)))


def told(trace: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    return [(one["name"], one["count"], one["action"], one["errnoName"]) for one in trace["denied"]]


def test_errors_come_as_the_profile_has_them_in_children_too_and_are_counted(box: Box) -> None:
    before = traces(box.runtime.root)
    done, trace = box.both(f"{GETPGRP}", f"{PERSONALITY},9", f"{PERSONALITY},0", "fork", f"{GETPGRP}", f"{GETPPID}")
    assert done.out == "-1 EXDEV\n-1 EPERM\n0 \n-1 EXDEV\n1 \nchild 3\n"
    assert told(trace) == [("getpgrp", 2, "SCMP_ACT_ERRNO", "EXDEV"), ("personality", 1, "SCMP_ACT_ERRNO", "EPERM")]
    assert trace["denied"][1]["args"][0][0] == 9
    assert len(trace["denied"][0]["pids"]) == 2
    names = ["/linux/seccomp/syscalls/0/names/0", "/linux/seccomp/syscalls/3/names/0"]
    assert trace["addition"] == {"architectures": [], "syscalls": [], "remove": names}
    assert traces(box.runtime.root) == before


def test_the_table_comes_at_the_end_on_stderr_with_what_would_allow_it(box: Box) -> None:
    """With an engine's own profile, which denies by default and has conditions."""
    seccomp = json.loads((REPOSITORY / "tests" / "configs" / "docker-00.json").read_text())["linux"]["seccomp"]
    box.bundle.config["linux"]["seccomp"] = seccomp
    done = box.run(f"{PERSONALITY},9", "fork", f"{SETHOSTNAME}", flags=("--seccomp-trace",))
    assert (done.code, done.out) == (0, "-1 EPERM\n-1 EPERM\nchild 3\n")
    lines = done.err.splitlines()
    assert lines[0] == "ocirt: the seccomp profile denied 2 calls:"
    default = "1 ERRNO EPERM /linux/seccomp/defaultAction"
    assert [" ".join(line.split()) for line in lines[3:5]] == [
        f"personality 9, 0, 0, … {default}",
        f"sethostname 0, 0, 0, … {default}",
    ]
    shown = json.loads(done.err.partition("linux.seccomp.syscalls:\n")[2])
    assert shown == [
        {"names": ["sethostname"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}],
        },
    ]
    seccomp["syscalls"] = shown + seccomp["syscalls"]
    done = box.run(f"{PERSONALITY},9", flags=("--seccomp-trace",))
    assert done.out == "0 \n"
    assert done.err == "ocirt: the seccomp profile denied no system call\n"


def test_a_kill_is_a_death_by_sigsys_of_a_child_and_of_the_first_process(box: Box) -> None:
    done, trace = box.both("fork", f"{SETHOSTNAME}", f"{GETPPID}")
    assert done.out == "child 159\n"
    assert told(trace) == [("sethostname", 1, "SCMP_ACT_KILL_PROCESS", "")]
    done, trace = box.both(f"{GETPPID}", f"{SETHOSTNAME}", f"{GETPPID}")
    assert (done.code, done.out) == (159, "0 \n")
    assert told(trace) == [("sethostname", 1, "SCMP_ACT_KILL_PROCESS", "")]


def test_a_call_of_32_bits_is_told_apart(box: Box) -> None:
    box.bundle.config["linux"]["seccomp"] |= {"architectures": ["SCMP_ARCH_X86"]}
    if box.run("int80").out != "int80 -18\n":
        pytest.skip("not x86_64, or a kernel without 32 bits")
    _, trace = box.both("int80", f"{GETPGRP}")
    told = [(one["name"], one["number"], one["architecture"]) for one in trace["denied"]]
    assert sorted(told) == [("getpgrp", 65, "SCMP_ARCH_X86"), ("getpgrp", GETPGRP, "SCMP_ARCH_X86_64")]


@pytest.mark.parametrize("how", ["catch", "block"])
def test_nobody_survives_a_kill(box: Box, how: str) -> None:
    plain = box.run("fork", how, f"{SETHOSTNAME}", f"{GETPPID}")
    assert plain.out == "child 159\n"
    done = box.run("fork", how, f"{SETHOSTNAME}", f"{GETPPID}", flags=("--seccomp-trace",))
    assert done.out == "child 137\n"  # docs/seccomp.md says so: nobody but the kernel gets past a handler
    assert "sethostname" in done.err


def test_a_trap_is_the_kernels_own(box: Box) -> None:
    done, trace = box.both("catch", f"{UMASK},0", f"{GETPPID}")
    assert done.out.startswith("caught\n")
    assert trace["denied"] == []
    done = box.runtime("--debug", "run", "--seccomp-trace", "--bundle", box.bundle.path, "traced")
    assert "/linux/seccomp/syscalls/2/action: SCMP_ACT_TRAP: is done, but not recorded" in done.err


def test_a_program_that_may_not_be_executed_is_in_the_trace(box: Box) -> None:
    box.bundle.config["linux"]["seccomp"]["syscalls"].append(
        {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    )
    before = traces(box.runtime.root)
    done = box.run(f"{GETPPID}", flags=(f"--seccomp-trace={box.file}",))
    assert done.code == 1
    assert "permission denied" in done.err
    assert told(json.loads(box.file.read_text())) == [("execve", 1, "SCMP_ACT_ERRNO", "EACCES")]
    assert traces(box.runtime.root) == before


def test_it_needs_a_profile_without_a_listener_and_a_foreground_and_leaves_nothing_otherwise(
    box: Box, tmp_path: Path
) -> None:
    before = traces(box.runtime.root)
    done = box.run(flags=("--seccomp-trace", "--detach"))
    assert (done.code, "exclude each other" in done.err) == (1, True)
    done = box.run(flags=(f"--seccomp-trace={tmp_path}/none/trace.json",))
    assert (done.code, "No such file" in done.err) == (1, True)
    seccomp = box.bundle.config["linux"]["seccomp"]
    seccomp["syscalls"].append({"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"})
    seccomp["listenerPath"] = "/run/agent"
    done = box.run(flags=(f"--seccomp-trace={box.file}",))
    assert done.code == 1
    assert "/linux/seccomp/syscalls/4/action" in done.err
    assert not box.file.exists()
    del box.bundle.config["linux"]["seccomp"]
    done = box.run(flags=("--seccomp-trace",))
    assert (done.code, "there is no profile" in done.err) == (1, True)
    assert traces(box.runtime.root) == before


@pytest.fixture
def ordinary() -> Iterator[Ordinary]:
    yield from ordinary_users()


def test_an_ordinary_users_container_is_traced_too(ordinary: Ordinary, probe: Path) -> None:
    """Its processes are another user namespace's, and are killed all the same."""
    program = ordinary.bundle.rootfs / "bin" / "probe"
    program.write_bytes(probe.read_bytes())
    program.chmod(0o755)
    ordinary.bundle.config["linux"]["seccomp"] = PROFILE
    ordinary.bundle.config["process"]["args"] = ["/bin/probe", f"{GETPGRP}", "fork", f"{SETHOSTNAME}"]
    bundle = ordinary.bundle.write().path
    done = ordinary("run", f"--seccomp-trace={ordinary.home}/trace.json", "-b", bundle, "c")
    assert (done.code, done.out) == (0, "-1 EXDEV\nchild 159\n"), done.err
    trace = json.loads((ordinary.home / "trace.json").read_text())
    assert [one["name"] for one in trace["denied"]] == ["getpgrp", "sethostname"]


def test_after_run_was_killed_the_program_still_meets_the_profile_and_the_trace_comes(box: Box) -> None:
    reads = "0,0,4096,1"  # waits for a byte, and has no place for it
    box.bundle.config["process"]["args"] = ["/bin/probe", f"{GETPGRP}", reads, f"{GETPGRP}"]
    box.bundle.write()
    args = [OCIRT, "--root", box.runtime.root, "run", f"--seccomp-trace={box.file}", "-b", box.bundle.path, "traced"]
    output = box.bundle.path / "output"
    with (
        output.open("w") as out,
        subprocess.Popen(args, stdin=subprocess.PIPE, stdout=out, stderr=out, env={"OCIRT_CACHE": CACHE}) as run,
    ):
        wait_until(lambda: "EXDEV" in output.read_text())
        run.kill()
        run.wait()
        assert run.stdin
        run.stdin.write(b"x")
        run.stdin.flush()
        wait_until(lambda: output.read_text() == "-1 EXDEV\n-1 EFAULT\n-1 EXDEV\n")
        wait_until(lambda: box.file.exists() and box.file.read_text().endswith("}\n"))
    assert told(json.loads(box.file.read_text())) == [("getpgrp", 2, "SCMP_ACT_ERRNO", "EXDEV")]
    assert box.runtime("delete", "--force", "traced").code == 0
