"""What a pod's containers are given through CRI: rights, limits of sight, mounts, network, namespaces."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines.cri.pods import NODE, POD, RUNTIME_DEFAULT, UNCONFINED, Cri, Pod, processes
from engines.engine import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

STATUS = "grep -E '^({})' /proc/self/status | cut -f 2"
DEFAULT = 0xA80425FB
INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "user and group": (
        {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1234}, "supplemental_groups": [7, 8]},
        "id -u; id -g; id -G",
        "1000\n1234\n1234 7 8",
    ),
    "user by name": ({"run_as_username": "user"}, "id -u; echo $HOME", "1000\n/home/user"),
    "user without a name": ({"run_as_user": {"value": 4321}}, "id -u; echo $HOME", "4321\n/"),
    "no other user": ({}, "id -u; echo $HOME", "0\n/root"),
    "default capabilities": ({}, STATUS.format("CapEff|CapBnd"), f"{DEFAULT:016x}\n{DEFAULT:016x}"),
    "capabilities changed": (
        {"capabilities": {"add_capabilities": ["SYS_TIME"], "drop_capabilities": ["CHOWN"]}},
        STATUS.format("CapEff"),
        f"{DEFAULT & ~1 | 1 << 25:016x}",
    ),
    "no capabilities": ({"capabilities": {"drop_capabilities": ["ALL"]}}, STATUS.format("CapBnd"), "0" * 16),
    "one capability": (
        {"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]}},
        STATUS.format("CapEff|CapPrm"),
        f"{1 << 10:016x}\n{1 << 10:016x}",
    ),
    "readonly": ({"readonly_rootfs": True}, "touch /x 2>/dev/null || echo no", "no"),
    "writable": ({}, "touch /x && echo yes", "yes"),
    "the usual profile": ({"seccomp": {"profile_type": RUNTIME_DEFAULT}}, STATUS.format("Seccomp:"), "2"),
    "no profile": ({"seccomp": {"profile_type": UNCONFINED}}, STATUS.format("Seccomp:"), "0"),
    "the usual profile refuses": (
        {"seccomp": {"profile_type": RUNTIME_DEFAULT}},
        "unshare -U true 2>/dev/null || echo no",
        "no",
    ),
    "no new privileges": ({"no_new_privs": True}, STATUS.format("NoNewPrivs"), "1"),
    "new privileges": ({}, STATUS.format("NoNewPrivs"), "0"),
    "masked paths": (
        {"masked_paths": ["/proc/version", "/sys/kernel"], "readonly_paths": ["/proc/sys"]},
        "wc -c </proc/version; ls /sys/kernel | wc -l; (echo 1 >/proc/sys/vm/swappiness) 2>/dev/null || echo no",
        "0\n0\nno",
    ),
    "nothing inherited": ({}, "ls /proc/self/fd", "0\n1\n2\n3"),
}


@pytest.mark.parametrize(("security", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(pod: Pod, security: dict[str, Any], script: str, out: str) -> None:
    ended = pod.run("sh", "-c", script, security=security)
    assert (ended.out.rstrip("\n"), ended.err) == (out, ""), ended


def test_a_profile_of_the_node(pod: Pod, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
            }
        )
    )
    security = {"seccomp": {"profile_type": 2, "localhost_ref": str(profile)}}
    assert "No space left" in pod.run("mkdir", "/tmp/x", security=security).err


def test_privileged(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(security={"privileged": True})
    script = f"{STATUS.format('Seccomp:')}; mkdir /m; mount -t tmpfs x /m && echo yes; [ -e /dev/fuse ] && echo device"
    ended = pod.run("sh", "-c", script, security={"privileged": True})
    assert ended.out.split()[:2] == ["0", "yes"], ended
    assert ("device" in ended.out) == Path("/dev/fuse").exists()


def test_environment_directory_arguments_and_devices(pod: Pod) -> None:
    ended = pod.run(
        "sh",
        "-c",
        'echo "$A $OF_IMAGE $0 $1"; pwd; head -c 3 /dev/other | wc -c',
        args=["zero", "one"],
        working_dir="/data/new",
        envs=[{"key": "A", "value": "b"}],
        devices=[{"container_path": "/dev/other", "host_path": "/dev/zero", "permissions": "r"}],
    )
    assert (ended.out, ended.err) == ("b yes zero one\n/data/new\n3\n", "")


def test_terminal(pod: Pod) -> None:
    ended = pod.run("sh", "-c", "tty; test -t 0 && test -t 2 && echo yes", tty=True)
    assert ended.out.split() == ["/dev/pts/0", "yes"]


def test_mounts(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    mounts = [
        {"host_path": str(tmp_path), "container_path": "/data", "readonly": True},
        {"host_path": str(tmp_path / "f"), "container_path": "/new/place"},
    ]
    script = "cat /data/f; touch /data/g 2>/dev/null || echo no; echo changed >/new/place"
    assert pod.run("sh", "-c", script, mounts=mounts).out == "host\nno\n"
    assert (tmp_path / "f").read_text() == "changed\n"


PROPAGATION = {"private": (0, False), "from the host": (1, True), "both ways": (2, True)}


@pytest.mark.parametrize(("propagation", "seen"), PROPAGATION.values(), ids=PROPAGATION)
def test_propagation(make_pod: Callable[..., Pod], workplace: Path, propagation: int, seen: bool) -> None:
    pod = make_pod(security={"privileged": True})
    source = workplace / f"propagation-{pod.id}"
    (source / "out").mkdir(parents=True)
    (source / "in").mkdir()
    mounts = [{"host_path": str(source), "container_path": "/data", "propagation": propagation}]
    name = pod.start("sleep", "1000", mounts=mounts, security={"privileged": True})
    subprocess.run(["mount", "-t", "tmpfs", "x", source / "in"], check=True)
    try:
        assert pod.shell(name, "stat -f -c %T /data/in") == "tmpfs"  # both are: the folder, and what is mounted
        assert (" /data/in " in pod.shell(name, "cat /proc/self/mountinfo")) == seen
        pod.shell(name, "mount -t tmpfs y /data/out")
        here = f" {source}/out " in Path("/proc/self/mountinfo").read_text()
        assert here == (propagation == 2)
    finally:
        pod.clear()
        subprocess.run(["umount", source / "in"], check=True)
        if propagation == 2:
            subprocess.run(["umount", source / "out"], check=True)


def test_a_network_of_its_own(make_pod: Callable[..., Pod], cri: Cri) -> None:
    pod = make_pod(security={"namespace_options": {"network": POD}})
    ip = cri.ask("PodSandboxStatus", pod_sandbox_id=pod.id).status.network.ip
    assert ip.startswith("10.88.77.")
    name = pod.start("sh", "-c", "nc -l -p 8080 -e echo hello; sleep 1000")
    assert pod.shell(name, "hostname; ls /sys/class/net") == "a-pod\neth0\nlo"
    shown: list[str] = []
    eventually(lambda: shown.append(_said_by(ip, 8080)) or shown[-1])
    assert shown[-1] == "hello\n"
    # A second container is in the same one.
    assert pod.run("ip", "-o", "-4", "addr").out.count(f" {ip}/") == 1


def _said_by(ip: str, port: int) -> str:
    try:
        with socket.create_connection((ip, port), timeout=5) as connection:
            return connection.makefile().read()
    except OSError:
        return ""


def test_sysctls(make_pod: Callable[..., Pod]) -> None:
    wanted = [
        {"key": "net.ipv4.ip_unprivileged_port_start", "value": "80"},
        {"key": "kernel.shm_rmid_forced", "value": "1"},
    ]
    pod = make_pod(security={"namespace_options": {"network": POD}}, sysctls=wanted)
    files = "/proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
    assert pod.run("sh", "-c", f"cat {files}").out == "80\n1\n"


def test_processes_of_the_container_alone(pod: Pod) -> None:
    pod.start("sleep", "444")
    ended = pod.run("sh", "-c", "echo $$; ps")
    assert ended.out.startswith("1\n")
    assert "444" not in ended.out


def test_processes_of_the_pod(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(security={"namespace_options": {"pid": POD}})
    name = pod.start("sleep", "444")
    ended = pod.run("sh", "-c", "echo $$; ps")
    assert not ended.out.startswith("1\n")
    assert "sleep 444" in ended.out
    assert "sleep 100000" in ended.out  # the pause container
    pod.cri.ask("StopContainer", container_id=name, timeout=0)
    assert pod.wait(name).code == 137


def test_processes_of_the_node(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(security={"namespace_options": {"pid": NODE}})
    name = pod.start("sh", "-c", "sleep 445 & wait")
    assert pod.shell(name, "readlink /proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    # Without a pid namespace that the kernel empties, it is for the runtime to find them all.
    pod.cri.ask("StopContainer", container_id=name, timeout=0)
    assert pod.wait(name).code == 137
    eventually(lambda: not processes(["sleep", "445"]))


def _features(cri: Cri, handler: str, name: str) -> bool:
    """What containerd has read of `runc features`. Skips if it has not for runc either."""
    found = {one.name: getattr(one.features, name) for one in cri.ask("Status").runtime_handlers}
    if not found.get("runc"):
        pytest.skip("this containerd does not ask what a runtime can do: 2.0 does")
    return bool(found[handler])


def test_a_user_namespace(make_pod: Callable[..., Pod], cri: Cri, handler: str) -> None:
    assert _features(cri, handler, "user_namespaces")
    ids = [{"host_id": 200000, "container_id": 0, "length": 65536}]
    pod = make_pod(security={"namespace_options": {"network": POD, "userns_options": {"uids": ids, "gids": ids}}})
    name = pod.start("sleep", "447")
    assert (
        pod.shell(name, "id -u; cat /proc/self/uid_map; stat -c %u /data/file").split() == "0 0 200000 65536 0".split()
    )
    assert {Path("/proc", pid).stat().st_uid for pid in processes(["sleep", "447"])} == {200000}


def test_readonly_with_all_below(pod: Pod, cri: Cri, handler: str, workplace: Path) -> None:
    assert _features(cri, handler, "recursive_read_only_mounts")
    source = workplace / f"below-{handler}"
    (source / "in").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "x", source / "in"], check=True)
    mount = {"host_path": str(source), "container_path": "/data", "readonly": True}
    script = "touch /data/in/new 2>/dev/null || echo no"
    assert pod.run("sh", "-c", script, mounts=[mount]).out == ""
    assert pod.run("sh", "-c", script, mounts=[{**mount, "recursive_read_only": True}]).out == "no\n"
    pod.clear()
    subprocess.run(["umount", source / "in"], check=True)


def test_shared_memory_is_the_pods(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod()
    pod.run("sh", "-c", "echo shared >/dev/shm/file")
    assert pod.run("cat", "/dev/shm/file").out == "shared\n"
