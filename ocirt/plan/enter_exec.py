"""The plan of `exec`: one more process in a container, with the rights, the terminal and the environment of a program.

It goes in as a hook does (enter), and becomes its program as a container's first process does (compile).
"""

from __future__ import annotations

from ocirt.config.lists import MOST_PROCESSORS, bits_of
from ocirt.plan import process, terminal
from ocirt.plan.asked import Asked
from ocirt.plan.enter import enter, enter_directory, inherited_to_enter, open_root
from ocirt.plan.inherited import CONTROL
from ocirt.plan.kernel import LAST_DESCRIPTOR
from ocirt.plan.scope import Compiled, Scope, drop_rights, reset
from ocirt.plan.step import Plan
from ocirt.plan.tags import SYNC_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.config.read import Config
    from ocirt.plan.enter import Entrance
    from ocirt.plan.facts import Facts


def compile_exec(config: Config, facts: Facts, entrance: Entrance) -> Compiled:
    """config.spec is the container's with another `process`. Raises ConfigError. Of the facts those count that are not
    about mounts."""
    plan = Plan(facts.machine, control=CONTROL + facts.preserved)
    scope = Scope(config, facts, plan)
    scope.inherited = inherited_to_enter(entrance, facts)
    plan.namespaces = entrance.namespaces
    plan.asked = Asked(scope)
    reset(scope)
    # Joining a cpuset keeps, of what a process may run on, what it has in common with it.
    _run_on(scope, "initial")
    enter(scope, entrance, "/process", labelled=True)
    _run_on(scope, "final")
    if scope.process.get("terminal") or "HOME" not in _names(scope):
        open_root(scope)
    if scope.process.get("terminal"):
        terminal.make_terminal(scope)
    environment = process.environment(scope)
    process.send_passwd(scope)
    enter_directory(scope)
    terminal.become_controlling(scope)
    plan.at("", "close what is not needed any more")
    plan.call("close_range", scope.inherited["plan"], LAST_DESCRIPTOR, 0)
    drop_rights(scope)
    program = process.find_program(scope)
    plan.at("", "tell the host that all is ready")
    plan.sync(SYNC_READY)
    umask = scope.process["user"].get("umask")
    if umask is not None:
        plan.at("/process/user/umask", "set the umask")
        plan.call("umask", umask)
    process.close_descriptors(scope)
    if facts.seccomp:
        from ocirt.plan import seccomp

        seccomp.load(scope)
    process.execute(scope, program, environment)
    return Compiled(plan, scope.home, scope.listen_pid, scope.warnings)


def _names(scope: Scope) -> list[str]:
    return [entry.partition("=")[0] for entry in scope.process.get("env") or ()]


def _run_on(scope: Scope, when: str) -> None:
    processors = (scope.process.get("execCPUAffinity") or {}).get(when)
    if processors:
        pointer = f"/process/execCPUAffinity/{when}"
        bits = bits_of(processors, pointer, "processors", MOST_PROCESSORS)
        size = (bits.bit_length() + 63) // 64 * 8
        scope.plan.at(pointer, f"run on the processors {processors}")
        scope.plan.call("sched_setaffinity", 0, size, bits.to_bytes(size, "little"))
