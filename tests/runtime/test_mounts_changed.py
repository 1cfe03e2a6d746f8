"""mounts add, mounts remove: what a container that is there sees then, and what a failure leaves: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runtime.life import Life, until_gone
from runtime.test_copyup import user_namespace
from support import Done, inits

pytestmark = pytest.mark.root

BIND = ["rbind", "ro"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "file").write_text("from the host\n")
    return folder


@pytest.fixture
def running(life: Life) -> Life:
    life.bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    return life


def begin(life: Life) -> Life:
    life.bundle.write()
    assert life.create().code == 0
    assert life("start", "c").code == 0
    return life


def change(life: Life, what: str, *mounts: dict[str, Any], text: str | None = None) -> Done:
    file = life.bundle.path / "mounts of a test.json"
    file.write_text(json.dumps(mounts) if text is None else text)
    before = inits()
    done = life("mounts", what, "c", file)
    assert inits() == before, "a process is left"
    return done


def changed(life: Life, what: str, *mounts: dict[str, Any]) -> None:
    done = change(life, what, *mounts)
    assert (done.code, done.out, done.err) == (0, "", "")


def seen(life: Life, script: str) -> str:
    done = life.runtime("exec", "c", "/bin/sh", "-c", script)
    assert done.code == 0, done.err
    return done.out


def table(life: Life) -> str:
    return Path(f"/proc/{life.pid}/mountinfo").read_text()


def bind(source: Path, destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "source": str(source), "type": "bind", "options": list(options or BIND)}


def test_mounts_come_and_go(running: Life, source: Path) -> None:
    begin(running)
    before = table(running)
    tmpfs = {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=700"]}
    mounts = [bind(source, "/data/deep"), bind(source / "file", "/data/file", "bind"), tmpfs]
    changed(running, "add", *mounts)
    assert seen(running, "cat /data/deep/file /data/file") == "from the host\n" * 2
    assert seen(running, "stat -c %a /scratch; echo x > /scratch/y; cat /scratch/y") == "700\nx\n"
    done = running.runtime("exec", "c", "/bin/sh", "-c", "echo x > /data/deep/new")
    assert "Read-only file system" in done.err
    seen(running, "echo written >> /data/file")
    assert (source / "file").read_text() == "from the host\nwritten\n"
    changed(running, "remove", *({"destination": one["destination"]} for one in mounts))
    assert table(running) == before
    assert seen(running, "ls /data/deep; cat /data/file; ls /scratch") == ""


def test_the_host_sees_nothing_of_it(running: Life, source: Path) -> None:
    begin(running)
    before = Path("/proc/self/mountinfo").read_text()
    changed(running, "add", bind(source, "/data"))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_relative_source_counts_from_the_bundle(running: Life) -> None:
    (running.bundle.path / "beside").mkdir()
    (running.bundle.path / "beside/file").write_text("x")
    begin(running)
    changed(running, "add", {"destination": "/data", "source": "beside", "options": ["bind"]})
    assert seen(running, "cat /data/file") == "x"


def test_the_topmost_of_several_is_removed(running: Life, source: Path, tmp_path: Path) -> None:
    begin(running)
    (tmp_path / "other").mkdir()
    changed(running, "add", bind(source, "/data"), bind(tmp_path / "other", "/data"))
    assert seen(running, "ls /data") == ""
    changed(running, "remove", {"destination": "/data"})
    assert seen(running, "ls /data") == "file\n"


@pytest.mark.parametrize("status", ["created", "paused"])
def test_a_container_that_waits_or_is_paused(life: Life, source: Path, status: str) -> None:
    life.reach(status)
    changed(life, "add", bind(source, "/data"))
    assert life.status == status
    assert (Path(f"/proc/{life.pid}/root/data/file")).read_text() == "from the host\n"
    changed(life, "remove", bind(source, "/data"))
    life("delete", "--force", "c")


def test_in_a_user_namespace(running: Life, source: Path) -> None:
    user_namespace(running.bundle)
    running.bundle.write()
    begin(running)
    private = source.parent / "private"
    private.mkdir(mode=0o700)
    (private / "inner").mkdir()
    (private / "inner/file").write_text("x")
    tmpfs = {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"}
    changed(running, "add", bind(private / "inner", "/data"), tmpfs)
    assert seen(running, "cat /data/file; stat -c %u /scratch") == "x0\n"
    changed(running, "remove", {"destination": "/data"}, {"destination": "/scratch"})


def test_id_maps_and_copied_files(running: Life, tmp_path: Path) -> None:
    (running.bundle.rootfs / "etc/kept").write_text("of the image")
    begin(running)
    (tmp_path / "owned").mkdir()
    os.chown(tmp_path / "owned", 1000, 1000)
    to_zero = [{"containerID": 1000, "hostID": 0, "size": 1}]
    mapped = bind(tmp_path / "owned", "/owned", "bind") | {"uidMappings": to_zero, "gidMappings": to_zero}
    copied = {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}
    done = change(running, "add", mapped, copied)
    assert done.code == 0, done.err
    assert seen(running, "stat -c %u:%g /owned; cat /etc/kept") == "0:0\nof the image"


def test_a_symlink_of_the_container_leads_nowhere_else(running: Life, source: Path, tmp_path: Path) -> None:
    """What the container puts on the way is resolved below its own root (CVE-2021-30465)."""
    outside = tmp_path / "outside"
    outside.mkdir()
    begin(running)
    seen(running, f"ln -s ../../../../../../..{outside} /way; ln -s /nowhere/yet /dangling")
    changed(running, "add", bind(source, "/way/in"), bind(source, "/dangling"))
    assert list(outside.iterdir()) == []
    assert seen(running, f"cat {outside}/in/file /nowhere/yet/file") == "from the host\n" * 2
    done = change(running, "remove", {"destination": "/way/in"})
    assert done.code == 1 and "nothing is mounted on /way/in" in done.err and "without symlinks" in done.err


def test_removing_follows_no_symlink_that_the_container_has_put_there(running: Life, source: Path) -> None:
    """Else it could have its masks taken off: the name is below another folder by the time it is looked up."""
    begin(running)
    changed(running, "add", bind(source, "/data/acpi"))
    seen(running, "mv /data /moved; ln -s /proc /data")
    before = table(running)
    done = change(running, "remove", {"destination": "/data/acpi"})
    assert done.code == 1
    assert table(running) == before


# What is refused


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no such file system": (
        [{"destination": "/d", "type": "nofs", "source": "x"}],
        ":1:46: /1: mount nofs x on /d: No such device",
    ),
    "source missing": ([bind(Path("/nowhere/at/all"), "/d")], "/1/source: /nowhere/at/all: No such file or directory"),
    "unknown type": ([{"destination": "/d", "type": 3}], "/1/type: expected a string, got 3"),
    "no type": ([{"destination": "/d"}], "/1/type: a mount needs a type"),
    "root": ([{"destination": "/", "type": "tmpfs"}], '/1/destination: expected a path below "/"'),
    "cgroup": ([{"destination": "/d", "type": "cgroup"}], "/1/type: cgroups are mounted when a container is made"),
    "mount(2)": (
        [{"destination": "/d", "type": "tmpfs", "options": ["silent"]}],
        "/1/options: options that only mount(2) takes",
    ),
    "file over a directory": ([bind(Path("/dev/null"), "/bin", "bind")], "/1: bind /dev/null on /bin (bind): "),
    "procfs behind a link": ([{"destination": "/link", "type": "proc", "source": "proc"}], "/1: mount proc on /link"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_after_an_error_none_of_them_is_there(running: Life, source: Path, case: str) -> None:
    mounts, words = REFUSED[case]
    begin(running)
    seen(running, "ln -s /tmp /link")
    before = table(running)
    done = change(running, "add", {"destination": "/first", "type": "tmpfs"}, *mounts)
    assert done.code == 1
    assert words in done.err and done.err.count("\n") == 1, done.err
    assert "mounts of a test.json" in done.err
    assert table(running) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "expected an array"),
        ("[", ":1:"),
        ('[{"type": "tmpfs"}]', "/0"),
        ("null", "expected an array"),
        ("[3]", "/0: expected an object, got 3"),
    ],
)
@pytest.mark.parametrize("what", ["add", "remove"])
def test_what_is_no_list_of_mounts(running: Life, what: str, text: str, words: str) -> None:
    begin(running)
    done = change(running, what, text=text)
    assert done.code == 1 and words in done.err and "mounts of a test.json" in done.err


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("/", "/1/destination: the root stays"),
        ("/proc/kcore", "/1/destination: what is mounted on /proc/kcore hides or protects what is below"),
        ("/proc//sys/", "/1/destination: what is mounted on /proc/sys hides or protects what is below"),
        ("/bin", "/1/destination: nothing is mounted on /bin"),
        ("/nowhere", "/1/destination: nothing is mounted on /nowhere"),
    ],
)
def test_what_cannot_be_removed_leaves_all_as_it_is(running: Life, destination: str, words: str) -> None:
    begin(running)
    before = table(running)
    done = change(running, "remove", {"destination": "/dev/shm"}, {"destination": destination})
    assert done.code == 1 and words in done.err
    assert table(running) == before


@pytest.mark.parametrize("path", [None, "/proc/self/ns/mnt"])
def test_a_mount_namespace_of_others_is_left_alone(running: Life, source: Path, path: str | None) -> None:
    namespaces = running.bundle.config["linux"]["namespaces"]
    own = next(one for one in namespaces if one["type"] == "mount")
    if path:
        own["path"] = path
    else:
        namespaces.remove(own)
    running.bundle.config["mounts"] = []
    running.bundle.config["linux"]["maskedPaths"] = running.bundle.config["linux"]["readonlyPaths"] = []
    running.bundle.write()
    if running.create().code:
        pytest.skip("before Linux 6.15 there is no such container")
    for what in ("add", "remove"):
        done = change(running, what, bind(source, "/data"))
        assert done.code == 1 and "no mount namespace of its own" in done.err and "/linux/namespaces" in done.err


def test_a_stopped_container_an_unknown_one_and_unknown_words(life: Life, source: Path) -> None:
    life.reach("stopped")
    done = change(life, "add", bind(source, "/data"))
    assert done.code == 1 and 'container not running: "c" is stopped' in done.err
    life("delete", "c")
    assert "does not exist" in change(life, "add").err
    assert 'expected "add" or "remove"' in change(life, "list").err
    assert life("mounts", "add", "c").code == 1


def test_an_end_of_the_container_meanwhile(running: Life, source: Path) -> None:
    begin(running)
    pid = running.pid
    assert running("kill", "c", "KILL").code == 0
    until_gone(pid)
    assert change(running, "add", bind(source, "/data")).code == 1
