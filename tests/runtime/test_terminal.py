"""Terminals: `run` in the foreground on a pty of ours, and the console socket of `create` and `run --detach`."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import OCIRT, Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.root

PATIENCE = 30
"""Only bounds a failure."""


def window(fd: int) -> tuple[int, int]:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_window(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def is_raw(mode: list[Any]) -> bool:
    return not mode[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


class Console:
    """A pty whose slave is the terminal of a command: the controlling one of a session of its own."""

    def __init__(self, arguments: Sequence[str | Path], *, rows: int = 33, columns: int = 111) -> None:
        self.master, self.slave = pty.openpty()
        set_window(self.slave, rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            [str(one) for one in arguments],
            env={},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, words: str) -> str:
        """Read until these words were shown."""
        until = time.monotonic() + PATIENCE
        while words.encode() not in self.output:
            assert self._read(until), f"{words!r} was not shown, but {self.output!r}"
        return self.output.decode()

    def type_until(self, text: str, words: str) -> None:
        """Type it again and again: what it is for may not have begun, or the shell may report it late."""
        until = time.monotonic() + PATIENCE
        while words.encode() not in self.output:
            assert time.monotonic() < until, f"{words!r} was not shown, but {self.output!r}"
            self.type(text)
            self._read(time.monotonic() + 0.05)

    def end(self) -> int:
        """Read all that comes; the exit code."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it does not end: {self.output!r}"
            self._read(time.monotonic() + 0.01)
        while self._read(time.monotonic()):
            pass
        return self.process.returncode

    def _read(self, until: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            content = os.read(self.master, 65536)
        except OSError:
            return False
        self.output += content
        return bool(content)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Terminals:
    """Starts `ocirt run` on consoles, and clears all away at the end."""

    def __init__(self, runtime: Runtime, bundle: Bundle, stack: contextlib.ExitStack) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.stack = stack
        bundle.config["process"]["terminal"] = True

    def run(self, script: str, **options: Any) -> Console:
        self.bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
        self.bundle.write()
        console = Console([OCIRT, "--root", self.runtime.root, "run", "-b", self.bundle.path, "t"], **options)
        self.stack.callback(console.close)
        return console


@pytest.fixture
def terminals(runtime: Runtime, bundle: Bundle) -> Iterator[Terminals]:
    with contextlib.ExitStack() as stack:
        yield Terminals(runtime, bundle, stack)
    runtime("delete", "--force", "t")


# In the foreground


def test_our_terminal_is_raw_while_the_container_runs_and_restored_after(terminals: Terminals) -> None:
    console = terminals.run("echo ready; read line; exit 3")
    console.expect("ready")
    assert is_raw(termios.tcgetattr(console.slave))
    console.type("go\r")
    assert console.end() == 3
    assert console.restored


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_our_terminal_is_restored_when_a_signal_to_ocirt_ends_the_container(terminals: Terminals, name: str) -> None:
    console = terminals.run("trap 'exit 5' TERM HUP INT; echo ready; while :; do sleep 0.02; done")
    console.expect("ready")
    console.process.send_signal(getattr(signal, f"SIG{name}"))
    assert console.end() == 5
    assert console.restored


def test_our_terminal_is_restored_when_the_container_is_killed(terminals: Terminals) -> None:
    console = terminals.run("echo ready; while :; do sleep 0.02; done")
    console.expect("ready")
    assert terminals.runtime("kill", "t", "KILL").code == 0
    assert console.end() == 128 + 9
    assert console.restored


def test_our_terminal_is_left_alone_when_the_container_cannot_start(terminals: Terminals) -> None:
    terminals.bundle.config["process"]["cwd"] = "/proc/none"
    console = terminals.run("true")
    assert console.end() == 1
    assert b"/process/cwd" in console.output
    assert console.restored


def test_our_terminal_is_left_alone_when_the_program_cannot_be_executed(terminals: Terminals) -> None:
    (terminals.bundle.rootfs / "bin/sh").unlink()
    (terminals.bundle.rootfs / "bin/sh").write_text("#!/nowhere\n")
    (terminals.bundle.rootfs / "bin/sh").chmod(0o755)
    console = terminals.run("true")
    assert console.end() == 1
    assert b"exec" in console.output
    assert console.restored


def test_the_window_has_our_size_and_follows_its_changes(terminals: Terminals) -> None:
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"
    console = terminals.run(script, rows=33, columns=111)
    console.expect("ready")
    assert "33 111" in console.output.decode()
    set_window(console.slave, 44, 122)
    console.expect("44 122")
    set_window(console.slave, 55, 133)
    console.expect("55 133")


def test_the_configurations_console_size_goes_before_ours(terminals: Terminals) -> None:
    terminals.bundle.config["process"]["consoleSize"] = {"height": 12, "width": 34}
    console = terminals.run("stty size")
    assert console.end() == 0
    assert b"12 34" in console.output


def test_control_c_interrupts_the_payload_and_not_ocirt(terminals: Terminals) -> None:
    console = terminals.run("trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.02; done")
    console.expect("ready")
    console.type("\x03")
    assert console.end() == 6
    assert b"interrupted" in console.output


def test_control_d_is_end_of_file_for_the_payload(terminals: Terminals) -> None:
    console = terminals.run("echo ready; cat; echo after; exit 8")
    console.expect("ready")
    console.type("\x04")
    assert console.end() == 8
    assert b"after" in console.output


def test_a_megabyte_of_output_is_complete_and_the_last_word_is_there(terminals: Terminals) -> None:
    console = terminals.run("head -c 1048576 /dev/zero; echo; echo last")
    assert console.end() == 0
    assert console.output.count(b"\0") == 1 << 20
    assert console.output.endswith(b"last\r\n")


def test_a_megabyte_of_input_is_complete(terminals: Terminals) -> None:
    console = terminals.run("stty raw -echo; echo ready; head -c 262144 | wc -c")
    console.expect("ready")
    left = memoryview(b"x" * (1 << 18))
    os.set_blocking(console.master, False)
    while left:
        select.select([console.master], [console.master], [], PATIENCE)
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(console.master, left) :]
    assert console.end() == 0
    assert b"262144" in console.output


def test_the_payload_has_a_controlling_terminal_of_its_own(terminals: Terminals) -> None:
    script = "tty; ls -l /proc/self/fd/0 | grep -o '/dev/.*'; echo here > /dev/tty; stat -c '%F %t %T %a' /dev/console"
    console = terminals.run(script)
    assert console.end() == 0
    lines = console.output.decode().split("\r\n")
    assert lines[0] in ("/dev/pts/0", "/dev/console")
    assert lines[1] == "/dev/pts/0"
    assert lines[2] == "here"
    assert lines[3].startswith("character special file 88 0"), lines  # 136:0


def test_what_is_written_to_the_console_device_is_shown(terminals: Terminals) -> None:
    console = terminals.run("echo through > /dev/console")
    assert console.end() == 0
    assert b"through" in console.output


def test_job_control_works(terminals: Terminals) -> None:
    """An interactive shell without it says so; control-Z must stop the job and leave the shell."""
    terminals.bundle.config["process"]["args"] = ["/bin/sh", "-i"]
    terminals.bundle.write()
    console = Console([OCIRT, "--root", terminals.runtime.root, "run", "-b", terminals.bundle.path, "t"])
    terminals.stack.callback(console.close)
    console.type("echo pid is $$\r")
    console.expect("pid is 1")
    console.type("/bin/sh -c 'echo here$((1 + 1)); exec sleep 1000'\r")
    console.expect("here2")  # said by the job itself, which is in the foreground then
    console.type_until("\x1a", "Stopped")
    console.type("kill -9 %1\r")
    console.type_until("\r", "Killed")
    console.type("exit 4\r")
    assert console.end() == 4
    assert b"job control" not in console.output


def test_the_terminal_belongs_to_the_containers_user(terminals: Terminals) -> None:
    terminals.bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    console = terminals.run("stat -c '%u %g' /dev/pts/0; echo ok > /dev/pts/0")
    assert console.end() == 0
    assert b"1000 5" in console.output
    assert b"ok" in console.output


@pytest.mark.parametrize("stdin", ["closed", "null", "pipe"])
def test_it_runs_without_a_terminal_of_ours(terminals: Terminals, stdin: str) -> None:
    """The container has one all the same; its output comes to stdout."""
    terminals.bundle.config["process"]["args"] = ["/bin/sh", "-c", "tty; exit 7"]
    terminals.bundle.write()
    command = [OCIRT, "--root", str(terminals.runtime.root), "run", "-b", str(terminals.bundle.path), "t"]
    if stdin == "closed":
        command = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(
        command,
        env={},
        input=b"" if stdin == "pipe" else None,
        stdin=subprocess.DEVNULL if stdin == "null" else None,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, b"/dev/pts/0\r\n"), done.stderr


# The console socket


class Listener:
    """A console socket, as engines listen on one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.server.settimeout(PATIENCE)

    def receive(self) -> tuple[bytes, list[int], bytes]:
        """The one message, its descriptors, and what came after it until the end."""
        connection, _ = self.server.accept()
        with connection:
            connection.settimeout(PATIENCE)
            numbers = array.array("i")
            content, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16 * numbers.itemsize))
            for level, kind, data in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                numbers.frombytes(data)
            return content, list(numbers), connection.recv(4096)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    one = Listener(tmp_path / "console.sock")
    yield one
    one.server.close()


def read_all(master: int) -> bytes:
    output = b""
    while select.select([master], [], [], PATIENCE)[0]:
        try:
            content = os.read(master, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not content:
            break
        output += content
    return output


@pytest.mark.parametrize("verb", [["create"], ["run", "--detach"]])
def test_the_console_socket_gets_one_message_with_the_master_which_shows_the_output(
    terminals: Terminals, listener: Listener, verb: list[str]
) -> None:
    terminals.bundle.config["process"]["args"] = ["/bin/sh", "-c", "tty; read line; echo got $line"]
    terminals.bundle.config["process"]["consoleSize"] = {"height": 21, "width": 43}
    terminals.bundle.write()
    done = terminals.runtime(*verb, "--console-socket", listener.path, "-b", terminals.bundle.path, "t")
    assert (done.code, done.err) == (0, "")
    content, descriptors, rest = listener.receive()
    try:
        assert len(descriptors) == 1
        assert 0 < len(content) < 4096
        assert rest == b""
        master = descriptors[0]
        assert os.isatty(master)
        assert window(master) == (21, 43)
        if verb == ["create"]:
            assert terminals.runtime("start", "t").code == 0
        os.write(master, b"words\n")
        assert b"got words\r\n" in read_all(master)
    finally:
        for fd in descriptors:
            os.close(fd)


@pytest.mark.parametrize("what", ["nothing", "a file", "nobody listens"])
def test_a_console_socket_that_cannot_be_used_is_an_error_and_nothing_is_made(
    terminals: Terminals, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "console.sock"
    if what == "a file":
        path.write_text("")
    elif what == "nobody listens":
        with socket.socket(socket.AF_UNIX) as unused:
            unused.bind(str(path))
    terminals.bundle.config["process"]["args"] = ["/bin/true"]
    terminals.bundle.write()
    done = terminals.runtime("create", "--console-socket", path, "-b", terminals.bundle.path, "t")
    assert done.code == 1
    assert str(path) in done.err
    assert terminals.runtime("state", "t").code == 1


def test_a_console_socket_without_a_terminal_is_an_error(runtime: Runtime, bundle: Bundle, listener: Listener) -> None:
    done = runtime("create", "--console-socket", listener.path, "-b", bundle.path, "t")
    assert (done.code, "/process/terminal" in done.err) == (1, True)
