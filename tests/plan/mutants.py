"""Plans that are changed at random: what a defect of the compiler, whatever it is, could do to one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from plan.damage import drop, insert, move

from ocirt.plan.kernel import EACCES, EEXIST, EINVAL, ELOOP, ENOENT, ENOSYS, ENOTDIR, EPERM
from ocirt.plan.step import Buffer, Field, Label, Plan, Program, Reg, Slot, Step, Vector

ERRNOS = (EPERM, ENOENT, EACCES, EEXIST, EINVAL, ELOOP, ENOTDIR, ENOSYS)
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 8, 16, 0x80000, 0x1000, 0x8000, -1, -100, 0xFFFFFFFF)
PATHS = ("/", ".", "..", "", "/etc", "/proc", "/dev/mem", "etc", "/data", "tmpfs", "proc", "../..", "/bundle/rootfs")

Change = Callable[[Plan, random.Random], str]


def mutate(plan: Plan, seed: object) -> str:
    """Change the plan once or, rarely, twice; says what was done. The same seed gives the same mutant."""
    chance = random.Random(str(seed))
    done = []
    for _ in range(2 if chance.random() < 0.1 else 1):
        change = chance.choices(list(CHANGES), list(CHANGES.values()))[0]
        done.append(change(plan, chance))
    return "; ".join(done)


def _shown(plan: Plan, at: int) -> str:
    step = plan.steps[at]
    return f"{at} ({step.pointer or '-'} {step.call}: {step.doing})"


def _any(plan: Plan, chance: random.Random) -> int:
    return chance.randrange(len(plan.steps))


def _drop(plan: Plan, chance: random.Random) -> str:
    at = _any(plan, chance)
    said = f"drop {_shown(plan, at)}"
    drop(plan, at)
    return said


def _drop_group(plan: Plan, chance: random.Random) -> str:
    """All that is done for one reason."""
    at = _any(plan, chance)
    first = last = at
    reason = (plan.steps[at].pointer, plan.steps[at].doing)
    while first and (plan.steps[first - 1].pointer, plan.steps[first - 1].doing) == reason:
        first -= 1
    while last + 1 < len(plan.steps) and (plan.steps[last + 1].pointer, plan.steps[last + 1].doing) == reason:
        last += 1
    said = f"drop all of {_shown(plan, first)}"
    for _ in range(last - first + 1):
        drop(plan, first)
    return said


def _swap(plan: Plan, chance: random.Random) -> str:
    at = chance.randrange(len(plan.steps) - 1)
    to = at + 1 if chance.random() < 0.5 else _any(plan, chance)
    said = f"swap {_shown(plan, at)} with {_shown(plan, to)}"
    plan.steps[at], plan.steps[to] = plan.steps[to], plan.steps[at]
    return said


def _move(plan: Plan, chance: random.Random) -> str:
    at, to = _any(plan, chance), _any(plan, chance)
    said = f"move {_shown(plan, at)} to {to}"
    move(plan, at, min(to, len(plan.steps) - 1))
    return said


def copied(step: Step) -> Step:
    return Step(
        step.op,
        step.call,
        step.args,
        step.pointer,
        step.doing,
        step.result,
        step.ok,
        step.fail,
        step.errnos,
        step.log,
    )


def _duplicate(plan: Plan, chance: random.Random) -> str:
    at = _any(plan, chance)
    to = at if chance.random() < 0.4 else _any(plan, chance)
    said = f"repeat {_shown(plan, at)} at {to}"
    insert(plan, to, copied(plan.steps[at]))
    return said


def _edit(plan: Plan, chance: random.Random) -> str:
    """One argument becomes another of its kind."""
    at = _any(plan, chance)
    while not plan.steps[at].args:
        at = _any(plan, chance)
    step = plan.steps[at]
    place = chance.randrange(len(step.args))
    args = list(step.args)
    args[place] = _other(plan, args[place], chance)
    said = f"argument {place} of {_shown(plan, at)}: {step.args[place]!r} becomes {args[place]!r}"
    step.args = tuple(args)
    return said


def _other(plan: Plan, value: Any, chance: random.Random) -> Any:
    if type(value) is int:
        if chance.random() < 0.6:
            return value ^ 1 << chance.choice((0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 17, 19, 21, 25, 26, 27, 28, 29, 30))
        return chance.choice(NUMBERS)
    if type(value) is bytes:
        changed = bytearray(value)
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if type(value) is str:
        texts = [arg for step in plan.steps for arg in step.args if type(arg) is str]
        return chance.choice(PATHS) if chance.random() < 0.4 else chance.choice(texts)
    if type(value) is Reg:
        registers = [step.result for step in plan.steps if step.result] + [Reg(239, "none")]
        return chance.choice(registers)
    if type(value) is Field:
        return Field(value.buffer, max(0, min(value.at + chance.choice((-4, -1, 1, 4)), value.buffer.size - 8)))
    if type(value) is Buffer:
        return Buffer(max(8, value.size // 2))
    if type(value) is Program:
        return Program(_other(plan, value.instructions, chance))
    if type(value) is Vector:
        return Vector(value.items[:-1]) if len(value.items) > 1 else Vector(["x", *value.items])
    return Slot("LD_PRELOAD=", 8) if type(value) is Slot else value


def _ignore(plan: Plan, chance: random.Random) -> str:
    """An errno more, or less, that does not end the run."""
    at = _any(plan, chance)
    step = plan.steps[at]
    if step.errnos and chance.random() < 0.5:
        step.errnos = step.errnos[1:]
        return f"ignore less at {_shown(plan, at)}"
    step.errnos = (*step.errnos, chance.choice(ERRNOS))[-4:]
    return f"ignore {step.errnos} at {_shown(plan, at)}"


def _jump(plan: Plan, chance: random.Random) -> str:
    """A jump more, elsewhere, or less."""
    at = _any(plan, chance)
    way = chance.choice(("ok", "fail"))
    step = plan.steps[at]
    if getattr(step, way) and chance.random() < 0.4:
        setattr(step, way, None)
        return f"no jump ({way}) at {_shown(plan, at)}"
    label = Label()
    label.index = at + chance.choice((2, 3, 4, 6, 9, 20)) if chance.random() < 0.7 else _any(plan, chance)
    setattr(step, way, label)
    return f"jump ({way}) to {label.index} at {_shown(plan, at)}"


def _result(plan: Plan, chance: random.Random) -> str:
    at = _any(plan, chance)
    step = plan.steps[at]
    results = [one.result for one in plan.steps if one.result]
    step.result = None if step.result and chance.random() < 0.3 else chance.choice(results)
    return f"result of {_shown(plan, at)} into {step.result!r}"


def _replace(plan: Plan, chance: random.Random) -> str:
    """The step becomes another one of the plan's, for its own reason."""
    at, to = _any(plan, chance), _any(plan, chance)
    other = copied(plan.steps[to])
    other.pointer, other.doing = plan.steps[at].pointer, plan.steps[at].doing
    said = f"{_shown(plan, at)} becomes {_shown(plan, to)}"
    plan.steps[at] = other
    return said


CHANGES: dict[Change, int] = {
    _drop: 18,
    _drop_group: 12,
    _swap: 12,
    _move: 8,
    _duplicate: 8,
    _edit: 34,
    _ignore: 8,
    _jump: 8,
    _result: 4,
    _replace: 6,
}
"""change → how often"""
