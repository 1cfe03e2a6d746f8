"""dockerd on runc and on ocirt: what only docker has. The rest is in test_docker_like.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines.docker import Docker
from engines.engine import IMAGE, RUNTIMES, eventually, has_all_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"
INSIDE = {
    "working directory that is not there": (["-w", "/made/here"], "pwd", "/made/here"),
    "tmpfs": (["--mount", "type=tmpfs,dst=/data,tmpfs-size=1m"], "stat -f -c %T /data; ls /data", "tmpfs"),
    "init": (["--init"], "tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1", "/sbin/docker-init"),
    "cgroups of the host": (["--cgroupns", "host"], "grep -c docker /proc/self/cgroup >/dev/null && echo yes", "yes"),
    "masked": ([], "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l", "0\n0"),
    "no processes of its own": (["--pid", "host"], "test $$ != 1 && echo yes", "yes"),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(docker: Docker, flags: list[str], script: str, out: str) -> None:
    assert docker.shell(script, *flags).rstrip() == out


def test_what_the_kernel_refuses_is_the_runtimes_error(docker: Docker) -> None:
    done = docker("run", "--rm", "--net", "none", "--ulimit", "nofile=4294967290:4294967290", IMAGE, "true")
    assert (done.code, done.out) == (125, ""), done
    assert "operation not permitted" in done.err.lower()


def test_runtime_is_inspected(docker: Docker) -> None:
    docker.run()
    assert docker.inspect()["HostConfig"]["Runtime"] == "other"


def test_update(docker: Docker) -> None:
    docker.run()
    docker.ok("update", "--memory", "80m", "--memory-swap", "160m", "--cpus", "0.7", "--pids-limit", "60", "box")
    look = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max"
    assert docker.in_box(look) == "83886080\n70000\n60"
    docker.ok("update", "--restart", "no", "box")
    assert docker.in_box(look) == "83886080\n70000\n60"
    docker.ok("update", "--cpuset-cpus", "0", "--cpu-shares", "300", "box")
    assert docker.in_box("cd /sys/fs/cgroup; cat cpuset/cpuset.cpus cpu/cpu.shares") == "0\n300"


def test_privileged_exec(docker: Docker) -> None:
    docker.run()
    assert docker.in_box(CAPABILITIES) == "00000000a80425fb"
    if docker.runtime == "runc" and not has_all_capabilities():
        pytest.skip("runc 1.1 fails where the caller itself lacks capabilities; the specification wants a warning")
    assert int(docker.ok("exec", "--privileged", "box", "sh", "-c", CAPABILITIES), 16) > 0xA80425FB


# Health


def test_healthcheck(docker: Docker) -> None:
    health = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "1"]
    docker.run(*health)
    eventually(lambda: docker.state()["Health"]["Status"] == "unhealthy")
    docker.in_box("touch /tmp/well")
    eventually(lambda: docker.state()["Health"]["Status"] == "healthy")


SLACK = 10
"""What is there once and for all, such as descriptors that a shim keeps in stock, and not for each check."""


def _least(docker: Docker) -> dict[str, int]:
    """What would grow if a check left something, in the container and at its shim. The least of some looks, because
    checks go on meanwhile."""
    first = docker.state()["Pid"]
    shim = int(Path(f"/proc/{first}/stat").read_text().rsplit(")", 1)[1].split()[1])

    def look() -> dict[str, int]:
        inside = docker.in_box("ls -d /proc/[0-9]* | wc -l; grep -l 'State:.*Z' /proc/[0-9]*/status | wc -l").split()
        return {
            "processes": int(inside[0]),
            "zombies": int(inside[1]),
            "children of the shim": len(Path(f"/proc/{shim}/task/{shim}/children").read_text().split()),
            "files of the shim": len(os.listdir(f"/proc/{shim}/fd")),
            "files of the first process": len(os.listdir(f"/proc/{first}/fd")),
            "files of the runtime": sum(1 for _ in Path(docker.folder, "exec", "runtime-other").rglob("*")),
            "mounts": len(Path(f"/proc/{first}/mounts").read_text().splitlines()),
        }

    looks = [look() for _ in range(5)]
    return {name: min(one[name] for one in looks) for name in looks[0]}


def test_two_hundred_checks_in_a_row_leave_nothing(docker: Docker) -> None:
    """One after another, as fast as dockerd makes them."""
    docker.run("--health-cmd", "test -e /tmp/go || exit 0; echo >>/tmp/checks", "--health-interval", "2ms")
    before = _least(docker)
    docker.in_box("touch /tmp/go")
    count = 200 if docker.runtime == "ocirt" else 20
    eventually(lambda: int(docker.in_box("cat /tmp/checks 2>/dev/null | wc -l")) >= count, patience=120)
    assert docker.state()["Health"]["Status"] == "healthy"
    after = _least(docker)
    assert {name: number for name, number in after.items() if number > before[name] + SLACK} == {}


# Images


DOCKERFILE = f"""\
FROM {IMAGE}
ARG WHAT
ENV GREETING=hello
RUN echo "$GREETING $WHAT" >/greeting
COPY f /app/f
WORKDIR /app
RUN cat f >>/greeting; ls /sys/class/net | sort >>/greeting
USER 1000
CMD ["cat", "/greeting"]
"""


@pytest.mark.parametrize("builder", ["classic", "BuildKit"])
def test_build(docker: Docker, tmp_path: Path, builder: str) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "f").write_text("file\n")
    with_builder = ["/usr/bin/env", f"DOCKER_BUILDKIT={int(builder == 'BuildKit')}", *docker.client, "build"]
    docker.output(*with_builder, "--build-arg", "WHAT=world", "--no-cache", "--tag", "built", tmp_path)
    assert docker.ok("run", "--rm", "--net", "none", "built") == "hello world\nfile\neth0\nlo"
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo said; exit 7\n")
    done = docker.command(*with_builder, "--network", "none", "--no-cache", tmp_path)
    assert done.code != 0
    assert "7" in done.err


# Daemons with other settings


@pytest.fixture(params=RUNTIMES)
def restored(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Docker]:
    """A daemon that leaves its containers running."""
    one = Docker(workplace / f"live-{request.param}", request.param, image, "--live-restore", "--bridge", "none")
    yield one
    one.clear()
    one.end()


def test_the_daemon_begins_again(restored: Docker) -> None:
    restored.run(args=["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"])
    pid = restored.state()["Pid"]
    restored.end()
    assert Path(f"/proc/{pid}").exists()
    restored.start()
    assert (restored.state()["Status"], restored.state()["Pid"]) == ("running", pid)
    assert restored.in_box("echo hi") == "hi"
    restored.ok("stop", "--time", "20", "box")
    assert restored.state()["ExitCode"] == 5


@pytest.fixture(params=RUNTIMES)
def remapped(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Docker]:
    """A daemon whose containers have a user namespace: root is 300000 outside."""
    for name in ("subuid", "subgid"):
        own = workplace / name
        own.write_text("nobody:300000:65536\n")
        Path("/etc", name).touch()
        subprocess.run(["mount", "--bind", own, f"/etc/{name}"], check=True)
    flags = ["--userns-remap", "nobody:nogroup", "--bridge", "none"]
    one = Docker(workplace / f"remapped-{request.param}", request.param, image, *flags)
    yield one
    one.clear()
    one.end()
    for name in ("subuid", "subgid"):
        subprocess.run(["umount", f"/etc/{name}"], check=True)


def test_users_are_mapped(remapped: Docker) -> None:
    remapped.run()
    assert os.stat(f"/proc/{remapped.state()['Pid']}").st_uid == 300000
    look = "id -u; tr -s ' ' </proc/self/uid_map; stat -c %u:%g /data; touch /new && echo yes"
    assert remapped.in_box(look) == "0\n 0 300000 65536\n0:0\nyes"
    assert remapped.shell("id -u; mount -t tmpfs x /mnt 2>/dev/null || echo no", "--user", "1000") == "1000\nno"
    inside = remapped.shell("readlink /proc/self/ns/user; hostname", "--userns", "host", "--hostname", "h")
    assert inside == f"{os.readlink('/proc/self/ns/user')}\nh"
