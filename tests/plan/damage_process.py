"""Damages to the steps of a process's rarer properties."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, find_last, insert, jump, like, root_of, tolerate

from ocirt.plan.kernel import (
    EACCES,
    ENOENT,
    O_CLOEXEC,
    O_RDWR,
    O_WRONLY,
    OPEN_HOW,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from ocirt.plan.step import Plan


@breaks("buffers-bounded", "a smaller struct sched_attr", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setattr"), 1, bytes(48))


@breaks("buffers-bounded", "a struct sched_attr that claims to be larger", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setattr"), 1, b"\x50" + bytes(55))


@breaks("buffers-bounded", "more processors than there are bytes", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sched_setaffinity"), 1, 4096)


@breaks("buffers-bounded", "more memory nodes than there are bytes", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "set_mempolicy"), 2, 1025)


@breaks("buffers-bounded", "memory nodes at no address", "scheduling")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "set_mempolicy"), 1, 0)


# Kernel parameters.

PARAMETER = "/linux/sysctl/"
SAFELY = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV


def set_how(plan: Plan, flags: int, resolve: int) -> None:
    argument(plan, find(plan, "openat2", pointer=PARAMETER), 2, OPEN_HOW.pack(flags, 0, resolve))


@breaks("sysctls-own", "a parameter of the whole host", "sysctls")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer=PARAMETER), 1, "sys/kernel/core_pattern")


@breaks("sysctls-own", "a parameter of a namespace that is not made", "sysctls")
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    flags = plan.steps[at].args[0]
    assert isinstance(flags, int)
    argument(plan, at, 0, flags & ~0x40000000)


@breaks("targets-by-descriptor", "a file of the private procfs that is no parameter", "sysctls")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer=PARAMETER), 1, "sysrq-trigger")


@breaks("targets-by-descriptor", "a parameter's path may leave the procfs by ..", "sysctls")
def _(plan: Plan) -> None:
    set_how(plan, O_WRONLY | O_CLOEXEC, SAFELY & ~RESOLVE_BENEATH)


@breaks("targets-by-descriptor", "a parameter's path may go through a mount", "sysctls")
def _(plan: Plan) -> None:
    set_how(plan, O_WRONLY | O_CLOEXEC, SAFELY & ~RESOLVE_NO_XDEV)


@breaks("targets-by-descriptor", "a parameter's path may go through a symlink", "sysctls")
def _(plan: Plan) -> None:
    set_how(plan, O_WRONLY | O_CLOEXEC, SAFELY & ~RESOLVE_NO_SYMLINKS)


@breaks("targets-by-descriptor", "a parameter is opened for more than writing", "sysctls")
def _(plan: Plan) -> None:
    set_how(plan, O_RDWR | O_CLOEXEC, SAFELY)


@breaks("writes-inside", "a write to what is no file of the procfs", "sysctls")
def _(plan: Plan) -> None:
    at = find(plan, "write", pointer=PARAMETER)
    argument(plan, at, 0, plan.steps[find(plan, "umask")].result)


@breaks("buffers-bounded", "a write of more than the text", "sysctls")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "write", pointer=PARAMETER), 2, 4096)


@breaks("failures-known", "a write that may fail", "sysctls")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "write", pointer=PARAMETER), EACCES)


@breaks("privileges-gone", "a write after the credentials have changed", "sysctls")
def _(plan: Plan) -> None:
    file = plan.steps[find(plan, "umask")].result
    late = find(plan, "capset") + 1
    insert(plan, late, like(plan, late - 1, "write", file, "1", 1))


# AppArmor and SELinux.


@breaks("targets-by-descriptor", "another file of a process than an attribute", "labelled")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/process/selinuxLabel"), 1, "self/mem")


@breaks("devices-checked", "an attribute in the container's own /proc", "labelled")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/process/apparmorProfile"), 0, root_of(plan))


@breaks("failures-known", "a profile that may not be there", "labelled")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "write", pointer="/process/apparmorProfile"), ENOENT)


@breaks("writes-inside", "a label that is written only sometimes", "labelled")
def _(plan: Plan) -> None:
    at = find(plan, "write", pointer="/process/apparmorProfile")
    jump(plan, at - 2, at + 1)


# What is handed on, and groups that are kept.


@breaks("descriptors-closed", "a descriptor of ours beside those that are handed on", "handed-over")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "close_range"), 0, 6)


@breaks("descriptors-closed", "what is handed on is closed, and what was to be closed is not", "handed-over")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "close_range"), 0, 3)


@breaks("credentials-order", "the groups are set although they are to be kept", "keeping-groups")
def _(plan: Plan) -> None:
    at = find_last(plan, "setresgid")
    insert(plan, at, like(plan, at, "setgroups", 0, 0))


@breaks("credentials-order", "the groups are kept although nobody asked for that")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "setgroups"))


@breaks("privileges-gone", "a limit is set after the credentials have changed", "limits")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "prlimit64"), 1, 4)
