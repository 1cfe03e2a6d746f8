"""What all concerns of a plan share: its inputs, the registers that they leave each other, how it begins, and the order
in which rights go away.
"""

from __future__ import annotations

from ocirt.plan import credentials, namespaces, process
from ocirt.plan.inherited import inherited
from ocirt.plan.kernel import LAST_DESCRIPTOR, SIGACTION_SIZE, SIGSET_SIZE, THREAD_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config
    from ocirt.plan.facts import Facts
    from ocirt.plan.step import Plan, Reg, Slot

RARE = {"scheduler", "ioPriority", "personality", "memoryPolicy"}
"""Of process and linux: what scheduling.py sets."""


class Scope:
    """What the concerns share while one plan is compiled: the inputs, and the registers that they leave each other."""

    root: Reg
    dev: Reg
    null: Reg
    empty: Reg
    terminal: Reg
    umask: Reg
    entered: Reg
    rights: tuple[int, int, int]  # the program's: effective, permitted, inheritable
    raised: int  # what init keeps beyond them for as long as it needs it

    def __init__(self, config: Config, facts: Facts, plan: Plan) -> None:
        spec: dict[str, Any] = config.spec
        self.config = config
        self.facts = facts
        self.plan = plan
        self.spec = spec
        self.process: dict[str, Any] = spec["process"]
        self.linux: dict[str, Any] = spec.get("linux") or {}
        listed = {
            namespace["type"]: f"/linux/namespaces/{index}"
            for index, namespace in enumerate(self.linux.get("namespaces") or ())
        }
        # kind → pointer: those of the container's own, and of these the joined and the new ones
        self.namespaces = {kind: listed[kind] for kind in listed if kind not in facts.shared}
        self.joined = {kind: listed[kind] for kind in facts.joined}
        self.new = {kind: at for kind, at in self.namespaces.items() if kind not in facts.joined}
        self.inherited = inherited(facts)
        # In a user namespace the host's files are out of reach: what is theirs is taken before it is entered.
        self.takes_first = "user" in self.namespaces
        # Without rights over the caller's mounts nothing can be taken from them. The new namespaces have copies, over
        # which init has all rights: it takes from these what the caller can reach, as long as it has the caller's ids.
        self.enters_first = facts.unprivileged and self.takes_first
        # A user namespace gives all rights to who makes it, or owns it and joins it.
        self.possible = (2 << facts.last_capability) - 1 if self.enters_first else facts.permitted
        # Without a security module `lsm.check` refuses a label, or there is nothing to write.
        labels = self.process.get("apparmorProfile") or self.process.get("selinuxLabel")
        self.is_labelled = bool(labels and facts.security_modules)
        self.taken: dict[str, Reg] = {}
        self.parameters: Reg | None = None  # a whole procfs that was mounted before the clone
        self.warnings: list[str] = []
        self.home: Slot | None = None
        self.listen_pid: Slot | None = None
        self.late_readonly: list[tuple[Reg, str, str, bool]] = []
        self.isolated = False  # is our mount namespace cut off from the host's?
        self.hidden = False  # from those who share its pid namespace?
        self._has_met_cgroups = False

    def meet_cgroups(self) -> None:
        """As late as possible, because it has to wait for the host, and once."""
        if not self._has_met_cgroups:
            self._has_met_cgroups = True
            namespaces.meet_cgroups(self)


class Compiled:
    """A plan, the slots for HOME and LISTEN_PID if it has them, and what the user should know."""

    __slots__ = ("home", "listen_pid", "plan", "warnings")

    def __init__(self, plan: Plan, home: Slot | None, listen_pid: Slot | None, warnings: list[str]) -> None:
        self.plan = plan
        self.home = home
        self.listen_pid = listen_pid
        self.warnings = warnings


def reset(scope: Scope) -> None:
    """Before anything else, and in the host's namespaces still: engines leak sockets, and init may wait for days."""
    plan = scope.plan
    plan.inherited = max(scope.inherited.values())
    plan.at("", "close the descriptors that the caller leaked")
    plan.call("close_range", plan.inherited + 1, LAST_DESCRIPTOR, 0)
    # glibc's posix_spawn(3) leaves the two signals that its threads use ignored; the program would inherit that.
    plan.at("", "reset the C library's own signals")
    for number in THREAD_SIGNALS:
        plan.call("rt_sigaction", number, bytes(SIGACTION_SIZE), 0, SIGSET_SIZE)


def drop_rights(scope: Scope) -> None:
    """From here on rights go away, in the one order in which each step still may what it has to. Of whatever runs in
    the container with the program's rights: the program, and a startContainer hook."""
    process.set_limits(scope)
    if not (RARE.isdisjoint(scope.process) and RARE.isdisjoint(scope.linux)):
        from ocirt.plan.scheduling import set_rare

        set_rare(scope)
    credentials.drop_bounding(scope)
    credentials.change_user(scope)
    credentials.set_capabilities(scope)
    process.enter_directory_as_user(scope)
    credentials.forbid_new_privileges(scope)
