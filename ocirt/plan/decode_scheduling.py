"""In words: what the calls of scheduling.py are given."""

from __future__ import annotations

from ocirt.config.names_scheduling import IO_CLASSES, MEMORY_POLICIES, MEMORY_POLICY_FLAGS, SCHEDULER_FLAGS, SCHEDULERS
from ocirt.plan.kernel import IOPRIO_CLASS_SHIFT, SCHED_ATTR


def attributes(content: bytes) -> str:
    """struct sched_attr; the two clamps are always those that clamp nothing."""
    _, policy, flags, nice, priority, *times, _, _ = SCHED_ATTR.unpack(content)
    shown = [_name(policy, SCHEDULERS), f"flags={_flags(flags, SCHEDULER_FLAGS) or 0}"]
    shown += [f"nice={nice}", f"priority={priority}"]
    shown += [f"{name}={time}" for name, time in zip(("runtime", "deadline", "period"), times, strict=True) if time]
    return "{" + ", ".join(shown) + "}"


def io_priority(value: int) -> str:
    return f"{_name(value >> IOPRIO_CLASS_SHIFT, IO_CLASSES)}:{value & (1 << IOPRIO_CLASS_SHIFT) - 1}"


def memory_policy(value: int) -> str:
    flags = _flags(value, MEMORY_POLICY_FLAGS)
    return _name(value & 0xFFF, MEMORY_POLICIES) + (f"|{flags}" if flags else "")


def number_set(content: bytes) -> str:
    """A set of bits as cpuset(7) lists it."""
    bits, shown, first = int.from_bytes(content, "little"), [], -1
    for number in range(bits.bit_length() + 1):
        if bits >> number & 1:
            first = number if first < 0 else first
        elif first >= 0:
            shown.append(str(first) if first == number - 1 else f"{first}-{number - 1}")
            first = -1
    return "{" + ",".join(shown) + "}"


def _name(number: int, names: dict[str, int]) -> str:
    return next((name for name, value in names.items() if value == number), str(number))


def _flags(value: int, names: dict[str, int]) -> str:
    return "|".join(name for name, bit in names.items() if value & bit)
