"""The suite's programs about namespaces: a test has its program's name."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container import wait_until
from suite_container import fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from suite_container import SuiteContainer

pytestmark = pytest.mark.root

TYPES = {"cgroup": "cgroup", "ipc": "ipc", "mnt": "mount", "net": "network", "pid": "pid", "user": "user", "uts": "uts"}
"""The kernel's names → the specification's."""


def inode(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


@contextmanager
def unshared(name: str) -> Iterator[Path]:
    """The path of a new namespace: a process in it lives as long as the block."""
    option = {"mnt": "mount"}.get(name, name)
    process = subprocess.Popen(["unshare", f"--{option}", "--fork", "sleep", "60"], start_new_session=True)
    path = Path(f"/proc/{process.pid}/ns/{'pid_for_children' if name == 'pid' else name}")
    try:
        # A pid namespace has no path before its first process is there.
        wait_until(lambda: path.exists() and os.readlink(path) != inode("self", name))
        yield path
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def replace(container: SuiteContainer, name: str, path: str | None) -> None:
    """Give the namespace of this type a path, or none; add it if it is not there."""
    others = [one for one in container.linux["namespaces"] if one["type"] != TYPES[name]]
    container.linux["namespaces"] = [*others, {"type": TYPES[name], **({"path": path} if path else {})}]


def test_linux_ns_itype(container: SuiteContainer) -> None:
    """If a namespace type is not specified, the container MUST inherit the runtime's namespace of that type.

    The runtime gets a mount namespace for itself here, so that the mounts, which nothing hides then, go away with it.
    """
    container.linux["namespaces"] = []
    del container.config["hostname"]
    with unshared("mnt") as path:
        container.prefix = ["nsenter", f"--mount={path}"]
        container.created()
        pid = container.state()["pid"]
        expected = {**{name: inode("self", name) for name in TYPES}, "mnt": os.readlink(path)}
        assert {name: inode(pid, name) for name in TYPES} == expected
        assert container.delete("--force").code == 0


def test_linux_ns_nopath(container: SuiteContainer) -> None:
    """If path is not specified, the runtime MUST create a new namespace of that type."""
    for name in TYPES:
        replace(container, name, None)
    container.linux["uidMappings"] = container.linux["gidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 1000}]
    container.created()
    pid = container.state()["pid"]
    assert [name for name in TYPES if inode(pid, name) == inode("self", name)] == []


@pytest.mark.parametrize("name", ["ipc", "mnt", "net", "pid", "uts"])
def test_linux_ns_path(container: SuiteContainer, name: str) -> None:
    """The runtime MUST place the container process in the namespace that path names."""
    with unshared(name) as path:
        replace(container, name, str(path))
        container.created()
        assert inode(container.state()["pid"], name) == os.readlink(path)
        assert container.delete("--force").code == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cgroup", "ipc"),
        ("ipc", "mnt"),
        ("mnt", "net"),
        ("net", "pid"),
        ("pid", "user"),
        ("user", "uts"),
        ("uts", "cgroup"),
    ],
)
def test_linux_ns_path_type(make_container: Callable[[], SuiteContainer], name: str, wrong: str) -> None:
    """The runtime MUST generate an error if path is not associated with a namespace of this type."""
    container = make_container()
    replace(container, name, f"/proc/self/ns/{wrong}")
    assert fails(container.create())
    assert fails(container("state", container.id))
