"""Builds of ocirt-init for several machines, and one of them running a small plan over a socket."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

from ocirt.plan.encode import encode
from ocirt.plan.step import Plan
from ocirt.plan.wire import MESSAGE, MSG_ERROR

SOURCE = REPOSITORY / "ocirt" / "init" / "init.c"
BUILDS = {
    "x86_64": ("gcc", (), "gcc"),
    "aarch64": ("aarch64-linux-gnu-gcc", ("qemu-aarch64",), "gcc-aarch64-linux-gnu qemu-user"),
    "riscv64": ("riscv64-linux-gnu-gcc", ("qemu-riscv64",), "gcc-riscv64-linux-gnu qemu-user"),
}
"""machine → (compiler, how its programs are run here, Debian's packages)"""
TIMEOUT = 20.0


def need(*tools: str, packages: str) -> None:
    """Skip without these tools; in CI that is a failure."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        why = f"no {', '.join(missing)}: apt-get install {packages}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


def build_flags() -> tuple[list[str], list[str]]:
    """(warnings, how to link) of the build backend; asked in a process of its own, since it is a setuptools plug-in."""
    code = "import json, ocirt_build as b; print(json.dumps([b.WARNINGS, b.FREESTANDING]))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY / "ocirt" / "packaging")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    warnings, link = json.loads(out)
    return warnings, link


def build(machine: str, output: Path, source: Path = SOURCE, compiler: str | None = None) -> Path:
    default, _, packages = BUILDS[machine]
    need(compiler or default, packages=packages)
    warnings, link = build_flags()
    flags = [flag for flag in link if flag != "-fcf-protection=none" or machine == "x86_64"]
    subprocess.run([compiler or default, *warnings, *flags, "-o", output, source], check=True)
    return output


@dataclass
class Message:
    kind: int
    step: int
    value: int
    more: bytes
    fds: list[int] = field(default_factory=list)


class Running:
    """init with a plan. Its control socket and further descriptors keep the numbers that they have here."""

    def __init__(self, command: list[str | Path], plan: Plan | bytes, *fds: int, **options: Any) -> None:
        content = plan if isinstance(plan, bytes) else encode(plan).content
        fd = os.memfd_create("plan")
        os.write(fd, content)
        options.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen([*command, str(fd)], pass_fds=(fd, *fds), **options)
        os.close(fd)

    def end(self) -> int:
        """The exit status; what is still running is killed."""
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdout, self.process.stdin):
                if stream:
                    stream.close()


class Host:
    """The host's end of the socket, and a plan whose control is the other end."""

    def __init__(self, machine: str, init: Path) -> None:
        self.command = [*BUILDS[machine][1], init]
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(TIMEOUT)
        self.plan = Plan(machine, control=self.theirs.fileno())
        self.plan.at("", "a test")
        self.running: Running | None = None

    def start(self, *fds: int, **options: Any) -> None:
        self.running = Running(self.command, self.plan, self.theirs.fileno(), *fds, **options)
        self.theirs.close()

    def receive(self) -> Message | None:
        """The next message; None when init is gone."""
        content, ancillary, _, _ = self.ours.recvmsg(8192, socket.CMSG_SPACE(16))
        if not content:
            return None
        fds = array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        kind, step, value, length = MESSAGE.unpack_from(content)
        assert len(content) == MESSAGE.size + length
        return Message(kind, step, value, content[MESSAGE.size :], list(fds))

    def failure(self) -> tuple[int, int]:
        """(step, errno) of the plan's run, which has to fail."""
        self.start()
        message = self.receive()
        assert message is not None, "init ended without a word"
        assert message.kind == MSG_ERROR
        assert self.running
        assert self.running.end() == 1
        assert self.receive() is None
        return message.step, message.value

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        if self.running:
            self.running.end()
