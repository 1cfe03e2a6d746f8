"""The resources that few containers have: hugepageLimits, network, rdma."""

from __future__ import annotations

from ocirt.cgroups.setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

POINTER = "/linux/resources"


def hugetlb(limits: Sequence[dict[str, Any]], v2: bool) -> list[Setting]:
    """Reservations, where the kernel counts them, and use (admin-guide/cgroup-v1/hugetlb.rst)."""
    file = "max" if v2 else "limit_in_bytes"
    settings = []
    for index, one in enumerate(limits):
        pointer, prefix = f"{POINTER}/hugepageLimits/{index}", f"hugetlb.{one['pageSize']}"
        settings.append(Setting(pointer, f"{prefix}.{file}", one["limit"]))
        settings.append(Setting(pointer, f"{prefix}.rsvd.{file}", one["limit"], default=True))
    return settings


def net_cls(network: dict[str, Any]) -> list[Setting]:
    """The packets' class; 0 is none (admin-guide/cgroup-v1/net_cls.rst)."""
    number = network.get("classID")
    if number is None:
        return []
    return [Setting(POINTER + "/network/classID", "net_cls.classid", number, default=number == 0)]


def net_prio(network: dict[str, Any]) -> list[Setting]:
    """A write for each interface (admin-guide/cgroup-v1/net_prio.rst)."""
    return [
        Setting(f"{POINTER}/network/priorities/{index}", "net_prio.ifpriomap", f"{one['name']} {one['priority']}")
        for index, one in enumerate(network.get("priorities") or ())
    ]


def rdma(devices: dict[str, Any]) -> list[Setting]:
    """A write for each device (admin-guide/cgroup-v1/rdma.rst; v2 is the same)."""
    settings = []
    for name, limits in devices.items():
        words = [
            f"{key}={limits[wanted]}"
            for wanted, key in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if limits.get(wanted) is not None
        ]
        pointer = f"{POINTER}/rdma/{name.replace('~', '~0').replace('/', '~1')}"
        settings.append(Setting(pointer, "rdma.max", f"{name} {' '.join(words)}"))
    return settings
