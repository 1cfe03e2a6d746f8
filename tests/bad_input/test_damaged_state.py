"""A state directory that something else has damaged: every verb says so, and `delete --force` still removes it all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_checks import one_line, same
from support import OCIRT, Bundle, Runtime, command, traces, tree_of

pytestmark = pytest.mark.root


def running(runtime: Runtime, bundle: Bundle) -> int:
    bundle.config["process"]["args"] = ["sleep", "100"]
    assert runtime("run", "--detach", "--bundle", bundle.write().path, "x").code == 0
    return int(runtime.state("x")["pid"])


def edited(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "noise": lambda content: os.urandom(300),
    "zeros": lambda content: bytes(len(content)),
    "followed by noise": lambda content: content + b"x",
    "another document": lambda content: b"[]",
    "too deep": lambda content: b"[" * 100_000,
    "a property less": lambda content: content.replace(b'"pidStart"', b'"pidEnd"'),
    "pid a word": edited(pid="1"),
    "pid null": edited(pid=None),
    "creator too short": edited(creator=[1]),
    "cgroups of another form": edited(cgroups={"places": [["a"]], "made": []}),
    "cgroups of other types": edited(cgroups={"places": [[1, 2, 3, 4, 5]], "made": [6]}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("alive", [True, False], ids=["running", "stopped"])
def test_a_damaged_state_is_reported_and_can_be_removed(
    runtime: Runtime, light_bundle: Bundle, damage: Callable[[bytes], bytes], alive: bool
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root, light_bundle.rootfs)
    running(runtime, light_bundle)
    if not alive:
        assert runtime("kill", "x", "KILL").code == 0
    path = runtime.root / "x" / "state.json"
    path.write_bytes(damage(path.read_bytes()))
    for words in (["state", "x"], ["start", "x"], ["kill", "x", "TERM"], ["delete", "x"]):
        one_line(runtime(*words), (f"{path} is damaged", "`ocirt delete --force` still removes the container"))
    listed = runtime("list")
    assert (listed.code, "Traceback" in listed.err) == (0, False), listed
    done = runtime("delete", "--force", "x")
    assert (done.code, done.out, done.err) == (0, "", "")
    same(before, traces(runtime.root, light_bundle.rootfs))


def test_a_missing_state_of_a_running_container_is_no_reason_to_forget_it(
    runtime: Runtime, light_bundle: Bundle
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root, light_bundle.rootfs)
    running(runtime, light_bundle)
    (runtime.root / "x" / "state.json").unlink()
    assert runtime.state("x")["status"] == "stopped"
    one_line(runtime("kill", "x"), ("container not running",))
    one_line(runtime("delete", "x"), ("there are processes in its cgroups", "--force kills them"))
    assert runtime("delete", "--force", "x").code == 0
    same(before, traces(runtime.root, light_bundle.rootfs))


def test_one_damaged_state_does_not_hide_the_others(runtime: Runtime, light_bundle: Bundle) -> None:
    for name in ("a", "b", "c"):
        assert runtime("create", "--bundle", light_bundle.path, name).code == 0
    (runtime.root / "b" / "state.json").write_text("{")
    listed = runtime("list", "--quiet")
    assert listed.code == 0
    assert {"a", "c"} <= set(listed.out.split())


def test_a_reused_pid_is_another_process(runtime: Runtime, light_bundle: Bundle) -> None:
    """The recorded pid is given to a process of the host: it is not the container's, and nothing may happen to it."""
    runtime.root.mkdir()
    before = traces(runtime.root, light_bundle.rootfs)
    pid = running(runtime, light_bundle)
    path = runtime.root / "x" / "state.json"
    state = json.loads(path.read_text())
    with subprocess.Popen(["/bin/sleep", "100"], env={}) as stranger:
        path.write_text(json.dumps({**state, "pid": stranger.pid}))
        assert runtime.state("x")["status"] == "stopped"
        assert runtime.state("x")["pid"] == 0
        one_line(runtime("kill", "x", "KILL"), ("container not running",))
        one_line(runtime("start", "x"), ("it is stopped, not created",))
        one_line(runtime("delete", "x"), ("has processes of others", str(pid), "--force"))
        assert runtime("delete", "--force", "x").code == 0
        assert stranger.poll() is None
        assert not Path(f"/proc/{pid}/ns/pid").exists() or is_zombie(pid), "the container's cgroup was not emptied"
        stranger.kill()
    same(before, traces(runtime.root, light_bundle.rootfs))


def is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.parametrize("pid", [1, 2**22 + 5, -1, 0])
def test_a_pid_that_cannot_be_the_container_s_is_never_signalled(
    runtime: Runtime, light_bundle: Bundle, pid: int
) -> None:
    running(runtime, light_bundle)
    path = runtime.root / "x" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": pid}))
    assert runtime.state("x")["status"] == "stopped"
    one_line(runtime("kill", "x", "KILL"), ("container not running",))
    assert runtime("delete", "--force", "x").code == 0


def test_other_users_see_no_state_and_change_nothing(light_bundle: Bundle) -> None:
    """The state directory is root's alone: somebody else is told so."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        runtime = Runtime(folder / "state")
        assert runtime("create", "--bundle", light_bundle.path, "x").code == 0
        before = traces(runtime.root)
        for words in (["state", "x"], ["start", "x"], ["kill", "x"], ["delete", "x"], ["delete", "--force", "x"]):
            done = command(OCIRT, "--root", runtime.root, *words, user=1000, group=1000, extra_groups=[])
            one_line(done, (f"{runtime.root}/x", "Permission denied"))
        same(before, traces(runtime.root))
        assert runtime("delete", "--force", "x").code == 0
    finally:
        shutil.rmtree(folder)


def test_state_files_of_another_user_are_not_used(runtime: Runtime, light_bundle: Bundle) -> None:
    """In a shared --root somebody could place a container of their own, whose `delete` kills what they name."""
    running(runtime, light_bundle)
    folder = runtime.root / "x"
    os.chown(folder, 1000, 1000)
    for words in (["start", "x"], ["kill", "x"], ["delete", "x"], ["delete", "--force", "x"]):
        one_line(runtime(*words), (f"{folder} belongs to the user 1000", "not to you"))
    os.chown(folder, 0, 0)
    assert runtime.state("x")["status"] == "running"


def test_things_in_the_state_root_that_are_no_containers_are_left_alone(runtime: Runtime, outside: Path) -> None:
    """A link to a folder above all: `delete` removes what is in a container's folder."""
    (outside / "state.json").write_text("{}")
    runtime.root.mkdir()
    before = tree_of(outside)
    (runtime.root / "file").write_text("a file\n")
    (runtime.root / "link").symlink_to(outside)
    (runtime.root / "loop").symlink_to("loop")
    for name in ("file", "link", "loop"):
        for verb in ("state", "delete", "kill", "start"):
            done = runtime(verb, name)
            one_line(done, (f'container "{name}" does not exist',))
        assert runtime("delete", "--force", name).code == 0
    assert sorted(path.name for path in runtime.root.iterdir()) == ["file", "link", "loop"]
    assert tree_of(outside) == before
