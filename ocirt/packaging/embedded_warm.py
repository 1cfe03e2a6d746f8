"""What hot verbs compute, of an example: done a few times before the picture of the executable's memory is taken.

CPython 3.11 replaces instructions that have run some times by faster ones, and remembers where it found attributes:
both are in the picture then. Only pure functions are called: nothing of the host that builds is looked at or kept.
"""

from __future__ import annotations

import sys

from ocirt.cli.argv import parse
from ocirt.config.check import check_meaning
from ocirt.config.read import Config
from ocirt.config.shape import check_shape
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.enter import EXEC, Entrance
from ocirt.plan.enter_exec import compile_exec
from ocirt.plan.facts import Facts, Hierarchy
from ocirt.plan.kernel import CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS
from ocirt.plan.verify import verify
from ocirt.plan.verify_enter import verify_enter
from ocirt.runtime.spec import default_spec

TIMES = 24
"""Some eight runs until instructions are replaced, and as many again until what follows from them is."""
OWN = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
V1 = tuple(
    Hierarchy(name, ((name, None),), f"/sys/fs/cgroup/{name}/one", False)
    for name in ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
)
V2 = (Hierarchy("", (), "/sys/fs/cgroup/one", True),)
CALLS = (
    ("create", "--bundle", "/bundle", "--pid-file", "/pid", "one"),
    ("--log=/log", "--log-format", "json", "create", "--bundle", "/bundle", "one"),
    ("run", "-d", "--bundle", "/bundle", "one"),
    ("start", "one"),
    ("state", "one"),
    ("exec", "--cwd", "/", "one", "true"),
    ("exec", "--process", "/process.json", "--detach", "one"),
    ("kill", "one", "KILL"),
    ("delete", "--force", "one"),
    ("update", "--memory", "64m", "one"),
)


def make(*, wait: bool, hierarchies: tuple[Hierarchy, ...]) -> None:
    spec = default_spec()
    spec["process"]["terminal"] = False
    config = Config(spec, "", "/bundle")
    check_shape(config.spec)
    check_meaning(config)
    on_v2 = hierarchies[0].v2
    facts = Facts(
        container_id="one",
        rootfs="/bundle/rootfs",
        hierarchies=hierarchies,
        wait_for_start=wait,
        pure_v2=on_v2,
        into_cgroup=on_v2,
        attached_late=not on_v2,
    )
    plan = compile_plan(config, facts).plan
    verify(plan)
    encode(plan)


def enter() -> None:
    spec = default_spec()
    spec["process"]["terminal"] = False
    plan = compile_exec(Config(spec, "", "/bundle"), Facts(wait_for_start=False), Entrance(OWN, into_cgroup=False)).plan
    verify_enter(plan, EXEC)
    encode(plan)


for index in range(TIMES):
    if index == TIMES // 2:
        sys._clear_type_cache()  # a name that a call puts there would write to the one of the build that it replaces
    make(wait=False, hierarchies=V1)
    make(wait=True, hierarchies=V2)
    enter()
    for words in CALLS:
        assert parse(("--root", "/root", *words)), words
