"""Damages to the steps of a process's rarer properties."""

from __future__ import annotations

from plan.damage import argument, breaks, find

from ocirt.plan.step import Plan


@breaks("buffers-bounded", "a smaller struct sched_attr", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setattr"), 1, bytes(48))


@breaks("buffers-bounded", "a struct sched_attr that claims to be larger", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setattr"), 1, b"\x50" + bytes(55))


@breaks("buffers-bounded", "more processors than there are bytes", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setaffinity"), 1, 4096)


@breaks("buffers-bounded", "more memory nodes than there are bytes", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "set_mempolicy"), 2, 1025)


@breaks("buffers-bounded", "memory nodes at no address", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "set_mempolicy"), 1, 0)
