"""What the checks of a plan's steps share: what is known of the steps so far, and how a broken rule is told."""

from __future__ import annotations

import _struct

from ocirt.errors import PlanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ocirt.plan.step import Plan, Step

    Check: TypeAlias = "Callable[[Walk, int, Step], None] | None"

NEEDED = ("setgroups", "setresgid", "setresuid", "capset", "ambient")
"""What every program has to go through."""
ALL_ONES = 0xFFFFFFFFFFFFFFFF


def broken(rule: str, index: int, step: Step, why: str) -> PlanError:
    return PlanError(
        f"safety rule {rule}: step {index} ({step.call}: {step.doing}): {why}",
        pointer=step.pointer or None,
        hint="a defect in ocirt: nothing was run",
    )


_UNPACKED: type[Exception] = _struct.error  # type: ignore[attr-defined]
MALFORMED = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError, _UNPACKED)
"""What comes of a step that has not the arguments which its call takes."""


def malformed(error: Exception) -> PlanError:
    return PlanError(
        f"safety rule steps-fit: a step has other arguments than its call takes ({type(error).__name__}: {error})",
        hint="a defect in ocirt: nothing was run",
    )


class Walk:
    """What is known of the steps so far.

    certain   does the present step run on every way through the plan, and end the run if it fails?
    inside    registers that hold something below the container's root, or a file system that only init sees
    trees     registers that hold a tree which is mounted nowhere
    peers     of these the ones that the host's mounts may share events with
    files     registers that hold a file of our own procfs, opened for writing
    shared    pointers of the mounts whose peers the host's may stay, because the configuration says so
    place     the register of the root file system's place on the host
    entered   CLONE_NEW* flags of the namespaces that were made or joined
    stage     how far the credentials have come
    rights    the first capset's effective, permitted and inheritable sets: the program's, but for CAP_SYS_ADMIN
    namespaces  CLONE_NEW* flags of those that have to be entered
    words     the register with the address of the memory that is shared with the host
    raised    is CAP_SYS_ADMIN effective beyond the program's rights?
    hidden    can it not be traced by who has no rights over the host's processes?
    unprivileged  has the caller rights over its own user namespaces only?
    hosts_procfs  has init no more rights through the host's procfs than the caller?
    owns_user  is the container's user namespace one that an ordinary user's plan makes?
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        self.shared = plan.shared
        self.unmounted = plan.unmounted
        self.inherited = plan.inherited
        self.namespaces = plan.namespaces
        self.control = plan.control
        self.certain = False
        self.inside: set[int] = set()
        self.procfs: set[int] = set()
        self.trees: set[int] = set()
        self.peers: set[int] = set()
        self.files: set[int] = set()
        self.root = self.place = -1
        # The configuration may ask for the caller's groups; then they are touched nowhere.
        self.roots: list[str] = ["setgroups"] if plan.keeps_groups else []
        self.stage = self.entered = 0
        self.reached = ""
        self.rights = (0, 0, 0)
        self.raised = self.filtered = False
        self.words = -1
        self.seen: set[str] = set(self.roots)
        # Who has no right to drop them keeps them where the kernel denies it for good, and may use no others.
        self.no_groups = self.unprivileged = plan.unprivileged
        self.hosts_procfs = plan.unprivileged or plan.nested
        self.owns_user = False
        self.own_mounts = self.maps_due = self.in_user = self.hidden = False
        self.cloned = self.into_cgroup = self.private = self.at_root = self.detached = False
        self.checked = self.attached = self.ready = self.closed = False

    def finish(self) -> None:
        """What has to have happened before execve."""
        index = len(self.steps) - 1
        last = self.steps[index]
        if last.call != "execve":
            raise broken("execve-last", index, last, "a plan ends in execve")
        if not self.detached:
            raise broken("pivot-before-code", index, last, "the old root is still there")
        if not self.checked:
            raise broken("pivot-before-code", index, last, "the working directory was not checked")
        self.check_namespaces(index, last)
        self.check_rights(index, last, "credentials-order")
        if not self.ready:
            raise broken("host-met", index, last, "the host was not asked whether all is ready")
        if not self.closed:
            raise broken("descriptors-closed", index, last, "descriptors may survive execve")

    def check_namespaces(self, index: int, last: Step) -> None:
        if self.namespaces & ~self.entered:
            raise broken("namespaces-entered", index, last, f"it is not in {self.namespaces & ~self.entered:#x}")

    def check_rights(self, index: int, last: Step, rule: str) -> None:
        for name in NEEDED:
            if name not in self.seen:
                raise broken(rule, index, last, f"{name} is missing")
        if self.raised:
            raise broken(rule, index, last, "CAP_SYS_ADMIN was not given up")


def sized(walk: Walk, index: int, step: Step, sizes: tuple[int, ...]) -> None:
    if tuple(len(arg) if type(arg) is bytes else -1 for arg in step.args) != sizes:
        raise broken("buffers-bounded", index, step, "a structure has another size")
