"""linux.netDevices: real devices (veth pairs) go into containers, and come back when a creation fails.

Each test gets a network namespace of its own in the one of tests/isolate; what it runs, runs there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle, Done, Runtime, command

pytestmark = pytest.mark.root


class Host:
    """A network namespace that stands for the host's, held by a sleeping process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        while os.readlink(f"/proc/{self.process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.001)

    def __call__(self, *words: str | Path) -> Done:
        return command("/usr/bin/nsenter", "--net", "--target", str(self.process.pid), *words)

    def ip(self, words: str) -> str:
        done = self("/sbin/ip", *words.split())
        assert done.code == 0, done.err
        return done.out

    def devices(self) -> dict[str, dict[str, Any]]:
        return {one["ifname"]: one for one in json.loads(self.ip("-json address show"))}


class Networked(Runtime):
    """ocirt in that namespace."""

    def __init__(self, root: Path, host: Host) -> None:
        super().__init__(root)
        self.host = host

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        return self.host(OCIRT, "--root", self.root, *args)


@pytest.fixture
def host() -> Iterator[Host]:
    """With the veth va (up, addresses, a route) and its peer vb."""
    pytest.importorskip("pyroute2")
    host = Host()
    try:
        host.ip("link add name va type veth peer name vb")
        host.ip("link set va mtu 1400 up")
        host.ip("link set vb up")
        host.ip("address add 10.1.2.3/24 broadcast + dev va")
        host.ip("address add 10.1.2.4/24 dev va label va:x")
        host.ip("address add fd00::1/64 dev va nodad")
        host.ip("address add 169.254.7.7/16 scope link dev va")
        host.ip("address add 10.9.9.9/24 dev va valid_lft 100 preferred_lft 100")
        host.ip("route add 192.168.7.0/24 via 10.1.2.9 dev va")
        yield host
    finally:
        host.process.kill()
        host.process.wait()


@pytest.fixture
def networked(host: Host, tmp_path: Path) -> Iterator[Networked]:
    runtime = Networked(tmp_path / "state", host)
    yield runtime
    runtime("delete", "--force", "c")


def wanting(bundle: Bundle, devices: dict[str, Any]) -> Bundle:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.config["linux"]["netDevices"] = devices
    return bundle.write()


def create(runtime: Networked, bundle: Bundle, devices: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The devices of the container that is created."""
    done = runtime("create", "-b", wanting(bundle, devices).path, "c")
    assert (done.code, done.err) == (0, "")
    return inside(runtime.state("c")["pid"])


def inside(pid: int) -> dict[str, dict[str, Any]]:
    out = command("/usr/bin/nsenter", "--net", "--target", str(pid), "/sbin/ip", "-json", "address", "show").out
    return {one["ifname"]: one for one in json.loads(out)}


def locals_of(device: dict[str, Any], *, everything: bool = False) -> list[str]:
    """Its addresses, but those that IPv6 makes itself."""
    return [
        f"{one['local']}/{one['prefixlen']}"
        for one in device["addr_info"]
        if everything or not (one["family"] == "inet6" and one["scope"] == "link")
    ]


def test_a_device_is_in_the_container_with_its_permanent_global_addresses(
    networked: Networked, bundle: Bundle, host: Host
) -> None:
    hardware = host.devices()["va"]["address"]
    device = create(networked, bundle, {"va": {}})["va"]
    assert "va" not in host.devices()
    assert (device["mtu"], device["address"]) == (1400, hardware)
    assert "UP" in device["flags"]
    assert locals_of(device) == ["10.1.2.3/24", "10.1.2.4/24", "fd00::1/64"]
    assert device["addr_info"][0]["broadcast"] == "10.1.2.255"
    assert device["addr_info"][1]["label"] == "va:x"


def test_a_device_that_is_down_is_up_there(networked: Networked, bundle: Bundle, host: Host) -> None:
    host.ip("link set va down")
    assert "UP" in create(networked, bundle, {"va": {}})["va"]["flags"]


def test_it_gets_another_name(networked: Networked, bundle: Bundle, host: Host) -> None:
    devices = create(networked, bundle, {"va": {"name": "eth0"}, "vb": {"name": ""}})
    assert set(devices) == {"lo", "eth0", "vb"}
    assert [one.get("label") for one in devices["eth0"]["addr_info"][:2]] == ["eth0", "eth0:x"]
    assert set(host.devices()) == {"lo"}


def test_the_kernel_fills_in_a_template(networked: Networked, bundle: Bundle) -> None:
    devices = create(networked, bundle, {"va": {"name": "eth%d"}, "vb": {"name": "eth%d"}})
    assert set(devices) == {"lo", "eth0", "eth1"}
    assert locals_of(devices["eth0"])[0] == "10.1.2.3/24"


def test_a_number_that_is_taken_there_becomes_another(networked: Networked, bundle: Bundle, host: Host) -> None:
    """Each namespace counts its own; lo, which is 1 everywhere, cannot collide, so a joined namespace has to."""
    with_devices = Host()
    try:
        with_devices.ip("link add name x type veth peer name y")
        numbers = {one["ifindex"] for one in with_devices.devices().values()}
        assert host.devices()["va"]["ifindex"] in numbers
        path = f"/proc/{with_devices.process.pid}/ns/net"
        for one in bundle.config["linux"]["namespaces"]:
            if one["type"] == "network":
                one["path"] = path
        devices = create(networked, bundle, {"va": {}})
        assert set(devices) == {"lo", "x", "y", "va"}
        assert locals_of(devices["va"])[0] == "10.1.2.3/24"
    finally:
        with_devices.process.kill()
        with_devices.process.wait()


def test_a_name_that_is_taken_there_is_refused_before_anything_moves(
    networked: Networked, bundle: Bundle, host: Host
) -> None:
    there = Host()
    try:
        there.ip("link add name eth0 type veth peer name y")
        for one in bundle.config["linux"]["namespaces"]:
            if one["type"] == "network":
                one["path"] = f"/proc/{there.process.pid}/ns/net"
        done = networked("create", "-b", wanting(bundle, {"vb": {}, "va": {"name": "eth0"}}).path, "c")
        assert done.code == 1
        assert "/linux/netDevices/va: the container's network namespace has a device eth0 already" in done.err
        assert set(host.devices()) == {"lo", "va", "vb"}
        assert set(there.devices()) == {"lo", "eth0", "y"}
    finally:
        there.process.kill()
        there.process.wait()


def test_a_device_that_is_not_there_is_named(networked: Networked, bundle: Bundle, host: Host) -> None:
    done = networked("create", "-b", wanting(bundle, {"va": {}, "none": {}}).path, "c")
    assert done.code == 1
    assert "/linux/netDevices/none: there is no network device none" in done.err
    assert "va" in host.devices()


def test_a_device_that_cannot_move_is_named_and_the_others_are_back(
    networked: Networked, bundle: Bundle, host: Host
) -> None:
    host.ip("link add name vc type bridge")  # bound to its namespace
    before = host.devices()["va"]
    done = networked("create", "-b", wanting(bundle, {"va": {"name": "x"}, "vc": {}}).path, "c")
    assert done.code == 1
    assert "/linux/netDevices/vc: move vc into the container: Invalid argument (this kind of device belongs" in done.err
    same(before, host.devices()["va"])


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """All but what expires, and numbers."""
    for key in ("mtu", "address", "flags"):
        assert after[key] == before[key]
    expiring = {"10.9.9.9/24"}
    assert set(locals_of(after)) == set(locals_of(before)) - expiring
    assert {one.get("label") for one in before["addr_info"]} - {one.get("label") for one in after["addr_info"]} <= {
        "va"
    }


def test_a_later_failure_brings_the_device_back(networked: Networked, bundle: Bundle, host: Host) -> None:
    before = host.devices()["va"]
    bundle.config["process"]["cwd"] = "/etc/passwd"  # is found out by init, long after
    done = networked("create", "-b", wanting(bundle, {"va": {"name": "eth0"}}).path, "c")
    assert done.code == 1 and "/process/cwd" in done.err
    same(before, host.devices()["va"])
    assert "192.168.7.0/24 via 10.1.2.9 dev va" in host.ip("route")


def test_a_program_that_cannot_be_executed_brings_the_device_back(
    networked: Networked, bundle: Bundle, host: Host
) -> None:
    before = host.devices()["va"]
    (bundle.rootfs / "bin/broken").write_text("no program")
    (bundle.rootfs / "bin/broken").chmod(0o755)
    wanting(bundle, {"va": {"name": "eth0"}}).config["process"]["args"] = ["/bin/broken"]
    done = networked("run", "-b", bundle.write().path, "c")
    assert done.code == 1 and "exec" in done.err
    same(before, host.devices()["va"])


def test_after_a_creation_was_killed_delete_brings_back_what_is_there(
    networked: Networked, bundle: Bundle, host: Host
) -> None:
    """init is stopped, so that its namespace outlives the one who creates."""
    before = host.devices()["va"]
    wanting(bundle, {"va": {"name": "eth0"}})
    words = ["nsenter", "--net", f"--target={host.process.pid}", OCIRT, "--root", str(networked.root)]
    creating = subprocess.Popen([*words, "create", "--bundle", str(bundle.path), "c"], env={})
    state = networked.root / "c/state.json"
    try:
        until = time.monotonic() + 20
        pid = 0
        while not pid:
            assert time.monotonic() < until and creating.poll() is None
            if state.exists() and json.loads(state.read_text())["pid"]:
                pid = json.loads(state.read_text())["pid"]
                os.kill(pid, signal.SIGSTOP)
        while "va" in host.devices():
            assert time.monotonic() < until
        creating.kill()
        creating.wait()
        assert json.loads(state.read_text())["netDevices"][0]["name"] == "va"
        assert "eth0" in inside(pid)
        assert networked("delete", "--force", "c").code == 0
        same(before, host.devices()["va"])
    finally:
        creating.kill()
        creating.wait()


def test_nothing_is_brought_back_from_a_container_that_ends(networked: Networked, bundle: Bundle, host: Host) -> None:
    """The specification's word; what is hardware, the kernel brings back."""
    create(networked, bundle, {"va": {}})
    assert json.loads((networked.root / "c/state.json").read_text())["netDevices"] == []
    assert networked("delete", "--force", "c").code == 0
    until = time.monotonic() + 10
    while "vb" in host.devices():  # goes with its peer
        assert time.monotonic() < until
    assert set(host.devices()) == {"lo"}


def test_the_hosts_own_network_namespace_is_refused(networked: Networked, bundle: Bundle, host: Host) -> None:
    for one in bundle.config["linux"]["namespaces"]:
        if one["type"] == "network":
            one["path"] = f"/proc/{host.process.pid}/ns/net"
    done = networked("create", "-b", wanting(bundle, {"va": {}}).path, "c")
    assert done.code == 1
    assert "/linux/netDevices: the container's network namespace is the one that the devices are in" in done.err


def test_explain_says_what_will_be_moved(networked: Networked, bundle: Bundle, host: Host) -> None:
    done = networked("explain", wanting(bundle, {"va": {"name": "eth0"}}).path)
    assert "va → eth0, up" in done.out, done.err
    assert "va" in host.devices()


def test_a_device_that_a_neighbour_makes_meanwhile_is_not_taken_for_ours(host: Host) -> None:
    """It would be given the addresses, and on the way back the name, of the host's."""
    from pyroute2 import IPRoute
    from pyroute2.netns import setns

    from ocirt.host import netdevices

    host.ip("link add name other address 02:00:00:00:00:01 type bridge")
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        setns(f"/proc/{host.process.pid}/ns/net")
        devices = netdevices.NetDevices({"va": None}, ())
        devices._inside = IPRoute()
    finally:
        setns(own)
        os.close(own)
    devices._there = os.open("/dev/null", os.O_RDONLY)
    try:
        (record,) = devices.records
        assert record["kind"] == "veth"
        links = {one.get_attr("IFLA_IFNAME"): one["index"] for one in devices._inside.get_links()}
        assert devices._arrived(record, {*links.values()} - {links["other"]}) is None
        before = {*links.values()} - {links["other"], links["va"], links["vb"]}
        assert devices._arrived(record, before) == (links["va"], "va")
        # Not even one that looks like it from afar.
        host.ip(f"link set other address {record['hardware']}")
        assert devices._arrived(record, {*links.values()} - {links["other"]}) is None
    finally:
        devices.close()
