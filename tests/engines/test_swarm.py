"""A swarm of two dockerds on runc and on ocirt: each has a network namespace, and a cable leads from one to the other.

Tasks talk over an overlay network (VXLAN) by names. Ports of the swarm's mesh need IP_VS, which this kernel may not
have, so services publish none, or in the mode `host`.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from engines.docker import Docker
from engines.engine import IMAGE, RUNTIMES, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

ADDRESSES = ("10.8.0.1", "10.8.0.2")


class Swarm:
    """The manager, the worker, and what they run."""

    def __init__(self, nodes: list[Docker]) -> None:
        self.manager, self.worker = self.nodes = nodes

    def tasks(self) -> list[list[str]]:
        """The ids of the running containers on each node."""
        return [node.ok("ps", "--quiet").split() for node in self.nodes]

    def spread(self) -> list[int]:
        return [len(ids) for ids in self.tasks()]


def connect(nodes: list[Docker]) -> None:
    """A veth pair between the nodes."""
    first, second = (str(node.daemon.pid) for node in nodes)
    cable = ["type", "veth", "peer", "name", "cable", "netns", second]
    subprocess.run(["ip", "link", "add", "cable", "netns", first, *cable], check=True)
    for node, address in zip(nodes, ADDRESSES, strict=True):
        node.in_network("ip", "address", "add", f"{address}/24", "dev", "cable")
        node.in_network("ip", "link", "set", "cable", "up")


@pytest.fixture(scope="module", params=RUNTIMES)
def swarm(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Iterator[Swarm]:
    nodes = [Docker(workplace / f"swarm-{request.param}-{number}", request.param, image) for number in (1, 2)]
    connect(nodes)
    manager, worker = nodes
    manager.ok("swarm", "init", "--advertise-addr", ADDRESSES[0], "--listen-addr", f"{ADDRESSES[0]}:2377")
    token = manager.ok("swarm", "join-token", "--quiet", "worker")
    worker.ok("swarm", "join", "--token", token, "--advertise-addr", ADDRESSES[1], f"{ADDRESSES[0]}:2377")
    eventually(lambda: manager.ok("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * 2)
    yield Swarm(nodes)
    for node in (worker, manager):
        node.ok("swarm", "leave", "--force")
        node.end()


SERVICE = "--detach --no-resolve-image --endpoint-mode dnsrr --stop-grace-period 0s --restart-delay 100ms".split()


def test_service_over_two_nodes(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.ok("network", "create", "--driver", "overlay", "--subnet", "10.7.0.0/24", "between")
    port = ["--publish", "mode=host,published=8090,target=80"]
    serve = ["sh", "-c", "exec nc -ll -p 80 -e hostname"]
    flags = [*SERVICE, "--name", "web", "--replicas", "2", "--network", "between", "--hostname", "task-{{.Task.Slot}}"]
    manager.ok("service", "create", *flags, *port, "--limit-memory", "64m", "--env", "A=1", IMAGE, *serve)
    eventually(lambda: swarm.spread() == [1, 1])

    # Published on each node, and one task reaches the other by name.
    served = set()
    for node in swarm.nodes:
        served.add(eventually(lambda node=node: node.in_network("busybox", "nc", "127.0.0.1", "8090")))
    assert len(served) == 2
    [[here], [there]] = swarm.tasks()
    other = swarm.worker.ok("exec", there, "hostname", "-i")
    assert manager.ok("exec", here, "nc", other, "80") in served
    assert manager.inspect(here)["HostConfig"]["Memory"] == 64 << 20

    manager.ok("service", "update", "--detach", "--env-add", "A=2", "--update-parallelism", "0", "web")
    eventually(lambda: swarm.spread() == [1, 1] and _environments(swarm) == {"2"})

    # What dies comes again, as another container.
    [[died], _] = swarm.tasks()
    manager.ok("kill", died)
    eventually(lambda: swarm.spread() == [1, 1] and swarm.tasks()[0] != [died])
    manager.ok("service", "scale", "--detach", "web=1")
    eventually(lambda: sum(swarm.spread()) == 1)
    manager.ok("service", "rm", "web")
    eventually(lambda: swarm.spread() == [0, 0])
    manager.ok("network", "rm", "between")


def _environments(swarm: Swarm) -> set[str]:
    """What the tasks find in $A."""
    found = set()
    for node, ids in zip(swarm.nodes, swarm.tasks(), strict=True):
        found |= {node("exec", task, "sh", "-c", "echo $A").out.strip() for task in ids}
    return found
