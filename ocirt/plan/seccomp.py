"""linux.seccomp: the filter is loaded after all else, because it may forbid whatever init would still have to do.

With no_new_privs only execve(2) follows. Without it seccomp(2) needs CAP_SYS_ADMIN: a program that is not to have it
leaves it in init's permitted set until then, effective for the one call alone, and capset(2) follows too. So the
program is still looked up with its own rights.
"""

from __future__ import annotations

from ocirt.errors import UnsupportedError
from ocirt.plan.credentials import capset
from ocirt.plan.kernel import SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_SET_MODE_FILTER
from ocirt.plan.step import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.compile import Scope

_POINTER = "/linux/seccomp"


def load(scope: Scope) -> None:
    found = scope.facts.seccomp
    assert found
    plan, raised = scope.plan, scope.raised
    scope.warnings += found.warnings
    effective, permitted, inheritable = scope.rights
    plan.at(_POINTER, "load the seccomp filter")
    if raised:
        capset(scope, effective | raised, permitted | raised, inheritable)
    if found.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        raise UnsupportedError("SCMP_ACT_NOTIFY is not implemented yet", pointer=f"{_POINTER}/listenerPath")
    plan.call("seccomp", SECCOMP_SET_MODE_FILTER, found.flags, Program(found.program))
    if raised:
        plan.at(_POINTER, "give up CAP_SYS_ADMIN, which loading the filter needed")
        capset(scope, effective, permitted, inheritable)
