"""exec, top and stats of a container that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from by_hand import HandMade, Workshop, counts_memory, until

from ocirt.manager.containers import lifecycle, running
from ocirt.manager.errors import ConflictError, ManagerError

pytestmark = pytest.mark.root


@pytest.fixture
def sleeper(workshop: Workshop) -> Iterator[HandMade]:
    record = workshop.container("/bin/sleep", "1000")
    lifecycle.start(workshop.site, record)
    yield record


def test_exec_has_its_own_command(workshop: Workshop, sleeper: HandMade) -> None:
    process = running.process_of(workshop.site, sleeper) | {"args": ["/bin/sh", "-c", "echo hi > /tmp/said; exit 12"]}
    assert running.execute(workshop.site, sleeper, process) == 12
    assert (workshop.site.container(sleeper.id) / "rootfs" / "tmp" / "said").read_text() == "hi\n"


def test_exec_by_execve(workshop: Workshop, sleeper: HandMade) -> None:
    process = running.process_of(workshop.site, sleeper) | {"args": ["/bin/sh", "-c", "exit 13"]}
    command, fd = running.exec_command(workshop.site, sleeper, process)
    os.set_inheritable(fd, True)
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)[1]) == 13
    os.close(fd)


def test_exec_detached(workshop: Workshop, sleeper: HandMade) -> None:
    process = running.process_of(workshop.site, sleeper) | {"args": ["/bin/sh", "-c", "echo hi > /tmp/said"]}
    assert running.execute(workshop.site, sleeper, process, detach=True) == 0
    said = workshop.site.container(sleeper.id) / "rootfs" / "tmp" / "said"
    until(lambda: said.exists() and said.read_text() == "hi\n", "its word")
    with pytest.raises(ManagerError, match="nothing"):
        running.execute(workshop.site, sleeper, process | {"args": ["/nothing"]}, detach=True)


def test_top_shows_the_processes(workshop: Workshop, sleeper: HandMade) -> None:
    titles, rows = running.top(workshop.site, sleeper)
    assert titles[:3] == ["UID", "PID", "PPID"]
    assert [(row[1], row[-1]) for row in rows] == [(str(workshop.state(sleeper).pid), "/bin/sleep 1000")]
    assert running.top(workshop.site, sleeper, ("-o", "pid,comm", "-A"))[0] == ["PID", "COMMAND"]
    with pytest.raises(ManagerError, match="PID"):
        running.top(workshop.site, sleeper, ("-o", "comm", "-A"))


def test_stats(workshop: Workshop, sleeper: HandMade) -> None:
    found = running.stats(workshop.site, sleeper)
    assert found.pids == 1
    assert 0 < found.memory < 1 << 30 or not counts_memory()
    assert found.limit >= found.memory
    busy = workshop.sh("while :; do :; done")
    lifecycle.start(workshop.site, busy)
    first = running.stats(workshop.site, busy)
    second = until(lambda: (now := running.stats(workshop.site, busy)).cpu > first.cpu and now, "time on a processor")
    assert second.percent(first) > 0


def test_one_that_does_not_run(workshop: Workshop) -> None:
    record = workshop.sh("true")
    for call in (running.top, running.stats):
        with pytest.raises(ConflictError, match="not running"):
            call(workshop.site, record)
