"""What a payload inherits of the caller (next to nothing), and what stays of ocirt (nothing)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import OCIRT, Bundle, Done, Runtime, command, processes, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

F_GET_SEALS = 1034
SEALED = 1 | 2 | 4 | 8  # seal, shrink, grow, write


def run_after(prepare: Callable[[], object], runtime: Runtime, bundle: Bundle, *args: str, **options: object) -> Done:
    """`ocirt run` of `args` as a child that did `prepare` first."""
    bundle.config["process"]["args"] = list(args)
    bundle.write()
    return command(
        OCIRT, "--root", runtime.root, "run", "-b", bundle.path, "h", preexec_fn=prepare, close_fds=False, **options
    )


def leak_descriptors() -> None:
    for number in range(3, 21):
        os.dup2(0, number, inheritable=True)


def test_descriptors_of_the_caller_do_not_reach_the_payload(runtime: Runtime, bundle: Bundle) -> None:
    done = run_after(leak_descriptors, runtime, bundle, "/bin/ls", "/proc/self/fd")
    assert done.out.split() == ["0", "1", "2", "3"]  # 3 is ls's own, of the folder


def test_descriptors_of_the_caller_do_not_stay_in_a_waiting_init(runtime: Runtime, bundle: Bundle) -> None:
    done = command(
        OCIRT, "--root", runtime.root, "create", "-b", bundle.path, "h", preexec_fn=leak_descriptors, close_fds=False
    )
    assert done.code == 0
    try:
        pid = runtime.state("h")["pid"]
        numbers = {path.name: os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        pipes = {target for number, target in numbers.items() if number in "012"}
        assert not {target for number, target in numbers.items() if number not in "012"} & pipes
    finally:
        runtime("delete", "h")


def block_and_ignore() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def test_no_signal_is_blocked_or_ignored_whatever_the_caller_did(runtime: Runtime, bundle: Bundle) -> None:
    done = run_after(block_and_ignore, runtime, bundle, "/bin/grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status")
    assert {line.split()[1] for line in done.out.splitlines()} == {"0" * 16}


def test_the_environment_is_exactly_the_configurations(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["env"] = ["A=1", "B=with = signs", "HOME=/elsewhere"]
    bundle.config["process"]["args"] = ["/bin/env"]
    bundle.write()
    noise = {"SECRET": "x", "PATH": "/usr/bin", "PYTHONPATH": "/nowhere", "LD_PRELOAD": "", "TZ": "Europe/Berlin"}
    done = runtime("run", "-b", bundle.path, "h", env=noise)
    assert sorted(done.out.splitlines()) == ["A=1", "B=with = signs", "HOME=/elsewhere"]


def test_of_a_variable_that_is_there_twice_the_last_one_counts(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["env"] = ["A=1", "HOME=/", "A=2"]
    bundle.config["process"]["args"] = ["/bin/env"]
    bundle.write()
    assert sorted(runtime("run", "-b", bundle.path, "h").out.splitlines()) == ["A=2", "HOME=/"]


def test_a_variable_without_a_name_or_value_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["env"] = ["NOTHING"]
    bundle.write()
    done = runtime("run", "-b", bundle.path, "h")
    assert (done.code, "/process/env/0" in done.err) == (1, True)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o027])
def test_without_a_umask_in_the_configuration_it_is_the_callers(runtime: Runtime, bundle: Bundle, mask: int) -> None:
    done = run_after(lambda: os.umask(mask), runtime, bundle, "/bin/sh", "-c", "umask")
    assert int(done.out, 8) == mask


def test_the_callers_umask_does_not_touch_the_modes_of_devices(runtime: Runtime, bundle: Bundle) -> None:
    done = run_after(lambda: os.umask(0o077), runtime, bundle, "/bin/stat", "-c", "%a", "/dev/null", "/dev/shm", "/dev")
    assert done.out.split() == ["666", "1777", "755"]


def test_limits_that_the_configuration_does_not_name_are_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["rlimits"] = []
    done = run_after(
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)), runtime, bundle, "/bin/sh", "-c", "ulimit -c"
    )
    assert done.out == "0\n"


def test_it_runs_with_stdin_stdout_and_stderr_closed(runtime: Runtime, bundle: Bundle) -> None:
    """Then they must not become some descriptor of ours."""
    bundle.config["root"]["readonly"] = False
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "ls -l /proc/self/fd > /tmp/fds; exit 5"]
    bundle.write()
    done = command("/bin/sh", "-c", f'exec "{OCIRT}" --root "{runtime.root}" run -b "{bundle.path}" h <&- >&- 2>&-')
    assert done.code == 5
    shown = (bundle.rootfs / "tmp/fds").read_text().splitlines()[1:]
    targets = {line.split()[-3]: line.split()[-1] for line in shown if "->" in line}
    # A host's own path, so below something where the host is a chroot.
    assert targets["0"].endswith("/dev/null")
    assert targets["2"].endswith("/dev/null")


@pytest.mark.parametrize("verb", [["create"], ["run", "--detach"]])
def test_no_process_of_ours_stays_behind(runtime: Runtime, bundle: Bundle, verb: list[str]) -> None:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    before = set(processes())
    with Path(os.devnull).open("rb+") as null:
        code = subprocess.run(
            [OCIRT, "--root", runtime.root, *verb, "-b", bundle.path, "h"],
            env={},
            stdin=null,
            stdout=null,
            stderr=null,
            timeout=20,
            check=False,
        ).returncode
    assert code == 0
    try:
        if verb == ["create"]:
            assert runtime("start", "h").code == 0
        assert [one for one in set(processes()) - before if is_ours(one)] == []
        assert runtime.state("h")["status"] == "running"
    finally:
        runtime("delete", "--force", "h")


def is_ours(pid: int) -> bool:
    """Is it, on this side of our isolation, ocirt or ocirt-init?"""
    try:
        names = Path(f"/proc/{pid}/cmdline").read_text() + os.readlink(f"/proc/{pid}/exe")
        return "ocirt" in names and within(Path(f"/proc/{pid}"))
    except OSError:
        return False


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Iterator[int]:
    """The pid of a container that waits for `start`."""
    with Path(os.devnull).open("rb+") as null:
        subprocess.run(
            [OCIRT, "--root", runtime.root, "create", "-b", bundle.path, "h"],
            env={},
            stdin=null,
            stdout=null,
            stderr=null,
            timeout=20,
            check=True,
        )
    yield int(runtime.state("h")["pid"])
    runtime("delete", "--force", "h")


def test_a_waiting_init_holds_stdio_the_fifo_and_its_own_procfs_and_no_more(waiting: int) -> None:
    targets = {int(path.name): os.readlink(path) for path in Path(f"/proc/{waiting}/fd").iterdir()}
    assert {targets.pop(number) for number in (0, 1, 2)} == {"/dev/null"}
    fifos = [number for number, target in targets.items() if target.endswith("/start")]
    assert len(fifos) == 1
    assert stat.S_ISFIFO(Path(f"/proc/{waiting}/fd/{fifos[0]}").stat().st_mode)
    del targets[fifos[0]]
    assert list(targets.values()) == ["/"], "the root of the private procfs"


def test_a_waiting_init_is_small(waiting: int) -> None:
    lines = Path(f"/proc/{waiting}/smaps_rollup").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    print(f"RSS of a waiting init: {fields['Rss']} KiB, private {fields['Private_Dirty']} KiB")
    assert int(fields["Rss"]) <= 128
    assert int(fields["Private_Dirty"]) <= 96


def test_the_payload_leads_a_session_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    stat_line = runtime.sh(bundle, "exec cat /proc/self/stat").out
    pid, _, fields = stat_line.partition(" ")
    assert (pid, fields.rpartition(")")[2].split()[3]) == ("1", "1")


def test_a_parent_death_signal_of_the_caller_does_not_reach_the_payload(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel clears it at fork; so a payload outlives the ocirt that started it."""
    libc = ctypes.CDLL(None)
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    code = subprocess.run(
        [OCIRT, "--root", runtime.root, "run", "-d", "-b", bundle.path, "h"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(1, signal.SIGKILL) and None,
        check=False,
        timeout=20,
    ).returncode
    try:
        assert (code, runtime.state("h")["status"]) == (0, "running")
    finally:
        runtime("delete", "--force", "h")


def test_reading_passwd_for_home_does_not_change_its_access_time(runtime: Runtime, bundle: Bundle) -> None:
    """Such a write could meet init while it turns the root readonly, which then failed with EBUSY."""
    passwd = bundle.rootfs / "etc/passwd"
    os.utime(passwd, (1, 2))  # relatime would update it
    assert runtime("run", "-b", bundle.path, "h").code == 0
    assert passwd.stat().st_atime == 1
