"""The mutation test's cases, and its count: how many of the dangerous mutants does `verify` refuse?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plan.cases import CASES, FILTER, ON_V2, binds, compile_case, config_of
from plan.model.judge import End, dangers, run
from plan.model.machine import Kernel, Opened
from plan.model.world import ROOTFS, Mount, Place, host
from plan.mutants import mutate

from ocirt.errors import PlanError
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.enter import EXEC, Entrance
from ocirt.plan.enter_exec import compile_exec
from ocirt.plan.facts import Facts
from ocirt.plan.kernel import CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS
from ocirt.plan.step import Plan
from ocirt.plan.verify import verify
from ocirt.plan.verify_enter import verify_enter
from ocirt.runtime.spec import default_spec

HIDDEN = [
    *"proc/acpi proc/asound proc/kcore proc/keys proc/latency_stats proc/timer_list proc/scsi sys/firmware".split(),
    *"proc/timer_stats proc/sched_debug".split(),
    *"proc/bus proc/fs proc/irq proc/sys proc/sysrq-trigger sys/devices/virtual/powercap proc/interrupts".split(),
]
ENTERED = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWUTS


def as_docker_does(spec: dict[str, Any]) -> None:
    """A user, groups, some capabilities, a profile, limits, sysctls, devices and binds, as engines write them."""
    binds(spec)
    process = spec["process"]
    process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 44]}
    kept = [f"CAP_{name}" for name in "CHOWN DAC_OVERRIDE FOWNER NET_RAW SETGID SETUID NET_BIND_SERVICE".split()]
    process["capabilities"] = {"bounding": kept, "permitted": kept, "effective": kept}
    process["noNewPrivileges"] = False
    process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 200},
    ]
    linux = spec["linux"]
    linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    linux["maskedPaths"] = [*linux["maskedPaths"], "/proc/interrupts", "/sys/devices/virtual/powercap"]


def _as_docker_does() -> Plan:
    spec = copy.deepcopy(default_spec())
    as_docker_does(spec)
    facts = {**ON_V2, **FILTER, "directories": {"/data": True, "resolv.conf": False}}
    return compile_plan(config_of(spec), Facts(rootfs="/bundle/rootfs", container_id="one", **facts)).plan


def _exec() -> Plan:
    spec = copy.deepcopy(default_spec())
    spec["process"] |= {"terminal": False, "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}}
    facts = Facts(wait_for_start=False, **FILTER)
    return compile_exec(config_of(spec), facts, Entrance(ENTERED, into_cgroup=False)).plan


def _held_by_exec() -> dict[int, Opened]:
    """A pidfd of the container's first process, and its root."""
    image = Mount(host().tree, ROOTFS)
    first = Opened("process", context={"namespaces": ENTERED, "mounts": image})
    return {4: first, 5: Opened("path", Place(image, ROOTFS))}


@dataclass
class Case:
    """A plan to be changed. proof: what has to refuse it."""

    plan: Callable[[], Plan]
    proof: Callable[[Plan], None] = verify
    held: Callable[[], dict[int, Opened]] = dict


def _case(name: str) -> Case:
    assert name in CASES
    return Case(lambda: compile_case(name).plan)


MUTATED = {
    "default": _case("default"),
    "docker": Case(_as_docker_does),
    "user": _case("user"),
    "user-namespace": _case("user-namespace"),
    "seccomp-with-privileges": _case("seccomp-with-privileges"),
    "exec": Case(_exec, lambda plan: verify_enter(plan, EXEC), _held_by_exec),
}


@dataclass
class Count:
    """mutants, of these the dangerous ones, of these the refused ones; and what was refused for nothing.

    survivors: (seed, what was done, why it is dangerous) of each dangerous mutant that `verify` lets through
    """

    mutants: int = 0
    dangerous: int = 0
    refused: int = 0
    harmless_refused: int = 0
    reached: int = 0
    survivors: list[tuple[str, str, list[str]]] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.refused / self.dangerous if self.dangerous else 1.0

    def add(self, other: Count) -> None:
        self.mutants += other.mutants
        self.dangerous += other.dangerous
        self.refused += other.refused
        self.harmless_refused += other.harmless_refused
        self.reached += other.reached
        self.survivors += other.survivors


def run_unchanged(case: Case) -> tuple[Kernel, End]:
    kernel, end = run(case.plan(), case.held())
    assert end, f"the model stops at step {kernel.failed} with errno {kernel.why}"
    assert not kernel.harmed, kernel.harmed
    return kernel, end


def refusal(case: Case, plan: Plan) -> str:
    """Why a plan is never run; "" if it is."""
    try:
        case.proof(plan)
        encode(plan)
    except PlanError as error:
        return error.message
    return ""


def count(name: str, seeds: range) -> Count:
    case = MUTATED[name]
    _, good = run_unchanged(case)
    counted = Count()
    for seed in seeds:
        plan = case.plan()
        done = mutate(plan, f"{name} {seed}")
        refused = refusal(case, plan)
        kernel, end = run(plan, case.held())
        why = dangers(good, kernel, end, HIDDEN)
        counted.mutants += 1
        counted.reached += end is not None
        if not why:
            counted.harmless_refused += bool(refused)
            continue
        counted.dangerous += 1
        if refused:
            counted.refused += 1
        else:
            counted.survivors.append((f"{name} {seed}", done, why))
    return counted
