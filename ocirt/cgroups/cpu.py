"""linux.resources.cpu: the controllers cpu (scheduler/sched-bwc.rst, cgroup-v2.rst "CPU") and cpuset.

Microseconds; 0 is unset, but for burst and idle.
"""

from __future__ import annotations

from ocirt.cgroups.setting import Setting, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POINTER = "/linux/resources/cpu"
MIN_SHARES, USUAL_SHARES, MAX_SHARES = 2, 1024, 262144


def cpuset(cpu: dict[str, Any]) -> list[Setting]:
    """The same files on v1 and v2."""
    return [Setting(f"{POINTER}/{name}", f"cpuset.{name}", cpu[name]) for name in ("cpus", "mems") if cpu.get(name)]


def realtime(cpu: dict[str, Any], v2: bool) -> list[Setting]:
    """The budget for real-time scheduling, without which a process with such a policy cannot be in the cgroup."""
    settings = []
    for name, file in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        if value := cpu.get(name):
            if v2:
                raise refuse(f"{POINTER}/{name}", "cgroup v2 has no budget for real-time scheduling", "remove it")
            settings.append(Setting(f"{POINTER}/{name}", file, value))
    return settings


def v1(cpu: dict[str, Any]) -> list[Setting]:
    settings = []
    shares, quota = cpu.get("shares"), cpu.get("quota")
    if shares and cpu.get("idle") != 1:  # an idle cgroup's cannot be changed
        if not MIN_SHARES <= shares <= MAX_SHARES:
            raise refuse(POINTER + "/shares", f"expected {MIN_SHARES} to {MAX_SHARES} (0: unset), got {shares}")
        settings.append(Setting(POINTER + "/shares", "cpu.shares", shares, default=shares == USUAL_SHARES))
    if period := cpu.get("period"):
        settings.append(Setting(POINTER + "/period", "cpu.cfs_period_us", period))
    if quota:
        settings.append(Setting(POINTER + "/quota", "cpu.cfs_quota_us", max(quota, -1), default=quota < 0))
    return settings + _burst_and_idle(cpu, "cpu.cfs_burst_us")


def v2(cpu: dict[str, Any]) -> list[Setting]:
    settings = []
    shares, quota, period = cpu.get("shares"), cpu.get("quota") or 0, cpu.get("period") or 0
    if shares and cpu.get("idle") != 1:
        settings.append(Setting(POINTER + "/shares", "cpu.weight", weight(shares), default=shares == USUAL_SHARES))
    if quota or period:
        value = f"{quota if quota > 0 else 'max'} {period or 100000}"
        settings.append(Setting(f"{POINTER}/{'quota' if quota else 'period'}", "cpu.max", value))
    return settings + _burst_and_idle(cpu, "cpu.max.burst")


def _burst_and_idle(cpu: dict[str, Any], burst_file: str) -> list[Setting]:
    settings = []
    for name, file in (("burst", burst_file), ("idle", "cpu.idle")):
        value = cpu.get(name)
        if value is not None:
            settings.append(Setting(f"{POINTER}/{name}", file, value, default=value == 0))
    return settings


def weight(shares: int) -> int:
    """cpu.shares → cpu.weight: a curve through the least (2 → 1), the usual (1024 → 100) and the most (262144 → 10000)
    of both, as runc and crun have it since 2025."""
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    from math import ceil, log2

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))
