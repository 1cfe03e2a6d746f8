"""dockerd's networks on runc and on ocirt. dockerd attaches them by a prestart hook; each daemon has a host's network
of its own, so nothing is seen outside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from engines.engine import IMAGE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.docker import Docker

pytestmark = pytest.mark.root

SERVER = ["nc", "-ll", "-p", "80", "-e", "echo", "served"]


@pytest.fixture
def network(docker: Docker) -> Iterator[str]:
    """A bridge of the user's own."""
    docker.ok("network", "create", "--subnet", "10.9.0.0/24", "own")
    yield "own"
    docker.clear()
    docker.ok("network", "rm", "own")


def test_default_bridge(docker: Docker) -> None:
    docker.run(args=SERVER, network="bridge")
    address = docker.inspect()["NetworkSettings"]["IPAddress"]
    assert docker.in_box("ls /sys/class/net; hostname -i").split() == ["eth0", "lo", address]
    eventually(lambda: docker("run", "--rm", IMAGE, "nc", address, "80").out == "served\n")
    assert docker.in_network("busybox", "nc", address, "80") == "served"


def test_network_of_the_user_has_names(docker: Docker, network: str) -> None:
    docker.run("--network-alias", "alias", "--ip", "10.9.0.77", args=SERVER, network=network)
    assert docker.in_box("hostname -i; grep nameserver /etc/resolv.conf") == "10.9.0.77\nnameserver 127.0.0.11"
    for name in ("box", "alias", "10.9.0.77"):
        assert docker.shell(f"nc {name} 80", network=network) == "served"


def test_connected_and_disconnected_while_it_runs(docker: Docker, network: str) -> None:
    docker.run(network="bridge")
    look = "ls /sys/class/net"
    assert docker.in_box(look) == "eth0\nlo"
    docker.ok("network", "connect", network, "box")
    assert docker.in_box(look) == "eth0\neth1\nlo"
    docker.ok("network", "disconnect", "bridge", "box")
    assert docker.in_box(look) == "eth1\nlo"
    docker.ok("restart", "--time", "0", "box")
    assert docker.in_box(look) == "eth0\nlo"


def test_published_ports(docker: Docker) -> None:
    docker.run("-p", "127.0.0.1:8080:80", args=SERVER, network="bridge")
    assert docker.ok("port", "box") == "80/tcp -> 127.0.0.1:8080"
    eventually(lambda: docker.in_network("busybox", "nc", "127.0.0.1", "8080") == "served")
    docker.ok("restart", "--time", "0", "box")
    eventually(lambda: docker.in_network("busybox", "nc", "127.0.0.1", "8080") == "served")


def test_network_of_the_host(docker: Docker) -> None:
    inside = docker.shell("readlink /proc/self/ns/net; ls /sys/class/net | grep docker0", network="host")
    assert inside == f"{os.readlink(f'/proc/{docker.daemon.pid}/ns/net')}\ndocker0"


def test_network_of_a_container(docker: Docker) -> None:
    docker.run(args=SERVER, network="bridge")
    assert docker.shell("nc 127.0.0.1 80; hostname -i", network="container:box").split()[0] == "served"
