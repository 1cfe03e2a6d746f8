"""NOTIFY_SOCKET: what the program says by sd_notify(3) reaches the service manager, here a socket of the test's."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime.ordinary import Ordinary, users
from support import OCIRT, Bundle, Runtime

pytestmark = pytest.mark.root
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
int main(int argc, char **argv)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    strcpy(to.sun_path, getenv("NOTIFY_SOCKET"));
    for (int i = 1; i < argc; i++)
        if (sendto(fd, argv[i], strlen(argv[i]), 0, (void *)&to, sizeof to) < 0)
            return perror("notify"), 1;
    return 0;
}
"""
PATIENCE = 60.0


class Manager:
    """A service manager's end."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.socket.settimeout(PATIENCE)
        self.env = {"NOTIFY_SOCKET": str(path)}

    def heard(self) -> list[str]:
        """The lines of the next message."""
        return self.socket.recv(65536).decode().splitlines()

    def all_heard(self) -> list[list[str]]:
        """All messages that are there."""
        self.socket.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(self.heard())
        except BlockingIOError:
            return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "manager")
    yield one
    one.socket.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("notify") / "notify"
    source = path.with_suffix(".c")
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.fixture
def service(runtime: Runtime, bundle: Bundle, program: Path) -> Iterator[Bundle]:
    """A bundle with `notify MESSAGE...`; the container c is gone at the end."""
    (bundle.rootfs / "bin" / "notify").write_bytes(program.read_bytes())
    (bundle.rootfs / "bin" / "notify").chmod(0o755)
    yield bundle
    assert runtime("delete", "--force", "c").code == 0
    assert not os.listdir(runtime.root)


def script(bundle: Bundle, text: str) -> Path:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", text]
    return bundle.write().path


def test_a_detached_run_ends_when_the_program_is_ready(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    path = script(service, "notify STATUS=half; notify READY=1; exec sleep 1000")
    assert (done := runtime("run", "--detach", "--bundle", path, "c", env=manager.env)).code == 0, done.err
    pid = runtime.state("c")["pid"]
    assert manager.all_heard() == [["STATUS=half"], ["READY=1", f"MAINPID={pid}"]]


def test_start_ends_when_the_program_is_ready(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    path = script(service, "notify READY=1; exec sleep 1000")
    assert (done := runtime("create", "--bundle", path, "c", env=manager.env)).code == 0, done.err
    assert manager.all_heard() == []
    assert (done := runtime("start", "c", env=manager.env)).code == 0, done.err
    assert manager.all_heard() == [["READY=1", f"MAINPID={runtime.state('c')['pid']}"]]


def test_who_is_never_ready_keeps_nobody_when_it_has_ended(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    path = script(service, "exit 3")
    assert runtime("run", "--detach", "--bundle", path, "c", env=manager.env).code == 0
    assert manager.all_heard() == []


def test_others_may_work_on_a_container_that_is_not_ready(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    path = script(service, "notify STATUS=waiting; exec sleep 1000")
    words = [OCIRT, "--root", runtime.root, "run", "--detach", "--bundle", path, "c"]
    with subprocess.Popen(words, env=manager.env, stdin=subprocess.DEVNULL) as run:
        assert manager.heard() == ["STATUS=waiting"]
        assert runtime.state("c")["status"] == "running"
        assert run.poll() is None
        assert runtime("kill", "c", "KILL").code == 0
        assert run.wait(PATIENCE) == 0


@pytest.mark.parametrize("terminal", [False, True])
def test_in_the_foreground_all_is_passed_on(
    runtime: Runtime, service: Bundle, manager: Manager, terminal: bool
) -> None:
    """But for what means something else outside. Our process stays the service's."""
    service.config["process"]["terminal"] = terminal
    text = (
        "notify 'READY=1\nMAINPID=1' MAINPID=7 BARRIER=1 'WATCHDOG=1\nFDSTORE=1'; notify STOPPING=1; read end; exit 5"
    )
    words: list[Any] = [OCIRT, "--root", runtime.root, "run", "--bundle", script(service, text), "c"]
    with subprocess.Popen(words, env=manager.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as run:
        assert [manager.heard() for _ in range(3)] == [["READY=1"], ["WATCHDOG=1"], ["STOPPING=1"]]
        assert run.stdin
        run.stdin.write(b"\n")
        run.stdin.flush()
        assert run.wait(PATIENCE) == 5
    assert manager.all_heard() == []


def test_what_is_said_last_is_passed_on_too(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    done = runtime(
        "run", "--bundle", script(service, "exec notify READY=1 STATUS=last STOPPING=1"), "c", env=manager.env
    )
    assert done.code == 0, done.err
    assert manager.all_heard() == [["READY=1"], ["STATUS=last"], ["STOPPING=1"]]


def test_the_folder_is_the_containers_alone_and_read_only(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    text = "ls -l /run/notify; touch /run/notify/x; grep /run/notify /proc/self/mounts; echo $NOTIFY_SOCKET"
    done = runtime("run", "--bundle", script(service, text), "c", env=manager.env)
    assert "srwxrwxrwx" in done.out
    assert "Read-only file system" in done.err
    assert "ro,nosuid,nodev,noexec" in done.out
    assert done.out.endswith("\n/run/notify/notify.sock\n")


def test_an_abstract_socket_will_do(runtime: Runtime, service: Bundle) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(f"\0ocirt-{os.getpid()}")
        one.settimeout(PATIENCE)
        path = script(service, "notify READY=1; exec sleep 1000")
        done = runtime("run", "-d", "-b", path, "c", env={"NOTIFY_SOCKET": f"@ocirt-{os.getpid()}"})
        assert done.code == 0, done.err
        assert one.recv(100).startswith(b"READY=1")


def test_a_configuration_with_a_socket_of_its_own_keeps_it(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    """An engine has seen to it."""
    service.config["process"]["env"].append("NOTIFY_SOCKET=/elsewhere")
    done = runtime("run", "-b", script(service, "echo $NOTIFY_SOCKET; ls /run"), "c", env=manager.env)
    assert done.out == "/elsewhere\n"


@pytest.mark.parametrize("verb", ["create", "run"])
def test_nobody_at_the_socket_is_an_error_that_leaves_nothing(
    runtime: Runtime, service: Bundle, tmp_path: Path, verb: str
) -> None:
    path = script(service, "true")
    done = runtime(verb, "-b", path, "c", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert done.code == 1
    assert f"NOTIFY_SOCKET={tmp_path}/nobody in the environment: No such file" in done.err
    runtime.root.mkdir(exist_ok=True)
    assert not os.listdir(runtime.root)


def test_an_empty_variable_is_none(runtime: Runtime, service: Bundle) -> None:
    done = runtime("run", "-b", script(service, "echo =$NOTIFY_SOCKET"), "c", env={"NOTIFY_SOCKET": ""})
    assert done.out == "=\n"


@pytest.fixture
def user() -> Iterator[Ordinary]:
    yield from users()


def test_an_ordinary_user_has_it_too(user: Ordinary, program: Path) -> None:
    manager = Manager(user.home / "manager")
    (user.bundle.rootfs / "bin" / "notify").write_bytes(program.read_bytes())
    (user.bundle.rootfs / "bin" / "notify").chmod(0o755)
    done = user("run", "-d", "-b", user.script("notify READY=1; exec sleep 1000"), "c", env=manager.env)
    assert done.code == 0, done.err
    lines = manager.heard()
    assert lines[0] == "READY=1"
    assert lines[1].startswith("MAINPID=")
    manager.socket.close()
