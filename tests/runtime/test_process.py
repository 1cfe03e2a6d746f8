"""run: the rarer properties of a process, as the container itself and the kernel show them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle, Runtime, command

pytestmark = pytest.mark.root

SHOW = r"""
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    struct { unsigned size, policy; unsigned long long flags; int nice; unsigned priority;
             unsigned long long runtime, deadline, period; unsigned min, max; } a = { 0 };
    unsigned long nodes[16] = { 0 };
    int mode = -1;
    syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
    printf("sched %u %llu %d %u %llu %llu %llu\n", a.policy, a.flags & 7, a.nice, a.priority, a.runtime, a.deadline,
           a.period);
    printf("ioprio %ld\n", syscall(SYS_ioprio_get, 1, 0));
    syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0);
    printf("memory %#x %#lx\n", mode, nodes[0]);
    return 0;
}
"""


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that prints its own scheduling, I/O priority and memory policy."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc here, as in the machines of tests/vm")
    source = tmp_path_factory.mktemp("show") / "show.c"
    source.write_text(SHOW)
    program = source.with_suffix("")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


def shown(runtime: Runtime, bundle: Bundle, show: Path) -> dict[str, str]:
    """What the program in the container says of itself."""
    (bundle.rootfs / "bin" / "show").write_bytes(show.read_bytes())
    (bundle.rootfs / "bin" / "show").chmod(0o755)
    done = runtime.sh(bundle, "exec /bin/show")
    assert (done.code, done.err) == (0, "")
    return dict(line.split(" ", 1) for line in done.out.splitlines())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_BATCH", "nice": 7}, "3 0 7 0"),
        ({"policy": "SCHED_OTHER", "nice": -5}, "0 0 -5 0"),
        ({"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "5 1 0 0"),
        ({"policy": "SCHED_FIFO", "priority": 42}, "1 0 0 42 0 0 0"),
        ({"policy": "SCHED_RR", "priority": 1, "flags": []}, "2 0 0 1"),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 20000000, "period": 40000000},
            "6 0 0 0 1000000 20000000 40000000",
        ),
    ],
    ids=lambda value: value.get("policy") if isinstance(value, dict) else "",
)
def test_a_scheduling_policy(
    runtime: Runtime, bundle: Bundle, show: Path, scheduler: dict[str, Any], expected: str
) -> None:
    (bundle.rootfs / "bin" / "show").write_bytes(show.read_bytes())
    (bundle.rootfs / "bin" / "show").chmod(0o755)
    bundle.config["process"] |= {"scheduler": scheduler, "args": ["/bin/show"]}
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, "scheduled")
    if "needs CAP_SYS_NICE, and on cgroup v1 a cpu.rt_runtime_us" in done.err:
        pytest.skip(f"this kernel refuses it: {done.err}")
    assert (done.code, done.err) == (0, "")
    assert f"sched {expected}" in done.out


def test_a_policy_that_no_kernel_has(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["scheduler"] = {"policy": "SCHED_ISO"}
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, "iso")
    assert done.code == 1
    assert "/process/scheduler: be scheduled by SCHED_ISO: Invalid argument (the kernel does not know" in done.err


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 7}, 2 << 13 | 7),
        ({"class": "IOPRIO_CLASS_RT", "priority": 0}, 1 << 13),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, 3 << 13),
    ],
    ids=lambda value: value.get("class") if isinstance(value, dict) else "",
)
def test_an_io_priority(runtime: Runtime, bundle: Bundle, show: Path, priority: dict[str, Any], expected: int) -> None:
    bundle.config["process"]["ioPriority"] = priority
    assert shown(runtime, bundle, show)["ioprio"] == str(expected)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "0x2 0x1"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "0x8003 0x1"),
        ({"mode": "MPOL_PREFERRED", "nodes": ""}, "0x4 0"),  # of no nodes: the kernel calls that local
        ({"mode": "MPOL_LOCAL"}, "0x4 0"),
        ({"mode": "MPOL_DEFAULT"}, "0 0"),
    ],
    ids=lambda value: value.get("mode") if isinstance(value, dict) else "",
)
def test_a_memory_policy(runtime: Runtime, bundle: Bundle, show: Path, policy: dict[str, Any], expected: str) -> None:
    bundle.config["linux"]["memoryPolicy"] = policy
    assert shown(runtime, bundle, show)["memory"] == expected


def test_memory_nodes_that_do_not_exist(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1000-1023"}
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, "nodes")
    assert done.code == 1
    assert "/linux/memoryPolicy: take memory by MPOL_BIND from the nodes 1000-1023: Invalid argument" in done.err


def test_a_personality(runtime: Runtime, bundle: Bundle) -> None:
    """uname(2) shows a 64-bit machine as its 32-bit one (x86: i686)."""
    bundle.config["linux"]["personality"] = {"domain": "LINUX32"}
    assert runtime.sh(bundle, "uname -m; cat /proc/self/personality").out == "i686\n00000008\n"
    bundle.config["linux"]["personality"] = {"domain": "LINUX", "flags": []}
    assert runtime.sh(bundle, "uname -m; cat /proc/self/personality").out == f"{os.uname().machine}\n00000000\n"


def test_an_oom_score_is_set_and_zero_is_one(runtime: Runtime, bundle: Bundle) -> None:
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    higher = min(ours + 300, 1000)
    bundle.config["process"]["oomScoreAdj"] = higher
    assert runtime.sh(bundle, "cat /proc/self/oom_score_adj").out == f"{higher}\n"
    del bundle.config["process"]["oomScoreAdj"]
    assert runtime.sh(bundle, "cat /proc/self/oom_score_adj").out == f"{ours}\n"
    raised = 'echo 7 > /proc/self/oom_score_adj && exec "$@"'
    bundle.config["process"]["oomScoreAdj"] = 0
    bundle.config["process"]["args"] = ["/bin/cat", "/proc/self/oom_score_adj"]
    bundle.write()
    words = ("--root", str(runtime.root), "run", "--bundle", str(bundle.path), "zero")
    done = command("/bin/sh", "-c", raised, "sh", OCIRT, *words)
    # What lowers it below where it was set without CAP_SYS_RESOURCE is refused, and 0 here was where it began.
    assert (done.out, done.err) == ("0\n", "")


def test_an_oom_score_that_may_not_be_set(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["oomScoreAdj"] = -1000
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, "low")
    if done.code == 0:
        pytest.skip("this host has CAP_SYS_RESOURCE")
    assert "/process/oomScoreAdj: set oom_score_adj to -1000: Permission denied" in done.err
    assert "CAP_SYS_RESOURCE" in done.err


def test_kernel_parameters_of_the_namespaces(runtime: Runtime, bundle: Bundle) -> None:
    """In both spellings; the host's stay as they are. /dev/mqueue is a mount of the default configuration."""
    here = {name: Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ip_forward", "kernel/shmmni")}
    bundle.config["linux"]["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/ping_group_range": "0 2147483647",
        "net.ipv4.conf.lo/.forwarding": "1" if Path("/proc/sys/net/ipv4/conf/lo.").exists() else "",
        "kernel/shmmni": "1234",
        "kernel.sem": "250 32000 32 129",
        "fs.mqueue.msg_max": "21",
        "kernel.domainname": "of.sysctl",
    }
    names = "net/ipv4/ip_forward net/ipv4/ping_group_range kernel/shmmni kernel/sem fs/mqueue/msg_max kernel/domainname"
    done = runtime.sh(bundle, f"cd /proc/sys; cat {names}")
    assert (done.err, done.code) == ("", 0)
    assert done.out.split("\n") == ["1", "0\t2147483647", "1234", "250\t32000\t32\t129", "21", "of.sysctl", ""]
    assert here == {name: Path(f"/proc/sys/{name}").read_text() for name in here}


MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def test_kernel_parameters_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    bundle.config["linux"] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    os.chmod(bundle.path, 0o755)
    for folder in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(folder, 100000, 100000, follow_symlinks=False)
    bundle.config["linux"]["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "kernel.domainname": "of.sysctl",
        "user.max_cgroup_namespaces": "7",
    }
    files = "net/ipv4/ip_forward kernel/domainname user/max_cgroup_namespaces"
    release = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if release >= (6, 11):
        bundle.config["linux"]["sysctl"] |= {"kernel.msgmax": "4321", "fs.mqueue.msg_max": "12"}
        files += " kernel/msgmax fs/mqueue/msg_max"
    done = runtime.sh(bundle, f"cd /proc/sys; cat {files}")
    assert (done.err, done.code) == ("", 0)
    assert done.out.split() == ["1", "of.sysctl", "7", "4321", "12"][: 3 if release < (6, 11) else 5]


def apparmor() -> bool:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text() == "Y\n"


@pytest.mark.skipif(not apparmor(), reason="this kernel has no AppArmor (tests/vm has)")
def test_an_apparmor_profile(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """The kernel's own words for it, and its effect: /etc/passwd may not be read."""
    profile = tmp_path / "profile"
    profile.write_text("profile ocirt-test flags=(attach_disconnected) {\n  file,\n  deny /etc/passwd r,\n}\n")
    subprocess.run(["apparmor_parser", "--replace", profile], check=True)
    try:
        bundle.config["process"]["apparmorProfile"] = "ocirt-test"
        done = runtime.sh(bundle, "cat /proc/self/attr/current; cat /etc/passwd")
        assert (done.code, done.out) == (1, "ocirt-test (enforce)\n")
        assert "Permission denied" in done.err
        bundle.config["process"]["apparmorProfile"] = "unconfined"
        assert runtime.sh(bundle, "cat /proc/self/attr/current").out == "unconfined\n"
    finally:
        subprocess.run(["apparmor_parser", "--remove", profile], check=True)
    bundle.config["process"]["apparmorProfile"] = "ocirt-test"
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/process/apparmorProfile: confine the program by the AppArmor profile ocirt-test" in done.err
    assert "no such profile is loaded" in done.err


@pytest.mark.skipif(apparmor(), reason="AppArmor is enabled")
@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_profile_without_apparmor(runtime: Runtime, bundle: Bundle, verb: str) -> None:
    bundle.config["process"]["apparmorProfile"] = "docker-default"
    bundle.write()
    done = runtime(verb, "--bundle", bundle.path, "confined")
    assert done.code == 1
    assert "/process/apparmorProfile: AppArmor is not enabled on this host" in done.err
    bundle.config["process"]["apparmorProfile"] = "unconfined"
    bundle.write()
    assert runtime("run", "--bundle", bundle.path, "free").code == 0


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="SELinux is enabled")
def test_a_label_without_selinux(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0"
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, "labelled")
    assert done.code == 1
    assert "/process/selinuxLabel: SELinux is not enabled on this host" in done.err


@pytest.mark.skipif(not Path("/sys/fs/selinux/enforce").exists(), reason="this kernel runs no SELinux")
def test_a_label_with_selinux(runtime: Runtime, bundle: Bundle) -> None:
    """Without a loaded policy the kernel takes any label, and all that it shows is its own."""
    for label in ("system_u:system_r:container_t:s0:c1,c2", "kernel"):
        bundle.config["process"]["selinuxLabel"] = label
        done = runtime.sh(bundle, "cat /proc/self/attr/current")
        assert (done.code, done.err) == (0, "")
        assert done.out.rstrip("\0\n") in ("kernel", label)
