"""run, create: what reaches the program from the caller: descriptors by LISTEN_FDS, groups, raised limits."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest
from support import OCIRT, Bundle, Runtime

pytestmark = pytest.mark.root
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
READ = "ls /proc/self/fd | grep -v '^[012]$' | tr '\\n' ' '; cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID"


def activated(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, *, pid: str = "$$", count: str = "2"
) -> tuple[str, str]:
    """(stdout, stderr) of `run` with two files as the descriptors 3 and 4, and one that leaked as 5."""
    for name in ("three", "four", "five"):
        (tmp_path / name).write_text(name + "\n")
    bundle.config["process"]["args"] = ["/bin/sh", "-c", READ]
    bundle.write()
    script = f'LISTEN_PID={pid} LISTEN_FDS={count} exec "$@" 3<three 4<four 5<five'
    words = (OCIRT, "--root", runtime.root, "run", "--bundle", bundle.path, "activated")
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, text=True, env={})
    return done.stdout, done.stderr


def test_descriptors_of_a_service_manager_reach_the_program(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """And no other. `ls` has one more open: the folder that it lists."""
    out, err = activated(runtime, bundle, tmp_path)
    assert (out, err) == ("3 4 5 three\nfour\n2 1\n", "")


def test_in_the_host_s_pid_namespace_the_program_has_its_own_pid(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
    out, err = activated(runtime, bundle, tmp_path)
    assert err == "" and out.startswith("3 4 5 three\nfour\n2 ")
    assert int(out.split()[-1]) > 1


@pytest.mark.parametrize("pid", ["1", "", "x"])
def test_those_for_another_process_do_not(runtime: Runtime, bundle: Bundle, tmp_path: Path, pid: str) -> None:
    bundle.config["process"]["env"] = ["PATH=/bin", "LISTEN_FDS="]
    out, _ = activated(runtime, bundle, tmp_path, pid=pid)
    assert out.startswith("3 ") and "three" not in out


@pytest.mark.parametrize("count", ["9", "x", "99999"])
def test_descriptors_that_are_not_there(runtime: Runtime, bundle: Bundle, tmp_path: Path, count: str) -> None:
    out, err = activated(runtime, bundle, tmp_path, count=count)
    assert out == "" and f"LISTEN_FDS={count} in the environment" in err


def test_created_containers_get_them_too(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "three").write_text("three\n")
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "cat <&3"]
    bundle.write()
    script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<three >out'
    words = (OCIRT, "--root", runtime.root, "create", "--bundle", bundle.path, "later")
    subprocess.run(["/bin/sh", "-c", script, "sh", *words], cwd=tmp_path, check=True, env={})
    assert runtime("start", "later").code == 0
    for _ in range(200):
        if runtime.state("later")["status"] == "stopped":
            break
    assert (tmp_path / "out").read_text() == "three\n"
    assert runtime("delete", "later").code == 0


@pytest.mark.parametrize("user_namespace", [False, True])
def test_the_caller_s_groups_stay_if_an_annotation_says_so(
    runtime: Runtime, bundle: Bundle, user_namespace: bool
) -> None:
    """podman's keep-groups. Without the annotation there are none but the configuration's."""
    kept = ["77", "88"]
    if user_namespace:
        bundle.config["linux"]["namespaces"].append({"type": "user"})
        bundle.config["linux"] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
        kept = ["65534", "65534"]
        for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
            os.chown(path, 100000, 100000, follow_symlinks=False)
    bundle.config["process"]["args"] = ["/bin/grep", "Groups", "/proc/self/status"]
    words = [OCIRT, "--root", runtime.root, "run", "--bundle", bundle.path, "groups"]
    for asked, expected in (({"run.oci.keep_original_groups": "1"}, kept), ({}, [])):
        bundle.config["annotations"] = asked
        bundle.write()
        done = subprocess.run(words, capture_output=True, text=True, env={}, extra_groups=[77, 88])
        assert done.stderr == ""
        assert done.stdout.split()[1:] == expected


def test_limits_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Lower ones init sets itself; to raise one needs the host, and there CAP_SYS_RESOURCE."""
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    bundle.config["linux"] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 70, "hard": 80}]
    assert runtime.sh(bundle, "ulimit -Sn; ulimit -Hn").out == "70\n80\n"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 70, "hard": hard + 1}]
    done = runtime.sh(bundle, "ulimit -Sn; ulimit -Hn")
    explained = runtime("explain", bundle.path).out
    assert f"prlimit PID RLIMIT_NOFILE ← {hard + 1}" in explained
    if done.code:
        assert f"/process/rlimits/0: raise RLIMIT_NOFILE to {hard + 1}: Operation not permitted" in done.err
        assert "CAP_SYS_RESOURCE" in done.err
    else:
        assert done.out == f"70\n{hard + 1}\n"


@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("soft", [0, 3, 4])
def test_a_limit_on_files_does_not_hinder_init(runtime: Runtime, bundle: Bundle, verb: str, soft: int) -> None:
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": 80}]
    bundle.config["process"]["args"] = ["/bin/busybox", "true"]
    bundle.write()
    done = runtime(verb, "--bundle", bundle.path, "few")
    assert (done.code, done.err) == (0, "")
    if verb == "create":
        done = runtime("start", "few")
        assert (done.code, done.err) == (0, "")
        assert runtime("delete", "--force", "few").code == 0
