"""The names of scheduling policies, I/O priorities, memory policies and execution domains → the kernel's numbers."""

from __future__ import annotations

SCHEDULERS = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_" + name: 1 << bit
    for bit, name in enumerate(
        "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX".split()
    )
}
"""sched_setattr(2)."""
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
"""ioprio_set(2)."""
MEMORY_POLICIES = {
    "MPOL_" + name: number
    for number, name in enumerate("DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE".split())
}
MEMORY_POLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
"""set_mempolicy(2)."""
EXECUTION_DOMAINS = {"LINUX": 0, "LINUX32": 8}
"""personality(2), without PER_."""
