"""run, exec, start and attach, with real containers: streams, exit codes, terminals, signals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Ocim

pytestmark = pytest.mark.root
PATIENCE = 120.0
QUICK = ("run", "--rm", "--network", "none")


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_output_streams_and_the_exit_code(ocim: Ocim) -> None:
    done = ocim.run(*QUICK, "box:1", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert ocim("ps", "-aq") == ""


def test_a_signal_is_128_and_its_number(ocim: Ocim) -> None:
    ocim(*QUICK, "--init", "box:1", "sh", "-c", "kill -9 $$", code=137)


def test_stdin(ocim: Ocim) -> None:
    data = os.urandom(300_000)
    assert ocim.run(*QUICK, "-i", "box:1", "cat", input=data).stdout == data
    assert ocim(*QUICK, "box:1", "cat", input="not for it") == ""


def test_much_output_to_a_slow_reader_arrives(ocim: Ocim) -> None:
    script = "i=0; while test $i -lt 200; do cat /bin/busybox; i=$((i+1)); done"
    process = ocim.popen(*QUICK, "box:1", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stream:
        select.select([stream], [], [])
        size = sum(map(len, iter(lambda: stream.read(1 << 16), b"")))
    assert process.wait() == 0 and size == 200 * Path("/bin/busybox").stat().st_size


def test_who_reads_no_more_ends_nothing(ocim: Ocim) -> None:
    """The container goes on, as with docker: nobody is told that its output is lost."""
    process = ocim.popen(*QUICK, "box:1", "sh", "-c", "echo begun; cat /bin/busybox; exit 3", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.stdout.close()
    assert process.wait() == 3


@pytest.mark.parametrize(("program", "code"), [("nope", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_run(ocim: Ocim, program: str, code: int) -> None:
    for words in (QUICK, ("run", "--rm", "-d")):
        message = ocim.error(*words, "box:1", program, code=code)
        assert program in message and "config.json" not in message
    assert ocim("ps", "-aq") == ""


def test_what_ocim_refuses_is_125(ocim: Ocim) -> None:
    assert "unknown flag" in ocim.error("run", "--nope", code=125)
    assert "--publish" in ocim.error(*QUICK, "-p", "80:80", "box:1", code=125)
    assert "no terminal" in ocim.error(*QUICK, "-it", "box:1", code=125)
    assert "there is no image" in ocim.error(*QUICK, "--pull", "never", "nope:1", code=125)


def test_what_is_asked_for_is_there(ocim: Ocim) -> None:
    (ocim.folder / "shared").mkdir()
    (ocim.folder / "shared" / "file").write_text("here\n")
    (ocim.folder / "variables").write_text("FROM_FILE=f\n")
    words = (
        "--hostname h -e A=1 -e HOME=/x --env-file variables -w /tmp -u me --read-only --tmpfs /scratch"
        f" -v {ocim.folder}/shared:/shared:ro -v named:/named --label l=1 --memory 64m --pids-limit 30"
    ).split()
    script = "hostname; echo $A $FROM_FILE $HOME; readlink /proc/self/cwd; id -u; cat /shared/file"
    script += "; touch /x; touch /shared/y"
    done = ocim.run(*QUICK, *words, "box:1", "sh", "-c", script, code=1)
    assert done.stdout.decode().split("\n") == ["h", "1 f /x", "/tmp", "1000", "here", ""]
    assert done.stderr.count(b"Read-only file system") == 2
    assert ocim("volume", "ls", "-q") == "named"
    ocim("volume", "rm", "named")


def test_detached_with_a_file_of_its_id(ocim: Ocim) -> None:
    container = ocim("run", "-d", "--name", "web", "--cidfile", "cid", "box:1", "sleep", "1000")
    assert (ocim.folder / "cid").read_text() == container and len(container) == 64
    assert ocim("inspect", "-f", "{{.State.Status}} {{.Config.Cmd}}", "web") == "running [sleep 1000]"
    ocim("rm", "-f", "web")


@pytest.fixture(scope="module")
def running(ocim: Ocim) -> Iterator[str]:
    ocim("run", "-d", "--name", "long", "-e", "OWN=o", "-w", "/tmp", "box:1", "sleep", "1000")
    yield "long"
    ocim("rm", "-f", "long")


def test_exec(ocim: Ocim, running: str) -> None:
    assert ocim("exec", running, "sh", "-c", "echo $OWN; readlink /proc/self/cwd; exit 4", code=4) == "o\n/tmp"
    assert (
        ocim("exec", "-e", "OWN=p", "-w", "/etc", "-u", "me", running, "sh", "-c", "echo $OWN $HOME; id -un")
        == "p /tmp\nme"
    )
    assert ocim("exec", "-i", running, "cat", input="through") == "through"
    assert ocim("exec", running, "cat", input="not for it") == ""
    assert ocim("exec", "-d", running, "sh", "-c", "echo x >/tmp/detached") == ""
    eventually(lambda: ocim("exec", running, "cat", "/tmp/detached", code=None) == "x")


def test_what_cannot_be_executed(ocim: Ocim, running: str) -> None:
    assert "nope" in ocim.error("exec", running, "nope", code=127)
    assert "/etc/passwd" in ocim.error("exec", running, "/etc/passwd", code=126)
    assert "there is no container" in ocim.error("exec", "nobody", "true")
    ocim("create", "--name", "still", "box:1", "true")
    assert "is not running" in ocim.error("exec", "still", "true")
    ocim("rm", "still")


def test_start_attached(ocim: Ocim) -> None:
    ocim("create", "--name", "again", "-i", "box:1", "sh", "-c", "cat; exit 5")
    assert ocim("start", "-ai", "again", input="one", code=5) == "one"
    assert ocim("start", "-ai", "again", input="two", code=5) == "two"
    assert ocim("logs", "again") == "onetwo"
    ocim("rm", "again")


def test_attach_sees_and_feeds(ocim: Ocim) -> None:
    ocim("run", "-di", "--name", "fed", "box:1", "sh", "-c", "read line; echo got $line; exit 6")
    assert ocim("attach", "fed", input="words\n", code=6) == "got words"
    ocim("rm", "fed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(ocim: Ocim, number: int) -> None:
    script = f"trap 'echo got; exit 9' {number}; echo ready; while :; do sleep 0.05; done"
    process = ocim.popen(*QUICK, "box:1", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stream:
        assert stream.readline() == b"ready\n"
        process.send_signal(number)
        assert stream.read() == b"got\n"
    assert process.wait() == 9


class Screen:
    """The other end of ocim's terminal."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.process = process
        self.seen = b""

    def until(self, words: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.seen
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, self.seen
            self.seen += data

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)


@contextmanager
def screen(ocim: Ocim, *words: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    before = termios.tcgetattr(theirs)
    process = ocim.popen(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    try:
        yield Screen(ours, process)
        assert termios.tcgetattr(theirs) == before, "the terminal was not given back as it was"
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_terminal_and_its_size(ocim: Ocim) -> None:
    with screen(ocim, *QUICK, "-it", "box:1", "sh") as shown:
        shown.type(b"stty size; echo a''b; exit 3\n")
        shown.until(b"33 77\r\n")
        shown.until(b"ab\r\n")
        assert shown.process.wait(PATIENCE) == 3


def test_the_size_changes(ocim: Ocim) -> None:
    with screen(
        ocim, *QUICK, "-it", "box:1", "sh", "-c", "trap 'stty size; exit' 28; echo ready; while :; do sleep 0.05; done"
    ) as shown:
        shown.until(b"ready")
        fcntl.ioctl(shown.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
        shown.process.send_signal(signal.SIGWINCH)
        shown.until(b"44 99\r\n")
        assert shown.process.wait(PATIENCE) == 0


def test_keys_detach_and_attach_comes_back(ocim: Ocim) -> None:
    with screen(ocim, "run", "-it", "--name", "kept", "box:1", "sh") as shown:
        shown.type(b"echo o''ne\n")
        shown.until(b"one\r\n")
        shown.type(b"\x10\x11")
        assert shown.process.wait(PATIENCE) == 0
    assert ocim("inspect", "-f", "{{.State.Running}}", "kept") == "true"
    with screen(ocim, "attach", "--detach-keys", "ctrl-x", "kept") as shown:
        shown.type(b"echo t''wo\n")
        shown.until(b"two\r\n")
        shown.type(b"\x18")
        assert shown.process.wait(PATIENCE) == 0
    ocim("rm", "-f", "kept")


def test_the_terminal_is_given_back_when_ocim_is_ended(ocim: Ocim) -> None:
    with screen(ocim, "run", "-it", "--name", "ended", "box:1", "sh") as shown:
        shown.type(b"echo o''ne\n")
        shown.until(b"one\r\n")
        shown.process.terminate()
        assert shown.process.wait(PATIENCE) == 128 + signal.SIGTERM
    ocim("rm", "-f", "ended")


def test_exec_with_a_terminal(ocim: Ocim, running: str) -> None:
    with screen(ocim, "exec", "-it", running, "sh") as shown:
        shown.type(b"stty size; exit 2\n")
        shown.until(b"33 77\r\n")
        assert shown.process.wait(PATIENCE) == 2


def test_inspect_says_what_docker_s_users_look_for(ocim: Ocim, running: str) -> None:
    found = json.loads(ocim("inspect", running))
    assert len(found) == 1
    assert {"Id", "Created", "State", "Config", "HostConfig", "Mounts", "NetworkSettings"} <= set(found[0])
