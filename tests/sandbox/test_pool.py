"""ocirt.sandbox.Pool: sandboxes that wait."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ocirt import sandbox
from ocirt.errors import Error, KernelError, UsageError
from ocirt.sandbox.client import PLACE, keeper
from tests.sandbox.conftest import waiting
from tests.support import cgroup_folders, make_rootfs

pytestmark = pytest.mark.root

PATIENCE = 120
"""Seconds for what would go on for ever if it did not work."""


def ended(pidfd: int) -> bool:
    """Has the process, some time? Closes it."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    try:
        return bool(poller.poll(PATIENCE * 1000))
    finally:
        os.close(pidfd)


def test_each_run_has_a_sandbox_of_its_own() -> None:
    with sandbox.Pool(2, ["sh", "-c", "cat; ls /tmp; touch /tmp/mine"]) as pool:
        assert [pool.run(stdin=str(number)).stdout for number in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_many_threads_share_one() -> None:
    found: list[bytes] = []
    with sandbox.Pool(3, ["cat"]) as pool:
        threads = [
            threading.Thread(target=lambda number=number: found.append(pool.run(stdin=str(number)).stdout))
            for number in range(9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [str(number).encode() for number in range(9)]


def test_one_that_has_died_is_replaced() -> None:
    with sandbox.Pool(2, ["echo", "alive"]) as pool:
        pool.wait()
        for pid in waiting():
            os.kill(pid, 9)
        assert [pool.run().stdout for _ in range(3)] == [b"alive\n"] * 3


def test_limits_and_timeouts_are_each_runs_own() -> None:
    with sandbox.Pool(1, ["sh", "-c", 'read command; eval "$command"'], timeout=PATIENCE) as pool:
        assert pool.run(stdin="sleep 1000\n", timeout=0.2).timed_out
        result = pool.run(stdin="unshare -m true; exit 7\n")
        assert (result.returncode, result.denied_syscalls) == (7, {"unshare": 1})


def test_each_run_may_have_a_program_of_its_own() -> None:
    with sandbox.Pool(2, memory="64M") as pool:
        script = 'printf "%s|" "$0" "$@"'
        for arguments in (["a b", "", "*", "ä\n"], [], ["--", "-x"]):
            result = pool.run(["sh", "-c", script, "sh", *arguments])
            assert result.stdout.decode() == "".join(f"{one}|" for one in ["sh", *arguments])
        for number in range(6):
            assert pool.run(["sh", "-c", f"exit {number}"]).returncode == number
        assert pool.run(["cat"], stdin=b"in").stdout == b"in"
        with pytest.raises(UsageError, match="argv"):
            pool.run()


def test_a_run_may_have_another_program_than_the_pool() -> None:
    with sandbox.Pool(1, ["echo", "pool"], env={"A": "1", "B": "2"}, timeout=PATIENCE) as pool:
        assert pool.run().stdout == b"pool\n"
        result = pool.run(["sh", "-c", 'echo "$A $B $C $HOME"'], env={"B": "x y", "C": "=", "HOME": "/h"})
        assert result.stdout == b"1 x y = /h\n"
        assert pool.run(["sleep", "1000"], timeout=0.2).timed_out
        assert not pool.run().timed_out


def test_the_environment_is_no_other_than_was_given() -> None:
    with sandbox.Pool(1, env={"A": "1"}) as pool:
        lines = sorted(pool.run(["env"], env={"E": "", "LONG": "x" * 100_000}).stdout.split(b"\n"))
    names = [line.partition(b"=")[0] for line in lines if line]
    assert names == [b"A", b"E", b"HOME", b"LANG", b"LONG", b"PATH"]


def test_arguments_up_to_the_kernels_limits() -> None:
    with sandbox.Pool(1) as pool:
        many = ["x"] * 50_000
        result = pool.run(["sh", "-c", "echo $#; echo ${#1}", "sh", "y" * 131_071, *many])
        assert result.stdout.split() == [b"50001", b"131071"]
        for argv in (["echo", "y" * 131_072], ["echo", *(["z" * 1000] * 10_000)]):  # MAX_ARG_STRLEN, and all of them
            with pytest.raises(KernelError, match="argument list too long"):
                pool.run(argv)
        with pytest.raises(UsageError, match="argv and env"):
            pool.run(["echo", "y" * (20 << 20)])
        assert pool.run(["echo", "still"]).stdout == b"still\n"


def test_a_program_that_cannot_be_executed_fails_as_without_a_pool(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "plain").write_text("not executable")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    tmp_path.chmod(0o755)
    binds = [f"{tmp_path}:/data"]
    with sandbox.Pool(1, binds=binds) as pool:
        for name, words in (
            ("no-such-program", "executable file not found"),
            ("/no/such/program", "no such file"),
            ("/tmp", "permission denied"),
            ("/data/plain", "permission denied"),
            ("/data/text", "exec format error"),
            ("/data/lost", "no such file"),
            ("plain", "executable file not found"),
        ):
            with pytest.raises(KernelError, match=words) as here:
                pool.run([name])
            with pytest.raises(KernelError) as there:
                sandbox.run([name], binds=binds)
            for field in ("message", "errno", "call", "hint", "pointer"):
                assert getattr(here.value, field) == getattr(there.value, field)
        result = pool.run(["sh", "-c", "exit 5"], env={"PATH": "/bin:/usr/bin"})
        assert result.returncode == 5
        with pytest.raises(KernelError, match="not found"):
            pool.run(["true"], env={"PATH": "/nowhere"})


def test_nothing_of_what_waits_reaches_the_program() -> None:
    with sandbox.Pool(1) as pool:
        listed = pool.run(["python3", "-I", "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"])
        assert listed.stdout == b"['0', '1', '2', '3']\n"
        assert pool.run(["sh", "-c", "ls -l /proc/1/exe"]).stdout.count(b"memfd") == 0
        status = pool.run(["grep", "-E", "^(CapEff|NoNewPrivs|Seccomp|Seccomp_filters):", "/proc/self/status"])
        assert [line.split()[-1] for line in status.stdout.splitlines()] == [b"0" * 16, b"1", b"2", b"1"]


def test_a_program_that_is_found_inside_only(tmp_path: Path) -> None:
    """Its name is looked up when it runs, in the sandbox and by its rights."""
    rootfs = make_rootfs(tmp_path / "rootfs")
    with sandbox.Pool(2, rootfs=rootfs) as pool:
        pool.wait()
        assert pool.run(["ls", "/bin/busybox"]).stdout == b"/bin/busybox\n"
        with pytest.raises(KernelError, match="not found"):
            pool.run(["python3"])


def test_each_run_is_told_how_it_ended() -> None:
    hog = "x = [bytearray(b'x') * (1 << 20) for _ in range(1000)]"
    with sandbox.Pool(2, memory="48M", timeout=PATIENCE) as pool:
        killed = pool.run(["python3", "-I", "-c", hog])
        assert (killed.returncode, killed.oom_killed, killed.timed_out) == (-9, True, False)
        late = pool.run(["sh", "-c", "trap '' TERM; sleep 1000"], timeout=0.2)
        assert (late.returncode, late.oom_killed, late.timed_out) == (-9, False, True)
        refused = pool.run(["python3", "-I", "-c", "import socket; socket.socket(38, 5)"])
        assert (refused.denied_syscalls, refused.oom_killed, refused.timed_out) == ({"socket": 1}, False, False)
        assert b"PermissionError" in refused.stderr
        fine = pool.run(["true"])
        assert (fine.returncode, fine.denied_syscalls, fine.oom_killed) == (0, {}, False)


def test_what_waits_ends_with_a_keeper_that_is_killed() -> None:
    with sandbox.Pool(2, ["echo", "alive"]) as pool:
        pool.wait()
        pids = [os.pidfd_open(pid) for pid in waiting()]
        assert len(pids) == 2
        os.kill(keeper.pid, 9)
        for pidfd in pids:
            assert ended(pidfd)
        assert pool.run().stdout == b"alive\n"


def test_a_pool_that_nobody_closes_ends_with_the_interpreter() -> None:
    program = "from ocirt import sandbox; pool = sandbox.Pool(2); pool.wait(); print(sandbox.client.keeper.pid)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, timeout=PATIENCE, check=True)
    assert not os.path.exists(f"/proc/{int(done.stdout)}")


def test_a_caller_that_is_killed_leaves_nothing() -> None:
    program = """
import sys, time
from ocirt import sandbox
pool = sandbox.Pool(3)
pool.wait()
print(sandbox.client.keeper.pid, flush=True)
pool.run(["sleep", "1000"])
"""
    caller = subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE)
    assert caller.stdout
    with caller, caller.stdout:
        pid = int(caller.stdout.readline())
        prefix = f"{pid}-"
        state = Path(f"{PLACE}/state")
        assert sum(name.startswith(prefix) for name in os.listdir(state)) >= 3
        keeper_of_it = os.pidfd_open(pid)
        caller.kill()
    assert ended(keeper_of_it), "the keeper has not ended"
    assert not any(name.startswith(prefix) for name in os.listdir(state))
    assert not any(prefix in path for path in cgroup_folders())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="size"):
        sandbox.Pool(0, ["true"])
    with pytest.raises(UsageError, match="unexpected"):
        sandbox.Pool(1, ["true"], memroy="1M")
    with pytest.raises(Error):
        sandbox.Pool(1, ["true"], binds=["/etc/passwd:/proc/self/x"])


def test_a_closed_pool_runs_nothing() -> None:
    pool = sandbox.Pool(2, ["true"])
    pool.close()
    pool.close()
    with pytest.raises(UsageError, match="closed"):
        pool.run()


def test_a_child_after_fork_leaves_it_alone() -> None:
    with sandbox.Pool(2, ["echo", "here"]) as pool:
        child = os.fork()
        if child == 0:
            try:
                pool.close()
                pool.run()
            except UsageError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.run().stdout == b"here\n"
