"""linux.seccomp: the filter is loaded after all else, because it may forbid whatever init would still have to do.

With no_new_privs only execve(2) follows. Without it seccomp(2) needs CAP_SYS_ADMIN: a program that is not to have it
leaves it in init's permitted set until then, effective for the one call alone, and capset(2) follows too. So the
program is still looked up with its own rights.

A listener is fetched by the host (host/listener.py), since the filter may forbid to send it. How the two agree when, is
memory that they share: init says there which descriptor it is, and waits there for the word to go on.
"""

from __future__ import annotations

from ocirt.plan.credentials import capset
from ocirt.plan.kernel import MAP_SHARED, PROT_READ, PROT_WRITE, SECCOMP_SET_MODE_FILTER, WORDS_SIZE
from ocirt.plan.step import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope

_POINTER = "/linux/seccomp"
LOOKS = 1 << 31
"""How often init looks for the host's word before it gives up: seconds to minutes, by the machine."""


def load(scope: Scope) -> None:
    found = scope.facts.seccomp
    assert found
    plan, raised = scope.plan, scope.raised
    scope.warnings += found.warnings
    effective, permitted, inheritable = scope.rights
    words = None
    if found.listens:
        plan.at(f"{_POINTER}/listenerPath", "map the words that are shared with the host")
        place = (PROT_READ | PROT_WRITE, MAP_SHARED, scope.inherited["words"], 0)
        words = plan.open("words", "mmap", 0, WORDS_SIZE, *place)
    plan.at(_POINTER, "load the seccomp filter")
    if raised:
        capset(scope, effective | raised, permitted | raised, inheritable)
    arguments = (SECCOMP_SET_MODE_FILTER, found.flags, Program(found.program))
    if words:
        listener = plan.open("listener", "seccomp", *arguments)
        plan.at(f"{_POINTER}/listenerPath", "wait until the host has handed the listener on")
        plan.wait(words, listener, LOOKS)
    else:
        plan.call("seccomp", *arguments)
    if raised:
        plan.at(_POINTER, "give up CAP_SYS_ADMIN, which loading the filter needed")
        capset(scope, effective, permitted, inheritable)
