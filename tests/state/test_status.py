"""state.process and state.status: what the kernel says of a container's first process, whatever a file says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocirt.state.process import INIT_NAME, PF_EXITING, is_alive, is_waiting_init, start_time
from ocirt.state.status import CREATED, CREATING, RUNNING, STOPPED, status_of
from ocirt.state.store import START, unfinished

GONE = 2**22 - 1
"""A pid that no process has, on a machine with fewer than four million."""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@dataclass
class Init:
    """A process that has the flags and the file of ocirt-init."""

    pid: int

    def kill(self) -> None:
        """It stays a zombie."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            while ") Z " not in Path(f"/proc/{self.pid}/stat").read_text():
                time.sleep(0.001)
        except FileNotFoundError:
            pass  # its parent, a shell, has waited for it all the same


@pytest.fixture
def init() -> Iterator[Init]:
    """It runs from a memfd of init's name, and is a clone of what was executed. Its parent leaves it a zombie."""
    fd = os.memfd_create(INIT_NAME, 0)
    os.write(fd, Path("/bin/busybox").read_bytes())
    script = "exec 3<&0; (read x <&3) & echo $!; read x <&3"
    with subprocess.Popen(
        ["sh", "-c", script],
        executable=f"/proc/self/fd/{fd}",
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        os.close(fd)
        assert process.stdout
        yield Init(int(process.stdout.readline()))
        process.kill()


def state_of(pid: int, **values: Any) -> dict[str, Any]:
    return unfinished("one") | {"pid": pid, "pidStart": start_time(pid)} | values


def test_a_start_time_names_one_process(sleeper: subprocess.Popen[bytes]) -> None:
    started = start_time(sleeper.pid)
    assert started > 0
    assert started == start_time(sleeper.pid)
    assert started >= start_time(os.getpid())
    assert is_alive(sleeper.pid, started)


def test_a_process_that_is_gone_has_none() -> None:
    assert start_time(GONE) == 0
    assert not is_alive(GONE, 1)


def test_a_zombie_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    started = start_time(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(sleeper.pid) == 0
    assert not is_alive(sleeper.pid, started)


EXIT = 60 if os.uname().machine == "x86_64" else 93
"""exit(2), which ends one thread."""
FIRST_THREAD_ENDS = f"""
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall({EXIT}, 0)
"""


def test_a_process_whose_first_thread_has_ended_is_alive(tmp_path: Path) -> None:
    """Until the others have ended, too: the kernel shows it as a zombie all the time."""
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS]) as process:
        try:
            state = state_of(process.pid)
            while ") Z " not in Path(f"/proc/{process.pid}/stat").read_text():
                assert process.poll() is None
                time.sleep(0.01)
            assert is_alive(process.pid, state["pidStart"])
            assert status_of(state, str(tmp_path)) == RUNNING
        finally:
            process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert status_of(state, str(tmp_path)) == STOPPED


def test_a_reused_pid_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    assert not is_alive(sleeper.pid, start_time(sleeper.pid) - 1)


@pytest.mark.parametrize("pid", [0, -1])
def test_no_pid_is_not_alive(pid: int) -> None:
    assert not is_alive(pid, 0)


def test_a_name_with_brackets_and_spaces_does_not_confuse(tmp_path: Path) -> None:
    """/proc/PID/stat has the name unescaped, in brackets."""
    program = tmp_path / ") Z 1 (x"
    program.write_bytes(Path("/bin/busybox").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen(["sleep", "1000"], executable=program) as process:
        assert start_time(process.pid) >= start_time(os.getpid())
        process.kill()


def test_init_is_known_by_the_file_that_it_runs(init: Init, sleeper: subprocess.Popen[bytes]) -> None:
    assert is_waiting_init(init.pid)
    assert not is_waiting_init(sleeper.pid)
    with pytest.raises(FileNotFoundError):
        is_waiting_init(GONE)


def test_a_process_that_is_ending_does_not_run(init: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the loss of its memory and its end as a zombie: its program cannot be read, its stat says nothing."""
    state = state_of(init.pid)
    init.kill()
    monkeypatch.setattr(
        "ocirt.state.status.flags_of", lambda pid, started: PF_EXITING
    )  # a zombie has no program either
    assert status_of(state, str(tmp_path)) == STOPPED


def test_a_container_whose_creator_is_at_work_is_being_created(tmp_path: Path) -> None:
    creator = [os.getpid(), start_time(os.getpid())]
    assert status_of(unfinished("one") | {"creator": creator}, str(tmp_path)) == CREATING


def test_a_container_whose_creator_died_is_stopped(tmp_path: Path) -> None:
    assert status_of(unfinished("one") | {"creator": [GONE, 1]}, str(tmp_path)) == STOPPED
    assert status_of(unfinished("one"), str(tmp_path)) == STOPPED


def test_an_init_without_a_fifo_is_being_created(init: Init, tmp_path: Path) -> None:
    assert status_of(state_of(init.pid), str(tmp_path)) == CREATING


def test_an_init_with_a_fifo_is_created(init: Init, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / START)
    assert status_of(state_of(init.pid), str(tmp_path)) == CREATED


def test_another_program_is_running(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert status_of(state_of(sleeper.pid), str(tmp_path)) == RUNNING


def test_a_program_in_a_file_of_init_s_name_is_running(tmp_path: Path) -> None:
    """Whoever is in the container can make such a file, but not be a clone that has executed nothing."""
    fd = os.memfd_create(INIT_NAME, 0)
    os.write(fd, Path("/bin/busybox").read_bytes())
    with subprocess.Popen(["sleep", "1000"], executable=f"/proc/self/fd/{fd}", pass_fds=[fd]) as process:
        os.close(fd)
        assert is_waiting_init(process.pid)
        assert status_of(state_of(process.pid), str(tmp_path)) == RUNNING
        process.kill()


def test_a_process_that_has_ended_is_stopped(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    state = state_of(sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert status_of(state, str(tmp_path)) == STOPPED


def test_a_reused_pid_is_stopped(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    state = state_of(sleeper.pid, pidStart=1)
    assert status_of(state, str(tmp_path)) == STOPPED
