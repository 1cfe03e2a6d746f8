"""podman on runc and on ocirt: what only podman has. The rest is in test_docker_like.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from engines.engine import IMAGE, eventually, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engines.podman import Podman

pytestmark = pytest.mark.root

CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"
INSIDE = {
    "tmpfs without the image's files": (
        ["--mount", "type=tmpfs,dst=/data,notmpcopyup"],
        "ls /data; stat -f -c %T /data",
        "tmpfs",
    ),
    "capabilities of a user": (["--user", "1000", "--cap-add", "kill"], CAPABILITIES, "0000000000000020"),
    "masked": (["--security-opt", "mask=/data"], "ls /data", ""),
    "unmasked": (["--security-opt", "unmask=/proc/acpi"], "test -d /proc/sys && echo yes", "yes"),
    "user namespace": (
        ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"],
        "id -u; tr -s ' ' </proc/self/uid_map; stat -c %u:%g /data",
        "0\n 0 100000 1000\n0:0",
    ),
    "init": (
        ["--init", "--init-path", "/usr/bin/tini-static"],
        "tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1",
        "/run/podman-init",
    ),
    "umask": (["--umask", "027"], "umask", "0027"),
    "systemd mode off": (["--systemd", "false"], "test $(stat -f -c %T /run) = tmpfs || echo no", "no"),
    "systemd mode on": (["--systemd", "always"], "stat -f -c %T /run /tmp /var/log/journal", "tmpfs\ntmpfs\ntmpfs"),
    "no cgroups of its own": (["--cgroupns", "host"], "grep -c libpod /proc/self/cgroup >/dev/null && echo yes", "yes"),
    "secret": (["--secret", "word,mode=400"], "cat /run/secrets/word; stat -c %a /run/secrets/word", "hush400"),
}


@pytest.fixture
def secret(podman: Podman, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "word").write_text("hush")
    podman.ok("secret", "create", "word", tmp_path / "word")
    yield
    podman.ok("secret", "rm", "word")


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(podman: Podman, flags: list[str], script: str, out: str) -> None:
    assert podman.shell(script, *flags) == out


def test_what_the_kernel_refuses_is_the_runtimes_error(podman: Podman) -> None:
    done = podman("run", "--rm", "--net", "none", "--ulimit", "nofile=4294967290:4294967290", IMAGE, "true")
    assert (done.code, done.out) == (126, "")
    assert "OCI permission denied" in done.err


def test_without_cgroups(podman: Podman) -> None:
    if podman.runtime == "runc":
        pytest.skip("podman knows that runc cannot do it")
    assert podman.shell("echo hi", "--cgroups", "disabled") == "hi"


@pytest.mark.parametrize("mode", ["no-conmon", "enabled"])
def test_modes_of_cgroups(podman: Podman, mode: str) -> None:
    assert podman.shell("echo hi", "--cgroups", mode) == "hi"


def test_made_before_it_is_started(podman: Podman) -> None:
    podman.ok("create", "--name", "box", "--net", "none", IMAGE, "sleep", "1000")
    podman.ok("init", "box")
    assert podman.state()["Status"] in ("initialized", "created")
    assert podman.inspect()["OCIRuntime"] == podman.runtime
    podman.ok("start", "box")
    assert podman.state()["Status"] == "running"


def test_update(podman: Podman) -> None:
    podman.run()
    podman.ok("update", "--memory", "80m", "--cpus", "0.7", "box")
    assert (
        podman.in_box("cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us") == "83886080\n70000"
    )


def test_top_and_stats(podman: Podman) -> None:
    podman.run(args=["sh", "-c", "sleep 1000; true"])
    lines = podman.ok("top", "box", "pid", "user", "comm", "state").splitlines()
    assert [line.split() for line in lines[:2]] == [["PID", "USER", "COMMAND", "STATE"], ["1", "root", "sh", "S"]]
    [stats] = json.loads(podman.ok("stats", "--no-stream", "--format", "json", "box"))
    assert int(stats["pids"]) >= 1


def test_healthcheck(podman: Podman) -> None:
    podman.run("--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1")
    assert podman("healthcheck", "run", "box").code == 1
    assert podman.state()["Health"]["Status"] == "unhealthy"
    podman.in_box("touch /tmp/well")
    assert podman("healthcheck", "run", "box").code == 0
    assert podman.state()["Health"]["Status"] == "healthy"


NOTIFY = """\
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strcpy(to.sun_path, getenv("NOTIFY_SOCKET"));
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sendto(s, "READY=1", 7, 0, (struct sockaddr *)&to, sizeof to) != 7) return 1;
    return sleep(1000);
}
"""


def test_readiness_is_told_to_systemd(podman: Podman, tmp_path: Path) -> None:
    """podman binds a folder with a socket into the container, and hands on what comes."""
    (tmp_path / "notify.c").write_text(NOTIFY)
    compile_it = [require("gcc", "gcc"), "-static", "-o", tmp_path / "notify", tmp_path / "notify.c"]
    subprocess.run(compile_it, check=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{podman.folder}/systemd")
        systemd.settimeout(30)
        run = ["run", "-d", "--name", "box", "--net", "none", "--sdnotify", "container", "-v", f"{tmp_path}:/v:ro"]
        podman.output(
            "/usr/bin/env", f"NOTIFY_SOCKET={podman.folder}/systemd", *podman.client, *run, IMAGE, "/v/notify"
        )
        awaited = {b"READY=1", f"MAINPID={podman.state()['ConmonPid']}".encode()}
        while awaited:  # they come in any order
            awaited -= set(systemd.recv(4096).splitlines())
    (podman.folder / "systemd").unlink()


# Networks: netavark makes them before the runtime is called


SERVER = ["nc", "-ll", "-p", "80", "-e", "echo", "served"]


@pytest.fixture
def network(podman: Podman) -> Iterator[str]:
    podman.ok("network", "create", "--subnet", "10.6.0.0/24", "own")
    yield "own"
    podman.clear()
    podman.ok("network", "rm", "own")


def test_network_with_names_and_published_ports(podman: Podman, network: str) -> None:
    require("iptables", "iptables")
    podman.run("-p", "127.0.0.1:8070:80", "--ip", "10.6.0.77", args=SERVER, network=network)
    assert podman.in_box("ls /sys/class/net; hostname -i") == "eth0\nlo\n10.6.0.77"
    assert podman.shell("nc box 80", network=network) == "served"
    assert podman.output("busybox", "nc", "127.0.0.1", "8070") == "served"
    assert podman.ok("port", "box") == "80/tcp -> 127.0.0.1:8070"
    assert podman.shell("nc 127.0.0.1 80; hostname", network="container:box").startswith("served")


def test_network_of_the_host(podman: Podman) -> None:
    assert podman.shell("readlink /proc/self/ns/net", network="host") == os.readlink("/proc/self/ns/net")


# Pods


POD = ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"]


def test_pod(podman: Podman) -> None:
    podman.ok("pod", "create", "--name", "p", "--network", "none", "--hostname", "of-pod")
    for name in ("one", "two"):
        podman.ok("run", "-d", "--pod", "p", "--name", name, IMAGE, *POD)
    assert podman.ok("exec", "one", "hostname") == "of-pod"
    look = ["sh", "-c", "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done; ls -l /dev/shm >/dev/null"]
    assert podman.ok("exec", "one", *look) == podman.ok("exec", "two", *look)
    podman.ok("pod", "pause", "p")
    assert podman.state("two")["Status"] == "paused"
    podman.ok("pod", "unpause", "p")
    assert podman.state("two")["Status"] == "running"
    assert "two" in podman.ok("pod", "stats", "--no-stream", "p")
    podman.ok("pod", "kill", "p")
    eventually(lambda: podman.state("one")["Status"] == "exited")
    assert podman.state("one")["ExitCode"] == 137
    podman.ok("pod", "start", "p")
    podman.ok("pod", "stop", "--time", "20", "p")
    eventually(lambda: podman.state("one")["Status"] == "exited")
    podman.ok("pod", "rm", "--force", "p")
    assert podman.gone()


def test_pod_with_a_network_and_one_process_namespace(podman: Podman, network: str) -> None:
    podman.ok("pod", "create", "--name", "p", "--network", network, "--share", "net,pid", "-p", "127.0.0.1:8060:80")
    podman.ok("run", "-d", "--pod", "p", "--name", "server", IMAGE, *SERVER)
    assert "nc -ll" in podman.ok("run", "--rm", "--pod", "p", IMAGE, "sh", "-c", "nc 127.0.0.1 80; ps")
    assert podman.output("busybox", "nc", "127.0.0.1", "8060") == "served"


KUBE = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: k}}
spec:
  hostname: of-kube
  containers:
  - name: c
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, "echo $GREETING >>/shared/c; exec sleep 1000"]
    env: [{{name: GREETING, value: hello}}]
    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
    volumeMounts: [{{name: shared, mountPath: /shared}}]
    livenessProbe: {{exec: {{command: [test, -e, /shared/c]}}}}
  - name: d
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sleep, "1000"]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
    securityContext: {{readOnlyRootFilesystem: true, runAsUser: 1000, capabilities: {{drop: [ALL]}}}}
  volumes:
  - name: shared
    hostPath: {{path: FOLDER, type: Directory}}
"""


def test_kube(podman: Podman, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "k.yaml").write_text(KUBE.replace("FOLDER", str(tmp_path)))
    podman.ok("play", "kube", "--network", "none", tmp_path / "k.yaml")
    assert eventually(lambda: podman.ok("exec", "k-d", "cat", "/shared/c")) == "hello"
    assert podman.inspect("k-c")["HostConfig"]["Memory"] == 64 << 20
    look = f"id -u; touch /x 2>/dev/null || echo no; {CAPABILITIES}; hostname"
    assert podman.ok("exec", "k-d", "sh", "-c", look) == "1000\nno\n0000000000000000\nof-kube"
    assert podman("healthcheck", "run", "k-c").code == 0
    podman.ok("generate", "kube", "--filename", tmp_path / "again.yaml", "k")
    podman.ok("play", "kube", "--down", tmp_path / "k.yaml")
    assert podman.gone()
    # What podman has written of it makes the same pod again.
    podman.ok("play", "kube", "--network", "none", tmp_path / "again.yaml")
    names = podman.ok("ps", "--format", "{{.Names}}").split()
    assert sorted(podman.inspect(name)["HostConfig"]["Memory"] for name in names) == [0, 0, 64 << 20]
    podman.ok("play", "kube", "--down", tmp_path / "again.yaml")
