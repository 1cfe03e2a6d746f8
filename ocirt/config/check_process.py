"""What the rarer properties of a process must say: how it is scheduled, its memory policy and its personality.

Imported only for a configuration that has one of them.
"""

from __future__ import annotations

from ocirt.config.check import guess
from ocirt.config.lists import MOST_PROCESSORS, bits_of
from ocirt.config.names_scheduling import (
    EXECUTION_DOMAINS,
    IO_CLASSES,
    MEMORY_POLICIES,
    MEMORY_POLICY_FLAGS,
    SCHEDULER_FLAGS,
    SCHEDULERS,
)
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config

MOST_NODES = 1024
"""The kernel's MAX_NUMNODES, where it is highest."""
LEAST_RUNTIME = 1024
"""sched(7): nanoseconds; the kernel's resolution."""


def check_rare(config: Config, process: dict[str, Any], linux: dict[str, Any]) -> None:
    if process.get("scheduler"):
        _scheduler(process["scheduler"], config)
    if process.get("ioPriority"):
        _known(process["ioPriority"]["class"], IO_CLASSES, "class of I/O priorities", "/process/ioPriority/class")
    for name in ("initial", "final"):
        processors = (process.get("execCPUAffinity") or {}).get(name)
        if processors:
            bits_of(processors, f"/process/execCPUAffinity/{name}", "processors", MOST_PROCESSORS)
    if linux.get("personality"):
        _personality(linux["personality"])
    if linux.get("memoryPolicy"):
        _memory_policy(linux["memoryPolicy"])


def _known(name: str, known: dict[str, int], what: str, pointer: str) -> None:
    if name not in known:
        raise ConfigError(f'unknown {what} "{name}"', pointer=pointer, hint=guess(name, known))


def _flags(flags: list[str] | None, known: dict[str, int], what: str, pointer: str) -> int:
    bits = 0
    for index, flag in enumerate(flags or ()):
        _known(flag, known, what, f"{pointer}/{index}")
        bits |= known[flag]
    return bits


def _scheduler(scheduler: dict[str, Any], config: Config) -> None:
    """sched_setattr(2), sched(7). A value that the policy does not look at would mislead whoever reads it."""
    pointer, policy = "/process/scheduler", scheduler["policy"]
    _known(policy, SCHEDULERS, "scheduling policy", pointer + "/policy")
    _flags(scheduler.get("flags"), SCHEDULER_FLAGS, "scheduler flag", pointer + "/flags")
    priority = scheduler.get("priority", 0)
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            raise ConfigError(f"{policy} takes a priority from 1 to 99, got {priority}", pointer=pointer + "/priority")
    elif priority:
        raise ConfigError(
            f"{policy} has no priority, got {priority}",
            pointer=pointer + "/priority",
            hint="SCHED_FIFO and SCHED_RR have; SCHED_OTHER and SCHED_BATCH have nice",
        )
    if policy not in ("SCHED_OTHER", "SCHED_BATCH") and scheduler.get("nice"):
        config.warnings.append(f"{pointer}/nice: {policy} does not look at it: ignored")
    if policy == "SCHED_DEADLINE":
        _deadline(scheduler)
        return
    for name in ("runtime", "deadline", "period"):
        if scheduler.get(name):
            raise ConfigError(f"{policy} has no {name}", pointer=f"{pointer}/{name}", hint="SCHED_DEADLINE has")


def _deadline(scheduler: dict[str, Any]) -> None:
    runtime, deadline = scheduler.get("runtime", 0), scheduler.get("deadline", 0)
    period = scheduler.get("period") or deadline
    if runtime < LEAST_RUNTIME:
        raise ConfigError(
            f"expected at least {LEAST_RUNTIME} nanoseconds, got {runtime}", pointer="/process/scheduler/runtime"
        )
    if not runtime <= deadline <= period < 2**63:
        raise ConfigError(
            f"expected runtime ≤ deadline ≤ period, got {runtime}, {deadline}, {period}",
            pointer="/process/scheduler/deadline",
            hint="nanoseconds; a period that is left out is the deadline",
        )


def _personality(personality: dict[str, Any]) -> None:
    _known(personality["domain"], EXECUTION_DOMAINS, "execution domain", "/linux/personality/domain")
    for index, flag in enumerate(personality.get("flags") or ()):
        raise ConfigError(
            f'unknown flag "{flag}"', pointer=f"/linux/personality/flags/{index}", hint="the specification has none yet"
        )


def _memory_policy(policy: dict[str, Any]) -> None:
    """set_mempolicy(2): which mode takes nodes and flags."""
    pointer, mode = "/linux/memoryPolicy", policy["mode"]
    _known(mode, MEMORY_POLICIES, "memory policy", pointer + "/mode")
    flags = policy.get("flags") or []
    _flags(flags, MEMORY_POLICY_FLAGS, "flag of memory policies", pointer + "/flags")
    nodes = policy.get("nodes") or ""
    if nodes:
        bits_of(nodes, pointer + "/nodes", "memory nodes", MOST_NODES)
    numbering = [flag for flag in flags if flag in ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES")]
    if len(set(numbering)) > 1:
        raise ConfigError("nodes are either static or relative", pointer=pointer + "/flags", hint="remove one")
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            raise ConfigError(f'{mode} takes no nodes, got "{nodes}"', pointer=pointer + "/nodes")
        if numbering:
            raise ConfigError(f"{mode} takes no nodes, so not {numbering[0]}", pointer=pointer + "/flags")
    elif not nodes and (mode != "MPOL_PREFERRED" or numbering):
        raise ConfigError(
            f"{mode} needs nodes", pointer=pointer + "/nodes", hint='such as "0-1"; MPOL_LOCAL and MPOL_DEFAULT do not'
        )
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        raise ConfigError(
            "MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY", pointer=pointer + "/flags"
        )
