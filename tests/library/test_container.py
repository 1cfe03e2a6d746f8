"""ocirt.Container: life, exit codes, stdio, exec, errors with fields, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle

import ocirt
from ocirt import DEVNULL, PIPE, STDOUT, Container

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("traces")]


def sh(config: dict[str, Any], script: str) -> dict[str, Any]:
    config["process"]["args"] = ["/bin/sh", "-c", script]
    return config


def test_life(bundle: Bundle, root: Path) -> None:
    sh(bundle.config, "sleep 1000")
    bundle.write()
    container = Container.create(bundle.path, id="box", root=root)
    assert (container.id, container.status, container.poll()) == ("box", "created", None)
    container.start()
    assert container.status == "running"
    assert container.state()["pid"] == container.pid
    assert [one["id"] for one in Container.list(root=root)] == ["box"]
    assert container.ps() == [container.pid]
    container.pause()
    assert container.status == "paused"
    container.resume()
    assert container.stats()["pids"]["current"] == 1
    container.update({"pids": {"limit": 50}})
    assert container.stats()["pids"]["limit"] == 50
    with pytest.raises(ocirt.ContainerError, match="it is running"):
        container.delete()
    container.kill("KILL")
    assert container.wait(60) == -signal.SIGKILL
    assert container.status == "stopped"
    container.delete()
    container.delete()
    with pytest.raises(ocirt.NotFoundError):
        container.state()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", None)])
def test_return_code(config: dict[str, Any], root: Path, script: str, code: int | None) -> None:
    """The first process of a pid namespace cannot kill itself: then it goes on, and returns 0."""
    with Container.run(config=sh(config, script), root=root) as container:
        assert container.wait(60) == (code or 0)
        assert container.returncode == container.poll() == (code or 0)


def test_wait_gives_up_and_the_container_goes_on(config: dict[str, Any], root: Path) -> None:
    with Container.run(config=sh(config, "sleep 1000"), root=root) as container:
        with pytest.raises(TimeoutError):
            container.wait(0.01)
        assert container.status == "running"


def test_pipes(config: dict[str, Any], root: Path) -> None:
    big = os.urandom(300_000).hex().encode()
    keywords: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    with Container.run(config=sh(config, "echo oops >&2; cat"), root=root, **keywords) as container:
        assert container.communicate(big, timeout=60) == (big, b"oops\n")
        assert container.returncode == 0


def test_streams_of_ours(config: dict[str, Any], root: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as file:
        with Container.run(
            config=sh(config, "cat; echo out; echo err >&2"), root=root, stdin=DEVNULL, stdout=file, stderr=STDOUT
        ) as container:
            assert container.wait(60) == 0
        file.seek(0)
        assert file.read() == b"out\nerr\n"


def test_exec(config: dict[str, Any], root: Path) -> None:
    with Container.run(config=sh(config, "sleep 1000"), root=root) as container:
        with container.exec(
            ["/bin/sh", "-c", "echo $A; id -u; pwd; cat"],
            env={"A": "b"},
            cwd="/tmp",
            user=(5, 6),
            stdin=PIPE,
            stdout=PIPE,
        ) as process:
            assert process.communicate(b"in", timeout=60) == (b"b\n5\n/tmp\nin", b"")
            assert process.returncode == 0
        with container.exec(["/bin/sleep", "1000"]) as process:
            assert process.poll() is None
        assert process.returncode == -signal.SIGKILL
        own = {"args": ["/bin/sh", "-c", "exit 7"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
        with container.exec(process=own) as process:
            assert process.wait(60) == 7


def test_another_program_sees_it_and_may_end_it(config: dict[str, Any], root: Path) -> None:
    container = Container.create(config=sh(config, "exit 4"), root=root)
    done = subprocess.run([OCIRT, "--root", root, "start", container.id], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert container.wait(60) == 4
    with Container.load(container.id, root=root) as loaded:
        assert loaded.status == "stopped"
        assert loaded.wait(60) is None
    container.detach()


def test_one_that_runs_is_loaded(config: dict[str, Any], root: Path) -> None:
    with Container.run(config=sh(config, "sleep 1000"), root=root) as container:
        loaded = Container.load(container.id, root=root)
        assert loaded.pid == container.pid
        loaded.kill(signal.SIGKILL)
        assert loaded.wait(60) is None
        assert container.wait(60) == -9
        loaded.detach()
    with pytest.raises(ocirt.NotFoundError) as caught:
        Container.load("nobody", root=root)
    assert caught.value.phase == "state"


def test_errors_have_fields(config: dict[str, Any], root: Path) -> None:
    config["process"]["args"] = ["/no/such"]
    with pytest.raises(ocirt.KernelError) as caught:
        Container.run(config=config, root=root)
    error = caught.value
    assert (error.pointer, error.phase, error.errno) == ("/process/args/0", "create", 2)
    config["process"]["cwd"] = "relative"
    with pytest.raises(ocirt.ConfigError) as caught2:
        Container.create(config=config, root=root)
    assert caught2.value.pointer == "/process/cwd"
    assert caught2.value.place.startswith("config:")


def test_nothing_is_left_of_what_cannot_start(config: dict[str, Any], root: Path, shared_rootfs: Path) -> None:
    config["process"]["args"] = ["/etc/passwd"]
    with pytest.raises(ocirt.Error):
        Container.run(config=config, root=root, stdin=PIPE, stdout=PIPE)
    config["mounts"].append({"destination": "/x", "type": "nosuchfs", "source": "x"})
    with pytest.raises(ocirt.KernelError) as caught:
        Container.create(config=config, root=root, stdin=PIPE, stdout=PIPE)
    assert caught.value.pointer == f"/mounts/{len(config['mounts']) - 1}"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "neither a bundle nor a config"),
        ({"config": {"x": {1, 2}}}, "not a JSON document"),
        ({"config": {}, "id": "a/b"}, "is not a container id"),
        ({"config": {}, "stdin": STDOUT}, "is no stream"),
    ],
)
def test_what_makes_no_sense(root: Path, keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ocirt.UsageError, match=words):
        Container.create(root=root, **keywords)


def test_exec_errors(config: dict[str, Any], root: Path) -> None:
    with Container.run(config=sh(config, "sleep 1000"), root=root) as container:
        for keywords, words in (
            ({"argv": "ls -l"}, "list of strings"),
            ({"argv": ["/no/such"]}, "no such file"),
            ({"argv": ["/bin/true"], "process": {}}, "a process object says it all"),
            ({"argv": ["/bin/true"], "cwd": "relative"}, "cwd"),
        ):
            with pytest.raises(ocirt.Error, match=words):
                container.exec(stdin=PIPE, stdout=PIPE, **keywords)
    with pytest.raises(ocirt.NotFoundError):
        container.exec(["/bin/true"])


def test_who_forgets_it_is_told(config: dict[str, Any], root: Path) -> None:
    container = Container.create(config=config, root=root)
    name = container.id
    with pytest.warns(ResourceWarning, match=name):
        del container
        gc.collect()
    loaded = Container.load(name, root=root)
    pid = loaded.pid
    loaded.delete(force=True)
    os.waitpid(pid, 0)


def test_other_children_are_not_ours(config: dict[str, Any], root: Path) -> None:
    """Nobody else's exit status is taken, nobody else's child gets our descriptors."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(9)"]) as other:
        with Container.run(config=config, root=root) as container:
            assert container.wait(60) == 0
        assert other.wait(60) == 9


def test_nothing_of_the_process_is_changed(config: dict[str, Any], root: Path) -> None:
    def all_of_it() -> object:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        umask = os.umask(0o22)
        os.umask(umask)
        return mask, handlers, os.getcwd(), umask, dict(os.environ), signal.set_wakeup_fd(-1)

    before = all_of_it()
    with Container.run(config=sh(config, "sleep 1000"), root=root) as container:
        with container.exec(["/bin/true"]) as process:
            process.wait(60)
        container.pause()
        container.resume()
    assert all_of_it() == before


def test_many_at_once(config: dict[str, Any], root: Path) -> None:
    sh(config, "read line; exit $line")
    seen: list[int | None] = []
    barrier = threading.Barrier(8)

    def one(number: int) -> None:
        barrier.wait(60)
        with Container.run(config=config, root=root, stdin=PIPE) as container:
            container.communicate(b"%d\n" % number, timeout=120)
            seen.append(container.returncode)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(one, number) for number in range(32)]:
            future.result()
    assert sorted(seen, key=str) == sorted(range(32), key=str)


def test_import_is_cheap() -> None:
    """`import ocirt` loads nothing: the command line pays for it, too."""
    script = "import sys; before = set(sys.modules); import ocirt; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['ocirt']"
