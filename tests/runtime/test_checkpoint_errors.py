"""checkpoint and restore that cannot be: what they say, and that nothing is changed or left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.criu_host import CRIU, ENVIRONMENT, Counter
from runtime.life import wait_until
from support import CACHE, OCIRT, traces

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def saved(counter: Counter) -> Counter:
    """Saved, and gone."""
    counter.run()
    assert counter.checkpoint().code == 0
    return counter


def fails(counter: Counter, *args: str | Path, **options: object) -> str:
    """What it says; nothing on the host is another than before."""
    before = traces(counter.runtime.root)
    done = counter(*args, **options)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert traces(counter.runtime.root) == before
    return done.err


def restoring(counter: Counter, *flags: str | Path, container_id: str = "d") -> list[str | Path]:
    return [*("restore", "-d", "--image-path", counter.images, "-b", counter.bundle.path), *flags, container_id]


# Which containers


def test_a_container_that_does_not_run_has_nothing_to_save(counter: Counter) -> None:
    assert 'container "c" does not exist' in fails(counter, "checkpoint", "--image-path", counter.images, "c")
    counter.bundle.write()
    assert counter("create", "--bundle", counter.bundle.path, "c").code == 0
    said = fails(counter, "checkpoint", "--image-path", counter.images, "c")
    assert said.startswith('ocirt: container not running: "c" is created')
    pid = counter.pid()
    assert counter("kill", "c", "KILL").code == 0
    wait_until(lambda: counter.runtime.state("c")["status"] == "stopped" or not Path(f"/proc/{pid}").exists())
    said = fails(counter, "checkpoint", "--image-path", counter.images, "c")
    assert said.startswith('ocirt: container not running: "c" is stopped')
    assert not counter.images.exists()


def test_an_id_is_given_once(saved: Counter) -> None:
    assert saved.restore().code == 0
    assert 'a container with id "c" exists already' in fails(saved, *restoring(saved, container_id="c"))
    assert saved.counts()


# A dump that CRIU refuses


def test_a_dump_that_fails_leaves_the_container_running_and_no_images(counter: Counter) -> None:
    """An established connection, without --tcp-established."""
    script = (
        "sleep 1000 | busybox nc -l -p 99 & while ! cat /proc/net/tcp* | grep -q :0063; do sleep 0.02; done; "
        "sleep 1000 | busybox nc 127.0.0.1 99 & "
    )
    counter.bundle.config["process"]["args"][2] = script + counter.bundle.config["process"]["args"][2]
    counter.run()
    pid = counter.pid()
    wait_until(lambda: "0100007F:0063" in _connections(pid))
    before = traces(counter.runtime.root)
    done = counter.checkpoint()
    assert done.code == 1
    assert done.err.startswith('ocirt: criu cannot checkpoint "c": ')
    assert "inet: Connected TCP socket" in done.err
    assert done.err.endswith(f"(it runs as before; see {counter.images}/dump.log)\n")
    assert [path.name for path in counter.images.iterdir() if path.name != "stats-dump"] == ["dump.log"]
    assert traces(counter.runtime.root) == before
    assert counter.counts()
    assert counter.runtime.state("c")["status"] == "running"
    assert counter.pid() == pid


def _connections(pid: int) -> str:
    """Of TCP, established, in its network namespace."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return "\n".join(line for line in lines if line.split()[3] == "01")


def test_the_log_is_in_the_work_folder(counter: Counter, tmp_path: Path) -> None:
    counter.run()
    work = tmp_path / "deep/work"
    assert counter.checkpoint("--work-path", work).code == 0
    assert (work / "dump.log").exists()
    assert not (counter.images / "dump.log").exists()
    assert counter.restore("--work-path", work).code == 0
    assert (work / "restore.log").exists()


def test_without_soft_dirty_there_is_no_pre_dump(counter: Counter) -> None:
    """On a kernel that has it, the next dump has the pre-dump for its parent."""
    counter.run()
    first = counter.images.parent / "first"
    done = counter("checkpoint", "--image-path", first, "--pre-dump", "c")
    assert counter.counts()
    if done.code == 0:
        counter.images.mkdir()
        assert counter.checkpoint("--parent-path", "../first").code == 0
        assert counter.restore().code == 0
        assert counter.counts()
    else:
        assert done.err == (
            "ocirt: --pre-dump: this kernel cannot do it (it has to track changed memory: CONFIG_MEM_SOFT_DIRTY)\n"
        )
        assert not first.exists()


# Images


def test_no_images_empty_ones_and_broken_ones(saved: Counter, tmp_path: Path) -> None:
    images = saved.images
    saved.images = tmp_path / "none"
    assert f"{saved.images}: there is no such folder (see --image-path)" in fails(saved, *restoring(saved))
    saved.images.mkdir()
    assert f"{saved.images} holds no checkpoint" in fails(saved, *restoring(saved))
    for name in ("inventory.img", "core-1.img", "mountpoints-"):
        saved.images = tmp_path / f"without {name}"
        shutil.copytree(images, saved.images)
        broken = next(path for path in saved.images.iterdir() if path.name.startswith(name))
        broken.write_bytes(broken.read_bytes()[:12])
        said = fails(saved, *restoring(saved))
        assert said.startswith('ocirt: criu cannot restore "d": ')
        assert f"see {saved.images}/restore.log" in said
    saved.images = tmp_path / "other descriptors"
    shutil.copytree(images, saved.images)
    (saved.images / "descriptors.json").write_text('{"0": 1}')
    assert "descriptors.json is damaged" in fails(saved, *restoring(saved))
    (saved.images / "descriptors.json").unlink()
    assert "there is no descriptors.json" in fails(saved, *restoring(saved))


def test_a_bundle_that_does_not_fit(saved: Counter, tmp_path: Path) -> None:
    bundle = saved.bundle
    rootfs = bundle.rootfs
    assert "cannot open the bundle" in fails(saved, "restore", "--image-path", saved.images, "-b", tmp_path / "no", "d")
    bundle.config["process"]["terminal"] = True
    bundle.write()
    assert "/process/terminal: a terminal needs --console-socket" in fails(saved, *restoring(saved))
    bundle.config["process"]["terminal"] = False
    bundle.config["root"]["path"] = "elsewhere"
    bundle.write()
    assert "/root/path: elsewhere: No such file or directory" in fails(saved, *restoring(saved))
    bundle.config["root"]["path"] = "rootfs"
    bundle.write()
    shell = rootfs / "bin/busybox"
    content = shell.read_bytes()
    shell.write_bytes(content + b"!")
    shell.chmod(0o755)
    said = fails(saved, *restoring(saved))
    assert "bad size" in said  # CRIU's words: it is another file than the one that was mapped
    shell.write_bytes(content)
    assert saved.restore().code == 0


def test_strict_mode_wants_cgroups_that_are_not_there_yet(saved: Counter) -> None:
    """Ours are, so CRIU refuses."""
    assert "Abort restore of existing cgroups" in fails(saved, *restoring(saved, "--manage-cgroups-mode", "strict"))


# CRIU itself


def stand_in(folder: Path, script: str) -> Path:
    folder.mkdir()
    path = folder / "criu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_criu_it_says_what_is_wanted(counter: Counter, tmp_path: Path) -> None:
    counter.run()
    arguments = ("checkpoint", "--image-path", counter.images, "c")
    nowhere = {"OCIRT_CACHE": CACHE, "PATH": str(tmp_path)}
    said = fails(counter, *arguments, env=nowhere)
    assert said.startswith("ocirt: there is no criu in PATH (CRIU 4.1 or newer is needed")
    said = fails(counter, "--criu", tmp_path / "criu", *arguments)
    assert said.startswith(f"ocirt: start {tmp_path}/criu: No such file or directory (CRIU 4.1 or newer is needed")
    broken = stand_in(tmp_path / "broken", "echo Error: no such library >&2; exit 127")
    said = fails(counter, "--criu", broken, *arguments)
    assert said.startswith("ocirt: criu cannot tell its version: Error: no such library (CRIU 4.1 or newer")
    without = {**ENVIRONMENT, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert counter("--criu", CRIU, "checkpoint", "--image-path", counter.images, "c", env=without).code == 0


def test_an_old_criu_is_refused(counter: Counter, tmp_path: Path) -> None:
    """It answers as version 3.17 does."""
    answer = r"\010\012\020\001\122\004\010\003\020\021"
    old = stand_in(tmp_path / "old", f"printf '{answer}' >&3; sleep 0.1")
    counter.run()
    said = fails(counter, "--criu", old, "checkpoint", "--image-path", counter.images, "c")
    assert said.startswith(f"ocirt: {old} is version 3.17 (CRIU 4.1 or newer is needed")


def test_a_signal_waits_until_the_dump_is_done(counter: Counter, tmp_path: Path) -> None:
    """Half dumped processes would stay half stopped; and whole images must not be thrown away."""
    slow = stand_in(
        tmp_path / "slow",
        f"""
        case $(dd bs=65536 count=1 <&3 2>/dev/null | od -An -tx1 -N2) in
        *0a) printf '\\010\\012\\020\\001\\122\\004\\010\\004\\020\\001' >&3 ;;
        *01)
            echo dump > {tmp_path}/began
            sleep 1
            echo > {counter.images}/core.img
            printf '\\010\\001\\020\\001' >&3 ;;
        esac
        sleep 0.1""",
    )
    counter.run()
    command = [OCIRT, "--root", counter.runtime.root, "--criu", slow, "checkpoint", "--leave-running"]
    process = subprocess.Popen([*command, "--image-path", counter.images, "c"], env=ENVIRONMENT)
    try:
        wait_until((tmp_path / "began").exists)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert (counter.images / "core.img").exists()
    assert counter.counts()


def test_it_is_refused_to_who_is_root_in_a_user_namespace_alone(saved: Counter) -> None:
    command = ["unshare", "--user", "--map-root-user", OCIRT, "--root", saved.runtime.root, *restoring(saved)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ocirt: restore needs the host's root: CRIU cannot do it for a user")


# Flags


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--parent-path", "/abs"], "--parent-path must be relative"),
        (["--parent-path", "no"], "--parent-path no: there is no such folder"),
        (["--manage-cgroups-mode", "hard"], "--manage-cgroups-mode: expected ignore or none or props or soft"),
        (["--network-lock", "rope"], "--network-lock: expected iptables or nftables or skip"),
        (["--empty-ns", "ipc"], '--empty-ns: expected network, got "ipc"'),
        (["--page-server", "host"], '--page-server: expected ADDRESS:PORT, got "host"'),
        (["--page-server", "host:0"], "--page-server: expected ADDRESS:PORT"),
        (["--status-fd", "x"], "--status-fd: expected a descriptor"),
        (["--status-fd", "99"], "--status-fd 99: it is not open"),
        (["--image-path", "/dev/null"], "open /dev/null: Not a directory"),
    ],
)
def test_flags_that_make_no_sense(counter: Counter, flags: list[str], words: str) -> None:
    counter.run()
    assert words in fails(counter, "checkpoint", "--image-path", counter.images, *flags, "c")
    assert not counter.images.exists()
    assert counter.counts()


def test_flags_that_engines_write(saved: Counter) -> None:
    done = saved.restore("-no-subreaper", "--no-pivot", "--empty-ns", "network")
    assert done.code == 0, done.err
    assert saved.runtime("checkpoint", "--help").code == 0
    assert saved.runtime("restore", "--help").code == 0
    assert os.path.exists(saved.images)
