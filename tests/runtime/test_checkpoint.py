"""checkpoint and restore: what of a container is the same afterwards, by what it does and what it sees."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.criu_host import ENVIRONMENT, Counter, mounts_of, open_files
from runtime.hooks import Notes, note_order
from runtime.hosts import PURE_V2, ROOT
from runtime.life import until_gone, wait_until
from support import OCIRT, cgroup_folders, traces

from ocirt.host.facts import permitted_capabilities

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


def test_a_container_goes_on_where_it_was(counter: Counter) -> None:
    before = traces(counter.runtime.root)
    counter.run()
    pid = counter.pid()
    done = counter.checkpoint()
    assert (done.code, done.out, done.err) == (0, "", "")
    until_gone(pid)
    assert counter.stands_still()
    assert counter("state", "c").err == 'ocirt: container "c" does not exist\n'
    after = traces(counter.runtime.root)
    assert (after.cgroups, after.mounts, after.state) == (before.cgroups, before.mounts, before.state | {*after.state})
    stopped_at = counter.count
    pid_file = counter.bundle.path / "pid"
    done = counter.restore("--pid-file", pid_file)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert counter.counts()
    assert counter.count > stopped_at
    state = counter.runtime.state("c")
    assert state["status"] == "running"
    assert pid_file.read_text() == str(state["pid"])
    assert counter("kill", "c", "KILL").code == 0
    until_gone(state["pid"])
    assert counter.runtime.state("c")["status"] == "stopped"
    assert counter("delete", "c").code == 0


def test_it_is_restored_into_the_same_mounts_and_namespaces(counter: Counter) -> None:
    counter.run()
    pid = counter.pid()
    mounts = mounts_of(pid)
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    assert counter.checkpoint().code == 0
    assert counter.restore().code == 0
    pid = counter.pid()
    assert mounts_of(pid) == mounts
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    assert not {kind for kind in kinds if os.readlink(f"/proc/{pid}/ns/{kind}") == ours[kind]}
    assert os.readlink(f"/proc/{pid}/root") == "/"
    shown = counter("exec", "c", "cat", "/proc/self/cgroup")
    assert {line.split(":", 2)[2] for line in shown.out.splitlines()} == {"/"}


def test_with_leave_running_it_goes_on(counter: Counter) -> None:
    counter.run()
    pid = counter.pid()
    assert counter.checkpoint("--leave-running").code == 0
    assert counter.counts()
    assert counter.pid() == pid
    assert counter("delete", "--force", "c").code == 0
    assert counter.restore().code == 0
    assert counter.counts()


def test_a_restored_container_is_as_any_other(counter: Counter) -> None:
    """exec, ps, pause, resume, update, events, and another checkpoint."""
    counter.through()
    assert counter("exec", "c", "hostname").out == "ocirt\n"
    pids = json.loads(counter("ps", "--format", "json", "c").out)
    assert counter.pid() in pids
    if counter("pause", "c").code == 0:  # on pure v1 without a freezer nobody can
        assert counter.stands_still()
        assert counter("resume", "c").code == 0
    assert counter.counts()
    assert json.loads(counter("events", "--stats", "c").out)["type"] == "stats"
    done = counter.checkpoint()
    assert done.code == 0, done.err
    assert counter.restore().code == 0
    assert counter.counts()


def test_another_id_another_bundle_and_other_sources(counter: Counter, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "who").write_text(name)
    (counter.bundle.rootfs / "link").symlink_to("tmp")
    mount = {"destination": "/link/data", "type": "bind", "options": ["bind"], "source": str(tmp_path / "old")}
    file = {"destination": "/etc/who", "type": "bind", "options": ["bind", "ro"], "source": str(tmp_path / "old/who")}
    counter.bundle.config["mounts"] += [mount, file]
    counter.run()
    assert counter.checkpoint().code == 0
    moved = tmp_path / "moved"
    counter.bundle.path.rename(moved)
    counter.bundle.path = moved
    mount["source"], file["source"] = str(tmp_path / "new"), str(tmp_path / "new/who")
    counter.bundle.write()
    done = counter.restore(container_id="d")
    assert done.code == 0, done.err
    assert counter.counts()
    assert counter.runtime.state("d")["bundle"] == str(moved)
    assert counter("exec", "d", "cat", "/tmp/data/who", "/etc/who").out == "newnew"
    assert counter("exec", "d", "touch", "/etc/who").code == 1


def test_mount_points_that_the_root_lacks_are_made(counter: Counter, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    counter.bundle.config["mounts"] += [
        {"destination": "/made/here", "type": "bind", "options": ["bind"], "source": str(source)},
        {"destination": "/made/here/inner", "type": "tmpfs", "source": "tmpfs"},
    ]
    counter.run()
    assert counter.checkpoint().code == 0
    for folder in (counter.bundle.rootfs / "made/here", counter.bundle.rootfs / "made", source / "inner"):
        folder.rmdir()
    done = counter.restore()
    assert done.code == 0, done.err
    assert counter("exec", "c", "stat", "-c", "%F", "/made/here/inner").out == "directory\n"
    assert "/made/here/inner" in {point for _, point, _, _ in mounts_of(counter.pid())}


def test_what_is_mounted_below_a_source_comes_along(counter: Counter, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
    try:
        (source / "below/file").write_text("it is there")
        counter.bundle.config["mounts"].append(
            {"destination": "/data", "type": "bind", "options": ["rbind"], "source": str(source)}
        )
        counter.through()
        assert counter("exec", "c", "cat", "/data/below/file").out == "it is there"
        assert counter("delete", "--force", "c").code == 0
    finally:
        subprocess.run(["umount", source / "below"], check=True)


def test_propagation_is_the_same(counter: Counter, tmp_path: Path) -> None:
    """Of the root, which is the host's slave, and of a bind mount."""
    source = tmp_path / "source"
    (source / "later").mkdir(parents=True)
    counter.bundle.config["linux"]["rootfsPropagation"] = "rslave"
    counter.bundle.config["mounts"].append(
        {"destination": "/data", "type": "bind", "options": ["rbind", "rslave"], "source": str(source)}
    )
    counter.through()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "later"], check=True)
    try:
        assert "/data/later" in {point for _, point, _, _ in mounts_of(counter.pid())}
        assert counter("delete", "--force", "c").code == 0
    finally:
        subprocess.run(["umount", source / "later"], check=True)


def test_a_tmpfs_keeps_its_files(counter: Counter) -> None:
    counter.run()
    assert counter("exec", "c", "sh", "-c", "echo kept > /dev/shm/file").code == 0
    assert counter.checkpoint().code == 0
    assert counter.restore().code == 0
    assert counter("exec", "c", "cat", "/dev/shm/file").out == "kept\n"


def test_what_exec_has_put_into_it_is_not_saved(counter: Counter, tmp_path: Path) -> None:
    """A warning says so. CRIU follows the first process's children."""
    counter.run()
    pid_file = tmp_path / "pid"
    assert counter("exec", "--detach", "--pid-file", pid_file, "c", "sleep", "1000").code == 0
    done = counter("--debug", "checkpoint", "--image-path", counter.images, "c")
    assert done.code == 0, done.err
    words = "not saved, because `exec` has put them into the container: processes"
    assert done.err == f"ocirt: warning: {words} {pid_file.read_text()}\n"
    until_gone(int(pid_file.read_text()))
    assert counter.restore().code == 0
    assert counter.counts()
    assert "sleep 1000" not in counter("exec", "c", "ps").out


# Descriptors


def test_pipes_are_those_of_the_new_caller(counter: Counter) -> None:
    counter.bundle.config["process"]["args"] = [
        "/bin/sh",
        "-c",
        "echo 1 > /tmp/count; while read l; do echo got $l; done",
    ]
    counter.bundle.write()
    arguments = [OCIRT, "--root", counter.runtime.root]
    first = subprocess.Popen(
        [*arguments, "run", "--detach", "--bundle", counter.bundle.path, "c"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    assert first.stdin and first.stdout
    first.stdin.write(b"one\n")
    first.stdin.flush()
    assert first.stdout.readline() == b"got one\n"
    assert counter.checkpoint().code == 0
    first.communicate(timeout=20)
    second = subprocess.Popen(
        [*arguments, "restore", "--detach", "--image-path", counter.images, "--bundle", counter.bundle.path, "c"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    out, err = second.communicate(b"two\n", timeout=60)
    assert (second.returncode, out, err) == (0, b"got two\n", b"")


def test_files_of_the_host_are_those_of_the_new_caller(counter: Counter, tmp_path: Path) -> None:
    """A detached container's may be /dev/null and a log file: none of its own mounts has them."""
    counter.bundle.config["process"]["args"][2] = "echo begin; " + counter.bundle.config["process"]["args"][2]
    logs = tmp_path / "log 1", tmp_path / "log 2"
    with logs[0].open("w") as log:
        counter.run(stdout=log, stderr=log)
        assert open_files(counter.pid()) == ["/dev/null", str(logs[0]), str(logs[0])]
        assert counter.checkpoint().code == 0
    with logs[1].open("w") as log:
        done = counter.restore(stdout=log, stderr=log)
        assert done.code == 0, logs[1].read_text()
    assert counter.counts()
    assert open_files(counter.pid()) == ["/dev/null", str(logs[1]), str(logs[1])]


def answers(master: int, word: str) -> bool:
    """Does the program at this terminal say what it was told?"""
    os.write(master, f"{word}\n".encode())
    seen = b""

    def has() -> bool:
        nonlocal seen
        seen += os.read(master, 1000)
        return f"got {word}".encode() in seen

    return bool(wait_until(has))


def test_a_terminal_is_sent_to_the_console_socket_or_is_ours(counter: Counter, tmp_path: Path) -> None:
    process = counter.bundle.config["process"]
    process["terminal"] = True
    process["args"] = ["/bin/sh", "-c", "echo 1 > /tmp/count; while read l; do echo got $l; done"]
    path = str(tmp_path / "console")

    def master_of(start: Any) -> int:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            start()
            connection, _ = listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 100, 1)
        os.unlink(path)
        return fds[0]

    counter.bundle.write()
    run = ("run", "--detach", "--console-socket", path, "--bundle", counter.bundle.path, "c")
    first = master_of(lambda: counter(*run))
    assert answers(first, "one")
    assert counter.checkpoint().code == 0
    os.close(first)
    second = master_of(lambda: counter.restore("--console-socket", path))
    assert answers(second, "two")
    assert counter.checkpoint().code == 0
    os.close(second)
    master, slave = pty.openpty()
    command = [OCIRT, "--root", counter.runtime.root, "restore", "--image-path", counter.images]
    process = subprocess.Popen(
        [*command, "--bundle", counter.bundle.path, "c"],
        env=ENVIRONMENT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: '"running"' in counter("state", "c").out)
        assert answers(master, "three")
        assert counter("kill", "c", "KILL").code == 0
        assert process.wait(20) == 128 + 9
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_in_the_foreground_the_exit_code_is_the_programs(counter: Counter) -> None:
    counter.bundle.config["process"]["args"] = [
        *("/bin/sh", "-c", "trap 'exit 7' TERM; echo 1 > /tmp/count; while :; do sleep 0.02; done")
    ]
    counter.run()
    assert counter.checkpoint().code == 0
    command = [OCIRT, "--root", counter.runtime.root, "restore", "--image-path", counter.images]
    process = subprocess.Popen([*command, "--bundle", counter.bundle.path, "c"], env=ENVIRONMENT)
    try:
        wait_until(lambda: '"running"' in counter("state", "c").out)
        process.terminate()  # is passed on
        assert process.wait(20) == 7
    finally:
        process.kill()
        process.wait()
    assert counter("state", "c").code == 1


# Namespaces


def test_a_network_namespace_of_its_own_has_its_loopback_up(counter: Counter) -> None:
    counter.through()
    assert "UP" in counter("exec", "c", "busybox", "ip", "link", "show", "lo").out.split("mtu")[0]


def test_a_network_namespace_by_its_path_is_joined_again(counter: Counter) -> None:
    holders = [subprocess.Popen(["unshare", "--net", "sleep", "1000"]) for _ in (1, 2)]
    try:
        paths = [Path(f"/proc/{holder.pid}/ns/net") for holder in holders]
        for path in paths:
            wait_until(lambda path=path: os.readlink(path) != os.readlink("/proc/self/ns/net"))
        network = next(one for one in counter.bundle.config["linux"]["namespaces"] if one["type"] == "network")
        network["path"] = str(paths[0])
        counter.run()
        assert counter.checkpoint().code == 0
        network["path"] = str(paths[1])
        counter.bundle.write()
        done = counter.restore()
        assert done.code == 0, done.err
        assert counter.counts()
        assert os.readlink(f"/proc/{counter.pid()}/ns/net") == os.readlink(paths[1])
        assert counter("delete", "--force", "c").code == 0
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def test_with_a_user_namespace(counter: Counter) -> None:
    linux = counter.bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    for path in (counter.bundle.rootfs, *counter.bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    counter.through()
    assert counter.counts()
    assert Path(f"/proc/{counter.pid()}/uid_map").read_text().split() == ["0", "100000", "65536"]


def test_without_a_cgroup_namespace(counter: Counter) -> None:
    linux = counter.bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "cgroup"]
    counter.run()
    mounts = mounts_of(counter.pid())
    assert counter.checkpoint().code == 0
    done = counter.restore(container_id="d")
    assert done.code == 0, done.err
    assert counter.counts()
    there = mounts_of(counter.pid("d"))
    assert [(point, flags, kind) for _, point, flags, kind in there] == [
        (point, flags, kind) for _, point, flags, kind in mounts
    ]
    assert {root for root, _, _, kind in there if kind.startswith("cgroup")} == {"/d"}


# Cgroups and rights


def test_limits_and_device_rules_are_those_of_the_bundle(counter: Counter) -> None:
    resources = counter.bundle.config["linux"]["resources"]
    resources |= {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}} if not PURE_V2 else {}
    counter.run()
    assert counter.checkpoint().code == 0
    if not PURE_V2:
        resources["pids"]["limit"] = 88
    resources["devices"] = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "r"}]
    counter.bundle.write()
    assert counter.restore().code == 0
    assert counter.counts()
    if not PURE_V2:
        assert (ROOT / "pids/c/pids.max").read_text() == "88\n"
        assert (ROOT / "memory/c/memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        rules = (ROOT / "devices/c/devices.list").read_text().splitlines()
        assert "c 10:* r" in rules
        assert "a *:* rwm" not in rules
    assert counter("exec", "c", "sh", "-c", "echo > /dev/null").code == 0
    assert counter("exec", "c", "sh", "-c", "busybox mknod /dev/x c 1 1 && cat /dev/x").code == 1


@pytest.mark.parametrize("mode", ["soft", "ignore"])
def test_it_is_in_its_cgroups_again(counter: Counter, mode: str) -> None:
    counter.run()
    before = cgroup_folders(), Path(f"/proc/{counter.pid()}/cgroup").read_text()
    assert ":/c\n" in before[1]
    assert counter.checkpoint("--manage-cgroups-mode", mode).code == 0
    done = counter.restore("--manage-cgroups-mode", mode)
    assert done.code == 0, done.err
    assert (cgroup_folders(), Path(f"/proc/{counter.pid()}/cgroup").read_text()) == before


def test_without_cgroups(counter: Counter) -> None:
    """--cgroup-manager disabled: it stays in the caller's."""
    counter.bundle.config["linux"].pop("cgroupsPath", None)
    counter.bundle.config["linux"].pop("resources", None)
    before = cgroup_folders()
    counter.bundle.write()
    disabled = ("--cgroup-manager", "disabled")
    assert counter(*disabled, "run", "-d", "-b", counter.bundle.path, "c").code == 0
    wait_until(lambda: counter.count > 0)
    done = counter.checkpoint()
    assert done.code == 0, done.err
    images = ("--image-path", counter.images)
    done = counter(*disabled, "restore", "-d", *images, "-b", counter.bundle.path, "c")
    assert done.code == 0, done.err
    assert counter.counts()
    assert cgroup_folders() == before


def test_a_filter_and_rights_stay(counter: Counter) -> None:
    counter.bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    counter.bundle.config["process"] |= {"noNewPrivileges": True, "oomScoreAdj": 77}
    if permitted_capabilities() >> 24 & 1:  # CRIU reads and sets limits of others' processes: CAP_SYS_RESOURCE
        counter.bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
        (counter.bundle.rootfs / "tmp").chmod(0o777)

    def rights() -> dict[str, str]:
        lines = Path(f"/proc/{counter.pid()}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        wanted = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapPrm", "CapBnd", "CapAmb")
        return {name: fields[name].strip() for name in wanted}

    counter.run()
    before = rights()
    assert before["Seccomp"] == "2"
    assert counter.checkpoint().code == 0
    assert counter.restore().code == 0
    assert counter.counts()
    assert rights() == before
    assert Path(f"/proc/{counter.pid()}/oom_score_adj").read_text() == "77\n"


def test_a_paused_container_can_be_saved(counter: Counter) -> None:
    counter.run()
    pid = counter.pid()
    assert counter("pause", "c").code == 0
    done = counter.checkpoint("--leave-running")
    assert done.code == 0, done.err
    assert counter.runtime.state("c")["status"] == "paused"
    done = counter.checkpoint()
    assert done.code == 0, done.err
    until_gone(pid)
    assert counter.restore().code == 0
    assert counter.runtime.state("c")["status"] == "running"
    assert counter.counts()


# Hooks


def test_hooks_of_the_runtime_run_again(counter: Counter) -> None:
    notes = Notes(counter.bundle)
    note_order(notes, "prestart", "createRuntime", "createContainer", "poststart", "poststop")
    notes.add("createRuntime", "cat > {notes}/state")
    counter.run()
    assert counter.checkpoint().code == 0
    assert notes.lines()[-1] == "poststop"
    (notes.path / "order").unlink()
    done = counter.restore()
    assert done.code == 0, done.err
    assert notes.lines() == ["prestart", "createRuntime"]
    state = notes.state("state")
    assert (state["id"], state["status"], state["pid"]) == ("c", "creating", counter.pid())
    assert counter("delete", "--force", "c").code == 0
    assert notes.lines() == ["prestart", "createRuntime", "poststop"]


def test_a_hook_that_fails_leaves_nothing(counter: Counter) -> None:
    counter.run()
    assert counter.checkpoint().code == 0
    before = traces(counter.runtime.root)
    notes = Notes(counter.bundle)
    counter.bundle.config["mounts"].pop()
    notes.add("createRuntime", "exit 3")
    counter.bundle.write()
    done = counter.restore()
    assert done.code == 1
    assert "the createRuntime hook /bin/busybox failed" in done.err
    assert traces(counter.runtime.root) == before
