"""linux.netDevices: network devices of the host that are moved into the container's network namespace (config-linux.md,
"Network Devices"), and back if the container's creation fails.

Moving takes a device's addresses and the routes through it away (the kernel's dev_change_net_namespace), so they are
noted beforehand. This module, and pyroute2, which takes a tenth of a second, are imported only for a configuration
that has such devices.
"""

from __future__ import annotations

import posix
from errno import EBUSY, EEXIST, EINVAL, ENODEV, EPERM

from ocirt.errors import ConfigError, Error, KernelError, UnsupportedError, from_os_error

try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netns import setns
except ImportError:
    raise UnsupportedError(
        "network devices need the Python package pyroute2", pointer="/linux/netDevices", hint="pip install pyroute2"
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any

POINTER = "/linux/netDevices"
IFF_UP, IFF_LOOPBACK = 1, 8
IFA_F_PERMANENT = 0x80
IFA_F_KEPT = 0x702
"""What is the user's of an address's flags: NODAD, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN (linux/if_addr.h)."""
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTPROT_KERNEL = 2
AF_INET, AF_INET6 = 2, 10
_HINTS = {
    EINVAL: "this kind of device belongs to its network namespace for good",
    EPERM: "moving network devices needs CAP_NET_ADMIN: are you root?",
    EBUSY: "something holds it: is it part of a bridge or bond?",
    EEXIST: "the container has a device of this name",
}

Record = dict[str, "Any"]
"""A device as the state keeps it: name and index here, name there, hardware address, kind, up, addresses, routes."""


class NetDevices:
    """The devices of one configuration, on their way."""

    def __init__(self, wanted: dict[str, Any], shared: Container[str]) -> None:
        """Look at them. shared: kinds of namespaces that the container has in common with us. Raises ConfigError."""
        if "network" in shared:
            raise ConfigError(
                "the container's network namespace is the one that the devices are in",
                pointer=POINTER,
                hint="give it another one",
            )
        self.records: list[Record] = []
        self._inside: IPRoute | None = None
        self._moved: list[tuple[Record, set[int]]] = []
        self._host = IPRoute()
        try:
            for name, device in wanted.items():
                self.records.append(_look(self._host, name, (device or {}).get("name") or name))
        except BaseException:
            self.close()
            raise

    def enter(self, pid: int) -> None:
        """Look into the container's namespace. It stays alive while we do, whatever becomes of its processes.

        Raises ConfigError for a name that is taken there.
        """
        try:
            self._there = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, "open the container's network namespace", pointer=POINTER) from None
        self._inside = _within(self._there)
        names = {one.get_attr("IFLA_IFNAME") for one in self._inside.get_links()}
        for record in self.records:
            if record["target"] in names:
                raise ConfigError(
                    f"the container's network namespace has a device {record['target']} already",
                    pointer=_pointer(record["name"]),
                    hint='"name" gives it another name there, also one such as "eth%d"',
                )

    def move(self) -> None:
        """Raises KernelError. What has been moved by then, `back` brings back."""
        for record in self.records:
            try:
                self._move(record)
            except NetlinkError as error:
                raise _failure(error, record, f"move {record['name']} into the container") from None

    def _move(self, record: Record) -> None:
        inside = self._inside
        assert inside
        before = {one["index"] for one in inside.get_links()}
        self._moved.append((record, before))  # first: nothing may come between the two
        self._host.link("set", index=record["index"], net_ns_fd=self._there, ifname=record["target"])
        found = self._arrived(record, before)
        if found is None:
            raise NetlinkError(ENODEV)
        index, name = found
        for address in record["addresses"]:
            if address["scope"] == RT_SCOPE_UNIVERSE:
                _add_address(inside, index, name, address, record["name"])
        inside.link("set", index=index, state="up")

    def _arrived(self, record: Record, before: set[int]) -> tuple[int, str] | None:
        """The number and the name that it has there. It keeps its number only if that is free, and who shares the
        namespace may make devices, too."""
        assert self._inside
        for one in self._inside.get_links():
            if one["index"] not in before and _is(one, record):
                return one["index"], one.get_attr("IFLA_IFNAME")
        return None

    def back(self) -> None:
        """Bring back what was moved, with its name, its addresses and the routes through it. Raises KernelError for
        the first that cannot be brought back, after having tried all."""
        failed: Error | None = None
        while self._moved:
            record, before = self._moved.pop()
            found = self._arrived(record, before)
            if found is None:
                continue  # it did not get there
            assert self._inside
            try:
                _bring_back(self._inside, found[0], self._host, record)
            except NetlinkError as error:
                failed = failed or _failure(error, record, f"bring {record['name']} back from the container")
        if failed:
            raise failed

    def close(self) -> None:
        self._host.close()
        if self._inside:
            self._inside.close()
            self._inside = None
            posix.close(self._there)


def recover(records: Sequence[Record], pid: int) -> None:
    """After a creation that was killed: bring back what is in the namespace of the process `pid` (0: it is gone, and
    the kernel has brought back what is hardware, under the name that it had there). Raises KernelError."""
    with IPRoute() as host:
        here = {one.get_attr("IFLA_IFNAME") for one in host.get_links()}
        lost = [record for record in records if record["name"] not in here]
        if pid and lost:
            there = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                with _within(there) as inside:
                    _recover(inside, host, lost)
            finally:
                posix.close(there)
        elif lost:
            _recover(host, host, lost)


def _recover(inside: IPRoute, host: IPRoute, lost: Sequence[Record]) -> None:
    links = inside.get_links()
    for record in lost:
        # Beside those of the host, only what is hardware itself.
        found = [one["index"] for one in links if _is(one, record) and not (inside is host and record["kind"])]
        if not found:
            continue  # a virtual device goes with its namespace
        try:
            _bring_back(inside, found[0], host, record)
        except NetlinkError as error:
            raise _failure(error, record, f"bring {record['name']} back") from None


def _is(link: Any, record: Record) -> bool:
    """By hardware address and kind: a VLAN on a device has the same address."""
    return bool(link.get_attr("IFLA_ADDRESS") == record["hardware"] and _kind(link) == record["kind"])


def _kind(link: Any) -> str:
    """Such as "veth" and "vlan"; "" for what is hardware."""
    info = link.get_attr("IFLA_LINKINFO")
    return (info.get_attr("IFLA_INFO_KIND") or "") if info else ""


def _bring_back(inside: IPRoute, index: int, host: IPRoute, record: Record) -> None:
    """Give a device its old name and place, and what it lost by moving. Raises NetlinkError."""
    inside.link("set", index=index, state="down")  # one that is up cannot be renamed before Linux 6.2
    if inside is host:
        host.link("set", index=index, ifname=record["name"])
    else:
        own = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            inside.link("set", index=index, net_ns_fd=own, ifname=record["name"])
        finally:
            posix.close(own)
    index = host.link_lookup(ifname=record["name"])[0]
    if record["up"]:
        host.link("set", index=index, state="up")
    for address in record["addresses"]:
        _add_address(host, index, record["name"], address, record["name"])
    for route in record["routes"]:
        _add_route(host, index, route)


def _look(host: IPRoute, name: str, target: str) -> Record:
    found = [one for one in host.get_links() if one.get_attr("IFLA_IFNAME") == name]
    if not found:
        raise ConfigError(f"there is no network device {name}", pointer=_pointer(name), hint="`ip link` lists them")
    link = found[0]
    if link["flags"] & IFF_LOOPBACK:
        raise ConfigError(f"{name} is a loopback device: it cannot be moved", pointer=_pointer(name))
    index = link["index"]
    addresses = []
    for one in host.get_addr(index=index):
        flags = one.get_attr("IFA_FLAGS") or one["flags"]
        if flags & IFA_F_PERMANENT and not (one["family"] == AF_INET6 and one["scope"] == RT_SCOPE_LINK):
            words = {key: one.get_attr(f"IFA_{key.upper()}") for key in ("address", "local", "broadcast", "label")}
            addresses.append(
                {
                    "family": one["family"],
                    "prefixlen": one["prefixlen"],
                    "scope": one["scope"],
                    "flags": flags & IFA_F_KEPT,
                    **{key: value for key, value in words.items() if value is not None},
                }
            )
    return {
        "name": name,
        "target": target,
        "index": index,
        "hardware": link.get_attr("IFLA_ADDRESS"),
        "kind": _kind(link),
        "up": bool(link["flags"] & IFF_UP),
        "addresses": addresses,
        "routes": [
            _route(one)
            for family in (AF_INET, AF_INET6)
            for one in host.get_routes(family=family, oif=index)
            if one["proto"] != RTPROT_KERNEL
        ],
    }


def _route(route: Any) -> Record:
    """A route through one device, as `IPRoute.route` takes it."""
    attributes = {"dst": "DST", "gateway": "GATEWAY", "priority": "PRIORITY", "prefsrc": "PREFSRC", "table": "TABLE"}
    found = {key: route.get_attr(f"RTA_{attribute}") for key, attribute in attributes.items()}
    return {
        **{key: route[key] for key in ("family", "dst_len", "proto", "scope", "type", "tos")},
        **{key: value for key, value in found.items() if value is not None},
    }


def _add_address(where: IPRoute, index: int, name: str, address: Record, was: str) -> None:
    """Its label is the device's name, or begins with it."""
    words = dict(address)
    if "label" in words:
        words["label"] = name + words["label"].removeprefix(was)
        if len(words["label"]) > 15:
            del words["label"]
    try:
        where.addr("add", index=index, **words)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def _add_route(where: IPRoute, index: int, route: Record) -> None:
    try:
        where.route("add", oif=index, **route)
    except NetlinkError as error:
        if error.code not in (EEXIST, ENODEV):
            raise


def _within(namespace: int) -> IPRoute:
    """A socket in another network namespace: it stays in the one in which it was made."""
    own = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        setns(namespace)
        try:
            inside = IPRoute()
            inside.get_links()
        finally:
            setns(own)
    finally:
        posix.close(own)
    return inside


def _pointer(name: str) -> str:
    return f"{POINTER}/{name.replace('~', '~0')}"


def _failure(error: NetlinkError, record: Record, doing: str) -> KernelError:
    code = error.code
    return KernelError(
        f"{doing}: {posix.strerror(code)}", pointer=_pointer(record["name"]), hint=_HINTS.get(code, ""), errno=code
    )
