"""ocirt may be killed at any instant of `create` and `run`: what it leaves can be seen, removed, and made anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from bad_checks import same
from support import OCIRT, Bundle, Done, Runtime, command, inits, traces

import ocirt

pytestmark = pytest.mark.root
PACKAGES = Path(ocirt.__file__).parents[1]
DRIVER = Path(__file__).with_name("crash_driver.py")
STATUSES = {"create": {"creating", "created", "stopped"}, "run": {"creating", "running", "stopped"}}


def drive(runtime: Runtime, bundle: Bundle, verb: str, number: int) -> Done:
    words = (PACKAGES, runtime.root, bundle.path, "crash", str(number), verb)
    return command(sys.executable, "-IS", DRIVER, *words)


def settle(inits_before: set[int]) -> None:
    """Until every init of ours is gone, or waits for `start`: a moment is enough."""
    until = time.monotonic() + 5
    while any(waits_for_host(pid) for pid in inits() - inits_before):
        assert time.monotonic() < until, "init goes on without its host"
        time.sleep(0.005)


def waits_for_host(pid: int) -> bool:
    """Does it have its socket still? Without a host it ends; once it waits at the FIFO it has closed it."""
    try:
        return any(os.readlink(link.path).startswith("socket:") for link in list(os.scandir(f"/proc/{pid}/fd")))
    except OSError:
        return False


@pytest.mark.parametrize("verb", STATUSES)
def test_a_creation_killed_at_any_point_can_be_removed_and_done_again(
    runtime: Runtime, light_bundle: Bundle, verb: str
) -> None:
    light_bundle.config["process"]["args"] = ["sleep", "100"]
    light_bundle.write()
    runtime.root.mkdir()
    before = traces(runtime.root, light_bundle.rootfs)
    seen = set()
    last = ""
    number = 0
    while True:
        done = drive(runtime, light_bundle, verb, number)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, (number, done)
        settle(before.inits)
        status = check_leftovers(runtime, verb, number)
        if status != last:
            check_list(runtime, status)
        seen.add(status)
        last = status
        done = runtime("delete", "--force", "crash")
        assert (done.code, done.err) == (0, ""), (number, done)
        same(before, traces(runtime.root, light_bundle.rootfs))
        again = runtime("create", "--bundle", light_bundle.path, "crash")
        assert (again.code, again.err) == (0, ""), (number, again)
        assert runtime("delete", "--force", "crash").code == 0
        number += 1
    assert number == int(done.out) and number > 30, "the driver's points were not reached"
    assert runtime("delete", "--force", "crash").code == 0
    same(before, traces(runtime.root, light_bundle.rootfs))
    assert {"does not exist", "stopped", *STATUSES[verb] - {"creating"}} <= seen, seen


def check_leftovers(runtime: Runtime, verb: str, number: int) -> str:
    """`state` says something sensible; returns what."""
    done = runtime("state", "crash")
    if done.code:
        assert done.err == 'ocirt: container "crash" does not exist\n', (number, done)
        return "does not exist"
    status = json.loads(done.out)["status"]
    assert status in STATUSES[verb], (number, status)
    return str(status)


def check_list(runtime: Runtime, status: str) -> None:
    """`list` agrees with `state`."""
    done = runtime("list", "--format", "json")
    assert done.code == 0, done
    listed = [(entry["id"], entry["status"]) for entry in json.loads(done.out) or ()]
    assert listed == ([] if status == "does not exist" else [("crash", status)])


@pytest.mark.parametrize("words", [("create",), ("run", "--detach"), ("run",)], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_creation_undoes_it(
    runtime: Runtime, light_bundle: Bundle, words: tuple[str, ...], number: signal.Signals
) -> None:
    """The signal comes later each time: in the interpreter's start, in each step, at the end; by what the command takes
    on this machine, in this minute."""
    light_bundle.config["process"]["args"] = ["true"]
    light_bundle.write()
    runtime.root.mkdir()
    before = traces(runtime.root, light_bundle.rootfs)
    ended = set()
    command_line = [*words, "--bundle", str(light_bundle.path), "x"]
    began = time.monotonic()
    assert runtime(*command_line).code == 0
    took = time.monotonic() - began
    assert runtime("delete", "--force", "x").code == 0
    for step in range(20):
        delay = took * step / 16
        code, error = interrupted(runtime, command_line, delay, number)
        ended.add(code)
        if code == 0:
            assert runtime("delete", "--force", "x").code == 0
        elif code != -number:  # else Python itself had not begun yet
            assert (code, error) == (128 + number, ""), (delay, code, error)
        settle(before.inits)
        same(before, traces(runtime.root, light_bundle.rootfs))
    assert 128 + number in ended, ended


def interrupted(runtime: Runtime, words: list[str], delay: float, number: signal.Signals) -> tuple[int, str]:
    """The exit code and stderr of a command that gets a signal after so many seconds."""
    with tempfile.TemporaryFile("w+") as errors:
        null = subprocess.DEVNULL
        with subprocess.Popen(
            [OCIRT, "--root", str(runtime.root), *words], env={}, stdin=null, stdout=null, stderr=errors
        ) as process:
            time.sleep(delay)
            process.send_signal(number)
            process.wait(20)
        errors.seek(0)
        return process.returncode, errors.read()
