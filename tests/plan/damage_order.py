"""Damages to the order of things: pivot, credentials, the host, execve."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, find_last, insert, jump, like, move, root_of, step

from ocirt.plan.kernel import (
    AT_FDCWD,
    CAP_DATA,
    CLONE_NEWNS,
    LAST_DESCRIPTOR,
    MOUNT_ATTR,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_SET_NO_NEW_PRIVS,
)
from ocirt.plan.step import Plan, Program, Reg
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_HOOKS, SYNC_READY

# pivot-before-code


@breaks("pivot-before-code", "no pivot")
def _(plan: Plan) -> None:
    at = find(plan, "fchdir")
    for _ in range(4):
        drop(plan, at)


@breaks("pivot-before-code", "the old root stays mounted")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "umount2"))


@breaks("pivot-before-code", "something else is unmounted")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "umount2"), 0, "/tmp")


@breaks("pivot-before-code", "an unmount of its own")
def _(plan: Plan) -> None:
    at = find(plan, "fchdir")
    insert(plan, at, like(plan, at, "umount2", ".", 2))


@breaks("pivot-before-code", "a pivot into another directory")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fchdir"))


@breaks("pivot-before-code", "a pivot into something that is not the root", "user")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fchdir"), 0, plan.steps[find(plan, "umask")].result)


@breaks("pivot-before-code", "a procfs of the host stays", "without-pivot")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "umount2"))


@breaks("pivot-before-code", "what is not the host's procfs is unmounted", "without-pivot")
def _(plan: Plan) -> None:
    at = find(plan, "umount2")
    insert(plan, at, like(plan, at, "umount2", "/home", 2))


@breaks("pivot-before-code", "another tree is moved over the root", "without-pivot")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "move_mount"), 0, plan.steps[find(plan, "umask")].result)


@breaks("pivot-before-code", "the root is changed, but not moved over", "without-pivot")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "move_mount"))


@breaks("targets-by-descriptor", "moved over, but not changed", "without-pivot")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "chroot"))


@breaks("targets-by-descriptor", "moved over something else", "without-pivot")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount")
    argument(plan, at, 2, AT_FDCWD)
    argument(plan, at, 3, "/")


@breaks("pivot-before-code", "the working directory stays in the old root")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "chdir", pointer="/root/path"))


@breaks("pivot-before-code", "the working directory is not checked")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "getcwd") + 1)


@breaks("pivot-before-code", "it is checked, and may be wrong")
def _(plan: Plan) -> None:
    at = find(plan, "getcwd") + 1
    jump(plan, at, at + 1, way="fail")
    insert(plan, at + 1, like(plan, at, "chdir", "/"))


@breaks("pivot-before-code", "any answer will do")
def _(plan: Plan) -> None:
    at = find(plan, "getcwd") + 1
    argument(plan, at, 1, 0)
    argument(plan, at, 2, 0)


@breaks("pivot-before-code", "the working directory changes after the check")
def _(plan: Plan) -> None:
    at = find(plan, "getcwd") + 2
    insert(plan, at, like(plan, at, "chdir", "/proc/self/fd/7"))


# credentials-order


@breaks("credentials-order", "the uid before the gid")
def _(plan: Plan) -> None:
    at = find(plan, "setresgid")
    steps = plan.steps
    steps[at], steps[at + 1] = steps[at + 1], steps[at]


@breaks("credentials-order", "the bounding set after the user")
def _(plan: Plan) -> None:
    move(plan, find(plan, "prctl"), find(plan, "setresuid"))


@breaks("credentials-order", "no change of user")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setresuid"))


@breaks("credentials-order", "the caller's groups stay")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "setgroups"))


@breaks("credentials-order", "no capset")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "capset"))


@breaks("credentials-order", "the ambient set is not emptied")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl", where=lambda one: one.args[0] == PR_CAP_AMBIENT))


@breaks("credentials-order", "the ambient set is filled before it is emptied", "user")
def _(plan: Plan) -> None:
    at = find(plan, "prctl", where=lambda one: one.args[0] == PR_CAP_AMBIENT)
    insert(plan, at, like(plan, at, "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 1, 0, 0))


@breaks("credentials-order", "no_new_privs before the user")
def _(plan: Plan) -> None:
    move(plan, find(plan, "prctl", where=lambda one: one.args[0] == PR_SET_NO_NEW_PRIVS), find(plan, "setresuid"))


@breaks("credentials-order", "the saved uid stays root", "user")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setresuid"), 2, 0)


@breaks("credentials-order", "the uid is left unchanged")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "setresuid")].args = (-1, -1, -1)


@breaks("credentials-order", "root again", "user")
def _(plan: Plan) -> None:
    at = find(plan, "setresuid") + 1
    insert(plan, at, like(plan, at, "setresuid", 0, 0, 0))


@breaks("credentials-order", "the capabilities are set in a branch that may be skipped")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    insert(plan, at, like(plan, at, "chdir", "/"))
    jump(plan, at, at + 2, way="fail")


@breaks("credentials-order", "a prctl that no rule knows")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    insert(plan, at, like(plan, at, "prctl", 28, 0, 0, 0, 0))


# privileges-gone


@breaks("privileges-gone", "a mount after the bounding set")
def _(plan: Plan) -> None:
    at = find(plan, "setgroups")
    root = root_of(plan)
    insert(plan, at, like(plan, at, "mount_setattr", root, "", 0, MOUNT_ATTR.pack(0, 1, 0, 0), MOUNT_ATTR.size))


@breaks("privileges-gone", "a node after the change of user")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    insert(plan, at, like(plan, at, "mknodat", AT_FDCWD, "x", 0, 0))


@breaks("privileges-gone", "a descriptor is made after the credentials")
def _(plan: Plan) -> None:
    at = find(plan, "capset")
    insert(plan, at, like(plan, at, "socket", 2, 2, 0, result=Reg(60, "late")))


# host-met


@breaks("host-met", "hooks of a container that is not in its cgroups", "hooks")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", where=lambda one: one.args == (SYNC_ATTACHED,)))
    drop(plan, find(plan, "unshare"))


@breaks("host-met", "hooks after the pivot", "v2-hooks")
def _(plan: Plan) -> None:
    move(plan, find(plan, "sync", where=lambda one: one.args == (SYNC_HOOKS,)), find_last(plan, "umount2") + 1)


@breaks("host-met", "the program starts without the host's word")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", where=lambda one: one.args[0] == SYNC_READY))


@breaks("host-met", "the cgroup namespace is made in the caller's cgroup")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "sync", where=lambda one: one.args[0] == SYNC_ATTACHED))


@breaks("host-met", "another namespace is unshared")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "unshare"), 0, CLONE_NEWNS)


# descriptors-closed


@breaks("descriptors-closed", "no close_range before execve")
def _(plan: Plan) -> None:
    drop(plan, find_last(plan, "close_range"))


@breaks("descriptors-closed", "stderr's neighbour survives")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "close_range"), 0, 4)


@breaks("descriptors-closed", "only some are closed")
def _(plan: Plan) -> None:
    argument(plan, find_last(plan, "close_range"), 1, LAST_DESCRIPTOR >> 1)


@breaks("descriptors-closed", "a descriptor is opened afterwards")
def _(plan: Plan) -> None:
    at = len(plan.steps) - 1
    proc = plan.steps[find(plan, "openat")].args[0]
    drop(plan, find(plan, "close", where=lambda one: one.args[0] is proc))
    insert(plan, at - 1, step("openat", proc, "self/fd/9", 0, result=Reg(60, "late"), pointer="/process/args"))


@breaks("descriptors-closed", "the close_range is in a branch that may be skipped")
def _(plan: Plan) -> None:
    at = find_last(plan, "close_range")
    insert(plan, at, like(plan, at, "faccessat2", AT_FDCWD, "/", 0, 0))
    insert(plan, at + 2, like(plan, at, "umask", 0))
    jump(plan, at, at + 2, way="fail")


# seccomp-last, and the capsets around it


@breaks("seccomp-last", "it is loaded before no_new_privs", "seccomp")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "prctl", where=lambda one: one.args[0] == PR_SET_NO_NEW_PRIVS))


@breaks("seccomp-last", "umask follows", "seccomp")
def _(plan: Plan) -> None:
    at = find(plan, "seccomp")
    insert(plan, at + 1, like(plan, at, "umask", 0))


@breaks("seccomp-last", "close_range follows", "seccomp")
def _(plan: Plan) -> None:
    move(plan, find(plan, "seccomp"), find_last(plan, "close_range"))


@breaks("seccomp-last", "another capset follows", "seccomp")
def _(plan: Plan) -> None:
    at = find(plan, "seccomp")
    insert(plan, at + 1, like(plan, at, "capset", *plan.steps[find(plan, "capset")].args))


@breaks("seccomp-last", "it is loaded twice", "seccomp")
def _(plan: Plan) -> None:
    at = find(plan, "seccomp")
    insert(plan, at + 1, like(plan, at, "seccomp", *plan.steps[at].args))


@breaks("seccomp-last", "it may be skipped", "seccomp")
def _(plan: Plan) -> None:
    at = find(plan, "seccomp")
    insert(plan, at, like(plan, at, "faccessat2", AT_FDCWD, "/", 0, 0))
    jump(plan, at, at + 2, way="fail")


@breaks("failures-known", "a failure to load it is no failure", "seccomp")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "seccomp")].errnos = (22,)


@breaks("seccomp-last", "another operation", "seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 0, 0)


@breaks("seccomp-last", "a flag that nobody knows", "seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 1, 1 << 20)


@breaks("buffers-bounded", "a filter that ends within an instruction", "seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 2, Program(bytes(12)))


@breaks("buffers-bounded", "a filter that the kernel does not take", "seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 2, Program(bytes(8 * 4097)))


@breaks("buffers-bounded", "a filter that is no program", "seccomp")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 2, bytes(16))


@breaks("seccomp-last", "CAP_SYS_ADMIN is not raised for it", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "seccomp") - 1)


@breaks("seccomp-last", "CAP_SYS_ADMIN is not given up", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "seccomp") + 1)


def rights(plan: Plan, at: int, *, effective: int = 0, permitted: int = 0, inheritable: int = 0) -> None:
    """Change bits of a capset's low words."""
    words = list(CAP_DATA.unpack(plan.steps[at].args[1]))  # type: ignore[arg-type]
    for index, bits in enumerate((effective, permitted, inheritable)):
        words[index] ^= bits
    argument(plan, at, 1, CAP_DATA.pack(*words))


@breaks("credentials-order", "more than CAP_SYS_ADMIN is raised", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    rights(plan, find(plan, "seccomp") - 1, effective=1 << 12)


@breaks("credentials-order", "CAP_SYS_ADMIN stays effective", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    rights(plan, find(plan, "seccomp") + 1, effective=1 << 21)


@breaks("credentials-order", "another right stays permitted", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    rights(plan, find(plan, "seccomp") + 1, permitted=1 << 12)


@breaks("credentials-order", "another right becomes inheritable", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    rights(plan, find(plan, "seccomp") + 1, inheritable=1 << 12)


@breaks("credentials-order", "CAP_SYS_ADMIN is raised for something else", "seccomp-with-privileges")
def _(plan: Plan) -> None:
    move(plan, find(plan, "seccomp") - 1, find_last(plan, "close_range"))


@breaks("seccomp-last", "the listener is handed to nobody", "seccomp-listener")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "wait"))


@breaks("seccomp-last", "a listener, and no register for it", "seccomp-listener")
def _(plan: Plan) -> None:
    at = find(plan, "seccomp")
    plan.steps[at].result = None
    argument(plan, at + 1, 1, plan.steps[find(plan, "mmap")].result)


@breaks("seccomp-last", "a register, and no listener", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "seccomp"), 1, 4)


@breaks("seccomp-last", "another descriptor is handed over", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "wait"), 1, plan.steps[find(plan, "mmap")].result)


@breaks("buffers-bounded", "init writes to a descriptor's number", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "wait"), 0, plan.steps[find(plan, "seccomp")].result)


@breaks("buffers-bounded", "other memory is mapped", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mmap"), 1, 1 << 20)


@breaks("buffers-bounded", "memory is mapped to be executed", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mmap"), 2, 7)


@breaks("buffers-bounded", "the program's stdin is mapped", "seccomp-listener")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mmap"), 4, 0)
