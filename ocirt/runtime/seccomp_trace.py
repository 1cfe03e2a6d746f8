"""`run --seccomp-trace`: a container whose filter asks a process of ours about what it denies (host.supervisor)."""

from __future__ import annotations

from ocirt.config.seccomp import POINTER
from ocirt.errors import ConfigError
from ocirt.host.seccomp_rules import Rules
from ocirt.host.supervisor import SIGKILL, SIGSYS, Supervisor
from ocirt.host.traced import Traced
from ocirt.runtime.creation import Creation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.host.supervisor import Report


class TracedCreation(Creation):
    """report: as host.supervisor has it."""

    traces = True

    def __init__(self, report: Report, *args: Any, **options: Any) -> None:
        self._report = report
        super().__init__(*args, **options)

    def _find_agent(self) -> Any:
        seccomp = (self.config.spec.get("linux") or {}).get("seccomp")
        if not seccomp:
            raise ConfigError("there is no profile: nothing is denied", pointer=POINTER, hint="without --seccomp-trace")
        found = self.facts.seccomp
        assert isinstance(found, Traced)
        rules = Rules(seccomp, self.facts.machine)
        self.supervisor = Supervisor(self.descriptors["words"], found.original, rules, self._report)
        return self.supervisor


def tracing(report: Report) -> Callable[..., TracedCreation]:
    """What makes a Creation that is traced."""
    return lambda *args, **options: TracedCreation(report, *args, **options)


def reported(creation: Creation, status: int) -> int:
    """The end of a traced container: it is reported. Returns its exit code, from the one that `run` has found."""
    assert isinstance(creation, TracedCreation)
    creation.supervisor.close()
    if creation.supervisor.killed and status == 128 + SIGKILL:
        return 128 + SIGSYS
    return status
