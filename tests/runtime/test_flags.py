"""Flags that runc or crun have, and what they do here."""

from __future__ import annotations

import json
import os
import re
import socket
from typing import TYPE_CHECKING

import pytest
from runtime.life import Life, until_gone, wait_until
from support import OCIRT, Bundle, Runtime, command, traces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


# --config


@pytest.mark.parametrize("way", ["create", "run"])
def test_another_configuration_than_the_bundles(runtime: Runtime, bundle: Bundle, tmp_path: Path, way: str) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "exit 9"]
    (tmp_path / "other.json").write_text(json.dumps(bundle.config))
    (bundle.path / "config.json").write_text("{}")
    flags = ("--config", tmp_path / "other.json", "--bundle", bundle.path, "c")
    done = runtime(way, *flags)
    assert done.code == (9 if way == "run" else 0), done.err
    runtime("delete", "--force", "c")


@pytest.mark.parametrize("flag", ["--config", "-f"])
def test_its_errors_name_it(runtime: Runtime, bundle: Bundle, tmp_path: Path, flag: str) -> None:
    bundle.config["process"]["cwd"] = "relative"
    (tmp_path / "other.json").write_text(json.dumps(bundle.config, indent=1))
    done = runtime("create", flag, tmp_path / "other.json", "-b", bundle.path, "c")
    assert done.code == 1
    assert re.match(rf"ocirt: {tmp_path}/other.json:\d+:\d+: /process/cwd: expected an absolute path", done.err)
    bundle.config["process"].update(cwd="/", args=["/nowhere"])
    (tmp_path / "other.json").write_text(json.dumps(bundle.config, indent=1))
    done = runtime("create", flag, tmp_path / "other.json", "-b", bundle.path, "c")
    assert f"{tmp_path}/other.json:" in done.err and "no such file or directory" in done.err


def test_a_configuration_that_is_not_there(runtime: Runtime, bundle: Bundle) -> None:
    before = traces(runtime.root)
    done = runtime("create", "--config", "/nowhere.json", "-b", bundle.path, "c")
    assert done.code == 1
    assert "/nowhere.json: cannot open it: No such file or directory" in done.err
    assert traces(runtime.root) == before


# --no-new-keyring


@pytest.mark.parametrize(("flags", "own"), [((), True), (("--no-new-keyring",), False)])
def test_the_session_keyring_is_its_own_unless_it_is_not_wanted(
    runtime: Runtime, bundle: Bundle, flags: tuple[str, ...], own: bool
) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "cat /proc/keys"]
    # The kernel's list of keys is masked.
    bundle.config["linux"]["maskedPaths"] = []
    bundle.write()
    # Another id each time: the kernel shows a dead container's keyring for a while.
    name = f"keys-{own}"
    done = runtime("run", *flags, "-b", bundle.path, name)
    if done.code:
        pytest.skip("this kernel has no /proc/keys")
    assert (f"_ses.{name}" in done.out) == own


# --keep


def test_a_container_that_is_kept_is_stopped_and_can_be_looked_at(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "exit 4"]
    bundle.write()
    assert runtime("run", "--keep", "-b", bundle.path, "c").code == 4
    assert runtime.state("c")["status"] == "stopped"
    assert runtime("run", "-b", bundle.path, "c").code == 1
    assert runtime("delete", "c").code == 0
    assert runtime("run", "-b", bundle.path, "c").code == 4
    assert runtime("state", "c").code == 1


# --regex


@pytest.fixture
def several(runtime: Runtime, bundle: Bundle) -> Iterator[Runtime]:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    for name in ("a1", "a2", "b1"):
        assert runtime("run", "-d", "-b", bundle.path, name).code == 0
    yield runtime
    runtime("delete", "--force", "--regex", ".*")


def test_kill_and_delete_mean_every_container_whose_whole_id_matches(several: Runtime) -> None:
    pids = {name: several.state(name)["pid"] for name in ("a1", "a2", "b1")}
    assert several("kill", "--regex", "a.", "KILL").code == 0
    until_gone(pids["a1"])
    until_gone(pids["a2"])
    assert several.state("b1")["status"] == "running"
    assert several("delete", "-r", "a").code == 0
    assert several("list", "-q").out.split() == ["a1", "a2", "b1"]
    assert several("delete", "-r", "a.*").code == 0
    assert several("list", "-q").out.split() == ["b1"]


def test_one_that_cannot_be_deleted_spares_no_other(several: Runtime) -> None:
    until = several.state("b1")["pid"]
    assert several("kill", "b1", "KILL").code == 0
    until_gone(until)
    done = several("delete", "--regex", ".1")
    assert done.code == 1
    assert done.err == 'ocirt: cannot delete "a1": it is running, not stopped (--force kills it first)\n'
    assert several("list", "-q").out.split() == ["a1", "a2"]


def test_what_is_no_expression_is_said(several: Runtime) -> None:
    done = several("delete", "--force", "--regex", "(")
    assert done.code == 1
    assert '"(" is no regular expression' in done.err
    assert len(several("list", "-q").out.split()) == 3


# What engines pass, and what means nothing here


@pytest.mark.parametrize(
    "flags", [("--rootless", "auto"), ("--rootless=true",), ("--criu", "/usr/sbin/criu"), ("--log-level", "error")]
)
def test_flags_that_mean_nothing_here_are_accepted(runtime: Runtime, flags: tuple[str, ...]) -> None:
    done = command(OCIRT, "--root", runtime.root, *flags, "list", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_warnings_are_logged_at_their_level(life: Life) -> None:
    life.reach("paused")
    for level, words in (("error", ""), ("info", ""), ("warning", "is paused"), ("debug", "is paused")):
        done = command(OCIRT, "--root", life.runtime.root, "--log-level", level, "kill", "c", "WINCH")
        assert done.code == 0
        assert words in done.err if words else done.err == ""
    wait_until(lambda: life("resume", "c").code == 0)


# The pidfd


@pytest.mark.parametrize("way", ["flag", "annotation", "both"])
def test_who_listens_gets_a_pidfd(life: Life, tmp_path: Path, way: str) -> None:
    listeners, flags = [], []
    for name in ("flag", "annotation"):
        if way in (name, "both"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(tmp_path / name))
            listener.listen()
            listener.settimeout(20)
            listeners.append(listener)
    if way != "annotation":
        flags = ["--pidfd-socket", tmp_path / "flag"]
    if way != "flag":
        life.bundle.config["annotations"] = {"run.oci.pidfd_receiver": str(tmp_path / "annotation")}
    life.bundle.write()
    done = life.create(*flags)
    assert (done.code, done.err) == (0, "")
    for listener in listeners:
        connection, _ = listener.accept()
        _, (pidfd,), _, _ = socket.recv_fds(connection, 64, 2)
        assert f"Pid:\t{life.pid}\n" in (tmp_path / "/proc/self/fdinfo" / str(pidfd)).read_text()
        for one in (connection, listener):
            one.close()
        os.close(pidfd)


def test_nobody_listens_for_the_annotation(life: Life, runtime: Runtime) -> None:
    life.bundle.config["annotations"] = {"run.oci.pidfd_receiver": "/nowhere"}
    life.bundle.write()
    before = traces(runtime.root)
    done = life.create()
    assert done.code == 1
    assert "/annotations/run.oci.pidfd_receiver: run.oci.pidfd_receiver /nowhere: No such file or directory" in done.err
    assert "config.json:" in done.err
    assert traces(runtime.root) == before


# --no-pivot

INSIDE = """
ls / | tr '\\n' ' '
cd /; cd ..; cd ../../..; ls -d bin
grep -c ' - proc ' /proc/self/mountinfo
grep -c ' - sysfs ' /proc/self/mountinfo
ls /proc/1/root/ | grep -c .
cat /proc/kcore 2>&1 | head -c 1 | wc -c
"""


def test_without_pivot_root_the_container_sees_the_same(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", INSIDE]
    bundle.write()
    pivoted = runtime("run", "-b", bundle.path, "c")
    moved = runtime("run", "--no-pivot", "-b", bundle.path, "c")
    assert pivoted.code == 0
    # A bind mount's source may show a part of either: the masks are of the container's own procfs and sysfs.
    assert moved == pivoted


def test_without_pivot_root_create_exec_and_mounts_changed(life: Life) -> None:
    life.bundle.write()
    assert life.create("--no-pivot").code == 0
    assert life("start", "c").code == 0
    wait_until((life.bundle.rootfs / "tmp/ready").exists)
    places = (life.bundle.path / "m.json", [{"destination": "/new", "type": "tmpfs"}])
    places[0].write_text(json.dumps(places[1]))
    assert life("mounts", "add", "c", places[0]).code == 0
    assert life("exec", "c", "/bin/sh", "-c", "test -d /new && cd / && cd .. && test -e /tmp/ready").code == 0


def test_no_pivot_and_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        bundle.config["linux"][name] = [{"containerID": 0, "hostID": 0, "size": 1}]
    bundle.write()
    done = runtime("run", "--no-pivot", "-b", bundle.path, "c")
    assert done.code == 1 and "--no-pivot with a user namespace" in done.err
