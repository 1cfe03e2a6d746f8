"""State that another user could have written is not believed: whatever it says, nothing happens, by any verb."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Bundle, Done, Runtime, tree_of

from ocirt.state.process import start_time

pytestmark = pytest.mark.root
USER = 54321
"""Of whom nothing is known on this host."""
VERBS: dict[str, list[str]] = {
    "state": ["state", "c"],
    "start": ["start", "c"],
    "kill": ["kill", "c", "KILL"],
    "kill --all": ["kill", "--all", "c", "KILL"],
    "kill --regex": ["kill", "--regex", "c", "KILL"],
    "delete": ["delete", "c"],
    "delete --force": ["delete", "--force", "c"],
    "exec": ["exec", "c", "/bin/true"],
    "pause": ["pause", "c"],
    "resume": ["resume", "c"],
    "ps": ["ps", "--format", "json", "c"],
    "update": ["update", "--pids-limit", "7", "c"],
    "events": ["events", "--stats", "c"],
    "mounts": ["mounts", "remove", "c", "/dev/null"],
    "checkpoint": ["checkpoint", "c"],
}


@pytest.fixture
def created(runtime: Runtime, bundle: Bundle) -> Iterator[Path]:
    """The folder of a created container `c`. At the end it is root's again, and goes."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    done = runtime("create", "--bundle", bundle.path, "c")
    assert done.code == 0, done.err
    folder = runtime.root / "c"
    state = (folder / "state.json").read_bytes()
    yield folder
    if not folder.is_symlink() and folder.exists():
        os.chown(folder, 0, 0)
        folder.chmod(0o700)
        path = folder / "state.json"
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(state)
        path.chmod(0o600)
    assert runtime("delete", "--force", "c").code == 0


def refused(done: Done, *words: str) -> None:
    assert done.code not in (0, 127, 126), done
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("mode", ["foreign", "open"])
def test_no_verb_works_on_a_container_that_others_could_have_written(
    runtime: Runtime, created: Path, mode: str
) -> None:
    pid = runtime.state("c")["pid"]
    if mode == "foreign":
        os.chown(created, USER, USER)
        why = f"{created} belongs to the user {USER}, not to you"
    else:
        created.chmod(0o777)
        why = f"others than you may write to {created}: its mode is 777"
    before = tree_of(created)
    for args in VERBS.values():
        refused(runtime(*args), why)
    listed = runtime("list", "--quiet")
    assert (listed.code, listed.out) == (0, "")
    assert why in listed.err
    assert tree_of(created) == before
    assert start_time(pid) > 0


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None, "somebody has ended it"
        process.kill()


def test_a_forged_state_makes_root_kill_nobody(
    runtime: Runtime, created: Path, victim: subprocess.Popen[bytes]
) -> None:
    """Root called on what a user has made up: it names a process with its start time, and cgroups to remove."""
    forged = runtime.root / "forged"
    shutil.copytree(created, forged, ignore=shutil.ignore_patterns("start"))
    state = json.loads((forged / "state.json").read_bytes())
    state |= {"id": "forged", "pid": victim.pid, "pidStart": start_time(victim.pid), "hooks": ["poststop"]}
    (forged / "state.json").write_text(json.dumps(state))
    for path in (forged / "state.json", forged):
        os.chown(path, USER, USER)
    before = tree_of(forged)
    for args in VERBS.values():
        refused(runtime(*["forged" if arg == "c" else arg for arg in args]), "belongs to the user")
    assert tree_of(forged) == before
    # In a folder that is ours the file itself counts as well.
    os.chown(forged, 0, 0)
    refused(runtime("kill", "forged", "KILL"), f"{forged}/state.json belongs to the user {USER}")
    shutil.rmtree(forged)


@pytest.mark.parametrize("started", [0, 1, 10**15])
def test_another_process_with_the_pid_is_not_the_container(
    runtime: Runtime, created: Path, victim: subprocess.Popen[bytes], started: int
) -> None:
    path = created / "state.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"pid": victim.pid, "pidStart": started}))
    assert runtime.state("c")["status"] == "stopped"
    refused(runtime("kill", "c", "KILL"), "container not running")
    refused(runtime("exec", "c", "/bin/true"), "container not running")


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link_to_a_state(path: Path) -> None:
    other = path.parent / "other.json"
    other.write_text('{"id": "c"}')
    path.symlink_to(other)


@pytest.mark.parametrize("put", [broken_link, fifo, folder, link_to_a_state], ids=lambda put: put.__name__)
def test_a_state_file_is_a_file(runtime: Runtime, created: Path, put: Callable[[Path], None]) -> None:
    path = created / "state.json"
    path.unlink()
    put(path)
    for verb in ("state", "start", "kill", "exec", "ps", "events"):
        refused(runtime(*VERBS[verb], timeout=30), str(path))


def test_a_link_is_no_container(runtime: Runtime, created: Path) -> None:
    """Neither to a container, nor to anything else."""
    (runtime.root / "link").symlink_to("c")
    before = tree_of(created)
    for verb, args in VERBS.items():
        if verb not in ("delete --force", "kill --regex"):
            refused(runtime(*["link" if arg == "c" else arg for arg in args]), 'container "link" does not exist')
    assert runtime("delete", "--force", "link").code == 0  # an unknown id is no error
    assert tree_of(created) == before
    assert runtime("list", "--quiet").out == "c\n"
    (runtime.root / "link").unlink()


class Fifos:
    """What somebody could put in the place of the FIFO that init waits at."""

    @staticmethod
    def foreign(path: Path) -> None:
        os.mkfifo(path)
        os.chown(path, USER, USER)

    @staticmethod
    def link_to_another(path: Path) -> None:
        os.mkfifo(path.parent / "another")
        path.symlink_to("another")

    @staticmethod
    def file(path: Path) -> None:
        path.write_text("x")

    @staticmethod
    def device(path: Path) -> None:
        os.mknod(path, 0o020600, os.makedev(1, 5))


@pytest.mark.parametrize("kind", ["foreign", "link_to_another", "file", "device"])
def test_start_opens_no_other_fifo(runtime: Runtime, created: Path, kind: str) -> None:
    pid = runtime.state("c")["pid"]
    path = created / "start"
    path.unlink()
    getattr(Fifos, kind)(path)
    refused(runtime("start", "c", timeout=30))
    assert start_time(pid) > 0
    assert runtime.state("c")["status"] == "created"


# The root of the state.


def refuses_to_make(runtime: Runtime, bundle: Bundle, *words: str) -> None:
    for verb in ("create", "run"):
        refused(runtime(verb, "--bundle", bundle.path, "c"), *words)


def test_no_container_is_made_in_anothers_folder(runtime: Runtime, bundle: Bundle) -> None:
    runtime.root.mkdir()
    os.chown(runtime.root, USER, USER)
    refuses_to_make(runtime, bundle, f"{runtime.root} belongs to the user {USER}, not to you", "--root")
    assert not os.listdir(runtime.root)


def test_no_container_is_made_where_others_could_exchange_it(runtime: Runtime, bundle: Bundle) -> None:
    runtime.root.mkdir()
    runtime.root.chmod(0o777)
    refuses_to_make(runtime, bundle, f"others than you may write to {runtime.root}")
    assert not os.listdir(runtime.root)
    runtime.root.chmod(0o1777)
    assert runtime("run", "--bundle", bundle.path, "c").code == 0


def test_no_container_is_made_through_anothers_link(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(0o700)
    runtime.root.symlink_to(target)
    os.lchown(runtime.root, USER, USER)
    refuses_to_make(runtime, bundle, f"{runtime.root} is a link of the user {USER}")
    assert not os.listdir(target)
    os.lchown(runtime.root, 0, 0)
    assert runtime("run", "--bundle", bundle.path, "c").code == 0
