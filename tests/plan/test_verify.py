"""verify: each safety rule is broken by damages to a real plan, and names itself."""

from __future__ import annotations

import plan.damage_asked
import plan.damage_devices
import plan.damage_flow
import plan.damage_mounts
import plan.damage_namespaces
import plan.damage_order
import plan.damage_process
import plan.damage_rootless  # noqa: F401  (each notes its damages)
import pytest
from plan.cases import CASES, compile_case, config_of
from plan.damage import DAMAGES, Damage, find, tolerate
from support import default_config

from ocirt.errors import PlanError
from ocirt.plan.compile import compile_plan
from ocirt.plan.facts import Facts
from ocirt.plan.kernel import EACCES
from ocirt.plan.verify import RULES, verify

MASK = "/linux/maskedPaths/3"


@pytest.mark.parametrize(
    ("rule", "case", "damage"),
    [pytest.param(rule, case, damage, id=f"{rule}: {what}") for rule, what, case, damage in DAMAGES],
)
def test_a_damaged_plan_is_refused_by_its_rule(rule: str, case: str, damage: Damage) -> None:
    plan = compile_case(case).plan
    verify(plan)
    damage(plan)
    with pytest.raises(PlanError) as refused:
        verify(plan)
    assert str(refused.value.message).startswith(f"safety rule {rule}:"), refused.value.message


def test_every_rule_is_broken_by_some_damage() -> None:
    assert {rule for rule, *_ in DAMAGES} == set(RULES)


@pytest.mark.parametrize("name", CASES)
def test_every_golden_plan_is_safe(name: str) -> None:
    verify(compile_case(name).plan)


def test_a_refusal_names_the_step_and_where_it_comes_from() -> None:
    plan = compile_case("default").plan
    at = find(plan, "openat2", pointer=MASK)
    tolerate(plan, at, EACCES)
    with pytest.raises(PlanError) as refused:
        verify(plan)
    assert refused.value.pointer == MASK
    assert f"step {at} (openat2: mask /proc/keys)" in refused.value.message


def test_who_has_no_right_to_a_pid_namespace_hears_so_from_the_kernel() -> None:
    """An ordinary user whose configuration names their own user namespace has none to gain rights in: no plan of theirs
    is a defect."""
    config = default_config()
    config["linux"]["namespaces"] = [
        {"type": "user", "path": "/proc/self/ns/user"},
        {"type": "pid", "path": "/proc/1/ns/pid"},
        {"type": "mount"},
    ]
    del config["hostname"]
    facts = Facts(permitted=0, unprivileged=True, shared=("user",), joined=("pid",), wait_for_start=False)
    verify(compile_plan(config_of(config), facts).plan)
