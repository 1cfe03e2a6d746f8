"""What a defect of the compiler could do to a plan: drop, move, replace or add a step.

The modules damage_*.py note their damages in DAMAGES, with the rule of `verify` that has to see each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ocirt.plan.step import Label, Plan, Reg, Step
from ocirt.plan.wire import OP_CALL

Damage = Callable[[Plan], None]
DAMAGES: list[tuple[str, str, str, Damage]] = []
"""(rule, what is done, the case that is damaged, the damage)"""


def breaks(rule: str, what: str, case: str = "default") -> Callable[[Damage], Damage]:
    def note(damage: Damage) -> Damage:
        DAMAGES.append((rule, what, case, damage))
        return damage

    return note


# What the damages do to a plan.


def find(plan: Plan, call: str, *, pointer: str = "", where: Callable[[Step], bool] = lambda step: True) -> int:
    """The first step of this call due to `pointer` or what is below it."""
    for index, step in enumerate(plan.steps):
        if step.call == call and step.pointer.startswith(pointer) and where(step):
            return index
    raise AssertionError(f"the plan has no such {call}")


def find_last(plan: Plan, call: str) -> int:
    return max(index for index, step in enumerate(plan.steps) if step.call == call)


def labels(plan: Plan) -> Iterator[Label]:
    seen = {id(label): label for step in plan.steps for label in (step.ok, step.fail) if label}
    yield from seen.values()


def drop(plan: Plan, index: int) -> None:
    for label in labels(plan):
        if label.index > index:
            label.index -= 1
    del plan.steps[index]


def insert(plan: Plan, index: int, step: Step) -> None:
    for label in labels(plan):
        if label.index > index:
            label.index += 1
    plan.steps.insert(index, step)


def move(plan: Plan, index: int, to: int) -> None:
    moved = plan.steps[index]
    drop(plan, index)
    insert(plan, to, moved)


def step(call: str, *args: Any, pointer: str = "", op: int = OP_CALL, result: Reg | None = None) -> Step:
    return Step(op, call, args, pointer, "a damage", result, None, None, (), False)


def like(plan: Plan, index: int, call: str, *args: Any, result: Reg | None = None) -> Step:
    """A new step that is due to what the step at `index` is due to."""
    return step(call, *args, pointer=plan.steps[index].pointer, result=result)


def argument(plan: Plan, index: int, place: int, value: Any) -> None:
    args = list(plan.steps[index].args)
    args[place] = value
    plan.steps[index].args = tuple(args)


def tolerate(plan: Plan, index: int, *errnos: int) -> None:
    plan.steps[index].errnos = errnos


def jump(plan: Plan, index: int, target: int, *, way: str = "ok") -> None:
    label = Label()
    label.index = target
    setattr(plan.steps[index], way, label)


def root_of(plan: Plan) -> Reg:
    register = plan.steps[find(plan, "open_tree", pointer="/root/path")].result
    assert register
    return register
