"""One mutant for real: a bundle's plan is compiled, changed, and run without `verify`. A program that a test starts.

usage: python mutant_runner.py ROOT ID BUNDLE SEED any|dangerous REPORT

SEED "" is the unchanged plan; "dangerous": of some mutants the first that the model kernel finds so. REPORT is a file,
which gets JSON: what `verify` and the model kernel say of the plan. A mutant that harms the host in the model is not
run. The container's stdout is ours.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from plan.model import calls_mounts, world
from plan.model.judge import dangers, run
from plan.mutants import mutate
from plan.mutation import HIDDEN

from ocirt.config.read import Config
from ocirt.errors import Error, PlanError
from ocirt.plan.compile import compile_plan
from ocirt.plan.facts import Facts
from ocirt.plan.scope import Compiled
from ocirt.plan.step import Plan
from ocirt.plan.verify import verify
from ocirt.runtime import preparation
from ocirt.runtime.run import run as run_container

MOST = 60
"""mutants, to find one in"""


def main(root: str, container_id: str, bundle: str, seed: str, wanted: str, report: str) -> int:
    rootfs = f"{bundle}/rootfs".lstrip("/")
    for names, folder in ((world.PROC_FOLDERS, "/proc"), (world.PROC_FILES, "/proc"), (world.SYS_FOLDERS, "/sys")):
        names[:] = [name for name in names if os.path.exists(f"{folder}/{name}")]

    lines = [line.split(":")[1].split(",") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    calls_mounts.TOGETHER[:] = [set(names) for names in lines if len(names) > 1]

    def compile_changed(config: Config, facts: Facts) -> Compiled:
        good, end = run(compile_plan(config, facts).plan, rootfs=rootfs)
        assert end, f"the model stops at step {good.failed} with errno {good.why}"
        for attempt in range(MOST if wanted == "dangerous" else 1):
            compiled = compile_plan(config, facts)
            done = mutate(compiled.plan, f"{seed} {attempt}") if seed else "nothing"
            kernel, changed = run(compiled.plan, rootfs=rootfs)
            why = dangers(end, kernel, changed, HIDDEN)
            if why and not kernel.harmed:
                break
        refused = ""
        try:
            verify(compiled.plan)
        except PlanError as error:
            refused = error.message
        said = {"done": done, "refused": refused, "harmed": kernel.harmed, "why": why, "reached": changed is not None}
        Path(report).write_text(json.dumps(said))
        if kernel.harmed:
            raise PlanError("not for this host")
        return compiled

    def let_all_through(plan: Plan) -> None:
        return None

    def stay(*args: object, **options: object) -> None:
        """init is not sent ahead: what a mutant does before the clone is to be seen."""

    preparation.Preparation._send_ahead = stay  # type: ignore[assignment,method-assign]
    preparation.compile_plan = compile_changed  # type: ignore[assignment]
    preparation.verify = let_all_through  # type: ignore[assignment]
    try:
        return run_container(root, container_id, bundle)
    except Error as error:
        print(error, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
