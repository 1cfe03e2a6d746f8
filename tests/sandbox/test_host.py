"""What a host must have for sandboxes, and what is said where it has not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ocirt import sandbox
from ocirt.cgroups.layout import Layout, Mounted
from ocirt.errors import Error
from ocirt.sandbox.counting import counted
from ocirt.sandbox.host import check_controllers, check_rights, counts_swap
from tests.sandbox.conftest import has


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Instead of conftest's, which needs what is missing here: no sandbox is made."""


def layout(tmp_path: object, *controllers: str) -> Layout:
    found = [Mounted(name, (name,), f"{tmp_path}/{name}", "/", v2=False) for name in controllers]
    return Layout(found, pure_v2=False)


def test_without_a_controller_there_are_none(tmp_path: object) -> None:
    check_controllers(layout(tmp_path, "memory", "pids"))
    with pytest.raises(Error, match="controller pids") as found:
        check_controllers(layout(tmp_path, "memory", "cpu"))
    assert found.value.pointer == "/linux/resources/pids/limit"
    assert "cgroup.controllers" in found.value.hint


def test_on_v2_its_own_file_says_what_there_is(tmp_path: object) -> None:
    pure = Layout([Mounted("", (), str(tmp_path), "/", v2=True)], pure_v2=True)
    with open(f"{tmp_path}/cgroup.controllers", "w", encoding="ascii") as file:
        file.write("cpu io pids\n")
    with pytest.raises(Error, match="controller memory"):
        check_controllers(pure)
    assert counts_swap(pure)


def test_swap_on_v1_only_where_it_is_counted(tmp_path: object) -> None:
    found = layout(tmp_path, "memory")
    assert not counts_swap(found)
    os.mkdir(f"{tmp_path}/memory")
    with open(f"{tmp_path}/memory/memory.memsw.limit_in_bytes", "w", encoding="ascii"):
        assert counts_swap(found)


def test_what_the_files_of_cgroups_say(tmp_path: object) -> None:
    v1 = {
        "cpuacct.stat": "user 50\nsystem 25\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\nTotal 31\n",
    }
    v2 = {
        "cpu.stat": "usage_usec 9\nuser_usec 2000000\nsystem_usec 500000\n",
        "memory.events": "low 0\nmax 7\noom 1\noom_kill 1\n",
        "memory.peak": "4096\n",
        "io.stat": "8:0 rbytes=5 wbytes=7 rios=1 wios=1 dbytes=0\n8:16 rbytes=1 wbytes=2 rios=0 wios=0\n",
    }
    for name, content in {**v1, **v2}.items():
        with open(f"{tmp_path}/{name}", "w", encoding="ascii") as file:
            file.write(content)
    one = ("", ("cpuacct", "memory", "blkio"), False, "", str(tmp_path))
    tick = 1 / os.sysconf("SC_CLK_TCK")
    expected = {"cpu_user": 50 * tick, "cpu_system": 25 * tick, "oom_kills": 2, "io_read": 11, "io_written": 20}
    assert counted([one]) == expected
    other = ("", (), True, "", str(tmp_path))
    expected = {"cpu_user": 2, "cpu_system": 0.5, "oom_kills": 1, "memory_peak": 4096, "io_read": 6, "io_written": 9}
    assert counted([other]) == expected


@pytest.mark.root
def test_root_of_the_host_may_and_nobody_else() -> None:
    check_rights()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            check_rights()
        except Error as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, encoding="ascii") as file:
        assert "this is user 65534" in file.read()
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["unshare", "--user", "--map-root-user"], "root of a user namespace only"),
        (["setpriv", "--bounding-set=-sys_admin"], "CAP_SYS_ADMIN"),
    ],
)
def test_who_may_not_is_told_why(command: list[str], words: str) -> None:
    program = """
from ocirt import sandbox
from ocirt.errors import Error
try:
    sandbox.run(["true"])
except Error as error:
    print(error, error.hint)
"""
    starting = [*command, sys.executable, "-P", "-c", program]
    done = subprocess.run(starting, capture_output=True, text=True, check=False)
    assert words in done.stdout, done.stderr
    assert "ocirt.Container" in done.stdout


@pytest.mark.root
def test_a_host_without_the_controllers() -> None:
    """As tests/isolate makes one of a v1 host: PURE_V2=1."""
    if has("memory") and has("pids"):
        pytest.skip("this host has both")
    with pytest.raises(Error, match="sandboxes need the cgroup controller"):
        sandbox.run(["true"])
