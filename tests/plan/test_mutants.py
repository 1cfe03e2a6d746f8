"""A plan that was changed at random is refused if it is dangerous; a model kernel says whether it is, not `verify`.

Some hundred mutants of each case, the same every time. OCIRT_MUTANTS=20000 tries as many of each instead.
"""

from __future__ import annotations

import os

import pytest
from plan.damage import argument, drop, find, find_last
from plan.model.judge import dangers, run
from plan.mutation import HIDDEN, MUTATED, Count, count, refusal, run_unchanged

from ocirt.plan.step import Plan

EACH = int(os.environ.get("OCIRT_MUTANTS", "150"))
WANTED = 0.95


@pytest.mark.parametrize("name", MUTATED)
def test_the_model_kernel_runs_the_unchanged_plan_to_its_program(name: str) -> None:
    kernel, end = run_unchanged(MUTATED[name])
    assert end.more == []
    assert end.outside == []
    assert kernel.ready
    assert refusal(MUTATED[name], MUTATED[name].plan()) == ""
    assert dangers(end, kernel, end, HIDDEN) == []


def test_most_dangerous_mutants_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    total = Count()
    lines = []
    for name in MUTATED:
        counted = count(name, range(EACH))
        lines.append(_line(name, counted))
        total.add(counted)
    with capsys.disabled():
        print("\n" + "\n".join([*lines, _line("all", total)]))
        for seed, done, why in total.survivors:
            print(f"  survives: {seed}: {done}: {', '.join(why)}")
    assert total.dangerous >= EACH * len(MUTATED) // 20, "the judge finds next to nothing dangerous: is it blind?"
    assert total.reached >= EACH, "hardly a mutant comes to its program: the model is too strict to judge"
    assert total.share >= WANTED, f"{total.share:.1%} of the dangerous mutants are refused"


def _line(name: str, counted: Count) -> str:
    return (
        f"{name}: {counted.mutants} mutants, {counted.dangerous} dangerous, of these refused {counted.refused}"
        f" ({counted.share:.1%}); {counted.reached} reach execve; harmless ones refused: {counted.harmless_refused}"
    )


def _judged(name: str, plan: Plan) -> list[str]:
    case = MUTATED[name]
    _, good = run_unchanged(case)
    kernel, end = run(plan, case.held())
    return dangers(good, kernel, end, HIDDEN)


def test_the_judge_sees_what_is_left_out() -> None:
    """Each defence of the docker case taken out alone, and what the judge says of it."""
    expected = {
        ("no_new_privs", "default", "prctl", "/process/noNewPrivileges"): "no no_new_privs",
        ("bounding", "docker", "prctl", "/process/capabilities/bounding"): "more capabilities: bounding",
        ("groups", "docker", "setgroups", ""): "more groups",
        ("uid", "default", "umount2", ""): "the old root is still there",
        ("filter", "docker", "seccomp", ""): "another filter, or none",
        ("session", "docker", "setsid", ""): "not session",
        ("keyring", "docker", "keyctl", ""): "not keyring",
        ("limit", "docker", "prlimit64", ""): "a limit that is missing",
        ("leak", "exec", "close_range", "-"): "descriptors are left",
    }
    for (_, name, call, pointer), why in expected.items():
        plan = MUTATED[name].plan()
        drop(plan, find_last(plan, call) if pointer == "-" else find(plan, call, pointer=pointer))
        if pointer == "-":
            drop(plan, 0)
        assert why in _judged(name, plan), (name, call)
        assert refusal(MUTATED[name], plan)


def test_the_judge_sees_a_weaker_mount() -> None:
    plan = MUTATED["default"].plan()
    argument(plan, find(plan, "fsmount", pointer="/mounts/3"), 2, 0)
    assert _judged("default", plan) == ["a flag is missing of the mount on /dev/shm"]
    plan = MUTATED["default"].plan()
    argument(plan, find(plan, "mknodat", pointer="/linux/devices"), 3, 0x101)
    assert _judged("default", plan) == ["another device"]


def test_a_plan_that_fails_is_harmless() -> None:
    plan = MUTATED["default"].plan()
    drop(plan, find(plan, "fsconfig", pointer="/mounts/1", where=lambda step: step.args[1] == 6))
    assert _judged("default", plan) == []
