"""What works against a container's creation from elsewhere: neighbours in its namespaces, who changes its files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.test_copyup import user_namespace
from runtime.test_mounts import bind, refused, tmpfs
from runtime.test_namespaces import FIRST, in_user_namespace, join, neighbour  # noqa: F401  (a fixture)
from support import Bundle, Runtime, tree_of

from ocirt.errors import KernelError
from ocirt.host.copyup import Owners, _Copy

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

TRACER = """
import ctypes, os, time
PTRACE_SEIZE = 0x4206
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
seized, first, until = set(), os.getpid() + 1, time.monotonic() + 6
print(flush=True)
while time.monotonic() < until:
    for pid in set(range(first, first + 40)) - seized:
        if not ptrace(PTRACE_SEIZE, pid, 0, 0):
            seized.add(pid)
            try:
                print(os.readlink(f"/proc/{pid}/exe"), os.listdir(f"/proc/{pid}/root"), flush=True)
            except OSError:
                continue  # it ends just now
"""


@pytest.mark.parametrize("first", [FIRST, 0])
def test_a_neighbour_cannot_trace_init(
    runtime: Runtime,
    bundle: Bundle,
    neighbour: Callable[..., int],  # noqa: F811
    first: int,
) -> None:
    """It is all-powerful in the user and pid namespaces that the container joins, and waits for init: which is the
    host's root there, in the host's mounts, until it has its own."""
    pid = neighbour("--fork", "--pid", "--user", "--mount", "--mount-proc")
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {first} 65536")
    in_user_namespace(bundle)
    for parent in bundle.rootfs.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    for name in ("uidMappings", "gidMappings"):
        del bundle.config["linux"][name]
    join(bundle, pid, "user", "pid")
    enter = ("nsenter", "--target", str(pid), "--user", "--pid", "--mount")
    with subprocess.Popen([*enter, sys.executable, "-c", TRACER], stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout
        tracer.stdout.readline()
        for number in range(8):
            done = runtime.sh(bundle, "echo hello", f"run-{number}")
            assert (done.code, done.out) == (0, "hello\n"), done.err
        found = tracer.stdout.read()
    assert tracer.returncode == 0
    assert "ocirt-init" not in found


def test_a_fifo_that_nobody_reads_as_a_hooks_output(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(tmp_path / "fifo")}
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    refused(runtime.sh(bundle, "true", timeout=10), "/annotations/run.oci.hooks.stdout: open ", "No such device")


# What the image's symlinks make of the host's rights


@pytest.fixture
def hosts(bundle: Bundle, tmp_path: Path) -> Path:
    """A folder of the host's root that is mounted at /host, in a container with a user namespace."""
    user_namespace(bundle)
    folder = tmp_path / "hosts"
    folder.mkdir()
    folder.chmod(0o755)
    bind(bundle, folder, "/host")
    return folder


@pytest.mark.parametrize("name", ["file", "folder/file"])
def test_nothing_is_copied_that_the_container_could_not_read(
    runtime: Runtime, bundle: Bundle, hosts: Path, name: str
) -> None:
    (hosts / name).parent.mkdir(exist_ok=True)
    (hosts / name).write_text("secret")
    secret = hosts / name.split("/")[0]
    secret.chmod(secret.stat().st_mode & ~0o007)
    (bundle.rootfs / "run").symlink_to("/host")
    tmpfs(bundle, "/run", "tmpcopyup")
    refused(runtime.sh(bundle, "true"), "/mounts/8: copy ", "Permission denied (its owner is not mapped")


def test_nothing_is_copied_of_a_folder_that_the_container_could_not_list(
    runtime: Runtime, bundle: Bundle, hosts: Path
) -> None:
    hosts.chmod(0o711)
    (bundle.rootfs / "run").symlink_to("/host")
    tmpfs(bundle, "/run", "tmpcopyup")
    refused(runtime.sh(bundle, "true"), "/mounts/8: ", "Permission denied")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_no_destination_is_made_where_the_container_could_not(
    runtime: Runtime, bundle: Bundle, hosts: Path, tmp_path: Path, kind: str
) -> None:
    """A file of the container's root in a folder of the host's: in /etc, that could be one that means much."""
    source = tmp_path / "source"
    source.mkdir() if kind == "directory" else source.touch()
    (bundle.rootfs / "data").symlink_to("/host/made")
    bind(bundle, source, "/data")
    before = tree_of(hosts)
    refused(runtime.sh(bundle, "true"), "/mounts/8: make the destination /data: Permission denied")
    assert tree_of(hosts) == before
    hosts.chmod(0o777)  # but where it could
    done = runtime.sh(bundle, "true")
    assert done.code == 0, done.err
    assert (hosts / "made").stat().st_uid == 100000


@pytest.mark.parametrize("link", ["proc", "proc/1", "sys/kernel", "x"])
def test_the_kernels_own_files_are_not_copied(runtime: Runtime, bundle: Bundle, link: str) -> None:
    """/proc/kcore is the host's memory, and what reading does in /sys is for drivers to say."""
    if link == "x":
        bundle.config["mounts"].append({"destination": "/x/y/proc", "type": "proc", "source": "proc"})
    (bundle.rootfs / "run").symlink_to(link)
    tmpfs(bundle, "/run", "tmpcopyup")
    kind = "sysfs" if link == "sys/kernel" else "proc"
    refused(runtime.sh(bundle, "true"), "into the tmpfs: ", f"it is in a {kind} file system")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFLNK])
def test_what_takes_a_files_place_is_not_opened(tmp_path: Path, kind: int) -> None:
    """There is no such device: to open it would be an error of the kernel's."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    listed = tmp_path / "source/file"
    listed.write_text("x")
    status = listed.stat()
    listed.unlink()
    if kind == stat.S_IFLNK:
        listed.symlink_to("/dev/zero")
    else:
        os.mknod(listed, kind | 0o666, os.makedev(239, 239))
    source, target = (os.open(tmp_path / name, os.O_RDONLY) for name in ("source", "target"))
    try:
        with pytest.raises(KernelError, match="it was replaced meanwhile"):
            _Copy(Owners(os.getpid()), source, target)._opened("file", source, target, status, lambda *_: None)
    finally:
        os.close(source)
        os.close(target)
    assert os.listdir(tmp_path / "target") == []
