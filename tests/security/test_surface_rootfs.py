"""Nothing of a root file system is read by its path on the host, and what is read of it cannot hold us up.

passwd comes as a descriptor that init has opened in the root; group is not read at all (CVE-2024-9676 of
containers/storage, CVE-2026-47262 of containerd: a FIFO, a device, a gigabyte). `ocirt` asks what kind of file it
is before it opens it.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import pytest
from runtime.life import wait_until
from security.watched import named, seen, watched, watching
from support import OCIRT, Bundle, Runtime

pytestmark = pytest.mark.root
KINDS = (
    "regular",
    "fifo",
    "zero",
    "sparse",
    "late",
    "link to the host",
    "link to itself",
    "link to proc",
    "folder",
    "socket",
)
MOST = 1 << 20


def put_passwd(path: Path, kind: str, host: Path) -> None:
    path.unlink()
    if kind == "regular":
        path.write_text("root:x:0:0::/home/of/root:/bin/sh\n")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    elif kind == "late":  # what is said too late is not read
        path.write_text("#" * MOST + "\nroot:x:0:0::/home/late:/bin/sh\n")
    elif kind.startswith("link"):
        place = {"host": str(host / "passwd"), "itself": path.name, "proc": "/proc/self/fd/0"}[kind.split()[-1]]
        path.symlink_to(place)
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(path.parent)  # an address has 108 characters
            one.bind(path.name)
            os.chdir(here)


@pytest.mark.parametrize("kind", KINDS)
def test_cve_2024_9676_a_passwd_of_any_kind_is_not_waited_for_and_not_read_to_its_end(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    """Without the question for its kind in host/passwd.py, home_of: a FIFO is read as empty (O_NONBLOCK), and of
    /dev/zero a megabyte; without O_NONBLOCK too, it hangs. Without MAX_SIZE HOME is what a line behind the first
    megabyte says. The
    link to the host has the host's HOME without RESOLVE_IN_ROOT (plan/paths.py) and `verify`."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "passwd").write_text("root:x:0:0::/home/of/the/host:/bin/sh\n")
    put_passwd(bundle.rootfs / "etc/passwd", kind, host)
    put_passwd(bundle.rootfs / "etc/group", kind, host)
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "echo $HOME"]
    bundle.write()
    words = (OCIRT, "--root", runtime.root, "run", "-b", bundle.path, "c")
    done, calls = watched(tmp_path / "strace", *words, calls="openat,openat2,read,pread64,readv,mmap", timeout=60)
    home = "/home/of/root" if kind == "regular" else "/"
    assert (done.code, done.out) == (0, f"{home}\n"), done.err
    opened = [rest for call, rest in calls if call == "openat2" and '"etc/passwd"' in rest]
    assert len(opened) == 1
    assert "O_PATH" in opened[0] and "RESOLVE_IN_ROOT" in opened[0]
    assert [rest for call, rest in calls if call[:4] == "open" and ("etc/group" in rest or "/etc/passwd" in rest)] == []
    again = [rest for call, rest in calls if call == "openat" and re.search(r'"/proc/self/fd/\d+", O_RDONLY', rest)]
    regular = kind in ("regular", "sparse", "late")
    assert bool(again) == regular
    assert all("O_NONBLOCK" in rest for rest in again)
    sizes = [int(match[1]) for call, rest in calls if (match := re.search(r"= (\d+)$", rest)) and call == "read"]
    assert max(sizes) <= MOST
    assert sum(sizes) <= 2 * MOST


def test_nothing_of_the_root_is_named_by_its_path_on_the_host(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """In a container's whole life, with hooks, devices, masks, a tmpfs that is filled, and a mount point that is
    made. The root itself is named: to open it."""
    config = bundle.config
    config["root"]["readonly"] = False
    config["process"]["cwd"] = "/new/folder"
    config["mounts"] += [
        {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]},
        {
            "destination": "/mnt/new/file",
            "type": "bind",
            "source": str(bundle.path / "config.json"),
            "options": ["bind"],
        },
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]},
    ]
    config["linux"]["devices"] = [{"path": "/dev/x/y", "type": "c", "major": 1, "minor": 3, "uid": 5, "gid": 6}]
    config["linux"]["maskedPaths"] += ["/root", "/bin/busybox.masked"]
    config["linux"]["readonlyPaths"] += ["/bin"]
    config["hooks"] = {name: [{"path": "/bin/true"}] for name in ("createRuntime", "createContainer", "startContainer")}
    config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    start = (OCIRT, "--root", runtime.root)
    every = []
    with watching(tmp_path / "create", *start, "create", "-b", bundle.path, "c"):
        try:
            wait_until(lambda: runtime("state", "c").code == 0 and runtime.state("c")["status"] == "created")
            for words in (
                ("start", "c"),
                ("state", "c"),
                ("exec", "--cwd", "/bin", "c", "true"),
                ("ps", "--format", "json", "c"),
                ("kill", "c", "KILL"),
                ("delete", "--force", "c"),
            ):
                done, calls = watched(tmp_path / "strace", *start, *words)
                assert done.code == 0, (words, done)
                every += named(calls)
        finally:
            runtime("delete", "--force", "c")
    every += named(seen(tmp_path / "create"))
    root = str(bundle.rootfs)
    below = [(call, path) for call, path in every if path.startswith(f"{root}/") or f"{root}/" in path]
    assert below == []
    assert root in {path for _, path in every}
