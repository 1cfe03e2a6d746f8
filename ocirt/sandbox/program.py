"""What a sandbox that waits is told to become: a plan of a few steps, which looks the program up and executes it.

The sandbox's first program is ocirt-init once more: as its user, inside, with the filter loaded and no right left. It
waits for this plan. So the program's name and arguments are part of no plan that has rights, and nothing that was
proved of the sandbox depends on them. A program that is not there fails as it does in any container, with the same
words, since these steps are the same.
"""

from __future__ import annotations

from functools import lru_cache
from posix import uname
from typing import TYPE_CHECKING

from ocirt.errors import PlanError, UsageError
from ocirt.plan.encode import Encoded, encode
from ocirt.plan.kernel import LAST_DESCRIPTOR
from ocirt.plan.process import close_descriptors, execute, find_program
from ocirt.plan.scope import Scope
from ocirt.plan.step import Plan
from ocirt.plan.verify import calls_of, prove
from ocirt.plan.verify_order import ORDER_CHECKS
from ocirt.plan.verify_walk import Walk, broken
from ocirt.plan.wire import MAX_PLAN

if TYPE_CHECKING:
    from ocirt.plan.step import Step
    from ocirt.plan.verify_walk import Check

CONTROL, IMAGE, PLAN = 3, 4, 5
"""The descriptors that ocirt-init has in there: a socket, for the word that the plan is there and for failures; itself;
an empty memfd for the plan. None of them survives execve."""
LAUNCHER = [f"/proc/self/fd/{IMAGE}", str(PLAN), str(CONTROL)]
"""process.args of a sandbox: ocirt-init from a sealed memfd (host/memfd.py). No file of the root is involved."""
STARTING = b"+"
"""What the host hears just before the program is executed: if that never comes, nothing has been run."""


def _write(walk: Walk, index: int, step: Step) -> None:
    if step.args != (CONTROL, STARTING, len(STARTING)) or index != len(walk.steps) - 2:
        raise broken("calls-known", index, step, "it may only tell the host that the program starts")


_CHECKS: dict[str, Check] = {
    name: ORDER_CHECKS[name] for name in ("close_range", "faccessat2", "load", "expect", "execve")
}
_CALLS = calls_of({**_CHECKS, "write": _write})


class _Inside(Scope):
    """Of what the concerns of a plan share, only what the program's start needs."""

    def __init__(self, plan: Plan, args: tuple[str, ...], env: tuple[str, ...]) -> None:
        self.plan = plan
        self.process = {"args": args, "env": env}


class _ProgramWalk(Walk):
    def finish(self) -> None:
        index = len(self.steps) - 1
        last = self.steps[index]
        if last.call != "execve":
            raise broken("execve-last", index, last, "a plan ends in execve")
        if not self.closed:
            raise broken("descriptors-closed", index, last, "descriptors may survive execve")


@lru_cache(maxsize=16)
def program(args: tuple[str, ...], env: tuple[str, ...]) -> tuple[Plan, Encoded]:
    """The plan, and its bytes. env: all of the environment; PATH in it says where the program is looked for.

    Raises UsageError if that is longer than a plan may be, ConfigError if PATH has no absolute folder.
    """
    plan = Plan(uname().machine, control=CONTROL)
    plan.inherited = PLAN
    plan.at("", "close what is not needed any more")
    plan.call("close_range", PLAN + 1, LAST_DESCRIPTOR, 0)
    scope = _Inside(plan, args, env)
    found = find_program(scope)
    close_descriptors(scope)
    plan.at("", "tell the host that the program starts")
    plan.call("write", CONTROL, STARTING, len(STARTING))
    execute(scope, found, list(env))
    verify_program(plan)
    try:
        return plan, encode(plan)
    except PlanError:
        raise UsageError(
            f"argv and env: more than {MAX_PLAN} bytes", hint="the kernel takes a few MB at most: use stdin or binds"
        ) from None


def verify_program(plan: Plan) -> None:
    """Raise PlanError unless it does nothing but look for a program and execute it, without a descriptor above stderr.

    Of verify's rules those that steps without any right can break.
    """
    prove(plan, _ProgramWalk(plan), _CALLS)
