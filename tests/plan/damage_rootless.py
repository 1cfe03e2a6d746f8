"""Damages to the plans of an ordinary user, and of root in a user namespace."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, find_last, insert, like, move, tolerate

from ocirt.plan.kernel import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_PARENT,
    EPERM,
    OPEN_TREE_CLOEXEC,
    PR_SET_DUMPABLE,
)
from ocirt.plan.step import Plan, Reg

USER = "ordinary-user"
ONE_ID = "ordinary-user-with-one-id"
JOINS = "ordinary-user-joins"


@breaks("mounts-private", "the copies of the host's mounts are not cut off", USER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr"))


@breaks("mounts-private", "what is copied before they are cut off stays a peer", USER)
def _(plan: Plan) -> None:
    move(plan, find(plan, "open_tree", pointer="/mounts/7"), find(plan, "clone3") + 1)


@breaks("mounts-private", "a user namespace in the caller's mount namespace", USER)
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    flags = plan.steps[at].args[0]
    assert isinstance(flags, int)
    argument(plan, at, 0, flags & ~CLONE_NEWNS | CLONE_PARENT)


@breaks("host-met", "init becomes root before its ids are mapped", USER)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", pointer="/linux/uidMappings"))


@breaks("credentials-order", "a group is given to whom it may be denied", USER)
def _(plan: Plan) -> None:
    at = find_last(plan, "setgroups")
    plan.steps[at].args = (1, bytes(4))
    tolerate(plan, at, EPERM)


@breaks("credentials-order", "a privileged caller's groups may stay", USER)
def _(plan: Plan) -> None:
    plan.unprivileged = False


@breaks("credentials-order", "init shows itself in a user namespace of others", JOINS)
def _(plan: Plan) -> None:
    at = find(plan, "setresuid")
    insert(plan, at + 1, like(plan, at, "prctl", PR_SET_DUMPABLE, 1, 0, 0, 0))


@breaks("credentials-order", "a privileged caller's init shows itself", "user-namespace")
def _(plan: Plan) -> None:
    at = find(plan, "setresuid")
    insert(plan, at + 1, like(plan, at, "prctl", PR_SET_DUMPABLE, 1, 0, 0, 0))


@breaks("init-hidden", "an ordinary user's init can be traced where it joins", JOINS)
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl"))


@breaks("host-met", "a user namespace whose maps nobody waits for", "ordinary-user-with-clocks")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", pointer="/linux/uidMappings"))


@breaks("host-met", "a privileged caller's user namespace before the clone", "ordinary-user-with-clocks")
def _(plan: Plan) -> None:
    plan.unprivileged = False


@breaks("targets-by-descriptor", "another folder for the private procfs", ONE_ID)
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree"), 1, "/tmp")


@breaks("targets-by-descriptor", "the host's procfs for a privileged caller")
def _(plan: Plan) -> None:
    at = find(plan, "openat")
    proc = plan.steps[at].args[0]
    assert isinstance(proc, Reg)
    opened = find(plan, "fsopen")
    plan.steps[opened].call = "open_tree"
    plan.steps[opened].args = (AT_FDCWD, "/proc", OPEN_TREE_CLOEXEC)


@breaks("devices-checked", "a node that root of a user namespace binds is not looked at", "nested")
def _(plan: Plan) -> None:
    at = find(plan, "open_tree", where=lambda one: one.args[1] == "/dev/null")
    for _ in range(4):
        drop(plan, at + 1)
