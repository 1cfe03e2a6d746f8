"""Checkpoints by podman, containerd and dockerd on runc and on ocirt: the program goes on where it was. And each of the
two restores what the other has saved."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from engines.containerd import Containerd
from engines.docker import Docker
from engines.engine import IMAGE, PATH, RUNTIMES, eventually, executable
from engines.podman import Podman
from runtime.criu_host import Counter, require_criu
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

COUNTING = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"


@pytest.fixture(scope="module", params=RUNTIMES)
def engine(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Podman:
    require_criu()
    return Podman(workplace / f"podman-criu-{request.param}", request.param, image)


@pytest.fixture
def podman(engine: Podman) -> Iterator[Podman]:
    yield engine
    engine.clear()


def counts_on(logs: str) -> bool:
    """Did it count without a new beginning?"""
    numbers = [int(line) for line in logs.split()]
    return len(numbers) > 3 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_podman_checkpoints_and_restores(podman: Podman) -> None:
    podman.ok("run", "-d", "--name", "a", "--net", "none", IMAGE, "sh", "-c", COUNTING)
    eventually(lambda: len(podman.ok("logs", "a").split()) > 5)
    podman.ok("container", "checkpoint", "a")
    assert podman.inspect("a")["State"]["Status"] == "exited"
    assert podman.inspect("a")["State"]["Checkpointed"]
    before = len(podman.ok("logs", "a").split())
    podman.ok("container", "restore", "a")
    assert podman.inspect("a")["State"]["Status"] == "running"
    eventually(lambda: len(podman.ok("logs", "a").split()) > before + 5)
    assert counts_on(podman.ok("logs", "a"))
    assert podman.ok("exec", "a", "cat", "/data/file") == "of the image"
    podman.ok("container", "checkpoint", "--leave-running", "a")
    assert podman.inspect("a")["State"]["Status"] == "running"


def test_podman_moves_a_container(podman: Podman, tmp_path: Path) -> None:
    podman.ok("run", "-d", "--name", "a", "--net", "none", IMAGE, "sh", "-c", COUNTING)
    eventually(lambda: len(podman.ok("logs", "a").split()) > 5)
    podman.ok("exec", "a", "sh", "-c", "echo written > /home/user/file; echo shared > /dev/shm/file")
    podman.ok("container", "checkpoint", "--export", tmp_path / "a.tar.gz", "a")
    podman.ok("rm", "a")
    podman.ok("container", "restore", "--import", tmp_path / "a.tar.gz", "--name", "b")
    before = len(podman.ok("logs", "b").split())  # the log comes along
    eventually(lambda: len(podman.ok("logs", "b").split()) > before + 5)
    assert before > 5
    assert counts_on(podman.ok("logs", "b"))
    assert podman.ok("exec", "b", "cat", "/home/user/file", "/dev/shm/file") == "written\nshared"


@pytest.fixture(scope="module", params=RUNTIMES)
def containerd(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Containerd]:
    require_criu()
    one = Containerd(workplace / f"containerd-criu-{request.param}", request.param, image)
    yield one
    one.end()


def test_containerd_checkpoints_and_restores(containerd: Containerd) -> None:
    containerd.ok("run", "-d", *containerd.run_flags, IMAGE, "a", "sh", "-c", f"({COUNTING}) > /tmp/count")
    eventually(lambda: "5" in containerd("task", "exec", "--exec-id", "x", "a", "cat", "/tmp/count").out)
    containerd.ok("container", "checkpoint", "--rw", "--task", "a", "saved")
    containerd.ok("task", "kill", "--signal", "KILL", "a")
    eventually(lambda: containerd.status("a") == "STOPPED")
    containerd.ok("task", "delete", "a")
    containerd.ok("container", "restore", "--rw", "--live", "b", "saved")
    assert containerd.status("b") == "RUNNING"
    first = int(containerd.ok("task", "exec", "--exec-id", "y", "b", "tail", "-n", "1", "/tmp/count"))
    eventually(
        lambda: int(containerd.ok("task", "exec", "--exec-id", "z", "b", "tail", "-n", "1", "/tmp/count")) > first
    )
    assert counts_on(containerd.ok("task", "exec", "--exec-id", "v", "b", "cat", "/tmp/count"))
    containerd.clear()


@pytest.fixture(scope="module", params=RUNTIMES)
def docker(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Docker]:
    require_criu()
    # Checkpoints are an experiment of docker's.
    one = Docker(workplace / f"docker-criu-{request.param}", request.param, image, "--experimental")
    yield one
    one.end()


def test_docker_checkpoints_and_restores(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "--net", "none", IMAGE, "sh", "-c", COUNTING)
    eventually(lambda: len(docker.ok("logs", "box").split()) > 5)
    docker.ok("checkpoint", "create", "box", "one")
    eventually(lambda: docker.inspect("box")["State"]["Status"] == "exited")
    before = len(docker.ok("logs", "box").split())
    docker.ok("start", "--checkpoint", "one", "box")
    eventually(lambda: len(docker.ok("logs", "box").split()) > before + 5)
    assert counts_on(docker.ok("logs", "box"))
    assert docker.ok("exec", "box", "cat", "/data/file") == "of the image"
    docker.clear()


@pytest.mark.parametrize(("saves", "restores"), [RUNTIMES, RUNTIMES[::-1]])
def test_each_restores_what_the_other_has_saved(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, saves: str, restores: str
) -> None:
    require_criu()
    counter = Counter(runtime, bundle)
    counter.bundle.write()

    kept = []

    def run(name: str, *args: str | Path) -> None:
        """With pipes, as engines have it: a container's own log files, or the host's /dev/null, runc cannot save."""
        arguments = [executable(name), "--root", tmp_path / name, *args]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(arguments, env={"PATH": PATH}, **pipes)
        kept.append(process)
        assert process.wait(60) == 0, process.stderr and process.stderr.read()

    images = ("--image-path", counter.images)
    run(saves, "run", "--detach", "--bundle", bundle.path, "c")
    try:
        eventually(lambda: counter.count > 3)
        run(saves, "checkpoint", *images, "c")
        before = counter.count
        run(restores, "restore", "--detach", *images, "--bundle", bundle.path, "c")
        eventually(lambda: counter.count > before + 3)
    finally:
        for name in RUNTIMES:
            run(name, "delete", "--force", "c")
        for process in kept:
            process.communicate()
