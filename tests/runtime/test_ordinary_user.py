"""An ordinary user's containers where nobody says --root: each verb finds them, and each refusal has its reason.

Needs a host with user namespaces for users; no range of ids, no delegated cgroup, no login.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.ordinary import Ordinary, as_user, users
from support import OCIRT, Done, command

pytestmark = pytest.mark.root
UID = 200_000 + os.getpid()
"""Nobody else's, also where tests run twice at a time: there is one folder for a user in /tmp."""


class Caller:
    """The user's ocirt without --root. `runtime_folder`: their XDG_RUNTIME_DIR."""

    def __init__(self, ordinary: Ordinary) -> None:
        self.ordinary = ordinary
        self.runtime_folder = ordinary.home / "runtime"
        self.runtime_folder.mkdir(0o700)
        os.chown(self.runtime_folder, UID, UID)

    def __call__(self, *args: str | Path, runtime_folder: str | Path | None = None) -> Done:
        runtime_folder = self.runtime_folder if runtime_folder is None else runtime_folder
        return as_user(UID, self.ordinary.executable, *args, env={"XDG_RUNTIME_DIR": str(runtime_folder)}, cwd="/")


@pytest.fixture
def caller() -> Iterator[Caller]:
    for ordinary in users(UID):
        one = Caller(ordinary)
        yield one
        assert one("delete", "--force", "mine").code == 0


def refused(done: Done, *words: str) -> None:
    assert done.code not in (0, 126, 127), done
    assert done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err


def test_a_containers_life_below_the_runtime_folder(caller: Caller) -> None:
    bundle = caller.ordinary.script("while :; do sleep 100; done")
    assert (made := caller("create", "--bundle", bundle, "mine")).code == 0, made.err
    folder = caller.runtime_folder / "ocirt" / "mine"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o7777) == (UID, 0o1700)
    assert (folder / "start").stat().st_mode & 0o7777 == 0o1622
    assert json.loads(caller("state", "mine").out)["status"] == "created"
    assert (started := caller("start", "mine")).code == 0, started.err
    (listed,) = json.loads(caller("list", "--format", "json").out)
    assert (listed["id"], listed["status"], listed["owner"]) == ("mine", "running", str(UID))
    pids = json.loads(caller("ps", "--format", "json", "mine").out)
    assert listed["pid"] in pids
    assert caller("exec", "mine", "/bin/sh", "-c", "exit 7").code == 7
    refused(caller("delete", "mine"), "it is running, not stopped")
    assert caller("kill", "mine", "KILL").code == 0
    assert caller("delete", "--force", "mine").code == 0
    assert not folder.exists()
    assert caller("list", "--quiet").out == ""


def test_what_needs_a_cgroup_or_the_hosts_root_says_so(caller: Caller) -> None:
    bundle = caller.ordinary.script("while :; do sleep 100; done")
    assert (made := caller("run", "--detach", "--bundle", bundle, "mine")).code == 0, made.err
    refused(caller("pause", "mine"), "no cgroup")
    refused(caller("resume", "mine"), "not paused")
    refused(caller("update", "--memory", "64m", "mine"), "no cgroup")
    refused(caller("events", "--stats", "mine"), "no cgroup")
    refused(caller("checkpoint", "mine"), "needs the host's root")
    refused(caller("restore", "other"), "needs the host's root")
    assert json.loads(caller("state", "mine").out)["status"] == "running"


def test_features_check_and_spec_are_for_everybody(caller: Caller) -> None:
    assert json.loads(caller("features", "--host").out)["linux"]["namespaces"]
    folder = caller.ordinary.home / "new"
    folder.mkdir()
    os.chown(folder, UID, UID)
    assert caller("spec", "--rootless", "--bundle", folder).code == 0
    config = json.loads((folder / "config.json").read_text())
    one = [{"containerID": 0, "hostID": UID, "size": 1}]
    assert (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) == (one, one)
    kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
    assert kinds == {"user", "mount", "pid", "ipc", "uts", "cgroup"}
    os.symlink(caller.ordinary.bundle.rootfs, folder / "rootfs")
    checked = caller("check", folder)
    assert (checked.code, "0 errors" in checked.out) == (0, True), checked


def test_a_runtime_folder_that_is_anothers_is_an_error_with_a_way_out(caller: Caller) -> None:
    """Such as after `su` without `-`, or of a user who has put something there first."""
    bundle = caller.ordinary.script("true")
    os.chown(caller.runtime_folder, UID + 1, UID + 1)
    refused(caller("run", "--bundle", bundle, "mine"), "create the state directory", "XDG_RUNTIME_DIR")
    caller.runtime_folder.chmod(0o755)
    (caller.runtime_folder / "ocirt").mkdir(0o755)
    os.chown(caller.runtime_folder / "ocirt", UID + 1, UID + 1)
    refused(caller("run", "--bundle", bundle, "mine"), f"belongs to the user {UID + 1}", "XDG_RUNTIME_DIR")
    assert not list((caller.runtime_folder / "ocirt").iterdir())


def test_root_does_not_take_a_users_word(caller: Caller) -> None:
    """Called upon a user's state folder, which says what to kill and to remove."""
    bundle = caller.ordinary.script("while :; do sleep 100; done")
    assert (made := caller("run", "--detach", "--bundle", bundle, "mine")).code == 0, made.err
    for words in (["state"], ["kill"], ["delete", "--force"], ["pause"], ["ps", "--format", "json"]):
        refused(
            command(OCIRT, "--root", caller.runtime_folder / "ocirt", *words, "mine"),
            f"belongs to the user {UID}, not to you",
        )
    assert json.loads(caller("state", "mine").out)["status"] == "running"


def test_without_a_runtime_folder_there_is_one_in_tmp(caller: Caller) -> None:
    place = Path(f"/tmp/ocirt-{UID}")
    bundle = caller.ordinary.script("true")
    assert not place.exists()
    try:
        assert (done := caller("run", "--keep", "--bundle", bundle, "kept", runtime_folder="")).code == 0, done.err
        assert (place.stat().st_uid, place.stat().st_mode & 0o7777) == (UID, 0o1700)
        assert caller("list", "--quiet", runtime_folder="").out == "kept\n"
        assert caller("list", "--quiet").out == ""
        assert caller("delete", "kept", runtime_folder="").code == 0
    finally:
        caller("delete", "--force", "kept", runtime_folder="")
        place.rmdir()
