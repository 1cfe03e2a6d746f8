"""User, groups and capabilities of the program: the one order in which each step still may what the next needs."""

from __future__ import annotations

from _struct import pack

from ocirt.config.names import CAPABILITIES
from ocirt.errors import ConfigError
from ocirt.plan import namespaces
from ocirt.plan.kernel import (
    CAP_DATA,
    CAP_HEADER,
    EPERM,
    LINUX_CAPABILITY_VERSION_3,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.plan.scope import Scope

_POINTER = "/process/capabilities"
_SYS_ADMIN = 1 << CAPABILITIES["CAP_SYS_ADMIN"]


def drop_bounding(scope: Scope) -> None:
    """First: it needs CAP_SETPCAP, which the later steps take away. No capabilities given: all are dropped."""
    plan = scope.plan
    plan.at(f"{_POINTER}/bounding", "limit the bounding set")
    keep = _bits(scope, "bounding")
    for number in range(scope.facts.last_capability + 1):
        if not keep >> number & 1:
            plan.call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)


def change_user(scope: Scope) -> None:
    """Groups before gid before uid, because each change of uid may take the right to make the others."""
    plan, user = scope.plan, scope.process["user"]
    plan.at("/process/user/uid", "keep capabilities over the change of user")
    plan.call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = user.get("additionalGids") or ()
    if groups and scope.facts.groups_denied:
        scope.warnings.append(
            "/process/user/additionalGids: ignored: setgroups(2) is denied in a user namespace whose groups are mapped"
            " without newgidmap and a range of /etc/subgid"
        )
        groups = ()
    if plan.keeps_groups:
        if groups:
            scope.warnings.append("/process/user/additionalGids: the caller's groups are kept instead, by annotation")
    else:
        _set_groups(scope, groups)
    gid, uid = user["gid"], user["uid"]
    plan.at("/process/user/gid", f"become group {gid}")
    plan.call("setresgid", gid, gid, gid)
    plan.at("/process/user/uid", f"become user {uid}")
    plan.call("setresuid", uid, uid, uid)
    namespaces.stay_visible(scope, "/process/user/uid")


def _set_groups(scope: Scope, groups: Sequence[int]) -> None:
    plan = scope.plan
    plan.at("/process/user/additionalGids", "set the additional groups")
    # In a joined user namespace it may be denied; then there are no groups, because they went before it was joined. And
    # in that of an ordinary user, who may not drop them.
    denied = (EPERM,) if not groups and ("user" in scope.joined or plan.unprivileged) else ()
    plan.call("setgroups", len(groups), pack(f"<{len(groups)}I", *groups) if groups else 0, ignore=denied)


def set_capabilities(scope: Scope) -> None:
    """What the caller has not cannot be granted: left out with a warning (runtime-spec 1.1), as is an inheritable
    capability that is not in the bounding set, and an ambient one that is not both permitted and inheritable
    (capabilities(7))."""
    plan = scope.plan
    permitted = _granted(scope, "permitted", scope.possible)
    effective = _granted(scope, "effective", permitted)
    bounding = _bits(scope, "bounding")
    inheritable = _granted(scope, "inheritable", scope.possible & bounding)
    ambient = _granted(scope, "ambient", permitted & inheritable)
    scope.rights = (effective, permitted, inheritable)
    scope.raised = _right_to_load(scope, effective) if scope.facts.seccomp else 0
    plan.at(_POINTER, "set the capabilities")
    capset(scope, effective, permitted | scope.raised, inheritable)
    plan.at(f"{_POINTER}/ambient", "set the ambient capabilities")
    plan.call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(ambient.bit_length()):
        if ambient >> number & 1:
            plan.call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)


def capset(scope: Scope, effective: int, permitted: int, inheritable: int) -> None:
    low = 0xFFFFFFFF
    data = CAP_DATA.pack(
        effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32
    )
    scope.plan.call("capset", CAP_HEADER.pack(LINUX_CAPABILITY_VERSION_3, 0), data)


def _right_to_load(scope: Scope, effective: int) -> int:
    """The capability, as a bit set, that init keeps beyond the program's to load the seccomp filter (seccomp(2))."""
    if scope.process.get("noNewPrivileges"):
        return 0
    if not scope.possible & _SYS_ADMIN and "user" not in scope.namespaces:  # a new one gives all rights
        raise ConfigError(
            "loading a filter needs CAP_SYS_ADMIN, which the caller does not have",
            pointer="/linux/seccomp",
            hint="with /process/noNewPrivileges true it needs no right",
        )
    return _SYS_ADMIN & ~effective


def forbid_new_privileges(scope: Scope) -> None:
    if scope.process.get("noNewPrivileges"):
        scope.plan.at("/process/noNewPrivileges", "set no_new_privs")
        scope.plan.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _bits(scope: Scope, name: str) -> int:
    bits = 0
    for capability in (scope.process.get("capabilities") or {}).get(name) or ():
        number = CAPABILITIES.get(capability)
        if number is not None:  # unknown ones were warned of when the configuration was checked
            bits |= 1 << number
    return bits


def _granted(scope: Scope, name: str, possible: int) -> int:
    wanted = _bits(scope, name)
    missing = wanted & ~possible
    if missing:
        names = [capability for capability, number in CAPABILITIES.items() if missing >> number & 1]
        why = "the caller does not have it"
        if name == "ambient":
            why = "not both permitted and inheritable"
        elif name == "effective" and not missing & ~scope.possible:
            why = "not in the permitted set"
        elif name == "inheritable" and not missing & ~scope.possible:
            why = "not in the bounding set"
        scope.warnings.append(f"{_POINTER}/{name}: {', '.join(names)} left out: {why}")
    return wanted & possible
