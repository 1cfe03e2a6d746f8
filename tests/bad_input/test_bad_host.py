"""A host that has no room for a container: the message says what is lacking, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bad_checks import VERBS, one_line, refused, same
from support import OCIRT, Bundle, Done, Runtime, command, traces

pytestmark = pytest.mark.root
all_verbs = pytest.mark.parametrize("verb", VERBS)


@contextmanager
def tmpfs(path: Path, options: str) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    assert command("mount", "-t", "tmpfs", "-o", options, "tmpfs", path, env={"PATH": "/bin:/sbin"}).code == 0
    try:
        yield path
    finally:
        assert command("umount", path, env={"PATH": "/bin:/sbin"}).code == 0


@contextmanager
def cgroup(controller: str, name: str, **files: str) -> Iterator[Path]:
    """A cgroup with limits, removed at the end."""
    path = Path("/sys/fs/cgroup", controller, name)
    path.mkdir()
    try:
        for file, value in files.items():
            (path / f"{controller}.{file}").write_text(value)
        yield path
    finally:
        path.rmdir()


@all_verbs
def test_a_state_root_on_a_read_only_file_system(light_bundle: Bundle, tmp_path: Path, verb: str) -> None:
    with tmpfs(tmp_path / "readonly", "ro") as mounted:
        words = (f"create the state directory {mounted}/state: Read-only file system", "--root")
        refused(Runtime(mounted / "state"), light_bundle, verb, None, words)


@all_verbs
def test_a_state_root_that_turned_read_only(light_bundle: Bundle, tmp_path: Path, verb: str) -> None:
    with tmpfs(tmp_path / "readonly", "ro") as mounted:
        refused(Runtime(mounted), light_bundle, verb, None, (f"create {mounted}/bad: Read-only file system",))


@all_verbs
@pytest.mark.parametrize("pages", range(1, 7))
def test_a_state_root_on_a_full_disk(light_bundle: Bundle, tmp_path: Path, verb: str, pages: int) -> None:
    """With one page more each time the disk is full one write later."""
    with tmpfs(tmp_path / "small", f"size={pages * 4096},nr_inodes=99") as mounted:
        runtime = Runtime(mounted / "state")
        runtime.root.mkdir()
        done = runtime(*VERBS[verb], "--bundle", light_bundle.path, "good")
        if done.code == 0:  # there was room for all of it
            assert runtime("delete", "--force", "good").code == 0
        with (mounted / "filler").open("wb", buffering=0) as filler:
            while room := os.statvfs(mounted).f_bavail - (pages - 1):
                filler.write(bytes(room * 4096))
        if pages <= 2:  # the state and the configuration need more than that
            words = (f"write {runtime.root}/bad/", "No space left on device")
            refused(runtime, light_bundle, verb, None, words)
        elif runtime(*VERBS[verb], "--bundle", light_bundle.path, "bad").code == 0:
            assert runtime("delete", "--force", "bad").code == 0
        assert not list(runtime.root.iterdir())


@all_verbs
@pytest.mark.parametrize("inodes", [3, 4, 5])
def test_a_state_root_without_inodes(light_bundle: Bundle, tmp_path: Path, verb: str, inodes: int) -> None:
    """The root and the filler have one each; then the folder, its state, its configuration come."""
    with tmpfs(tmp_path / "small", f"size=1m,nr_inodes={inodes}") as mounted:
        (mounted / "filler").touch()
        refused(Runtime(mounted), light_bundle, verb, None, (f"{mounted}/bad", "No space left on device"))


@all_verbs
def test_a_state_root_that_is_a_file(light_bundle: Bundle, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").touch()
    words = (f"create {tmp_path}/file/bad: Not a directory",)
    refused(Runtime(tmp_path / "file"), light_bundle, verb, None, words)
    words = (f"create the state directory {tmp_path}/file/deep: Not a directory", "--root")
    refused(Runtime(tmp_path / "file" / "deep"), light_bundle, verb, None, words)


def test_a_root_file_system_that_cannot_be_written_has_no_place_for_a_missing_cwd(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.config["process"]["cwd"] = "/not/there"
    bundle.rootfs.rename(bundle.path / "full")
    with readonly_bind(bundle.path / "full", bundle.rootfs):
        words = ("create the working directory /not: Read-only file system", "create it beforehand")
        refused(runtime, bundle.write(), "create", "/process/cwd", words)


def test_a_root_file_system_that_cannot_be_written_has_no_place_for_a_mount(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["mounts"].append({"destination": "/not/there", "type": "tmpfs"})
    bundle.rootfs.rename(bundle.path / "full")
    with readonly_bind(bundle.path / "full", bundle.rootfs):
        words = ("mount tmpfs on /not/there: Read-only file system", "create it beforehand")
        refused(runtime, bundle.write(), "create", "/mounts/7", words)


@contextmanager
def readonly_bind(source: Path, target: Path) -> Iterator[None]:
    target.mkdir()
    environment = {"PATH": "/bin:/sbin"}
    assert command("mount", "--bind", "-o", "ro", source, target, env=environment).code == 0
    try:
        yield
    finally:
        assert command("umount", target, env=environment).code == 0


def inside(group: Path, *words: str | Path) -> Done:
    """Run ocirt in a cgroup."""
    script = f'echo $$ >{group}/cgroup.procs && exec "$@"'
    return command("/bin/busybox", "sh", "-c", script, "sh", OCIRT, *words)


@all_verbs
@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_host_out_of_pids(runtime: Runtime, light_bundle: Bundle, verb: str, most: int) -> None:
    """One process is ocirt; init and its child, which is the container's first process, find no place."""
    with cgroup("pids", "few", max=str(most)) as group:
        before = traces(runtime.root, light_bundle.rootfs)
        done = inside(group, "--root", runtime.root, *VERBS[verb], "--bundle", light_bundle.path, "bad")
        if most == 3 and done.code == 0:
            assert runtime("delete", "--force", "bad").code == 0
        else:
            words = ("Resource temporarily unavailable", "a limit on processes is reached: pids.max")
            one_line(done, words)
        same(before, traces(runtime.root, light_bundle.rootfs))


@all_verbs
def test_a_container_out_of_pids_for_its_program(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    """The container's own cgroup is below one that is full."""
    light_bundle.config["linux"]["cgroupsPath"] = "/full/bad"
    with cgroup("pids", "full", max="0"):
        done = runtime(*VERBS[verb], "--bundle", light_bundle.write().path, "good")
        assert done.code == 0, "a limit does not concern processes that are moved into the cgroup"
        runtime("delete", "--force", "good")


@all_verbs
def test_a_container_without_memory_for_its_init(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    light_bundle.config["linux"]["cgroupsPath"] = "/tiny/bad"
    with cgroup("memory", "tiny", limit_in_bytes="4096") as group:
        before = traces(runtime.root, light_bundle.rootfs)
        log = light_bundle.write().path / "log"
        done = runtime("--log", log, *VERBS[verb], "--bundle", light_bundle.path, "bad")
        if verb == "run" and done.code == 137:  # the program itself was killed
            assert done.err == ""
        else:
            line = one_line(done)
            assert "memory" in line, line
        same(before, traces(runtime.root, light_bundle.rootfs))
        assert [path.name for path in group.iterdir() if path.is_dir()] == []


@all_verbs
def test_without_any_open_file_to_spare(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    before = traces(runtime.root, light_bundle.rootfs)
    for most in (3, 4, 5, 6, 8, 10, 12):
        script = f'ulimit -n {most}; exec "$@"'
        words = (OCIRT, "--root", runtime.root, *VERBS[verb], "--bundle", light_bundle.path, "bad")
        done = subprocess.run(
            ["/bin/busybox", "sh", "-c", script, "sh", *map(str, words)],
            env={}, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode != 0
        assert "a defect in ocirt" not in done.stderr, (most, done.stderr)
        same(before, traces(runtime.root, light_bundle.rootfs))


def test_a_limit_on_open_files_that_is_too_low_is_named(runtime: Runtime, light_bundle: Bundle) -> None:
    before = traces(runtime.root, light_bundle.rootfs)
    words = (OCIRT, "--root", runtime.root, "run", "--bundle", light_bundle.path, "bad")
    done = subprocess.run(
        ["/bin/busybox", "sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *map(str, words)],
        env={}, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert "RLIMIT_NOFILE of the caller is too low" in done.stderr
    same(before, traces(runtime.root, light_bundle.rootfs))
