"""The order of the steps that take rights away; and who is root of a user namespace, and when."""

from __future__ import annotations

from ocirt.plan.kernel import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
)
from ocirt.plan.verify_walk import broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Step
    from ocirt.plan.verify_walk import Check, Walk

_CREDENTIALS = ("bounding", "setgroups", "setresgid", "setresuid", "capset", "ambient", "no_new_privs")
_STAGE = {name: number for number, name in enumerate(_CREDENTIALS, 1)}
ROOTS = ("setgroups", "setresgid", "setresuid")
_PRCTL = {PR_CAPBSET_DROP: "bounding", PR_CAP_AMBIENT: "ambient", PR_SET_NO_NEW_PRIVS: "no_new_privs"}


def _becomes_root(walk: Walk, index: int, step: Step) -> bool:
    """In a user namespace: to be its root, once, before any other step of the credentials."""
    if not walk.in_user or not walk.cloned or walk.stage or len(walk.roots) == len(ROOTS):
        return False
    if step.call != ROOTS[len(walk.roots)] or any(step.args):
        raise broken("credentials-order", index, step, "init is not yet root of its user namespace")
    if walk.maps_due:
        raise broken("host-met", index, step, "the host has not written the maps")
    if not walk.certain:
        raise broken("credentials-order", index, step, "it may not be skipped")
    walk.roots.append(step.call)
    return True


def credentials(walk: Walk, index: int, step: Step) -> None:
    name = step.call
    if name == "prctl":
        option = step.args[0]
        if option == PR_SET_KEEPCAPS:
            return
        if option == PR_SET_DUMPABLE and step.args[1] == 0 and walk.certain and not walk.stage:
            walk.hidden = True
            return
        if option == PR_SET_DUMPABLE and step.args[1] == 1 and walk.owns_user and not walk.hidden:
            return
        if option not in _PRCTL:
            raise broken("credentials-order", index, step, f"no rule knows the option {option!r}")
        name = _PRCTL[option]
    number = _STAGE[name]
    if number < walk.stage:
        raise broken("credentials-order", index, step, f"{name} after {walk.reached}")
    if not walk.certain or step.ok:
        raise broken("credentials-order", index, step, f"{name} may not be skipped")
    if name in walk.seen:
        if name not in ("bounding", "ambient"):
            raise broken("credentials-order", index, step, f"{name} for the second time")
    elif name == "ambient" and step.args[1] != PR_CAP_AMBIENT_CLEAR_ALL:
        raise broken("credentials-order", index, step, "the ambient set is not empty before it is filled")
    walk.stage, walk.reached = number, name
    walk.seen.add(name)


def _set_ids(walk: Walk, index: int, step: Step) -> None:
    """Real, effective and saved id: one that stays behind would be a way back."""
    if _becomes_root(walk, index, step):
        return
    real, effective, saved = step.args
    if type(real) is not int or not 0 <= real < 0xFFFFFFFF or not real == effective == saved:
        raise broken("credentials-order", index, step, "the three ids have to be one")
    credentials(walk, index, step)


def _setgroups(walk: Walk, index: int, step: Step) -> None:
    if not walk.cloned and not walk.in_user and step.args == (0, 0) and walk.certain:
        walk.no_groups = True
        return
    if step.errnos:
        if not walk.no_groups or step.args != (0, 0) or step.fail or step.ok:
            raise broken("credentials-order", index, step, "groups of the caller may be left")
        walk.certain = True
    if _becomes_root(walk, index, step):
        return
    count, groups = step.args
    if (len(groups) if type(groups) is bytes else groups) != 4 * count:  # type: ignore[operator]
        raise broken("buffers-bounded", index, step, "it would set groups that nobody named")
    credentials(walk, index, step)


CREDENTIAL_CHECKS: dict[str, Check] = {
    "prctl": credentials,
    "setgroups": _setgroups,
    "setresgid": _set_ids,
    "setresuid": _set_ids,
}
