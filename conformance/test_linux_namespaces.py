"""config-linux.md: "Namespaces"."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


NAMES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}


def link(name: str, pid: int | str = "self") -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


@pytest.mark.parametrize("kind", NAMES)
def test_a_namespace_that_is_listed_is_new(container: Container, kind: str) -> None:
    """config-linux.md, Namespaces: without a path the runtime MUST create a new one."""
    assert container.sleeping().create().code == 0
    assert link(NAMES[kind], container.state()["pid"]) != link(NAMES[kind])


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_a_namespace_that_is_not_listed_is_the_runtimes(container: Container, kind: str) -> None:
    """config-linux.md, Namespaces: the container MUST inherit the runtime namespace of that type."""
    container.linux["namespaces"] = [one for one in container.linux["namespaces"] if one["type"] != kind]
    if kind == "uts":
        container.config.pop("hostname")
    if kind == "network":  # sysfs can only be mounted by the owner of a new one, on some kernels
        container.config["mounts"] = [one for one in container.config["mounts"] if one["destination"] != "/sys"]
    assert container.sleeping().create().code == 0
    assert link(NAMES[kind], container.state()["pid"]) == link(NAMES[kind])


def test_a_type_that_is_there_twice_is_an_error(container: Container) -> None:
    """config-linux.md, Namespaces: a duplicated type MUST generate an error."""
    container.linux["namespaces"].append({"type": "uts"})
    assert container.run("true").code != 0


def test_an_unknown_type_is_an_error(container: Container) -> None:
    """config-linux.md, Namespaces: type is one of those that are listed."""
    container.linux["namespaces"].append({"type": "unknown"})
    assert container.run("true").code != 0


def test_the_first_process_has_pid_one(container: Container) -> None:
    """config-linux.md, Namespaces: pid: processes see only those of the container."""
    assert container.run("echo $$").out == "1\n"


def test_a_new_network_namespace_has_loopback_up(container: Container) -> None:
    """config-linux.md, Namespaces: network: a network stack of its own; runtimes bring lo up."""
    flags = int(container.run("cat /sys/class/net/lo/flags").out, 16)
    assert flags & 1
