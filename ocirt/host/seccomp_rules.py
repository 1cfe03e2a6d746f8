"""Which rule of a profile decides a call, and the smallest addition that would let it happen."""

from __future__ import annotations

from ocirt.config.seccomp import ACTIONS, ENOSYS, MACHINES, PERMISSIVE, POINTER
from ocirt.host.seccomp import AUDIT, WIDE, action_of, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

ALLOW = "SCMP_ACT_ALLOW"
X32_BIT = 1 << 30
LOW = 0xFFFFFFFF
_SOCKET = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt"
    " getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
).split()
_IPC = {
    **dict(enumerate("semop semget semctl semtimedop".split(), 1)),
    **dict(enumerate("msgsnd msgrcv msgget msgctl".split(), 11)),
    **dict(enumerate("shmat shmdt shmget shmctl".split(), 21)),
}
MANY = {"socketcall": dict(enumerate(_SOCKET, 1)), "ipc": _IPC}
"""Calls of x86 whose first argument says which one is meant (include/uapi/linux/net.h, ipc.h); of ipc's the low 16
bits."""


class Decision:
    """pointer: of what decides; rule: the entry of linux.seccomp.syscalls, if it is one."""

    __slots__ = ("pointer", "rule")

    def __init__(self, pointer: str, rule: int = -1) -> None:
        self.pointer = pointer
        self.rule = rule


class Rules:
    """A profile that was checked, as a machine's filter has it (host.seccomp says what is left open)."""

    def __init__(self, seccomp: dict[str, Any], machine: str) -> None:
        self.entries: Sequence[dict[str, Any]] = seccomp.get("syscalls") or ()
        self.default = action_of(seccomp, seccomp["defaultAction"], "defaultErrnoRet")
        self.permissive = seccomp["defaultAction"] in PERMISSIVE
        known = MACHINES[machine]
        listed = {name.removeprefix("SCMP_ARCH_") for name in seccomp.get("architectures") or ()}
        self.architectures = {name for at, name in enumerate(known) if at == 0 or name in listed}
        self._tokens = known

    def architecture(self, audit: int, number: int) -> str:
        """Its name, without SCMP_ARCH_; "" for one that this machine does not have."""
        if "X32" in self._tokens and audit == AUDIT["X32"] and number >= 0 and number & X32_BIT:
            return "X32"
        return next((name for name, token in self._tokens.items() if token == audit and name != "X32"), "")

    def token(self, architecture: str) -> int:
        return self._tokens[architecture]

    def actions(self, name: str) -> Iterator[tuple[int, dict[str, Any], int]]:
        """(index, entry, action) of those that count for a name: the others are the default's."""
        for index, entry in enumerate(self.entries):
            action = action_of(entry, entry["action"], "errnoRet")
            if name in entry["names"] and action != self.default:
                yield index, entry, action

    def decide(self, architecture: str, name: str, args: Sequence[int], action: int) -> Decision:
        """What the filter's answer, `action`, comes from."""
        if architecture not in self.architectures:
            return Decision(f"{POINTER}/architectures")
        for index, entry, its_action in self.actions(name):
            if its_action == action and fits(entry, args, wide=architecture in WIDE):
                return Decision(f"{POINTER}/syscalls/{index}", index)
        if action == ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS and action != self.default and not self.permissive:
            return Decision(f"{POINTER}/syscalls")  # newer than all that they name
        return Decision(f"{POINTER}/defaultAction")

    def relevant(self, name: str) -> list[int]:
        """The arguments that its rules look at."""
        return sorted({one["index"] for _, entry, _ in self.actions(name) for one in entry.get("args") or ()})

    def allows(self, architecture: str, name: str, args: Sequence[int]) -> bool:
        """Would it happen if the architecture were in the profile? Not for what is newer than the profile."""
        for _, entry, action in self.actions(name):
            if fits(entry, args, wide=architecture in WIDE):
                return action == ACTIONS[ALLOW]
        return self.default == ACTIONS[ALLOW]

    def newer(self, architecture: str, name: str) -> bool:
        """Is the call beyond all that the profile names?"""
        if self.permissive or self.default == ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS:
            return False
        number, token = library().seccomp_syscall_resolve_name_arch, self.token(architecture)
        names = {one for entry in self.entries for one in entry["names"]}
        last = max((number(token, one.encode()) for one in names), default=0)
        return bool(0 < last < number(token, name.encode()))


def fits(entry: dict[str, Any], args: Sequence[int], *, wide: bool) -> bool:
    """Do its conditions hold? Two on one argument: any of them is enough."""
    conditions = entry.get("args") or ()
    several = len({one["index"] for one in conditions}) < len(conditions)
    return (any if several else all)(_holds(one, args[one["index"]] & (-1 if wide else LOW)) for one in conditions)


def _holds(one: dict[str, Any], value: int) -> bool:
    op, wanted = one["op"], one["value"]
    if op == "SCMP_CMP_MASKED_EQ":
        return bool(value & wanted == one.get("valueTwo", 0))
    results = {"EQ": value == wanted, "NE": value != wanted, "LT": value < wanted, "LE": value <= wanted}
    results |= {"GT": value > wanted, "GE": value >= wanted}
    return bool(results[op.removeprefix("SCMP_CMP_")])


def meant(name: str, args: Sequence[int]) -> str:
    """Of socketcall(2) and ipc(2): the call that the first argument stands for."""
    return MANY[name].get(args[0] & (LOW if name == "socketcall" else 0xFFFF), name) if name in MANY else name


def addition(rules: Rules, denied: Iterable[tuple[str, str, Sequence[Sequence[int]]]]) -> dict[str, Any]:
    """What would let these calls happen, and as little else as can be.

    denied: (architecture, name, the arguments of each call). The result:
      architectures   to be added to linux.seccomp.architectures
      syscalls        to be put before the entries of linux.seccomp.syscalls, as the first that fits counts
      remove          where calls are allowed by default: pointers of the names that entries deny
    """
    architectures: set[str] = set()
    whole: set[str] = set()
    parts: dict[str, list[list[dict[str, Any]]]] = {}
    remove: set[tuple[int, int]] = set()
    for architecture, name, calls in denied:
        if architecture not in rules.architectures:
            architectures.add(f"SCMP_ARCH_{architecture}")
        newer = rules.newer(architecture, name)
        for args in calls:
            if not newer and rules.allows(architecture, name, args):
                continue  # the architecture is all that it lacks
            if rules.default == ACTIONS[ALLOW]:
                remove |= _deniers(rules, architecture, name, args)
            elif conditions := _conditions(rules, architecture, name, args):
                known = parts.setdefault(name, [])
                if conditions not in known:
                    known.append(conditions)
            else:
                whole.add(name)
    syscalls: list[dict[str, Any]] = [{"names": sorted(whole), "action": ALLOW}] if whole else []
    syscalls += [
        {"names": [name], "action": ALLOW, "args": conditions}
        for name in sorted(parts)
        if name not in whole
        for conditions in parts[name]
    ]
    pointers = [f"{POINTER}/syscalls/{index}/names/{place}" for index, place in sorted(remove)]
    return {"architectures": sorted(architectures), "syscalls": syscalls, "remove": pointers}


def _deniers(rules: Rules, architecture: str, name: str, args: Sequence[int]) -> set[tuple[int, int]]:
    return {
        (index, place)
        for index, entry, _ in rules.actions(name)
        if fits(entry, args, wide=architecture in WIDE)
        for place, one in enumerate(entry["names"])
        if one == name
    }


def _conditions(rules: Rules, architecture: str, name: str, args: Sequence[int]) -> list[dict[str, Any]]:
    """On the arguments that its rules look at: what they were; where all look through one mask, what it shows."""
    found = []
    for index in rules.relevant(name):
        value = args[index] & (-1 if architecture in WIDE else LOW)
        looks = [one for _, entry, _ in rules.actions(name) for one in entry.get("args") or () if one["index"] == index]
        masks = {one["value"] if one["op"] == "SCMP_CMP_MASKED_EQ" else -1 for one in looks}
        mask = masks.pop() if len(masks) == 1 else -1
        condition: dict[str, Any] = {"index": index, "value": value, "op": "SCMP_CMP_EQ"}
        if mask >= 0:
            condition = {"index": index, "value": mask, "valueTwo": value & mask, "op": "SCMP_CMP_MASKED_EQ"}
        found.append(condition)
    return found
