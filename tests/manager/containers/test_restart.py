"""Restart policies, removal at the end, and what happens between two runs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from by_hand import HandMade, Workshop, collected, until

from ocirt.manager.containers import lifecycle, logs

pytestmark = pytest.mark.root
ALWAYS = {"policy": "always", "most": 0}


def said(workshop: Workshop, record: HandMade) -> bytes:
    return b"".join(chunk.data for chunk in logs.chunks(workshop.site, record))


def test_on_failure_so_often(workshop: Workshop) -> None:
    record = workshop.sh("echo run; exit 1", restart={"policy": "on-failure", "most": 2})
    attachment = lifecycle.start(workshop.site, record, attach=True)
    assert attachment
    assert collected(attachment) == (b"run\n" * 3, b"", 1)  # who is attached stays
    found = workshop.state(record)
    assert (found.status, found.restarts, found.exit_code) == ("exited", 2, 1)
    assert said(workshop, record) == b"run\n" * 3


def test_always_until_it_is_stopped(workshop: Workshop) -> None:
    record = workshop.sh("echo run", restart=ALWAYS)
    lifecycle.start(workshop.site, record)
    until(lambda: workshop.state(record).restarts >= 2, "two restarts")
    lifecycle.stop(workshop.site, record)
    found = workshop.state(record)
    assert (found.status, found.stopped) == ("exited", True)
    assert lifecycle.due_after_boot(workshop.site, record)  # docker: always means always, after a boot
    unless = HandMade(record.id, {"monitor": record.document["monitor"] | {"restart": {"policy": "unless-stopped"}}})
    assert not lifecycle.due_after_boot(workshop.site, unless)


def test_stop_between_two_runs(workshop: Workshop) -> None:
    record = workshop.sh("exit 3", restart=ALWAYS)
    lifecycle.start(workshop.site, record)
    until(lambda: workshop.state(record).restarts >= 4, "a longer pause")
    until(lambda: workshop.state(record).status == "restarting", "the pause")
    lifecycle.stop(workshop.site, record)
    assert (workshop.state(record).status, workshop.state(record).exit_code) == ("exited", 3)


def test_kill_is_no_reason_to_go_on(workshop: Workshop) -> None:
    record = workshop.container("/bin/sleep", "1000", restart=ALWAYS)
    lifecycle.start(workshop.site, record)
    lifecycle.kill(workshop.site, record)
    until(lambda: workshop.state(record).status == "exited", "its end")
    assert workshop.state(record).exit_code == 137


def test_another_ones_kill_is(workshop: Workshop) -> None:
    record = workshop.container("/bin/sleep", "1000", restart=ALWAYS)
    lifecycle.start(workshop.site, record)
    os.kill(pid := workshop.state(record).pid, signal.SIGKILL)
    until(lambda: (now := workshop.state(record)).status == "running" and now.pid != pid, "the next run")


@pytest.fixture
def remover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for `ocim rm`: it writes down how it was called, and removes the folder."""
    script, called = tmp_path / "remover", tmp_path / "called"
    script.write_text(f'#!/bin/sh\necho "$@" >>{called}; for id; do :; done\nrm -r "$OCIM_ROOT/containers/$id"\n')
    script.chmod(0o755)
    monkeypatch.setenv("OCIM_COMMAND", str(script))
    return called


def test_it_is_removed_at_the_end(workshop: Workshop, remover: Path) -> None:
    record = workshop.sh("read a; exit 4", auto_remove=True, open_stdin=True)
    lifecycle.start(workshop.site, record)
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(lifecycle.wait(workshop.site, record, "removed")))
    waiting.start()
    client = lifecycle.attach(workshop.site, record, stdin=True)
    client.send(b"\n")
    assert collected(client)[2] == 4
    until(lambda: not workshop.site.container(record.id).exists(), "the removal")
    waiting.join(60)
    assert codes in ([4], [0])  # [0]: it asked when there was nothing left to ask
    assert remover.read_text() == f"rm --force --volumes {record.id}\n"


def test_one_who_promised_to_remove_it_may_be_killed(workshop: Workshop, remover: Path) -> None:
    record = workshop.sh("sleep 0.2", auto_remove=True)
    pid = os.fork()
    if pid == 0:
        attachment = lifecycle.start(workshop.site, record, attach=True, removes=True)
        assert attachment
        attachment.receive()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not workshop.site.container(record.id).exists(), "the removal")
    assert remover.read_text() == f"rm --force --volumes {record.id}\n"


def test_one_who_promised_to_remove_it_does(workshop: Workshop, remover: Path) -> None:
    record = workshop.sh("exit 5", auto_remove=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, removes=True)
    assert attachment
    assert attachment.receive() == ("exit", 5)
    os.rename(workshop.site.container(record.id), workshop.site.root / "moved")
    attachment.close()
    lifecycle.wait(workshop.site, record, "removed")
    assert not remover.exists()
