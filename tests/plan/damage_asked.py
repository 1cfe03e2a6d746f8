"""Damages to what the configuration asks for: what is left out, or made weaker."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, insert, like, move

from ocirt.plan.kernel import (
    CAP_DATA,
    MOUNT_ATTR,
    MOUNT_ATTR_NOSUID,
    MS_SLAVE,
    OPEN_HOW,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    S_IFCHR,
)
from ocirt.plan.step import Plan, Program
from ocirt.plan.wire import OP_CLONE


@breaks("rights-asked", "a capability stays in the bounding set")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl", pointer="/process/capabilities/bounding", where=lambda step: step.args[1] == 21))


@breaks("rights-asked", "another user")
def _(plan: Plan) -> None:
    for place in range(3):
        argument(plan, find(plan, "setresuid"), place, 7)


@breaks("rights-asked", "another group", case="user")
def _(plan: Plan) -> None:
    for place in range(3):
        argument(plan, find(plan, "setresgid"), place, 0)


@breaks("rights-asked", "one group is another", case="user")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setgroups"), 1, bytes(12))


@breaks("rights-asked", "a capability more", case="user")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    words = list(CAP_DATA.unpack(plan.steps[at].args[1]))  # type: ignore[arg-type]
    argument(plan, at, 1, CAP_DATA.pack(*[word | 1 << 21 for word in words[:2]], *words[2:]))


@breaks("rights-asked", "an ambient capability more", case="user")
def _(plan: Plan) -> None:
    at = find(plan, "prctl", where=lambda step: step.args[:2] == (PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE))
    argument(plan, at, 2, 5)


@breaks("rights-asked", "no no_new_privs")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl", pointer="/process/noNewPrivileges"))


@breaks("rights-asked", "another filter", case="seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 2, Program(bytes(8)))


@breaks("rights-asked", "no filter", case="seccomp")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "seccomp"))


@breaks("rights-asked", "a limit is left out", case="limits")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prlimit64", pointer="/process/rlimits/1"))


@breaks("rights-asked", "the limit of another process")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "prlimit64"), 0, 1)


@breaks("session-asked", "the caller's session")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setsid"))


@breaks("session-asked", "the session is made before the clone")
def _(plan: Plan) -> None:
    move(plan, find(plan, "setsid"), next(at for at, step in enumerate(plan.steps) if step.op == OP_CLONE))


@breaks("session-asked", "the caller's session keyring")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "keyctl"))


@breaks("session-asked", "stdin is another file")
def _(plan: Plan) -> None:
    register = plan.steps[find(plan, "openat2", pointer="/process/env")].result
    assert register
    at = find(plan, "send descriptor", pointer="/process/env")
    insert(plan, at, like(plan, at, "dup3", register, 0, 0))


@breaks("session-asked", "stdout is closed")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "close", where=lambda step: step.args == (3,)), 0, 1)


@breaks("mounts-asked", "a cgroup hierarchy covers the others")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/mounts/6", where=lambda step: step.args[1] == "devices"), 1, ".")


@breaks("mounts-asked", "an option that could be left out, were its group not mapped", case="user-namespace")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fsconfig", pointer="/mounts/2", where=lambda step: step.args[2] == "gid"))


@breaks("namespaces-entered", "the host's name is set")
def _(plan: Plan) -> None:
    move(plan, find(plan, "sethostname"), 1)


@breaks("registers-set", "a number is closed as if it were a descriptor")
def _(plan: Plan) -> None:
    at = find(plan, "close", pointer="", where=lambda step: step.doing == "wait for start" and step.args[0] != 3)
    argument(plan, at, 0, plan.steps[find(plan, "load", pointer="/process/cwd")].result)


@breaks("steps-fit", "a call without its arguments")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "getcwd")].args = ()


@breaks("mounts-private", "the clone has its memory in common with the host's process")
def _(plan: Plan) -> None:
    at = find(plan, "clone3")
    argument(plan, at, 0, plan.steps[at].args[0] | 0x100)  # type: ignore[operator]


@breaks("mounts-asked", "a mount is left out")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "move_mount", pointer="/mounts/3"))


@breaks("mounts-asked", "a flag is left out")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fsmount", pointer="/mounts/3"), 2, 0)


@breaks("mounts-asked", "a flag is taken off", case="binds")
def _(plan: Plan) -> None:
    at = find(plan, "mount_setattr", pointer="/mounts/8")
    argument(plan, at, 3, MOUNT_ATTR.pack(3, 4, 0, 0))


@breaks("mounts-asked", "an option is left out")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fsconfig", pointer="/mounts/1", where=lambda step: step.args[2] == "mode"))


@breaks("mounts-asked", "an option more")
def _(plan: Plan) -> None:
    at = find(plan, "fsconfig", pointer="/mounts/1", where=lambda step: step.args[2] == "mode")
    insert(plan, at, like(plan, at, "fsconfig", plan.steps[at].args[0], 1, "huge", "always", 0))


@breaks("mounts-asked", "an option twice")
def _(plan: Plan) -> None:
    at = find(plan, "fsconfig", pointer="/mounts/1", where=lambda step: step.args[2] == "mode")
    insert(plan, at, like(plan, at, "fsconfig", *plan.steps[at].args[:3], "777", 0))


@breaks("mounts-asked", "another folder of the host", case="binds")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree", pointer="/mounts/7"), 1, "/etc")


@breaks("mounts-asked", "another place")
def _(plan: Plan) -> None:
    for at, step in enumerate(plan.steps):
        if step.pointer == "/mounts/0" and step.call == "openat2":
            argument(plan, at, 1, "elsewhere")


@breaks("mounts-asked", "another place, if that is there")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/mounts/0"), 1, "elsewhere")


@breaks("mounts-asked", "a symlink may lead to the place of procfs")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/0")
    flags, mode, _ = OPEN_HOW.unpack(plan.steps[at].args[2])  # type: ignore[arg-type]
    argument(plan, at, 2, OPEN_HOW.pack(flags, mode, 0x12))


@breaks("mounts-asked", "one cgroup hierarchy is another")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fsconfig", pointer="/mounts/6", where=lambda step: step.args[2] == "cpuacct"))


@breaks("mounts-asked", "a cgroup hierarchy could be written to")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fsmount", pointer="/mounts/6", where=lambda step: step.args[2] == 15), 2, 14)


@breaks("mounts-asked", "another root file system")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree", pointer="/root/path"), 1, "/")


@breaks("mounts-asked", "the root stays writable")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "mount_setattr", pointer="/root/readonly"))


@breaks("mounts-asked", "the root receives what is mounted on the host")
def _(plan: Plan) -> None:
    at = find(plan, "mount_setattr", pointer="/linux/rootfsPropagation")
    argument(plan, at, 3, MOUNT_ATTR.pack(0, 0, MS_SLAVE, 0))


@breaks("mounts-asked", "a mount loses a flag later", case="binds")
def _(plan: Plan) -> None:
    bound = find(plan, "move_mount", pointer="/mounts/8")
    change = MOUNT_ATTR.pack(0, MOUNT_ATTR_NOSUID, 0, 0)
    insert(plan, bound, like(plan, bound, "mount_setattr", plan.steps[bound].args[0], "", 0x1000, change, 32))


@breaks("hidden-asked", "a masked path is left out")
def _(plan: Plan) -> None:
    for at in reversed(range(len(plan.steps))):
        if plan.steps[at].pointer == "/linux/maskedPaths/2":
            drop(plan, at)


@breaks("hidden-asked", "another path is masked")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/linux/maskedPaths/2"), 1, "proc/other")


@breaks("hidden-asked", "a mask is the root file system")
def _(plan: Plan) -> None:
    rootfs = plan.steps[find(plan, "open_tree", pointer="/root/path")].result
    argument(plan, find(plan, "open_tree", pointer="/linux/maskedPaths/2"), 0, rootfs)


@breaks("hidden-asked", "what is readonly is another path's")
def _(plan: Plan) -> None:
    rootfs = plan.steps[find(plan, "open_tree", pointer="/root/path")].result
    argument(plan, find(plan, "open_tree", pointer="/linux/readonlyPaths/2"), 0, rootfs)


@breaks("devices-asked", "a node of another device")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mknodat", pointer="/linux/devices"), 3, 0x101)


@breaks("devices-asked", "a device more")
def _(plan: Plan) -> None:
    at = find(plan, "mknodat", pointer="/linux/devices")
    insert(plan, at, like(plan, at, "mknodat", plan.steps[at].args[0], "mem", S_IFCHR | 0o666, 0x101))


@breaks("devices-asked", "the host's device in another one's place", case="user-namespace")
def _(plan: Plan) -> None:
    moves = [at for at, step in enumerate(plan.steps) if step.call == "move_mount" and step.pointer == "/linux/devices"]
    argument(plan, moves[0], 0, plan.steps[moves[1]].args[0])
