"""The plan by which a sandbox that waits becomes its program: what is in it, and that nothing else gets through."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ocirt.errors import ConfigError, PlanError, UsageError
from ocirt.plan.kernel import LAST_DESCRIPTOR
from ocirt.plan.step import Label, Plan, Vector
from ocirt.sandbox.program import CONTROL, STARTING, program, verify_program

ENV = ("PATH=/bin:/usr/bin:relative:", "A=1")


def plan_of(*args: str, env: tuple[str, ...] = ENV) -> Plan:
    program.cache_clear()  # a test breaks it
    return program(args, env)[0]


def test_it_looks_for_the_program_in_the_absolute_folders_of_path() -> None:
    plan = plan_of("ls", "-l", "a b")
    looked = [step.args[1] for step in plan.steps if step.call == "faccessat2"]
    assert list(dict.fromkeys(looked)) == ["/bin/ls", "/bin/ls/.", "/usr/bin/ls", "/usr/bin/ls/."]
    last = plan.steps[-1]
    vectors = [argument.items for argument in last.args if isinstance(argument, Vector)]
    assert (last.call, vectors) == ("execve", [("ls", "-l", "a b"), ENV])
    assert [step.call for step in plan.steps[-3:]] == ["close_range", "write", "execve"]


def test_a_path_is_taken_as_it_is() -> None:
    plan = plan_of("/bin/ls")
    assert {step.args[1] for step in plan.steps if step.call == "faccessat2"} == {"/bin/ls", "/bin/ls/."}


def test_what_cannot_be_a_plan() -> None:
    with pytest.raises(ConfigError, match="PATH has no absolute folder"):
        plan_of("ls", env=("PATH=bin",))
    with pytest.raises(UsageError, match="argv and env"):
        plan_of("ls", "x" * (16 << 20))


def another_call(plan: Plan) -> None:
    plan.steps[0].call = "openat"


def a_write_elsewhere(plan: Plan) -> None:
    plan.steps[-2].args = (1, STARTING, 1)


def a_longer_write(plan: Plan) -> None:
    plan.steps[-2].args = (CONTROL, STARTING, 100)


def an_early_write(plan: Plan) -> None:
    plan.steps.insert(-3, plan.steps[-2])


def a_jump_back(plan: Plan) -> None:
    label = Label()
    label.index = 1
    step = next(step for step in plan.steps if step.fail)
    step.fail = label


def nothing_closed(plan: Plan) -> None:
    del plan.steps[-3]


def closed_too_high(plan: Plan) -> None:
    plan.steps[-3].args = (CONTROL + 1, LAST_DESCRIPTOR, plan.steps[-3].args[2])


def closed_only_perhaps(plan: Plan) -> None:
    plan.steps[-3].errnos = (22,)


def something_after_execve(plan: Plan) -> None:
    plan.steps.append(plan.steps[0])


def no_execve(plan: Plan) -> None:
    del plan.steps[-1]


def a_failure_that_is_ignored(plan: Plan) -> None:
    plan.steps[-1].errnos = (2,)


BREAKING = (another_call, a_write_elsewhere, a_longer_write, an_early_write, a_jump_back, nothing_closed)
MORE = (closed_too_high, closed_only_perhaps, something_after_execve, no_execve, a_failure_that_is_ignored)


@pytest.mark.parametrize("broken", BREAKING + MORE)
def test_anything_else_is_refused(broken: Callable[[Plan], None]) -> None:
    plan = plan_of("ls")
    verify_program(plan)
    broken(plan)
    with pytest.raises(PlanError, match="safety rule"):
        verify_program(plan)


def test_it_is_for_this_machine() -> None:
    assert plan_of("ls").machine == os.uname().machine
