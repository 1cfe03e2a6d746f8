"""Damages to the nodes of linux.devices."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find

from ocirt.plan.kernel import AT_FDCWD
from ocirt.plan.step import Plan

TUN = "/linux/devices/2"


@breaks("writes-inside", "an owner by a path", "devices")
def _(plan: Plan) -> None:
    at = find(plan, "fchownat", pointer=TUN)
    argument(plan, at, 0, AT_FDCWD)
    argument(plan, at, 1, "/dev/net/tun")


@breaks("writes-inside", "an owner of what a descriptor's folder has", "devices")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fchownat", pointer=TUN), 1, "tun")


@breaks("writes-inside", "an owner of a file of the host's", "devices")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fchownat", pointer=TUN), 0, plan.steps[find(plan, "umask")].result)


@breaks("devices-checked", "a listed device that was there and may be anything", "devices")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "statx", pointer=TUN))


@breaks("writes-inside", "a node made by a path of several parts", "devices")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mknodat", pointer=TUN), 1, "net/tun")
