"""The rules that compare a plan with what the configuration asks for (Asked): nothing of it is left out or made weaker.

A pass of its own, after those of `prove`, which has shown by then that what is looked at here is not jumped over.
Rights and session are here, mounts, masks and devices in verify_asked_mounts.
"""

from __future__ import annotations

from ocirt.plan.asked import Asked
from ocirt.plan.kernel import (
    CAP_DATA,
    KEYCTL_JOIN_SESSION_KEYRING,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
)
from ocirt.plan.step import Own, Program, Reg
from ocirt.plan.verify_asked_mounts import MOUNT_NOTES, check_mounts
from ocirt.plan.verify_walk import broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.plan.step import Plan, Step
    from ocirt.plan.verify_asked_mounts import Thing

ASKED_RULES = {
    "rights-asked": "ids, groups, capabilities, no_new_privs, limits and filter are those of the configuration",
    "session-asked": "the program has a session, a session keyring and a terminal of its own, or what it is to share",
    "mounts-asked": "each mount is the one of the configuration, at its place, with its options and flags",
    "hidden-asked": "each masked and readonly path is covered, after all that could cover it again",
    "devices-asked": "each device node is the default one of its name, or as the configuration has it",
}


class Look:
    """What a plan does, of what was asked."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.things: dict[int, Thing] = {}
        self.root: Thing | None = None
        self.over_root: Thing | None = None  # what mount(2) has just put over "/"
        self.placed: dict[str, list[Thing]] = {}
        self.hides = False
        self.numbers: set[int] = set()  # registers that hold no descriptor
        self.dropped = self.raised = 0
        self.rights: list[tuple[int, ...]] = []
        self.ids: dict[str, tuple[Any, ...]] = {}
        self.limits: dict[Any, Any] = {}
        self.filter: tuple[Any, Any] | None = None
        self.cloned = self.session = self.keyring = self.no_new_privs = False


def prove_asked(plan: Plan) -> None:
    """Raise PlanError for the first rule of ASKED_RULES that a plan breaks. One that runs no code of the image's, or a
    hook of the host's, has nothing to compare."""
    asked = plan.asked
    if asked is None:
        return
    look = Look(asked)
    notes = _RIGHTS if asked.mounts is None else _ALL_NOTES
    steps = plan.steps
    for index, step in enumerate(steps):
        note = notes.get(step.call)
        if note is not None:
            note(look, index, step)
    index = len(steps) - 1
    why = _wrong_rights(look)
    if why:
        raise broken("rights-asked", index, steps[index], why)
    if not look.session or (asked.keyring and not look.keyring):
        raise broken("session-asked", index, steps[index], "it would share the caller's session or its keyring")
    if asked.mounts is not None:
        check_mounts(look, index, steps[index])


def _prctl(look: Look, index: int, step: Step) -> None:
    option, value, more = step.args[:3]
    if option == PR_CAPBSET_DROP and type(value) is int and 0 <= value < 64:
        look.dropped |= 1 << value
    elif option == PR_CAP_AMBIENT and value == PR_CAP_AMBIENT_RAISE and type(more) is int and 0 <= more < 64:
        look.raised |= 1 << more
    elif option == PR_SET_NO_NEW_PRIVS:
        look.no_new_privs = step.args[1:] == (1, 0, 0, 0)


def _set_ids(look: Look, index: int, step: Step) -> None:
    look.ids[step.call] = step.args


def _capset(look: Look, index: int, step: Step) -> None:
    words = CAP_DATA.unpack(step.args[1])  # type: ignore[arg-type]
    look.rights.append(tuple(words[i] | words[i + 3] << 32 for i in range(3)))


def _prlimit64(look: Look, index: int, step: Step) -> None:
    if step.args[0] != 0:
        raise broken("rights-asked", index, step, "another process's limit")
    look.limits[step.args[1]] = step.args[2]


def _seccomp(look: Look, index: int, step: Step) -> None:
    program = step.args[2]
    if type(program) is Program:
        look.filter = program.instructions, step.args[1]


def _clone(look: Look, index: int, step: Step) -> None:
    look.cloned = True


def _setsid(look: Look, index: int, step: Step) -> None:
    if not step.ok:
        look.session = look.cloned


def _set_name(look: Look, index: int, step: Step) -> None:
    """Its namespace is made by the clone, or joined before it."""
    if not look.cloned:
        raise broken("namespaces-entered", index, step, "the name is the host's")


def _keyctl(look: Look, index: int, step: Step) -> None:
    look.keyring = step.args[0] == KEYCTL_JOIN_SESSION_KEYRING and type(step.args[1]) in (str, Own)


def _dup3(look: Look, index: int, step: Step) -> None:
    if step.args[1] in (0, 1, 2) and not look.asked.terminal:
        raise broken("session-asked", index, step, "stdin, stdout and stderr are the caller's")
    if type(step.args[1]) is Reg:
        look.things.pop(step.args[1].number, None)


def _wrong_rights(look: Look) -> str:
    asked = look.asked
    every = (2 << asked.highest) - 1
    if ~look.dropped & every & ~asked.bounding:
        return "capabilities are left in the bounding set"
    if look.ids.get("setresgid") != (asked.gid,) * 3 or look.ids.get("setresuid") != (asked.uid,) * 3:
        return "it has another user or group"
    if asked.groups is not None and look.ids.get("setgroups", (0, 0))[1] != asked.groups:
        return "it has other groups"
    if not look.rights or look.rights[-1] != asked.rights:
        return "it has other capabilities"
    if look.raised != asked.ambient:
        return "it has other ambient capabilities"
    if asked.no_new_privs and not look.no_new_privs:
        return "no_new_privs is missing"
    if look.filter != asked.filter:
        return "it has another filter, or none"
    for resource, limit in asked.limits.items():
        if look.limits.get(resource) != limit:
            return f"the limit {resource} is another"
    return ""


def _close(look: Look, index: int, step: Step) -> None:
    fd = step.args[0]
    if type(fd) is Reg:
        look.things.pop(fd.number, None)
        if fd.number in look.numbers:
            raise broken("registers-set", index, step, f"{fd!r} holds no descriptor")
    elif fd in (0, 1, 2):
        raise broken("session-asked", index, step, "stdin, stdout and stderr are the program's")


def _number(look: Look, index: int, step: Step) -> None:
    """Of calls whose result is none."""
    if step.result is not None:
        look.numbers.add(step.result.number)


_RIGHTS: dict[str, Callable[[Look, int, Step], None]] = {
    "capset": _capset,
    "clone3": _clone,
    "close": _close,
    "dup3": _dup3,
    "keyctl": _keyctl,
    "load": _number,
    "prctl": _prctl,
    "prlimit64": _prlimit64,
    "seccomp": _seccomp,
    "setgroups": _set_ids,
    "setresgid": _set_ids,
    "setresuid": _set_ids,
    "setdomainname": _set_name,
    "sethostname": _set_name,
    "setsid": _setsid,
    "umask": _number,
}
_ALL_NOTES = _RIGHTS | MOUNT_NOTES
