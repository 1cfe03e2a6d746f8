"""Namespaces: new ones, joined ones, and the caller's own; user namespaces with maps; moved clocks."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Runtime, needs_kernel, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

FILES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}
FIRST = 100000


def shown(*kinds: str) -> str:
    return "cd /proc/self/ns; stat -c %N " + " ".join(FILES[kind] for kind in kinds)


def inode(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{FILES[kind]}")


needs_detached = needs_kernel(6, 15, "mounts on detached trees")


@pytest.fixture
def neighbour() -> Iterator[Callable[..., int]]:
    """Makes a process in new namespaces, by the options of unshare(1), and returns its pid."""
    running: list[subprocess.Popen[bytes]] = []

    def make(*options: str) -> int:
        running.append(subprocess.Popen(["unshare", "--kill-child", *options, "sleep", "600"]))
        pid = running[-1].pid
        until = time.monotonic() + 10
        while time.monotonic() < until:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text() == "sleep\n":
                return int(children[0])
            time.sleep(0.01)
        raise AssertionError("unshare has made no process")

    yield make
    for process in running:
        process.kill()
        process.wait()


def join(bundle: Bundle, pid: int | str, *kinds: str) -> None:
    namespaces = bundle.config["linux"]["namespaces"]
    for kind in kinds:
        path = f"/proc/{pid}/ns/{FILES[kind]}"
        entry = next((one for one in namespaces if one["type"] == kind), None)
        if entry is None:
            namespaces.append({"type": kind, "path": path})
        else:
            entry["path"] = path


def without(bundle: Bundle, *kinds: str) -> None:
    linux = bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in kinds]


def in_user_namespace(bundle: Bundle, **user: Any) -> None:
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    bundle.config["process"]["user"] |= user
    bundle.config["root"]["readonly"] = False
    for folder, folders, files in os.walk(bundle.rootfs):
        for name in [".", *folders, *files]:
            os.chown(os.path.join(folder, name), FIRST, FIRST, follow_symlinks=False)


# New ones


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "mount"])
def test_a_kind_that_is_not_listed_is_the_callers(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    without(bundle, kind)
    bundle.config.pop("hostname", None)
    done = runtime.sh(bundle, f"readlink /proc/self/ns/{FILES[kind]} || stat -c %N /proc/self/ns/{FILES[kind]}")
    assert inode("self", kind) in done.out, done.err


@pytest.mark.parametrize("kind", ["user", "time"])
def test_a_new_one_of_the_rarer_kinds(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    if kind == "user":
        in_user_namespace(bundle)
    else:
        bundle.config["linux"]["namespaces"].append({"type": "time"})
    done = runtime.sh(bundle, shown(kind))
    assert f"{kind}:[" in done.out, done.err
    assert inode("self", kind) not in done.out


def test_a_user_namespace_has_its_maps_its_root_and_all_namespaces_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle)
    bundle.config["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": FIRST, "size": 10},
        {"containerID": 10, "hostID": 7, "size": 1},
    ]
    done = runtime.sh(
        bundle,
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; touch /made; hostname;"
        " stat -c '%u %g' /dev/mqueue /dev/shm /dev/pts; echo x > /dev/null",
    )
    maps = f"0 {FIRST} 65536 0 {FIRST} 10 10 7 1"
    assert done.out.split() == [*maps.split(), "0", "0", "ocirt", *["0", "0"] * 3], done.err
    assert os.stat(bundle.rootfs / "made").st_uid == FIRST


def test_a_user_of_a_user_namespace_and_its_groups(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle, uid=1000, gid=1001, additionalGids=[5])
    done = runtime.sh(bundle, "grep -E '^(Uid|Gid|Groups)' /proc/self/status")
    assert done.out.split() == f"Uid: {'1000 ' * 4}Gid: {'1001 ' * 4}Groups: 5".split(), done.err


@pytest.mark.parametrize("pids", ["the host's", "joined"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_user_namespace_without_a_pid_namespace_of_its_own(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int], verb: str, pids: str
) -> None:
    """It cannot mount that pid namespace's procfs, which init needs for itself and for the kernel's parameters."""
    in_user_namespace(bundle)
    if pids == "joined":
        join(bundle, neighbour("--fork", "--pid"), "pid")
    else:
        without(bundle, "pid")
    config = bundle.config
    config["mounts"] = [one for one in config["mounts"] if one["type"] == "tmpfs"]
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = None
    config["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shm_rmid_forced": "1"}
    config["process"]["args"] = ["sleep", "600"]
    bundle.write()
    made = runtime(*(["create"] if verb == "create" else ["run", "--detach"]), "--bundle", bundle.path, "one")
    assert made.code == 0, made.err
    try:
        if verb == "create":
            started = runtime("start", "one")
            assert started.code == 0, started.err
        pid = runtime.state("one")["pid"]
        shown = ["nsenter", "--net", "--ipc", "--target", str(pid), "cat"]
        files = ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced"]
        assert subprocess.run([*shown, *files], check=True, capture_output=True).stdout == b"7\n1\n"
    finally:
        runtime("delete", "--force", "one")


def test_bind_sources_that_the_mapped_root_could_not_reach(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """CVE-free, but what runc and crun once failed at: the parents of a source are closed to the container's root."""
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    (closed / "data" / "file").write_text("reached\n")
    closed.chmod(0o700)
    in_user_namespace(bundle)
    bundle.config["mounts"] += [
        {"destination": "/data", "source": str(closed / "data"), "options": ["rbind", "ro"]},
        {"destination": "/one", "source": str(closed / "data" / "file"), "options": ["bind"]},
    ]
    done = runtime.sh(bundle, "cat /data/file /one; touch /data/file")
    assert done.out == "reached\nreached\n", done.err
    assert "Read-only" in done.err


def test_what_is_mounted_in_a_user_namespace_never_reaches_the_host(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    """A source on a shared mount: its copy must not be the host's peer."""
    shared = tmp_path / "shared"
    shared.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", shared], check=True)
    try:
        subprocess.run(["mount", "--make-shared", shared], check=True)
        (shared / "below").mkdir()
        in_user_namespace(bundle)
        bundle.config["mounts"].append({"destination": "/data", "source": str(shared), "options": ["rbind"]})
        bundle.config["mounts"].append({"destination": "/data/below", "type": "tmpfs"})
        done = runtime.sh(bundle, "grep -c /data/below /proc/self/mountinfo")
        assert done.out == "1\n", done.err
        assert "below" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", "-R", shared], check=True)


def test_a_root_that_the_user_namespace_does_not_map_is_explained(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle)
    for path in (bundle.rootfs, bundle.rootfs / "dev"):
        os.chown(path, 0, 0)
    bundle.config["mounts"] = [{"destination": "/new", "type": "tmpfs"}]
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/mounts/0: mount tmpfs on /new: Permission denied (owner and mode of what is on the way" in done.err


def test_a_map_that_does_not_fit_into_a_page_is_explained(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle)
    bundle.config["linux"]["uidMappings"] = [
        {"containerID": number, "hostID": FIRST + number, "size": 1} for number in range(340)
    ]
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/linux/uidMappings: write the id map: Invalid argument (the kernel takes a map of less than" in done.err


def test_a_file_system_that_the_user_namespace_may_not_mount(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle)
    bundle.config["mounts"] = [{"destination": "/tmp", "type": "devtmpfs"}]
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    words = "Operation not permitted (in a user namespace few file systems can be mounted"
    assert f"/mounts/0: mount devtmpfs on /tmp: {words}" in done.err


def test_message_queues_of_an_ipc_namespace_that_is_not_the_user_namespaces_are_the_hosts(
    runtime: Runtime, bundle: Bundle
) -> None:
    """If it shows them: engines mount it on /dev/mqueue always."""
    in_user_namespace(bundle)
    linux = bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "ipc"]
    bundle.config["mounts"] = [{"destination": "/tmp", "type": "mqueue"}]
    done = runtime.sh(bundle, "stat -c %i /tmp")
    if os.path.isdir("/dev/mqueue"):
        assert done.out.strip() == str(os.stat("/dev/mqueue").st_ino), done.err
    else:
        assert done.code == 1
        assert "/mounts/0: mqueue in a user namespace needs a new ipc namespace: take the host's /dev" in done.err


@pytest.mark.parametrize("verb", ["create", "run"])
def test_moved_clocks(runtime: Runtime, bundle: Bundle, verb: str) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {
        "boottime": {"secs": 10**7},
        "monotonic": {"secs": 86400, "nanosecs": 5},
    }
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "cat /proc/self/timens_offsets /proc/uptime"]
    bundle.write()
    if verb == "run":
        done = runtime("run", "--bundle", bundle.path, "one")
    else:
        with open(bundle.path / "out", "w") as out:
            made = runtime("create", "--bundle", bundle.path, "one", stdout=out)
            assert made.code == 0, made.err
            done = runtime("start", "one")
        while runtime.state("one")["status"] != "stopped":
            time.sleep(0.01)
        done.out = (bundle.path / "out").read_text()
        runtime("delete", "one")
    monotonic, boottime, uptime = done.out.splitlines()
    assert monotonic.split() == ["monotonic", "86400", "5"], done.err
    assert boottime.split() == ["boottime", "10000000", "0"]
    assert float(uptime.split()[0]) > 10**7


def test_a_clock_that_is_null_is_not_moved(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {"boottime": None, "monotonic": {"nanosecs": 5}}
    done = runtime.sh(bundle, "cat /proc/self/timens_offsets")
    assert [line.split() for line in done.out.splitlines()] == [["monotonic", "0", "5"], ["boottime", "0", "0"]], (
        done.err
    )


def test_a_clock_before_the_beginning_is_the_kernels_error_with_its_place(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {"monotonic": {"secs": -(10**12)}}
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/linux/timeOffsets/monotonic: move the clock monotonic -1000000000000 0: Numerical result" in done.err


# Joined ones


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_one_is_joined(runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int], kind: str) -> None:
    pid = neighbour("--fork", f"--{'net' if kind == 'network' else kind}")
    join(bundle, pid, kind)
    if kind == "uts":
        bundle.config.pop("hostname")
    done = runtime.sh(bundle, shown(kind))
    assert inode(pid, kind) in done.out, done.err
    assert inode(pid, kind) != inode("self", kind)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_all_at_once_as_a_pod_has_it(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int], verb: str
) -> None:
    pid = neighbour("--fork", "--pid", "--net", "--ipc", "--uts", "--cgroup")
    kinds = ("pid", "network", "ipc", "uts", "cgroup")
    join(bundle, pid, *kinds)
    bundle.config["process"]["args"] = ["sleep", "600"]
    bundle.write()
    if verb == "create":
        assert runtime("create", "--bundle", bundle.path, "one").code == 0
    else:
        assert runtime("run", "--detach", "--bundle", bundle.path, "one").code == 0
    try:
        first = runtime.state("one")["pid"]
        assert [inode(first, kind) for kind in kinds] == [inode(pid, kind) for kind in kinds]
        assert inode(first, "mount") != inode(pid, "mount")
    finally:
        assert runtime("delete", "--force", "one").code == 0
    assert first not in processes()  # at most a zombie, until its parent looks
    assert pid in processes()


def test_a_user_namespace_is_joined_with_what_it_owns(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int]
) -> None:
    pid = neighbour("--fork", "--user", "--net", "--ipc", "--uts")
    maps = f"0 {FIRST} 65536"
    Path(f"/proc/{pid}/gid_map").write_text(maps)
    Path(f"/proc/{pid}/uid_map").write_text(maps)
    in_user_namespace(bundle)
    join(bundle, pid, "user", "network", "ipc", "uts")
    done = runtime.sh(bundle, f"{shown('user', 'network', 'ipc')}; id -u; cat /proc/self/uid_map")
    for kind in ("user", "network", "ipc"):
        assert inode(pid, kind) in done.out, done.err
    assert done.out.split()[-4:] == ["0", *maps.split()]


def test_a_joined_user_namespace_beside_namespaces_of_the_hosts(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int]
) -> None:
    """/proc and /sys are the host's then, as with a new one."""
    pid = neighbour("--fork", "--user")
    for name in ("gid_map", "uid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST} 65536")
    in_user_namespace(bundle)
    join(bundle, pid, "user")
    linux = bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in ("pid", "network")]
    done = runtime.sh(bundle, "id -u; readlink /proc/self/ns/pid; ls -d /sys/class/net/lo; mkdir /sys/new")
    assert done.out.split() == ["0", os.readlink("/proc/self/ns/pid"), "/sys/class/net/lo"], done.err


def test_a_joined_user_namespace_and_a_cgroup_mount_without_a_cgroup_namespace(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int]
) -> None:
    """As containerd has it on cgroup v1. The mount is a copy of the host's folder, which has to be there by then."""
    pid = neighbour("--fork", "--user", "--net", "--ipc", "--uts")
    for name in ("gid_map", "uid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST} 65536")
    in_user_namespace(bundle)
    join(bundle, pid, "user", "network", "ipc", "uts")
    linux = bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "cgroup"]
    procs = "/sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs"
    done = runtime.sh(bundle, f"cat {procs} 2>/dev/null | grep -c ^1$")
    assert int(done.out) > 0, done.err


def test_a_user_namespace_that_forbids_setgroups_leaves_no_group_of_the_callers(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int]
) -> None:
    pid = neighbour("--fork", "--user", "--map-root-user")
    join(bundle, pid, "user")
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if one["type"] in ("proc", "tmpfs")]
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, "grep Groups /proc/self/status", extra_groups=[4242, 4243])
    assert done.out.split() == ["Groups:"], done.err


def test_the_callers_own_by_path_is_as_if_it_were_not_listed(runtime: Runtime, bundle: Bundle) -> None:
    join(bundle, "self", "network", "ipc", "uts", "user")
    bundle.config.pop("hostname")
    done = runtime.sh(bundle, shown("network", "ipc", "uts", "user"))
    for kind in ("network", "ipc", "uts", "user"):
        assert inode("self", kind) in done.out, done.err


def test_the_hosts_name_is_never_changed_through_its_own_namespace(runtime: Runtime, bundle: Bundle) -> None:
    before = os.uname().nodename
    join(bundle, "self", "uts")
    bundle.config["hostname"] = "not-the-hosts"
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/hostname: the joined uts namespace is the host's" in done.err
    assert os.uname().nodename == before


@pytest.mark.parametrize(
    ("kind", "path", "why"),
    [
        ("pid", "/proc/self/ns/net", "expected a pid namespace, /proc/self/ns/net is a network namespace"),
        ("network", "/dev/null", "expected a network namespace, /dev/null is something else"),
        ("ipc", "/etc/passwd", "expected a ipc namespace, /etc/passwd is something else"),
        ("uts", "/nowhere/ns", "/nowhere/ns: No such file or directory"),
        ("user", "/proc/self/ns", "expected a user namespace, /proc/self/ns is something else"),
    ],
)
def test_a_path_that_is_no_such_namespace_is_named(
    runtime: Runtime, bundle: Bundle, kind: str, path: str, why: str
) -> None:
    namespaces = bundle.config["linux"]["namespaces"]
    without(bundle, kind)
    namespaces = bundle.config["linux"]["namespaces"]
    namespaces.append({"type": kind, "path": path})
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert f"/linux/namespaces/{len(namespaces) - 1}/path: {why}" in done.err


# Without a mount namespace of its own


@needs_detached
def test_without_a_mount_namespace_the_host_sees_no_mount(runtime: Runtime, bundle: Bundle) -> None:
    without(bundle, "mount")
    bundle.config["mounts"].append({"destination": "/srv", "type": "tmpfs", "options": ["ro"]})
    before = Path("/proc/self/mountinfo").read_text()
    bundle.config["process"]["args"] = [
        "/bin/sh",
        "-c",
        "touch /dev/shm/a; ls /dev/shm /srv; touch /srv/x; exec sleep 600",
    ]
    bundle.write()
    out, err = bundle.path / "out", bundle.path / "err"
    with open(out, "w") as stdout, open(err, "w") as stderr:
        done = runtime("run", "--detach", "--bundle", bundle.path, "one", stdout=stdout, stderr=stderr)
    assert done.code == 0, err.read_text()
    try:
        pid = runtime.state("one")["pid"]
        until = time.monotonic() + 10
        while "sleep" not in Path(f"/proc/{pid}/comm").read_text() and time.monotonic() < until:
            time.sleep(0.01)
        assert inode(pid, "mount") == inode("self", "mount")
        assert Path("/proc/self/mountinfo").read_text() == before
        assert os.listdir(f"/proc/{pid}/root/dev/shm") == ["a"]
        assert out.read_text() == "/dev/shm:\na\n\n/srv:\n"
        assert "Read-only" in err.read_text()
    finally:
        assert runtime("delete", "--force", "one").code == 0
    assert Path("/proc/self/mountinfo").read_text() == before


@needs_detached
def test_there_is_no_way_out_of_the_detached_root(runtime: Runtime, bundle: Bundle) -> None:
    """What leaves a common chroot: a chroot below the working directory, then up."""
    without(bundle, "mount")
    bundle.config["root"]["readonly"] = False
    for name in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][name].append("CAP_SYS_CHROOT")
    (bundle.rootfs / "bin" / "chroot").symlink_to("busybox")
    (bundle.rootfs / "mark").write_text("inside")
    done = runtime.sh(
        bundle,
        "mkdir /deep && cd / && cat ../../../../mark && chroot /deep /../../bin/true; ls -d /proc/self/cwd/../..",
    )
    assert done.out.startswith("inside"), done.err


@needs_detached
def test_a_mount_namespace_is_joined_and_not_changed(
    runtime: Runtime, bundle: Bundle, neighbour: Callable[..., int]
) -> None:
    pid = neighbour("--fork", "--mount")
    before = Path(f"/proc/{pid}/mountinfo").read_text()
    root = os.readlink(f"/proc/{pid}/root")
    join(bundle, pid, "mount")
    done = runtime.sh(bundle, f"ls /; {shown('mount')}")
    assert inode(pid, "mount") in done.out, done.err
    assert "proc" in done.out.split()
    assert Path(f"/proc/{pid}/mountinfo").read_text() == before
    assert os.readlink(f"/proc/{pid}/root") == root


def test_a_user_namespace_needs_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    in_user_namespace(bundle)
    without(bundle, "mount")
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/linux/namespaces: a user namespace needs a mount namespace of its own" in done.err


@pytest.mark.skipif(not needs_detached.args[0], reason="this kernel can do it")
def test_an_older_kernel_is_named(runtime: Runtime, bundle: Bundle) -> None:
    without(bundle, "mount")
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "needs Linux 6.15" in done.err
