"""A command at the wrong moment of a container's life is refused, and the container is what it was."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time

import pytest
from bad_checks import VERBS, one_line, refused, same
from support import OCIRT, Bundle, Runtime, cgroup_folders, traces

pytestmark = pytest.mark.root


def running(runtime: Runtime, bundle: Bundle, container_id: str = "x") -> None:
    bundle.config["process"]["args"] = ["sleep", "100"]
    done = runtime("run", "--detach", "--bundle", bundle.write().path, container_id)
    assert done.code == 0, done.err


def until_stopped(runtime: Runtime) -> None:
    until = time.monotonic() + 10
    while runtime.state("x")["status"] != "stopped":
        assert time.monotonic() < until


def stopped(runtime: Runtime, bundle: Bundle) -> None:
    running(runtime, bundle)
    assert runtime("kill", "x", "KILL").code == 0
    until_stopped(runtime)


def test_a_container_is_started_once(runtime: Runtime, light_bundle: Bundle) -> None:
    light_bundle.config["process"]["args"] = ["sleep", "100"]
    assert runtime("create", "--bundle", light_bundle.write().path, "x").code == 0
    assert runtime("start", "x").code == 0
    before = traces(runtime.root)
    one_line(runtime("start", "x"), ('cannot start "x": it is running, not created',))
    same(before, traces(runtime.root))


def test_a_stopped_container_cannot_be_started(runtime: Runtime, light_bundle: Bundle) -> None:
    stopped(runtime, light_bundle)
    one_line(runtime("start", "x"), ('cannot start "x": it is stopped, not created',))


def test_a_stopped_container_cannot_be_killed(runtime: Runtime, light_bundle: Bundle) -> None:
    """containerd and CRI-O look for these words."""
    stopped(runtime, light_bundle)
    one_line(runtime("kill", "x", "KILL"), ("container not running", '"x" is stopped'))


def test_a_running_container_is_not_deleted_without_force(runtime: Runtime, light_bundle: Bundle) -> None:
    running(runtime, light_bundle)
    before = traces(runtime.root)
    one_line(runtime("delete", "x"), ('cannot delete "x": it is running, not stopped', "--force kills it first"))
    same(before, traces(runtime.root))
    assert runtime.state("x")["status"] == "running"


def test_a_created_container_is_not_deleted_with_strict(runtime: Runtime, light_bundle: Bundle) -> None:
    assert runtime("create", "--bundle", light_bundle.path, "x").code == 0
    one_line(runtime("--strict", "delete", "x"), ("it is created, not stopped",))
    assert runtime.state("x")["status"] == "created"


def test_a_container_whose_init_was_killed_cannot_be_started(runtime: Runtime, light_bundle: Bundle) -> None:
    before = traces(runtime.root)
    assert runtime("create", "--bundle", light_bundle.path, "x").code == 0
    assert runtime("kill", "x", "KILL").code == 0
    until_stopped(runtime)
    one_line(runtime("start", "x"), ("it is stopped, not created",))
    assert runtime("delete", "x").code == 0
    same(before, traces(runtime.root))


@pytest.mark.parametrize("verb", VERBS)
def test_a_cgroup_that_another_container_is_in_is_refused_and_left_alone(
    runtime: Runtime, light_bundle: Bundle, verb: str
) -> None:
    light_bundle.config["linux"]["cgroupsPath"] = "/shared/one"
    running(runtime, light_bundle, "first")
    first = runtime.state("first")
    words = ("/shared/one has processes already", str(first["pid"]), "give each container a path of its own")
    refused(runtime, light_bundle, verb, "/linux/cgroupsPath", words)
    assert runtime.state("first") == first
    assert runtime("delete", "--force", "first").code == 0
    assert not [folder for folder in cgroup_folders() if "/shared" in folder]


@pytest.mark.parametrize("verb", VERBS)
def test_the_root_cgroup_is_no_container_s(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    """All processes of the host are in it: undoing must not touch them."""
    light_bundle.config["linux"]["cgroupsPath"] = "/"
    refused(runtime, light_bundle.write(), verb, "/linux/cgroupsPath", ("has processes already",))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_lock_that_another_command_holds_is_waited_for_and_a_signal_ends_the_wait(
    runtime: Runtime, light_bundle: Bundle, number: signal.Signals
) -> None:
    assert runtime("create", "--bundle", light_bundle.path, "x").code == 0
    folder = os.open(runtime.root / "x", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with subprocess.Popen([OCIRT, "--root", str(runtime.root), "kill", "x", "TERM"], env={}) as waiting:
            while not has_open(waiting.pid, str(runtime.root / "x")):
                assert waiting.poll() is None
            waiting.send_signal(number)
            assert waiting.wait(10) == 128 + number
    finally:
        os.close(folder)
    assert runtime.state("x")["status"] == "created"


def has_open(pid: int, path: str) -> bool:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}") == path:
                return True
        except FileNotFoundError:
            continue
    return False
