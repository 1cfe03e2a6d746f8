"""The program's rarer attributes: how the kernel schedules it and its I/O, the source of its memory, its personality.

Imported only for a configuration that has one of them.
"""

from __future__ import annotations

from ocirt.config.check_process import MOST_NODES
from ocirt.config.lists import MOST_PROCESSORS, bits_of
from ocirt.config.names_scheduling import (
    EXECUTION_DOMAINS,
    IO_CLASSES,
    MEMORY_POLICIES,
    MEMORY_POLICY_FLAGS,
    SCHEDULER_FLAGS,
    SCHEDULERS,
)
from ocirt.plan.kernel import IOPRIO_CLASS_SHIFT, IOPRIO_WHO_PGRP, SCHED_ATTR, SCHED_CAPACITY_SCALE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope


def set_rare(scope: Scope) -> None:
    """Inherited over execve(2), all of them; after the cgroup is joined, which refuses some processes of real-time
    policies and has a say in memory nodes."""
    _set_personality(scope)
    _set_memory_policy(scope)
    _set_io_priority(scope)
    _set_scheduler(scope)


def _set_scheduler(scope: Scope) -> None:
    scheduler = scope.process.get("scheduler")
    if not scheduler:
        return
    plan, policy = scope.plan, scheduler["policy"]
    if policy == "SCHED_DEADLINE":
        # Admission needs an affinity to all processors of the root domain (sched(7)); whoever called us may have less.
        plan.at("/process/scheduler", "run on all processors, as SCHED_DEADLINE needs")
        plan.call("sched_setaffinity", 0, MOST_PROCESSORS // 8, b"\xff" * (MOST_PROCESSORS // 8))
    plan.at("/process/scheduler", f"be scheduled by {policy}")
    flags = 0
    for flag in scheduler.get("flags") or ():
        flags |= SCHEDULER_FLAGS[flag]
    attributes = SCHED_ATTR.pack(
        SCHED_ATTR.size,
        SCHEDULERS[policy],
        flags,
        scheduler.get("nice", 0),
        scheduler.get("priority", 0),
        scheduler.get("runtime", 0),
        scheduler.get("deadline", 0),
        scheduler.get("period", 0),
        0,  # the specification has flags for these clamps, but no values: from nothing to everything
        SCHED_CAPACITY_SCALE,
    )
    plan.call("sched_setattr", 0, attributes, 0)


def _set_io_priority(scope: Scope) -> None:
    """Of the process group, which is init alone, and then all that the program starts in it."""
    priority = scope.process.get("ioPriority")
    if priority:
        level = priority.get("priority", 0)
        scope.plan.at("/process/ioPriority", f"set the I/O priority to {priority['class']}, level {level}")
        value = IO_CLASSES[priority["class"]] << IOPRIO_CLASS_SHIFT | level
        scope.plan.call("ioprio_set", IOPRIO_WHO_PGRP, 0, value)


def _set_memory_policy(scope: Scope) -> None:
    policy = scope.linux.get("memoryPolicy")
    if not policy:
        return
    plan = scope.plan
    mode = MEMORY_POLICIES[policy["mode"]]
    for flag in policy.get("flags") or ():
        mode |= MEMORY_POLICY_FLAGS[flag]
    nodes = policy.get("nodes")
    plan.at("/linux/memoryPolicy", f"take memory by {policy['mode']}{f' from the nodes {nodes}' if nodes else ''}")
    if not nodes:
        plan.call("set_mempolicy", mode, 0, 0)
        return
    mask = bits_of(nodes, "/linux/memoryPolicy/nodes", "memory nodes", MOST_NODES)
    size = (mask.bit_length() + 63) // 64 * 8
    plan.call("set_mempolicy", mode, mask.to_bytes(size, "little"), 8 * size + 1)  # the kernel takes one less


def _set_personality(scope: Scope) -> None:
    personality = scope.linux.get("personality")
    if personality:
        domain = personality["domain"]
        scope.plan.at("/linux/personality", f"be of the execution domain {domain}")
        scope.plan.call("personality", EXECUTION_DOMAINS[domain])
