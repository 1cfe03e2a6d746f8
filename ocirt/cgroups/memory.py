"""linux.resources.memory (admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst "Memory"). Bytes; -1 is no limit, 0 unset."""

from __future__ import annotations

from ocirt.cgroups.setting import Setting, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POINTER = "/linux/resources/memory"

_V1 = (
    ("limit", "memory.limit_in_bytes"),
    ("swap", "memory.memsw.limit_in_bytes"),
    ("reservation", "memory.soft_limit_in_bytes"),
    ("kernel", "memory.kmem.limit_in_bytes"),
    ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
)
_OBSOLETE = ("kernel", "kernelTCP")


def v1(memory: dict[str, Any], warnings: list[str]) -> list[Setting]:
    values = dict(memory)
    if values.get("limit") == -1 and not values.get("swap"):
        values["swap"] = -1  # which is memory and swap: no memory limit would leave it as the only one
    settings = []
    for name, file in _V1:
        if value := values.get(name):
            settings.append(Setting(f"{POINTER}/{name}", file, value, default=value == -1, obsolete=name in _OBSOLETE))
            if name == "kernel":
                warnings.append(f"{POINTER}/{name}: deprecated: kernels since 5.16 do not limit it")
    swappiness = values.get("swappiness")
    if swappiness is not None:
        settings.append(Setting(POINTER + "/swappiness", "memory.swappiness", swappiness))
    hierarchy, no_killer = values.get("useHierarchy"), values.get("disableOOMKiller")
    if hierarchy is not None:
        settings.append(Setting(POINTER + "/useHierarchy", "memory.use_hierarchy", int(hierarchy), default=hierarchy))
    if no_killer is not None:  # a cgroup without inherits that
        settings.append(
            Setting(POINTER + "/disableOOMKiller", "memory.oom_control", int(no_killer), default=not no_killer)
        )
    return settings


def v2(memory: dict[str, Any], warnings: list[str]) -> list[Setting]:
    warnings += [
        f"{POINTER}/{name}: ignored: cgroup v2 counts it in with the rest" for name in _OBSOLETE if memory.get(name)
    ]
    if memory.get("swappiness") is not None:
        raise refuse(POINTER + "/swappiness", "cgroup v2 has no swappiness of a cgroup", "limit swap instead")
    if memory.get("disableOOMKiller"):
        raise refuse(POINTER + "/disableOOMKiller", "cgroup v2 cannot disable the OOM killer")
    if memory.get("useHierarchy") is False:
        raise refuse(POINTER + "/useHierarchy", "cgroup v2 always counts hierarchically")
    settings = []
    limit, reservation = memory.get("limit"), memory.get("reservation")
    swap = swap_max(memory)
    if swap is not None:  # before memory, which may push out to it
        settings.append(Setting(POINTER + "/swap", "memory.swap.max", swap, default=swap in ("max", "0")))
    if limit == -1:
        settings.append(Setting(POINTER + "/limit", "memory.max", "max", default=True))
    elif limit:
        settings.append(Setting(POINTER + "/limit", "memory.max", limit, beyond="memory.current"))
    if reservation:
        settings.append(Setting(POINTER + "/reservation", "memory.low", "max" if reservation == -1 else reservation))
    return settings


def swap_max(memory: dict[str, Any]) -> str | None:
    """memory.swap.max, which is swap alone, from memory and swap together; None: leave it."""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if not swap:
        return "max" if limit == -1 else None
    if swap == -1:
        return "max"
    if limit == -1:
        return str(swap)
    if not limit:
        raise refuse(
            POINTER + "/swap", "swap is memory and swap together: it needs a memory limit", "set memory.limit as well"
        )
    return str(swap - limit)
