"""ps: the pids of a container, and the table that ps(1) makes of them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from runtime.life import wait_until

if TYPE_CHECKING:
    from runtime.life import Life

pytestmark = pytest.mark.root


@pytest.fixture
def three(life: Life) -> Life:
    """A shell and two sleeps, of which one is below a cgroup's cgroup as far as that concerns ps."""
    script = "sleep 1000 & sleep 1001 & echo > /tmp/ready; wait"
    life.bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    wait_until(lambda: len(json.loads(life("ps", "--format", "json", "c").out)) == 3)
    return life


def test_json_has_the_hosts_pids_of_all_processes(three: Life) -> None:
    done = three("ps", "--format", "json", "c")
    pids = json.loads(done.out)
    assert three.pid in pids
    assert pids == sorted(pids)
    assert done.out == f"[{', '.join(map(str, pids))}]\n"
    assert three("ps", "-f", "json", "c").out == done.out


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps(1)")
def test_the_table_is_that_of_ps_with_only_the_containers_processes(three: Life) -> None:
    heading, *lines = three("ps", "c").out.splitlines()
    assert heading.split()[:3] == ["UID", "PID", "PPID"]
    pids = json.loads(three("ps", "--format", "json", "c").out)
    assert sorted(int(line.split()[1]) for line in lines) == pids


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps(1)")
def test_options_after_the_id_are_for_ps(three: Life) -> None:
    done = three("ps", "c", "-A", "-o", "args,pid")
    assert done.code == 0, done.err
    heading, *lines = done.out.splitlines()
    assert heading.split() == ["COMMAND", "PID"] or heading.split() == ["ARGS", "PID"]
    # The pid is not where it is in -ef, and the words before it may be many.
    assert lines == [] or all(line.split()[-1].isdigit() for line in lines)
    ordered = three("ps", "c", "-A", "-o", "pid,args").out
    assert "sleep 1000" in ordered and "sleep 1001" in ordered


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps(1)")
def test_what_ps_refuses_is_said_in_one_line(three: Life) -> None:
    done = three("ps", "c", "--no-such-option")
    assert done.code == 1
    assert done.err.startswith("ocirt: ps --no-such-option ended with status 1: ")
    assert len(done.err.splitlines()) == 1
    done = three("ps", "c", "-o", "args")
    assert done.err == "ocirt: ps -o args shows no column PID (add it: -o pid,…)\n"


def test_a_stopped_container_has_none(life: Life) -> None:
    life.reach("stopped")
    assert life("ps", "--format", "json", "c").out == "[]\n"
