"""ocirt-init end to end, with plans of harmless calls: no root, and on every architecture that it is built for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from errno import E2BIG, EACCES, EBADF, EEXIST, EINVAL, ENOENT, ENOTDIR, EPROTO
from pathlib import Path

import pytest
from init.hosted import reply
from init.running import TIMEOUT, Host, Running
from support import BUSYBOX

from ocirt.plan.encode import encode
from ocirt.plan.kernel import AT_FDCWD, CLONE_PARENT, O_CLOEXEC, O_RDONLY
from ocirt.plan.step import Buffer, Field, Label, Plan, Reg, Slot, Vector
from ocirt.plan.wire import MESSAGE, MSG_ERROR, MSG_FD, MSG_GO, MSG_PID, MSG_SYNC, REPLY

NOWHERE = "/does/not/exist"


def program(plan: Plan, *args: str, env: list[str | Slot] | None = None) -> None:
    plan.call("execve", str(BUSYBOX), Vector(args), Vector(env or []))


def output(host: Host, *fds: int) -> str:
    """What the program prints; init says nothing and the program succeeds."""
    host.start(*fds, stdout=subprocess.PIPE)
    assert host.running and host.running.process.stdout
    out = host.running.process.stdout.read().decode()
    message = host.receive()
    assert message is None, f"step {message.step} failed: {os.strerror(message.value)}"
    assert host.running.end() == 0
    return out


# How a run ends.


def test_the_last_step_becomes_the_program(host: Host) -> None:
    program(host.plan, "echo", "hello", "  there ")
    assert output(host) == "hello   there \n"


def test_the_program_gets_its_environment_and_nothing_else(host: Host) -> None:
    program(host.plan, "env", env=["A=1", "B=two words"])
    assert output(host) == "A=1\nB=two words\n"


def test_a_plan_that_ends_without_execve_is_an_error(host: Host) -> None:
    host.plan.call("umask", 0o22)
    host.plan.call("umask", 0o22)
    assert host.failure() == (1, EINVAL)


def test_the_first_failure_is_reported_with_its_step(host: Host) -> None:
    host.plan.call("chdir", "/")
    host.plan.call("chdir", NOWHERE)
    host.plan.call("chdir", "/dev/null")
    assert host.failure() == (1, ENOENT)


def test_a_program_that_does_not_exist_is_reported(host: Host) -> None:
    host.plan.call("execve", NOWHERE, Vector(["x"]), Vector([]))
    assert host.failure() == (0, ENOENT)


def test_a_program_that_may_not_be_executed_is_reported(host: Host) -> None:
    host.plan.call("execve", "/etc/passwd", Vector(["x"]), Vector([]))
    assert host.failure() == (0, EACCES)


@pytest.mark.parametrize("args", [[], ["1", "2", "3", "4"], ["x"], ["-1"], [""], ["9" * 20], ["1048577x"]])
def test_wrong_arguments_end_it_with_125(native: Host, args: list[str]) -> None:
    assert subprocess.run([*native.command, *args], timeout=TIMEOUT, check=False).returncode == 125


@pytest.mark.parametrize("content", [b"", b"\0", b"x" * 64, b"\0" * 5000])
def test_what_is_no_plan_ends_it_with_125(host: Host, content: bytes) -> None:
    assert Running(host.command, content).end() == 125


def waiting(host: Host) -> tuple[int, subprocess.Popen[bytes]]:
    """init, to which its control socket is going to say that the plan is there, and the plan's memfd."""
    plan, control = os.memfd_create("plan"), host.theirs.fileno()
    command = [*host.command, str(plan), str(control)]
    process = subprocess.Popen(command, pass_fds=(plan, control), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    host.theirs.close()
    return plan, process


def test_the_plan_may_come_later(host: Host) -> None:
    program(host.plan, "echo", "late")
    plan, process = waiting(host)
    with process:
        os.write(plan, encode(host.plan).content)
        os.close(plan)
        host.ours.send(b"+")
        assert process.communicate(timeout=TIMEOUT)[0] == b"late\n"
        assert process.returncode == 0


def test_without_a_word_there_is_no_plan(host: Host) -> None:
    plan, process = waiting(host)
    os.close(plan)
    host.ours.close()
    with process:
        assert process.wait(TIMEOUT) == 1


def test_a_word_without_a_plan_ends_it_with_125(host: Host) -> None:
    plan, process = waiting(host)
    os.close(plan)
    host.ours.send(b"+")
    with process:
        assert process.wait(TIMEOUT) == 125


def test_a_plan_of_another_machine_ends_it_with_125(host: Host) -> None:
    other = Plan("aarch64" if host.plan.machine != "aarch64" else "riscv64", control=host.plan.control)
    program(other, "true")
    assert Running(host.command, encode(other).content, host.plan.control).end() == 125


# Failures that a plan expects.


def test_an_errno_that_is_named_does_not_end_the_run(host: Host) -> None:
    host.plan.call("chdir", NOWHERE, ignore=(ENOTDIR, ENOENT))
    host.plan.call("chdir", "/dev/null", ignore=(ENOTDIR, ENOENT))
    program(host.plan, "pwd")
    assert output(host)


def test_another_errno_does(host: Host) -> None:
    host.plan.call("chdir", NOWHERE, ignore=(ENOTDIR, EEXIST, E2BIG, EACCES))
    assert host.failure() == (0, ENOENT)


def test_a_named_failure_jumps(host: Host) -> None:
    missing = Label()
    host.plan.call("chdir", NOWHERE, ignore=(ENOENT,), fail=missing)
    program(host.plan, "echo", "not here")
    host.plan.place(missing)
    program(host.plan, "echo", "here")
    assert output(host) == "here\n"


def test_a_jump_without_errnos_is_for_any(host: Host) -> None:
    missing = Label()
    host.plan.call("chdir", "/dev/null", fail=missing)
    program(host.plan, "echo", "not here")
    host.plan.place(missing)
    program(host.plan, "echo", "here")
    assert output(host) == "here\n"


def test_a_jump_with_errnos_is_for_those_only(host: Host) -> None:
    missing = Label()
    host.plan.call("chdir", "/dev/null", ignore=(ENOENT,), fail=missing)
    host.plan.place(missing)
    program(host.plan, "true")
    assert host.failure() == (0, ENOTDIR)


def test_success_jumps(host: Host) -> None:
    done = Label()
    host.plan.call("chdir", "/", ok=done)
    program(host.plan, "echo", "not here")
    host.plan.place(done)
    program(host.plan, "pwd")
    assert output(host) == "/\n"


# Registers.


def test_a_result_is_used_by_a_later_step(host: Host) -> None:
    folder = host.plan.open("folder", "openat", AT_FDCWD, "/usr/share", O_RDONLY | O_CLOEXEC)
    host.plan.call("fchdir", folder)
    program(host.plan, "pwd")
    assert output(host) == "/usr/share\n"


def test_a_register_that_is_not_set_ends_the_run(host: Host) -> None:
    host.plan.call("fchdir", Reg(63, "never"))
    assert host.failure() == (0, EBADF)


def test_a_step_that_fails_sets_no_register(host: Host) -> None:
    folder = host.plan.open("folder", "openat", AT_FDCWD, NOWHERE, 0, ignore=(ENOENT,))
    host.plan.call("fchdir", folder)
    assert host.failure() == (1, EBADF)


def test_a_step_that_fails_leaves_the_register_as_it_was(host: Host) -> None:
    folder = host.plan.open("folder", "openat", AT_FDCWD, "/usr", O_RDONLY)
    host.plan.open(folder, "openat", AT_FDCWD, NOWHERE, 0, ignore=(ENOENT,))
    host.plan.call("fchdir", folder)
    program(host.plan, "pwd")
    assert output(host) == "/usr\n"


def test_a_loaded_string_chooses_the_program(host: Host) -> None:
    chosen = Label()
    path = host.plan.load("path", NOWHERE)
    host.plan.load(path, str(BUSYBOX), ok=chosen)
    host.plan.load(path, NOWHERE)
    host.plan.place(chosen)
    host.plan.call("execve", path, Vector(["echo", "chosen"]), Vector([]))
    assert output(host) == "chosen\n"


def test_a_loaded_number_that_looks_like_an_errno_is_no_failure(host: Host) -> None:
    value = host.plan.load("value", -2)
    host.plan.expect(value, -2 & 0xFFFFFFFFFFFFFFFF, errno=EACCES)
    program(host.plan, "true")
    assert output(host) == ""


# EXPECT.


def test_memory_that_a_call_has_filled_is_checked(host: Host) -> None:
    where = Buffer(4096)
    host.plan.call("chdir", "/usr/share")
    host.plan.call("getcwd", where, 4096)
    for at, text in ((0, b"/"), (1, b"us"), (4, b"/sha"), (0, b"/usr/sha")):
        host.plan.expect(Field(where, at), int.from_bytes(text, "little"), width=len(text), errno=EACCES)
    program(host.plan, "true")
    assert output(host) == ""


def test_memory_that_is_not_as_expected_ends_the_run_with_the_plans_errno(host: Host) -> None:
    where = Buffer(64)
    host.plan.call("chdir", "/usr")
    host.plan.call("getcwd", where, 64)
    host.plan.expect(Field(where, 1), ord("U"), width=1, errno=E2BIG)
    assert host.failure() == (2, E2BIG)


def test_a_register_is_compared_under_a_mask(host: Host) -> None:
    value = host.plan.load("value", 0x1234)
    host.plan.expect(value, 0x0034, mask=0x00FF, errno=EACCES)
    host.plan.expect(value, 0x0035, mask=0x00FF, errno=EEXIST)
    assert host.failure() == (2, EEXIST)


def test_an_expectation_may_choose_the_way(host: Host) -> None:
    wrong, right = Label(), Label()
    value = host.plan.load("value", 1)
    host.plan.expect(value, 2, errno=EACCES, fail=wrong)
    program(host.plan, "echo", "first")
    host.plan.place(wrong)
    host.plan.expect(value, 1, errno=EACCES, ok=right)
    program(host.plan, "echo", "second")
    host.plan.place(right)
    program(host.plan, "echo", "third")
    assert output(host) == "third\n"


# The host.


def slot_plan(host: Host) -> tuple[Slot, int]:
    """A plan that prints HOME from a slot; the slot, and where it lies in the data."""
    slot = Slot("HOME=", 16)
    host.plan.sync(7)
    program(host.plan, "env", env=[slot, "LAST=1"])
    return slot, encode(host.plan).slots[slot][0]


@pytest.mark.parametrize("home", [b"", b"/", b"/home/me", b"0123456789abcdef"])
def test_the_host_fills_a_slot(host: Host, home: bytes) -> None:
    _, at = slot_plan(host)
    host.start(stdout=subprocess.PIPE)
    message = host.receive()
    assert message and (message.kind, message.step, message.value) == (MSG_SYNC, 0, 7)
    host.ours.send(reply((at, home)))
    assert host.running and host.running.process.stdout
    assert host.running.process.stdout.read() == b"HOME=" + home + b"\nLAST=1\n"
    assert host.receive() is None


def test_a_reply_need_not_fill_anything(host: Host) -> None:
    slot_plan(host)
    host.start(stdout=subprocess.PIPE)
    host.receive()
    host.ours.send(REPLY.pack(MSG_GO, 0))
    assert host.running and host.running.process.stdout
    assert host.running.process.stdout.read() == b"HOME=\nLAST=1\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda at: reply((at - 1, b"x")),
        lambda at: reply((at, b"0123456789abcdefg")),
        lambda at: REPLY.pack(MSG_SYNC, 0),
        lambda at: reply((at, b"/home"))[:-1],
        lambda at: reply() + b"\0\0\0\0",
        lambda at: b"x",
    ],
    ids=["before the slot", "over its end", "another kind", "cut off", "too long", "no reply"],
)
def test_a_wrong_reply_is_reported(host: Host, answer: Callable[[int], bytes]) -> None:
    _, at = slot_plan(host)
    host.start()
    host.receive()
    host.ours.send(answer(at))
    message = host.receive()
    assert message and (message.kind, message.step, message.value) == (MSG_ERROR, 0, EPROTO)
    assert host.running and host.running.end() == 1


def test_init_ends_when_the_host_is_gone(host: Host) -> None:
    slot_plan(host)
    host.start()
    host.receive()
    host.ours.close()
    assert host.running and host.running.end() == 1


def test_a_descriptor_is_sent_with_its_tag(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    file = host.plan.open("file", "openat", AT_FDCWD, str(tmp_path / "file"), O_RDONLY | O_CLOEXEC)
    host.plan.send_descriptor(file, 42)
    program(host.plan, "true")
    host.start()
    message = host.receive()
    assert message and (message.kind, message.step, message.value) == (MSG_FD, 1, 42)
    (fd,) = message.fds
    with os.fdopen(fd) as received:
        assert received.read() == "content"
    assert host.receive() is None


def test_failures_go_to_the_channel_from_then_on(host: Host) -> None:
    reading, writing = os.pipe()
    channel = host.plan.load("channel", writing)
    host.plan.channel(channel)
    host.plan.call("chdir", NOWHERE)
    host.start(writing)
    os.close(writing)
    assert host.receive() is None
    with os.fdopen(reading, "rb") as pipe:
        assert MESSAGE.unpack(pipe.read()) == (MSG_ERROR, 2, ENOENT, 0)


# What the kernel has to say about a failure.


def log_plan(host: Host, content: bytes) -> int:
    """A step that fails, with a log to read from its first argument; the descriptor to pass."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    log = host.plan.load("log", reading)
    host.plan.call("fchdir", log, log=True)
    return reading


@pytest.mark.parametrize("size", [0, 1, 100, 512, 2000])
def test_the_kernels_log_rides_along_up_to_its_limit(host: Host, size: int) -> None:
    content = bytes(ord("a") + index % 26 for index in range(size))
    fd = log_plan(host, content)
    host.start(fd)
    os.close(fd)
    message = host.receive()
    assert message and (message.kind, message.step, message.value) == (MSG_ERROR, 1, ENOTDIR)
    assert message.more == content[:512]


def test_a_register_that_is_not_set_is_no_log_on_stdin(host: Host) -> None:
    host.plan.call("fchdir", Reg(40, "never"), log=True)
    reading, writing = os.pipe()
    os.write(writing, b"for the program")
    host.start(stdin=reading)
    os.close(reading)
    os.close(writing)
    message = host.receive()
    assert message and (message.value, message.more) == (EBADF, b"")


# CLONE: qemu-user does not know clone3.


def test_a_clone_goes_on_and_its_pid_is_reported(native: Host) -> None:
    native.plan.call("umask", 0)
    native.plan.clone(CLONE_PARENT)
    native.plan.sync(1)
    native.plan.call("chdir", NOWHERE)
    native.start()
    messages = [native.receive(), native.receive()]  # in either order: parent and child are two processes
    assert native.running and native.running.end() == 0
    pids = [message for message in messages if message and message.kind == MSG_PID]
    syncs = [message for message in messages if message and message.kind == MSG_SYNC]
    assert [message.step for message in (*pids, *syncs)] == [1, 2]
    native.ours.send(reply())
    failure = native.receive()
    assert failure and (failure.kind, failure.step, failure.value) == (MSG_ERROR, 3, ENOENT)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0].value, 0)[1]) == 1


def test_a_clone_that_the_kernel_refuses_is_a_failure_like_others(native: Host) -> None:
    native.plan.clone(1 << 63)
    assert native.failure() == (0, EINVAL)
