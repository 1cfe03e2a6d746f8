"""containerd's CRI, as kubelet uses it: one daemon with a handler for runc and one for ocirt, pods of each."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from engines.containerd import CGROUPS
from engines.cri.pods import EXITED, POD, RUNNING, Cri, Pod, processes
from engines.engine import RUNTIMES, eventually
from support import OCIRT, cgroup_folders

pytestmark = pytest.mark.root

LOOP = ("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
STUBBORN = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")


def test_the_daemon_is_ready(cri: Cri) -> None:
    assert cri.ask("Version").runtime_name == "containerd"
    conditions = {one.type: one.status for one in cri.ask("Status").status.conditions}
    assert conditions["RuntimeReady"]
    assert conditions["NetworkReady"]


def test_pods_of_both_handlers_side_by_side(cri: Cri, tmp_path: Path) -> None:
    pods = {}
    for handler in RUNTIMES:
        (tmp_path / handler).mkdir()
        pods[handler] = Pod(cri, handler, tmp_path / handler)
    try:
        assert {pods[handler].run("cat", "/data/file").out for handler in RUNTIMES} == {"of the image\n"}
        handlers = {one.id: one.runtime_handler for one in cri.ask("ListPodSandbox").items}
        assert {handler: handlers[pods[handler].id] for handler in RUNTIMES} == {name: name for name in RUNTIMES}
    finally:
        for one in pods.values():
            one.remove()


def test_a_handler_that_nobody_configured(cri: Cri, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError, match="no runtime for"):
        Pod(cri, "nobody", tmp_path)


def test_the_pod_runs_on_its_runtime(pod: Pod) -> None:
    """The handler's options name the program, in a message that ctr shows as it is; no options mean runc."""
    runtime = json.loads(pod.cri.ok("container", "info", pod.id))["Runtime"]
    options = base64.b64decode((runtime["Options"] or {}).get("value", ""))
    assert (OCIRT.encode() in options) == (pod.handler == "ocirt")


ENDS = {
    "true": (["true"], 0, "Completed"),
    "1": (["false"], 1, "Error"),
    "7": (["sh", "-c", "exit 7"], 7, "Error"),
    "killed": (["sh", "-c", "kill -9 $$"], 137, "Error"),
}


@pytest.mark.parametrize(("command", "code", "reason"), ENDS.values(), ids=ENDS)
def test_how_a_container_ends(pod: Pod, command: list[str], code: int, reason: str) -> None:
    ended = pod.run(*command)
    # pid 1 of a pid namespace cannot kill itself
    assert (ended.code, ended.reason) == ((0, "Completed") if "kill" in command[-1] else (code, reason))


REFUSED = {
    "not found": (["nothing"], r"executable file not found in \$PATH"),
    "no program": (["/etc/passwd"], "permission denied"),
    "directory": (["/etc"], "permission denied|is a directory"),  # the latter since runc 1.1.6
}


@pytest.mark.parametrize(("command", "error"), REFUSED.values(), ids=REFUSED)
def test_a_program_that_cannot_start(pod: Pod, command: list[str], error: str) -> None:
    name = pod.create(*command)
    with pytest.raises(grpc.RpcError) as caught:
        pod.cri.ask("StartContainer", container_id=name)
    assert re.search(error, caught.value.details())
    status = pod.status(name)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    assert re.search(error, status.message)


def test_stopped_in_time(pod: Pod) -> None:
    name = pod.start(*LOOP)
    eventually(lambda: pod.status(name).state == RUNNING)
    pod.cri.ask("StopContainer", container_id=name, timeout=60)
    assert pod.wait(name).code in (5, 143)  # 143: before the shell had its trap
    pod.cri.ask("StopContainer", container_id=name, timeout=60)  # nothing to do, no error


def test_killed_after_its_grace(pod: Pod) -> None:
    name = pod.start(*STUBBORN)
    began = time.monotonic()
    pod.cri.ask("StopContainer", container_id=name, timeout=1)
    assert time.monotonic() - began >= 1
    assert pod.wait(name)[:2] == (137, "Error")


def test_killed_for_want_of_memory(pod: Pod) -> None:
    resources = {"memory_limit_in_bytes": 16 << 20, "oom_score_adj": 1000}
    assert pod.run("tail", "/dev/zero", resources=resources)[:2] == (137, "OOMKilled")


def test_the_log(pod: Pod) -> None:
    ended = pod.run("sh", "-c", "echo out; echo err >&2; printf end")
    assert (ended.out, ended.err) == ("out\nend", "err\n")


def test_the_log_is_reopened(pod: Pod) -> None:
    """As kubelet rotates logs."""
    name = pod.start("sh", "-c", "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two")
    file = pod.logs / str(pod.number)
    eventually(lambda: pod.log(name)["stdout"] == "one\n")
    file.rename(pod.logs / "rotated")
    pod.cri.ask("ReopenContainerLog", container_id=name)
    pod.shell(name, "touch /tmp/go")
    assert pod.wait(name).out == "two\n"


def test_execs(pod: Pod) -> None:
    name = pod.start("sleep", "1000")
    done = pod.exec(name, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 9)
    assert pod.exec(name, "sh", "-c", "kill -9 $$").exit_code == 137


def test_exec_of_what_cannot_start(pod: Pod) -> None:
    name = pod.start("sleep", "1000")
    with pytest.raises(grpc.RpcError, match="executable file not found"):
        pod.exec(name, "nothing")
    assert pod.exec(name, "true").exit_code == 0


def test_exec_that_takes_too_long(pod: Pod) -> None:
    name = pod.start("sleep", "1000")
    with pytest.raises(grpc.RpcError) as caught:
        pod.exec(name, "sleep", "555", timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: "555" not in pod.shell(name, "ps"))


def test_two_hundred_execs_leave_nothing(pod: Pod) -> None:
    """As health checks: neither a zombie nor a descriptor, thread or process more, in the container or in its shim."""
    name = pod.start("sleep", "1000")
    shim = _parent(next(line for line in pod.cri.ok("task", "ls").splitlines() if line.startswith(name)).split()[1])
    inside = "ls /proc | grep -c '^[0-9]'; cat /proc/*/status | grep -c 'Z (zombie)' || true"

    def held() -> tuple[int, int, str]:
        children = [entry for entry in os.listdir("/proc") if entry.isdigit() and _parent(entry) == shim]
        return len(os.listdir(f"/proc/{shim}/fd")), len(children), pod.shell(name, inside)

    for _ in range(20):  # the shim and containerd come to what they need
        assert pod.exec(name, "true").exit_code == 0
    before = held()
    for _ in range(200):
        assert pod.exec(name, "true").exit_code == 0
    eventually(lambda: held() == before)


def _parent(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
    except OSError:  # it has ended
        return ""


def test_limits_and_their_update(pod: Pod) -> None:
    resources = {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "memory_limit_in_bytes": 64 << 20}
    name = pod.start("sleep", "1000", resources={**resources, "oom_score_adj": 900})
    files = {
        "cpu/{}/cpu.cfs_quota_us": ("50000", "20000"),
        "cpu/{}/cpu.cfs_period_us": ("100000", "100000"),
        "cpu/{}/cpu.shares": ("512", "256"),
        "cpuset/{}/cpuset.cpus": (_cpus(), "0"),
        "memory/{}/memory.limit_in_bytes": (str(64 << 20), str(32 << 20)),
    }

    def shown() -> dict[str, str]:
        return {file: Path(CGROUPS, file.format(f"k8s.io/{name}")).read_text().strip() for file in files}

    assert shown() == {file: old for file, (old, _) in files.items()}
    assert pod.shell(name, "cat /proc/1/oom_score_adj") == "900"
    new = {"cpu_quota": 20000, "cpu_shares": 256, "cpuset_cpus": "0", "memory_limit_in_bytes": 32 << 20}
    pod.cri.ask("UpdateContainerResources", container_id=name, linux=new)
    assert shown() == {file: new for file, (_, new) in files.items()}
    assert pod.shell(name, "head -c 4 /dev/zero | wc -c") == "4"  # the update's device rule was not applied


def _cpus() -> str:
    return Path(CGROUPS, "cpuset/cpuset.cpus").read_text().strip()


def test_an_update_that_cannot_be(pod: Pod) -> None:
    name = pod.start("sleep", "1000")
    with pytest.raises(grpc.RpcError):
        pod.cri.ask("UpdateContainerResources", container_id=name, linux={"cpuset_cpus": "4000"})
    assert pod.status(name).state == RUNNING


def test_statistics(pod: Pod) -> None:
    name = pod.start("sh", "-c", "while :; do :; done")

    def used() -> int:
        return int(pod.cri.ask("ContainerStats", container_id=name).stats.cpu.usage_core_nano_seconds.value)

    first = eventually(used)
    eventually(lambda: used() > first)
    assert pod.cri.ask("ContainerStats", container_id=name).stats.memory.working_set_bytes.value > 0


def test_twenty_containers_at_once(pod: Pod) -> None:
    names = [pod.create("sh", "-c", f"exit {number}") for number in range(20)]
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda name: pod.cri.ask("StartContainer", container_id=name), names))
    assert [pod.wait(name).code for name in names] == list(range(20))


def test_the_daemon_begins_again(pod: Pod) -> None:
    name = pod.start(*LOOP)
    pod.cri.end()
    pod.cri.start()
    assert eventually(lambda: pod.status(name)).state == RUNNING
    assert pod.shell(name, "echo hi") == "hi"
    pod.cri.ask("StopContainer", container_id=name, timeout=60)
    assert pod.wait(name).code == 5


def test_a_removed_pod_leaves_nothing(cri: Cri, handler: str, tmp_path: Path) -> None:
    def left() -> tuple[object, ...]:
        state = {str(path) for path in Path("/run/containerd").rglob("*") if "io.containerd.runtime" in str(path)}
        namespaces = set(Path("/run/netns").iterdir()) if Path("/run/netns").exists() else set()
        links = {line.split(":")[1] for line in _links()}
        mounts = {line.split(" ", 1)[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
        return cgroup_folders(), state, namespaces, links, len(mounts), len(processes(["sleep", "446"]))

    before = left()
    logs = tmp_path / f"{handler}-left"
    logs.mkdir()
    pod = Pod(cri, handler, logs, security={"namespace_options": {"network": POD}})
    pod.start("sleep", "446")
    pod.start(*STUBBORN)
    assert left() != before
    pod.remove()  # with containers that run
    eventually(lambda: left() == before)


def _links() -> list[str]:
    done = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
