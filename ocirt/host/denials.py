"""What `run --seccomp-trace` remembers: calls that were denied, each kind once, with counts. Its size is bounded,
whatever a program calls."""

from __future__ import annotations

from errno import errorcode

from ocirt.host.notices import name_of
from ocirt.host.seccomp_rules import addition, meant
from ocirt.host.traced import ACTION, DATA, ERRNO, KILL_PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.host.notices import Notice
    from ocirt.host.seccomp_rules import Rules

MOST_KINDS = 1000
"""Different calls that are remembered. All others are only counted."""
MOST_VALUES = 64
"""Of one kind: different arguments that the profile looks at."""
MOST_THREADS = 8


class Kind:
    """A call, its architecture, and what comes of it.

    calls: for each combination of the arguments that the profile looks at, the arguments of the first such call.
    """

    __slots__ = ("action", "architecture", "calls", "count", "name", "number", "pointer", "relevant", "threads")

    def __init__(self, architecture: str, name: str, notice: Notice, action: int, rules: Rules) -> None:
        self.architecture = architecture
        self.name = name
        self.number = notice.number
        self.action = action
        self.pointer = rules.decide(architecture, name, notice.args, action).pointer
        self.relevant = rules.relevant(name) if name else []
        self.count = 0
        self.calls: dict[tuple[int, ...], list[int]] = {}
        self.threads: list[int] = []

    def add(self, notice: Notice) -> bool:
        """False: there are too many different ones, or it is counted only."""
        self.count += 1
        if notice.thread not in self.threads and len(self.threads) < MOST_THREADS:
            self.threads.append(notice.thread)
        looked_at = tuple(notice.args[index] for index in self.relevant)
        if looked_at not in self.calls:
            if len(self.calls) >= MOST_VALUES:
                return False
            self.calls[looked_at] = notice.args
        return True

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "number": self.number,
            "architecture": f"SCMP_ARCH_{self.architecture}" if self.architecture else "",
            **action_document(self.action),
            "pointer": self.pointer,
            "count": self.count,
            "args": list(self.calls.values()),
            "pids": self.threads,
        }


class Denials:
    """All of them."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._kinds: dict[tuple[int, int, int, str, str], Kind] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._not_kept = 0

    def add(self, notice: Notice, action: int) -> None:
        """action: what the profile's filter returns for it."""
        architecture = self._rules.architecture(notice.architecture, notice.number)
        name = meant(self._name(architecture, notice.number), notice.args)
        decision = self._rules.decide(architecture, name, notice.args, action)
        key = (notice.architecture, notice.number, action, name, decision.pointer)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                self._not_kept += 1
                return
            kind = self._kinds[key] = Kind(architecture, name, notice, action, self._rules)
        if not kind.add(notice):
            self._not_kept += 1

    def _name(self, architecture: str, number: int) -> str:
        key = (architecture, number)
        if key not in self._names:
            name = name_of(self._rules.token(architecture), number) if architecture else ""
            if len(self._names) >= MOST_KINDS:
                return name
            self._names[key] = name
        return self._names[key]

    def document(self) -> dict[str, Any]:
        """denied: each kind, most frequent first; notKept: how many calls are in no kind, or with arguments that are in
        none; addition: as host.seccomp_rules has it, without what has no name."""
        kinds = sorted(self._kinds.values(), key=lambda kind: (-kind.count, kind.name, kind.number))
        named = [(kind.architecture, kind.name, list(kind.calls.values())) for kind in kinds if kind.name]
        return {
            "denied": [kind.document() for kind in kinds],
            "notKept": self._not_kept,
            "addition": addition(self._rules, named),
        }


def action_document(action: int) -> dict[str, Any]:
    """{"action", "errno", "errnoName"} of what a filter that denies returns."""
    if action & ACTION == ERRNO:
        return {"action": "SCMP_ACT_ERRNO", "errno": action & DATA, "errnoName": errorcode.get(action & DATA, "")}
    name = "SCMP_ACT_KILL_PROCESS" if action & ACTION == KILL_PROCESS else "SCMP_ACT_KILL_THREAD"
    return {"action": name, "errno": None, "errnoName": ""}
