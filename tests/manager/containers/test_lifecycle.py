"""Containers are started, waited for, stopped and killed; who asks may be killed at any time."""

from __future__ import annotations

import json
import marshal
import os
import random
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from by_hand import Workshop, collected, counts_memory, monitor_pid, until

from ocirt.manager.containers import lifecycle, logs, state
from ocirt.manager.containers.connection import Dropped, ask, connect, reply
from ocirt.manager.errors import ConflictError
from ocirt.manager.monitor.wire import RESIZE, request

pytestmark = pytest.mark.root


def runs(pid: int) -> bool:
    """Not one that has ended and that nobody has waited for."""
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def text(workshop: Workshop, record: object) -> bytes:
    return b"".join(chunk.data for chunk in logs.chunks(workshop.site, record))  # type: ignore[arg-type]


def test_it_runs_and_leaves_its_exit_code(workshop: Workshop) -> None:
    record = workshop.sh("echo said; exit 7")
    assert workshop.state(record).status == "created"
    lifecycle.start(workshop.site, record)
    assert lifecycle.wait(workshop.site, record) == 7
    found = workshop.state(record)
    assert (found.status, found.exit_code, found.pid, found.error) == ("exited", 7, 0, "")
    assert "0001" < found.started < found.finished
    assert text(workshop, record) == b"said\n"
    assert not list((workshop.site.run / "runtime").iterdir())
    assert set(os.listdir(workshop.site.run / record.id)) == {"lock", "words"}


def test_it_can_be_started_again(workshop: Workshop) -> None:
    record = workshop.sh("echo again")
    for _ in range(3):
        lifecycle.start(workshop.site, record)
        assert lifecycle.wait(workshop.site, record) == 0
    assert text(workshop, record) == b"again\n" * 3


def test_attached_from_the_first_byte(workshop: Workshop) -> None:
    record = workshop.sh("echo out; echo err >&2; exit 3")
    attachment = lifecycle.start(workshop.site, record, attach=True)
    assert attachment
    assert collected(attachment) == (b"out\n", b"err\n", 3)


def test_stdin_with_an_end(workshop: Workshop) -> None:
    record = workshop.sh("cat; echo over", open_stdin=True, stdin_once=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, stdin=True)
    assert attachment
    attachment.send(b"hello\n")
    attachment.end_input()
    assert collected(attachment) == (b"hello\nover\n", b"", 0)


def test_stdin_that_is_left_open_for_the_next(workshop: Workshop) -> None:
    record = workshop.sh("read a; read b; echo $a$b", open_stdin=True)
    lifecycle.start(workshop.site, record)
    first = lifecycle.attach(workshop.site, record, stdin=True)
    first.send(b"one\n")
    first.close()
    second = lifecycle.attach(workshop.site, record, stdin=True)
    second.send(b"two\n")
    assert collected(second) == (b"onetwo\n", b"", 0)


def test_much_input_and_one_who_writes_and_leaves(workshop: Workshop) -> None:
    """What a client has written is read to its end, though it is gone and the program was slow."""
    record = workshop.sh("sleep 0.3; wc -c", open_stdin=True, stdin_once=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, stdin=True)
    assert attachment
    for _ in range(50):
        attachment.send(bytes(100_000))
    attachment.close()
    assert lifecycle.wait(workshop.site, record) == 0
    assert text(workshop, record) == b"5000000\n"


def test_a_terminal_with_its_size(workshop: Workshop) -> None:
    record = workshop.sh("read a; stty size; read b; echo [$b]", tty=True, open_stdin=True, stdin_once=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, stdin=True)
    assert attachment
    attachment.resize(33, 99)
    attachment.send(b"go\n")
    seen = b""
    while b"33 99\r\n" not in seen:
        what, data = attachment.receive()
        assert what == "stdout"
        seen += data
    lifecycle.resize(workshop.site, record, 10, 20)
    attachment.send(b"typed\n")
    out, err, code = collected(attachment)
    assert b"[typed]\r\n" in out
    assert (err, code) == (b"", 0)
    assert text(workshop, record) == seen + out


def test_a_container_that_closes_its_stdout_runs_on(workshop: Workshop) -> None:
    record = workshop.sh("echo first; exec >&- 2>&-; sleep 0.2; exit 4")
    attachment = lifecycle.start(workshop.site, record, attach=True)
    assert attachment
    assert collected(attachment) == (b"first\n", b"", 4)


def test_several_see_the_same(workshop: Workshop) -> None:
    record = workshop.sh("read a; echo $a; echo $a >&2", open_stdin=True)
    lifecycle.start(workshop.site, record)
    clients = [lifecycle.attach(workshop.site, record, stdin=number == 0, stderr=number < 2) for number in range(3)]
    clients[0].send(b"word\n")
    assert collected(clients[0]) == collected(clients[1]) == (b"word\n", b"word\n", 0)
    assert collected(clients[2]) == (b"word\n", b"", 0)


def test_stop_asks_first_and_kills_then(workshop: Workshop) -> None:
    kind = workshop.sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")
    deaf = workshop.sh("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    for record, code in ((kind, 5), (deaf, 137)):
        lifecycle.start(workshop.site, record)
        until(lambda record=record: text(workshop, record), "a word")  # type: ignore[misc]
        lifecycle.stop(workshop.site, record, 30 if code == 5 else 0.1)
        found = workshop.state(record)
        assert (found.status, found.exit_code, found.stopped) == ("exited", code, True)
        lifecycle.stop(workshop.site, record)


def test_kill_sends_a_signal(workshop: Workshop) -> None:
    record = workshop.sh("trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done")
    lifecycle.start(workshop.site, record)
    until(lambda: text(workshop, record), "a word")
    lifecycle.kill(workshop.site, record, signal.SIGUSR1)
    assert lifecycle.wait(workshop.site, record) == 9
    with pytest.raises(ConflictError, match="not running"):
        lifecycle.kill(workshop.site, record)


def test_one_that_runs_is_not_started_again(workshop: Workshop) -> None:
    record = workshop.container("/bin/sleep", "1000")
    lifecycle.start(workshop.site, record)
    pid = workshop.state(record).pid
    assert lifecycle.start(workshop.site, record, attach=True) is None
    assert workshop.state(record).pid == pid
    with pytest.raises(ConflictError, match="is running"), state.locked(workshop.site, record):
        pass


def test_wait_has_dockers_conditions(workshop: Workshop) -> None:
    record = workshop.sh("read a; exit $a", open_stdin=True)
    assert lifecycle.wait(workshop.site, record) == 0  # it does not run
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(lifecycle.wait(workshop.site, record, "next-exit")))
    waiting.start()
    while waiting.is_alive():  # it may come too late for a run, but not for all of them
        lifecycle.start(workshop.site, record)
        client = lifecycle.attach(workshop.site, record, stdin=True)
        client.send(b"6\n")
        assert lifecycle.wait(workshop.site, record) == 6
        client.close()
    assert codes == [6]


@pytest.mark.parametrize(("args", "words", "code"), [(("/bin/nothing",), "no such file", 127), (("/etc",), "", 126)])
def test_the_runtimes_error_reaches_the_caller(
    workshop: Workshop, args: tuple[str, ...], words: str, code: int
) -> None:
    record = workshop.container(*args)
    with pytest.raises(lifecycle.StartError) as caught:
        lifecycle.start(workshop.site, record)
    assert words in str(caught.value).lower()
    assert caught.value.container_code == code
    found = workshop.state(record)
    assert (found.status, found.exit_code) == ("created", code)
    assert found.error == str(caught.value)
    assert not list((workshop.site.run / "runtime").iterdir())
    assert not state.is_locked(workshop.site, record.id)


def test_a_monitor_that_was_killed_leaves_a_state_that_says_so(workshop: Workshop) -> None:
    record = workshop.sh("echo one; exec sleep 1000")
    lifecycle.start(workshop.site, record)
    pid = workshop.state(record).pid
    until(lambda: text(workshop, record), "the first run's word")
    os.kill(monitor_pid(pid), signal.SIGKILL)
    found = until(lambda: (s := workshop.state(record)).status == "exited" and s, "the end")
    assert (found.exit_code, found.error) == (255, "its monitor was killed")
    assert lifecycle.wait(workshop.site, record) == 255
    lifecycle.stop(workshop.site, record)
    lifecycle.start(workshop.site, record)
    until(lambda: not runs(pid), "the end of what was left")
    until(lambda: text(workshop, record) == b"one\n" * 2, "the second run's word")


def test_one_who_starts_may_be_killed(workshop: Workshop) -> None:
    record = workshop.sh("sleep 0.2; exit 8")
    pid = os.fork()
    if pid == 0:
        lifecycle.start(workshop.site, record)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lifecycle.wait(workshop.site, record) == 8


def test_one_who_starts_is_killed_at_any_moment(workshop: Workshop) -> None:
    """Then it runs or it does not, its state says so, and it can be started and stopped."""
    record = workshop.sh("echo run; exec sleep 1000")
    chance = random.Random(9)
    for _ in range(12):
        pid = os.fork()
        if pid == 0:
            lifecycle.start(workshop.site, record)
            os._exit(0)
        time.sleep(chance.random() * 0.06)  # not to wait for something: a moment as good as any other
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lifecycle.start(workshop.site, record)
        found = workshop.state(record)
        assert found.status == "running"
        assert runs(found.pid)
        lifecycle.stop(workshop.site, record, 0)
        assert not runs(found.pid)
    assert not list((workshop.site.run / "runtime").iterdir())


def test_a_slow_client_is_dropped_and_the_log_has_all(workshop: Workshop) -> None:
    record = workshop.sh("head -c 3000000 /dev/zero; echo over", patience=0.3)
    attachment = lifecycle.start(workshop.site, record, attach=True)
    assert attachment
    assert lifecycle.wait(workshop.site, record) == 0
    assert len(text(workshop, record)) == 3_000_005
    with pytest.raises(Dropped):
        while True:
            assert attachment.receive()[0] == "stdout"
    attachment.close()


def test_pause_and_unpause(workshop: Workshop) -> None:
    record = workshop.container("/bin/sleep", "1000")
    lifecycle.start(workshop.site, record)
    lifecycle.pause(workshop.site, record)
    assert workshop.state(record).status == "paused"
    with pytest.raises(ConflictError, match="paused"):
        lifecycle.pause(workshop.site, record)
    lifecycle.unpause(workshop.site, record)
    assert workshop.state(record).status == "running"
    lifecycle.pause(workshop.site, record)
    lifecycle.stop(workshop.site, record, 0.1)
    assert workshop.state(record).status == "exited"


def test_a_hundred_megabytes_through_the_log(workshop: Workshop) -> None:
    """By reads as large as they come; and the last of it is what is kept."""
    record = workshop.sh(
        "head -c 100000000 /dev/zero; echo over", log={"driver": "file", "max_size": 10_000_000, "max_file": 3}
    )
    lifecycle.start(workshop.site, record)
    assert lifecycle.wait(workshop.site, record) == 0
    kept = text(workshop, record)
    assert kept.endswith(b"over\n")
    assert 20_000_000 < len(kept) <= 30_000_000


@pytest.mark.skipif(not counts_memory(), reason="no memory controller")
def test_a_program_that_the_kernel_ended_for_its_memory(workshop: Workshop) -> None:
    record = workshop.sh("head -c 200000000 /dev/zero | tail -c 190000000; exit $?")
    path = workshop.site.container(record.id) / "config.json"
    config = json.loads(path.read_text())
    config["linux"]["resources"]["memory"] = {"limit": 8_000_000, "swap": 8_000_000}
    path.write_text(json.dumps(config))
    lifecycle.start(workshop.site, record)
    lifecycle.wait(workshop.site, record)
    assert workshop.state(record).oom_killed


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_another_runtime_will_do(workshop: Workshop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OCIM_RUNTIME: anything with runc's command line."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    if name == "crun" and (not counts_memory() or Path("/sys/fs/cgroup/unified").exists()):
        pytest.skip("crun wants all of cgroup v1 or all of v2")
    monkeypatch.setenv("OCIM_RUNTIME", path)
    record = workshop.sh("echo out; read a; echo $a; exit 3", open_stdin=True, tty=True)
    attachment = lifecycle.start(workshop.site, record, attach=True, stdin=True)
    assert attachment
    attachment.send(b"in\n")
    out, _, code = collected(attachment)
    assert (out, code) == (b"out\r\nin\r\nin\r\n", 3) or (sorted(out.split()), code) == ([b"in", b"in", b"out"], 3)
    broken = workshop.container("/bin/nothing")
    with pytest.raises(lifecycle.StartError, match=r"(?i)no such file"):
        lifecycle.start(workshop.site, broken)


def test_a_start_that_cannot_be_prepared_leaves_nothing(workshop: Workshop) -> None:
    record = workshop.sh("true")

    def fails(_site: object, _record: object) -> None:
        raise ConflictError("a volume is gone")

    with pytest.raises(ConflictError, match="a volume is gone"):
        lifecycle.start(workshop.site, record, prepare=fails)
    assert not state.is_locked(workshop.site, record.id)
    assert workshop.state(record).status == "created"
    lifecycle.start(workshop.site, record)
    assert lifecycle.wait(workshop.site, record) == 0


def test_several_start_the_same(workshop: Workshop) -> None:
    """One of them does it, and the others find that it runs."""
    record = workshop.sh("echo run; exec sleep 1000")
    threads = [threading.Thread(target=lifecycle.start, args=(workshop.site, record)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: text(workshop, record), "its word")
    assert workshop.state(record).status == "running"
    assert text(workshop, record) == b"run\n"


def test_whatever_a_client_says_the_container_has_its_monitor(workshop: Workshop) -> None:
    record = workshop.container("/bin/sleep", "1000", tty=True)
    lifecycle.start(workshop.site, record)
    junk = [b"x", b"\xff" * 9, marshal.dumps(7), marshal.dumps(("kill", {})), marshal.dumps(("run", {}))]
    junk += [request("attach"), request("stop", signal="TERM", timeout=None), request("resize", rows=-1, columns="x")]
    for data in junk:
        connection = connect(workshop.site, record.id)
        assert connection
        with suppress(BrokenPipeError, ConnectionResetError):  # it was dropped already
            connection.send(data)
            connection.send(RESIZE + b"junk")
        connection.close()
    with pytest.raises(ConflictError, match="Invalid argument"):
        lifecycle.kill(workshop.site, record, 999)
    assert workshop.state(record).status == "running"


def test_more_clients_than_there_is_room_for(workshop: Workshop) -> None:
    """They come in when others have left."""
    record = workshop.container("/bin/sleep", "1000")
    lifecycle.start(workshop.site, record)
    idle = [ask(workshop.site, record.id, "wait") for _ in range(300)]
    late = ask(workshop.site, record.id, "follow")
    for connection in idle:
        assert connection
        connection.close()
    assert late
    assert reply(late) == (True, None)
    late.close()
