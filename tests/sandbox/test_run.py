"""ocirt.sandbox.run: what a program in a sandbox gets, and what its caller gets back."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ocirt import sandbox
from ocirt.errors import KernelError, UsageError
from ocirt.sandbox.client import keeper
from tests.sandbox.conftest import eventually, has, waiting
from tests.support import make_rootfs

pytestmark = pytest.mark.root


def sh(script: str, **keywords: object) -> sandbox.Result:
    return sandbox.run(["sh", "-c", script], **keywords)


def test_the_result_says_how_it_ended() -> None:
    result = sh("echo out; echo err >&2; exit 3")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert not (result.timed_out or result.oom_killed or result.truncated)
    assert result.denied_syscalls == {}
    assert result.usage.wall > 0


def test_a_signal_is_a_negative_code() -> None:
    assert sandbox.run(["python3", "-c", "import signal, ctypes; ctypes.string_at(0)"]).returncode == -11


def test_usage_comes_from_the_cgroups() -> None:
    result = sandbox.run(["python3", "-c", "x = bytearray(40 << 20); y = sum(range(3_000_000))"])
    assert result.returncode == 0, result.stderr
    usage = result.usage
    if usage.memory_peak is not None:  # not on a v2 tree without controllers
        assert usage.memory_peak > 40 << 20
    if usage.cpu_user is not None and usage.cpu_system is not None:
        assert usage.cpu_user + usage.cpu_system > 0


def test_usage_of_disks(tmp_path: Path) -> None:
    """Of what is read and written there is at least what goes past the page cache. v1 counts in its throttling, which
    newer kernels begin with when the first limit for a disk is set."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    script = "dd if=/dev/zero of=/out/file bs=64k count=16 oflag=direct 2>/dev/null || echo impossible"
    result = sh(script, binds=[f"{tmp_path}/out:/out:rw"])
    assert result.returncode == 0, result.stderr
    usage = result.usage
    assert (usage.io_read is None) == (usage.io_written is None) == (not has("blkio") and not has("io"))
    if has("io") and not result.stdout and on_a_disk(tmp_path):
        assert usage.io_written is not None
        assert usage.io_written >= 1 << 20


def on_a_disk(path: Path) -> bool:
    """Has its file system a block device of its own? A tmpfs and an overlay have not (device numbers 0:N)."""
    return os.major(path.stat().st_dev) != 0


def test_swap_is_no_more_memory() -> None:
    """What the cgroup has as limits, while a program runs in it."""
    with sandbox.Pool(1, memory="64M") as pool:
        pool.wait()
        ((name, folder),) = memory_cgroups()
        if name == "v2":
            assert (folder / "memory.max").read_text() == f"{64 << 20}\n"
            if (folder / "memory.swap.max").exists():
                assert (folder / "memory.swap.max").read_text() == "0\n"
        else:
            assert (folder / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
            if (folder / "memory.memsw.limit_in_bytes").exists():
                assert (folder / "memory.memsw.limit_in_bytes").read_text() == f"{64 << 20}\n"


def memory_cgroups() -> list[tuple[str, Path]]:
    """Those of the keeper's sandboxes that have the memory controller."""
    found = []
    for pid in waiting():
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                found.append(("v1", Path("/sys/fs/cgroup/memory" + path)))
            elif number == "0" and Path(f"/sys/fs/cgroup{path}/memory.max").exists():
                found.append(("v2", Path("/sys/fs/cgroup" + path)))
    return found


@pytest.mark.parametrize("stdin", [b"some text", "some text"])
def test_stdin_is_what_was_given(stdin: bytes | str) -> None:
    assert sandbox.run(["cat"], stdin=stdin).stdout == b"some text"


def test_stdin_from_a_descriptor_and_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    with (tmp_path / "file").open("rb") as file:
        assert sandbox.run(["cat"], stdin=file.fileno()).stdout == b"from a file"
    assert sandbox.run(["cat"]).stdout == b""


def test_large_input_and_output_at_once() -> None:
    content = os.urandom(3 << 20)
    result = sandbox.run(["cat"], stdin=content, max_output="4M")
    assert result.stdout == content
    assert not result.truncated


def test_input_that_nobody_reads() -> None:
    assert sandbox.run(["true"], stdin=bytes(1 << 20)).returncode == 0


def test_environment_directory_and_user() -> None:
    result = sh("echo $A $HOME; pwd; id -u; id -g", env={"A": "1 2"}, cwd="/usr/bin", user="1000:100")
    assert result.stdout.split(b"\n")[:4] == [b"1 2 /tmp", b"/usr/bin", b"1000", b"100"]


def test_the_writable_layer_vanishes() -> None:
    script = "touch /usr/bin/new /new /var/new && rm /usr/bin/env && ls /usr/bin/new"
    result = sh(script)
    assert result.returncode == 0, result.stderr
    assert Path("/usr/bin/env").exists()
    assert not Path("/usr/bin/new").exists()
    assert sh("ls /usr/bin/env && ! ls /usr/bin/new").returncode == 0


def test_without_overlay_only_tmp_is_writable() -> None:
    result = sh("touch /tmp/a && ! touch /a && ! touch /usr/a && ! touch /var/a", overlay=False)
    assert result.returncode == 0, result.stderr


def test_a_folder_as_root(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path / "rootfs")
    tmp_path.chmod(0o700)  # the sandbox's user needs no way to it
    before = sorted(path.name for path in rootfs.rglob("*"))
    result = sh("touch /bin/new && ls /bin/new", rootfs=rootfs)
    assert (result.returncode, result.stdout) == (0, b"/bin/new\n"), result.stderr
    assert sorted(path.name for path in rootfs.rglob("*")) == before
    assert sh("! touch /bin/new && cat /etc/passwd", rootfs=rootfs, overlay=False).returncode == 0


def test_binds(tmp_path: Path) -> None:
    shown, open_to_all = tmp_path / "shown", tmp_path / "open"
    shown.mkdir()
    open_to_all.mkdir()
    (shown / "file").write_text("bound")
    open_to_all.chmod(0o777)
    binds = [f"{shown}:/data", (str(open_to_all), "/out/put", True)]
    result = sh("cat /data/file; ! touch /data/new && echo done > /out/put/result", binds=binds)
    assert (result.returncode, result.stdout) == (0, b"bound"), result.stderr
    assert (open_to_all / "result").read_text() == "done\n"
    assert (open_to_all / "result").stat().st_uid >= 1_900_000_000


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(KernelError, match="executable file not found"):
        sandbox.run(["no-such-program"])


def test_bad_keywords_are_refused_before_anything_happens() -> None:
    for keywords, words in (
        ({"memory": "64Q"}, "memory"),
        ({"timeout": -1}, "timeout"),
        ({"pids": 0}, "pids"),
        ({"cwd": "tmp"}, "cwd"),
        ({"user": "root"}, "user"),
        ({"user": "70000"}, "user"),
        ({"binds": ["/nowhere:/x"]}, "binds"),
        ({"binds": ["/tmp:/"]}, "binds"),
        ({"rootfs": "/etc/passwd"}, "rootfs"),
        ({"env": {"A=B": "1"}}, "env"),
    ):
        with pytest.raises(UsageError, match=words):
            sandbox.run(["true"], **keywords)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="argv"):
        sandbox.run([])


def test_many_threads() -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(sandbox.run(["echo", str(number)]).stdout))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [b"%d\n" % number for number in range(8)]


def test_asyncio() -> None:
    async def both() -> list[sandbox.Result]:
        return await asyncio.gather(*(sandbox.run_async(["echo", name]) for name in ("a", "b")))

    assert [result.stdout for result in asyncio.run(both())] == [b"a\n", b"b\n"]


def test_a_cancelled_task_ends_its_sandbox() -> None:
    async def cancelled() -> None:
        await asyncio.wait_for(sandbox.run_async(["sleep", "1000"]), 0.5)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())


def test_a_caller_that_is_killed_takes_its_sandbox_along(tmp_path: Path) -> None:
    """The keeper sees that, whatever the caller could not do: the pipe to it ends only with the sandbox."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "fifo")
    (tmp_path / "pipe" / "fifo").chmod(0o666)
    program = f"""
from ocirt import sandbox
sandbox.run(["sh", "-c", "exec > /pipe/fifo; echo started; sleep 1000"], binds=[("{tmp_path}/pipe", "/pipe", True)])
"""
    reader = os.open(tmp_path / "pipe" / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    caller = subprocess.Popen([sys.executable, "-P", "-c", program])
    try:
        assert poller.poll(60_000)
        assert os.read(reader, 100) == b"started\n"
        caller.kill()
        caller.wait()
        assert poller.poll(60_000)
        assert os.read(reader, 100) == b""
    finally:
        caller.kill()
        caller.wait()
        os.close(reader)


def test_a_keeper_that_is_killed_is_replaced_and_cleaned_up_after() -> None:
    failed: list[Exception] = []

    def run() -> None:
        try:
            sandbox.run(["sh", "-c", "sleep 1000"])
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    children = Path(f"/proc/{keeper.pid}/task")
    eventually(lambda: any((task / "children").read_text() for task in children.iterdir()), expected=True)
    os.kill(keeper.pid, 9)
    thread.join()
    assert "keeper" in str(failed[0])
    assert sandbox.run(["echo", "again"]).stdout == b"again\n"


def test_what_a_dying_keeper_has_not_read_is_asked_of_the_next() -> None:
    found: list[bytes] = []
    old = keeper.pid
    os.kill(old, signal.SIGSTOP)
    thread = threading.Thread(target=lambda: found.append(sandbox.run(["echo", "asked"]).stdout))
    thread.start()
    eventually(lambda: len(keeper._open) > 0, expected=True)
    os.kill(old, signal.SIGKILL)
    thread.join()
    assert found == [b"asked\n"]
    assert keeper.pid != old
