"""run: how its arguments name bundle and container, its exit codes, and signals in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle, Runtime, cgroup_folders, command, inits

pytestmark = pytest.mark.root


def say_id(bundle: Bundle) -> Bundle:
    """Its hostname says nothing of the id, but its cgroup does."""
    bundle.config["linux"]["namespaces"] = [
        one for one in bundle.config["linux"]["namespaces"] if one["type"] != "cgroup"
    ]
    bundle.config["process"]["args"] = ["/bin/cat", "/proc/self/cgroup"]
    return bundle.write()


def id_in(out: str) -> str:
    """The container's id: the last component of its default cgroup, on the hierarchies that it was put into."""
    pure_v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    names = {line.rpartition("/")[2] for line in out.splitlines() if line.startswith("0::") == pure_v2}
    assert len(names) == 1, out
    return names.pop()


def ways(bundle: Path) -> dict[str, tuple[list[str], Path, str]]:
    """title → (arguments, working directory, the id that is meant)"""
    parent = bundle.parent
    return {
        "absolute": ([str(bundle)], parent, "bundle"),
        "a trailing slash": ([f"{bundle}/"], parent, "bundle"),
        "relative with a slash": (["bundle/"], parent, "bundle"),
        "relative without": (["bundle"], parent, "bundle"),
        "this folder": (["."], bundle, "bundle"),
        "the folder above": ([".."], bundle / "rootfs", "bundle"),
        "a symlink": (["./link"], parent, "bundle"),
        "a symlink with a slash": (["link/"], parent, "bundle"),
        "bundle and id": ([f"{bundle}/", "mine"], parent, "mine"),
        "runc's way": (["--bundle", str(bundle), "mine"], parent, "mine"),
        "runc's short way": (["-b", str(bundle), "mine"], parent, "mine"),
        "the id alone": (["mine"], bundle, "mine"),
        "flags after the bundle": ([f"{bundle}/", "mine", "--pid-file", str(parent / "pid")], parent, "mine"),
    }


@pytest.mark.parametrize("way", ways(Path("/bundle")))
def test_the_arguments_name_bundle_and_container(runtime: Runtime, bundle: Bundle, way: str) -> None:
    say_id(bundle)
    (bundle.path.parent / "link").symlink_to("bundle")
    arguments, folder, expected = ways(bundle.path)[way]
    done = runtime("run", *arguments, cwd=folder)
    assert (done.code, done.err) == (0, "")
    assert id_in(done.out) == expected


def test_two_words_without_a_bundle_among_them_are_an_error(runtime: Runtime, bundle: Bundle) -> None:
    done = runtime("run", "one", "two", cwd=bundle.path)
    assert (done.code, "is no bundle" in done.err) == (1, True)


def test_bundle_flag_and_two_arguments_are_an_error(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime("run", "--bundle", bundle.path, "one", "two").code == 1


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_the_payloads(runtime: Runtime, bundle: Bundle, code: int) -> None:
    assert runtime.sh(bundle, f"exit {code}").code == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGABRT])
def test_the_exit_code_of_a_payload_that_a_signal_ended_is_128_and_the_signal(
    runtime: Runtime, bundle: Bundle, number: int
) -> None:
    """Pid 1 of a pid namespace is immune to its own signals, so without one."""
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
    assert runtime.sh(bundle, f"kill -{int(number)} $$").code == 128 + number


def test_stdin_stdout_and_stderr_are_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    done = runtime.sh(bundle, "cat; echo error >&2", stdin="input\n")
    assert (done.out, done.err, done.code) == ("input\n", "error\n", 0)


def test_a_megabyte_of_output_is_complete(runtime: Runtime, bundle: Bundle) -> None:
    done = runtime.sh(bundle, "head -c 1048576 /dev/zero")
    assert len(done.out) == 1 << 20


def test_after_run_nothing_of_the_container_is_left(runtime: Runtime, bundle: Bundle) -> None:
    folders = cgroup_folders()
    assert runtime.sh(bundle, "sleep 60 & sleep 60 & exit 3").code == 3
    assert list(runtime.root.iterdir()) == []
    assert cgroup_folders() == folders


class Foreground:
    """`ocirt run` of a script that says when it is ready."""

    def __init__(self, runtime: Runtime, bundle: Bundle, script: str, **options: Any) -> None:
        bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
        bundle.write()
        self.process = subprocess.Popen(
            [OCIRT, "--root", str(runtime.root), "run", "--bundle", str(bundle.path), "f"],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def end(self) -> int:
        assert self.process.stdout
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "QUIT", "ALRM", "CONT", "RTMIN"])
def test_a_signal_to_run_reaches_the_payload(runtime: Runtime, bundle: Bundle, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    script = f"trap 'echo got {int(number)}; exit 9' {int(number)}; echo ready; while :; do sleep 0.02; done"
    foreground = Foreground(runtime, bundle, script)
    assert foreground.line() == "ready\n"
    foreground.process.send_signal(number)
    assert foreground.line() == f"got {int(number)}\n"
    assert foreground.end() == 9


def test_many_signals_in_a_row_do_not_end_run(runtime: Runtime, bundle: Bundle) -> None:
    script = "trap : 10 12; trap 'exit 0' 15; echo ready; while :; do sleep 0.01; done"
    foreground = Foreground(runtime, bundle, script)
    assert foreground.line() == "ready\n"
    for _ in range(100):
        foreground.process.send_signal(signal.SIGUSR1)
        foreground.process.send_signal(signal.SIGUSR2)
    foreground.process.send_signal(signal.SIGTERM)
    assert foreground.end() == 0


def test_a_container_outlives_a_foreground_run_that_was_killed_and_can_be_deleted(
    runtime: Runtime, bundle: Bundle
) -> None:
    foreground = Foreground(runtime, bundle, "echo ready; while :; do sleep 0.05; done")
    assert foreground.line() == "ready\n"
    foreground.process.kill()
    foreground.end()
    assert runtime.state("f")["status"] == "running"
    assert runtime("delete", "--force", "f").code == 0
    assert list(runtime.root.iterdir()) == []


def test_a_container_that_is_deleted_by_force_ends_its_run(runtime: Runtime, bundle: Bundle) -> None:
    foreground = Foreground(runtime, bundle, "echo ready; while :; do sleep 0.05; done")
    assert foreground.line() == "ready\n"
    assert runtime("delete", "--force", "f").code == 0
    assert foreground.end() == 128 + 9


def test_detached_it_returns_at_once_and_writes_the_pid_file(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    pid_file = bundle.path / "pid"
    # its output must not be ours, or reading to the end would wait for the container
    done = subprocess.run(
        [OCIRT, "--root", runtime.root, "run", "-d", "--pid-file", pid_file, "-b", bundle.path, "d"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )
    try:
        assert done.returncode == 0
        state = runtime.state("d")
        assert (state["status"], str(state["pid"])) == ("running", pid_file.read_text())
    finally:
        assert runtime("delete", "--force", "d").code == 0


@pytest.mark.parametrize("verb", [["run", "--detach"], ["create"]])
def test_a_terminal_without_a_console_socket_is_refused_by_what_does_not_stay(
    runtime: Runtime, bundle: Bundle, verb: list[str]
) -> None:
    bundle.config["process"]["terminal"] = True
    bundle.write()
    done = runtime(*verb, "--bundle", bundle.path, "t")
    assert done.code == 1
    assert "--console-socket" in done.err
    assert "/process/terminal" in done.err


def test_called_through_a_symlink_with_an_empty_environment_and_a_deleted_working_directory(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    link = tmp_path / "runc"
    link.symlink_to(OCIRT)
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "{link}" --root "{runtime.root}" run -b "{bundle.path}" x'
    done = command("/bin/sh", "-c", script)
    assert (done.code, done.err) == (0, "")


def test_signals_that_the_caller_ignores_are_forwarded_all_the_same(runtime: Runtime, bundle: Bundle) -> None:
    """nohup and background jobs of a shell start us with HUP and INT ignored."""
    script = "trap 'echo got; exit 9' 1; echo ready; while :; do sleep 0.02; done"
    foreground = Foreground(
        runtime, bundle, script, preexec_fn=lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN), None)[1]
    )
    assert foreground.line() == "ready\n"
    foreground.process.send_signal(signal.SIGHUP)
    assert foreground.line() == "got\n"
    assert foreground.end() == 9


def test_a_signal_before_the_payload_runs_undoes_everything(runtime: Runtime, bundle: Bundle) -> None:
    """Sent at growing distances from the start, so that it hits every part of the creation once."""
    for turn in range(12):
        process = subprocess.Popen(
            [OCIRT, "--root", str(runtime.root), "run", "--bundle", str(bundle.path), "early"],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + turn * 0.004
        while time.monotonic() < until:
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 143, -15)  # -15: before Python had a handler
        assert not runtime.root.exists() or list(runtime.root.iterdir()) == []
        assert not inits()


@pytest.mark.parametrize("flags", [(), ("--log", "log")], ids=["by hand", "by an engine"])
def test_warnings_are_for_who_looks_at_a_terminal(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    bundle.config["process"]["capabilities"]["ambient"] = ["CAP_KILL"]
    bundle.config["process"]["capabilities"]["inheritable"] = []
    bundle.write()
    ours, theirs = os.openpty()
    try:
        done = runtime(*flags, "run", "--bundle", bundle.path, "c", stderr=theirs, cwd=tmp_path)
        assert done.code == 0
        os.set_blocking(ours, False)
        try:
            said = os.read(ours, 4096).decode()
        except BlockingIOError:
            said = ""
    finally:
        os.close(ours)
        os.close(theirs)
    assert said.startswith("ocirt: warning: /process/capabilities/ambient: CAP_KILL") == (not flags), said
