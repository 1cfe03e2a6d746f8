"""Damages to how steps follow each other, and to what a step is made of."""

from __future__ import annotations

from plan.damage import argument, breaks, drop, find, find_last, insert, jump, like, step, tolerate

from ocirt.plan.kernel import AT_FDCWD, EPERM
from ocirt.plan.step import Buffer, Field, Own, Plan, Reg, Slot, Vector
from ocirt.plan.wire import OP_EXPECT, OP_SYNC

# first-act


@breaks("first-act", "init keeps the caller's descriptors")
def _(plan: Plan) -> None:
    drop(plan, 0)


@breaks("first-act", "only descriptors from 1000 on are closed")
def _(plan: Plan) -> None:
    argument(plan, 0, 0, 1000)


@breaks("first-act", "they are only marked close-on-exec")
def _(plan: Plan) -> None:
    argument(plan, 0, 2, 4)


@breaks("first-act", "something comes before")
def _(plan: Plan) -> None:
    insert(plan, 0, step("setsid"))


# execve-last


@breaks("execve-last", "the plan ends without execve")
def _(plan: Plan) -> None:
    del plan.steps[-1]


@breaks("execve-last", "an execve in the middle")
def _(plan: Plan) -> None:
    last = plan.steps[-1]
    insert(plan, len(plan.steps) - 2, step("execve", "/bin/sh", last.args[1], last.args[2]))


@breaks("execve-last", "no steps at all")
def _(plan: Plan) -> None:
    plan.steps.clear()


# calls-known


@breaks("calls-known", "a call that takes a raw path: umount")
def _(plan: Plan) -> None:
    insert(plan, find(plan, "fchdir"), like(plan, find(plan, "fchdir"), "umount", "/rootfs"))


@breaks("calls-known", "a call dressed up as another operation")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "pivot_root")].op = OP_SYNC


# jumps-forward, jumps-local


@breaks("jumps-forward", "a loop")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/1")
    jump(plan, at, at - 1)


@breaks("jumps-forward", "a step that goes on at itself", "user")
def _(plan: Plan) -> None:
    at = find(plan, "chdir", pointer="/process/cwd")
    jump(plan, at, at, way="fail")


@breaks("jumps-forward", "a jump behind the end", "relative-path")
def _(plan: Plan) -> None:
    jump(plan, find(plan, "faccessat2"), len(plan.steps))


@breaks("jumps-local", "an ok that passes over the pivot")
def _(plan: Plan) -> None:
    jump(plan, find(plan, "mkdirat", pointer="/mounts/6"), find(plan, "pivot_root") + 2)


@breaks("jumps-local", "a failure that goes straight to execve")
def _(plan: Plan) -> None:
    jump(plan, find(plan, "faccessat2"), len(plan.steps) - 1, way="fail")


@breaks("jumps-local", "a jump over the credentials")
def _(plan: Plan) -> None:
    jump(plan, find(plan, "prlimit64"), find(plan, "capset") + 1)


# registers-set


@breaks("registers-set", "a step whose result is used is dropped")
def _(plan: Plan) -> None:
    drop(plan, find(plan, "fsopen", pointer="/mounts/0"))


@breaks("registers-set", "a register is set on one of two ways only")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/1")
    plan.steps[at].result = Reg(63, "elsewhere")


@breaks("registers-set", "a descriptor is used after it was closed")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer="/mounts/0")
    drop(plan, at + 1)
    insert(plan, at, like(plan, at, "close", plan.steps[at].args[2]))


@breaks("registers-set", "there is no such register")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "umask")].result = Reg(64, "many")


@breaks("registers-set", "a failure would leave an old descriptor in the register")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/0")
    host = plan.steps[at].result
    insert(plan, at, like(plan, at, "open_tree", AT_FDCWD, "/", 1, result=host))


# steps-fit


@breaks("steps-fit", "seven arguments")
def _(plan: Plan) -> None:
    plan.steps[find(plan, "setsid")].args = (0,) * 7


@breaks("steps-fit", "five errnos")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "keyctl"), 1, 2, 3, 4, 5)


# failures-known


@breaks("failures-known", "setresuid may fail")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "setresuid"), EPERM)


@breaks("failures-known", "the readonly flag of a bind mount may fail", "binds")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "mount_setattr", pointer="/mounts/8"), EPERM)


@breaks("failures-known", "a mount may fail")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "move_mount", pointer="/mounts/5"), 22)


@breaks("failures-known", "a mount is passed over within its own value")
def _(plan: Plan) -> None:
    at = find(plan, "move_mount", pointer="/mounts/0")
    jump(plan, find(plan, "mkdirat", pointer="/mounts/0"), at + 2)


@breaks("failures-known", "a target is opened or not, for whatever reason")
def _(plan: Plan) -> None:
    at = find(plan, "openat2", pointer="/mounts/0")
    tolerate(plan, at)
    jump(plan, at, at + 1, way="fail")


@breaks("failures-known", "the last close_range may fail")
def _(plan: Plan) -> None:
    tolerate(plan, find_last(plan, "close_range"), 22)


@breaks("failures-known", "an errno that does not fit into a byte")
def _(plan: Plan) -> None:
    tolerate(plan, find(plan, "chdir", pointer="/process/cwd"), 300)


# slots-in-data


@breaks("slots-in-data", "a slot as a path")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "chdir", pointer="/process/cwd"), 0, Slot("/", 100))


@breaks("slots-in-data", "a slot among the program's arguments")
def _(plan: Plan) -> None:
    argument(plan, len(plan.steps) - 1, 1, Vector(["sh", Slot("A=", 100)]))


@breaks("slots-in-data", "a slot that could name any variable")
def _(plan: Plan) -> None:
    argument(plan, len(plan.steps) - 1, 2, Vector([Slot("", 100)]))


@breaks("slots-in-data", "a vector elsewhere than in execve")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sethostname"), 0, Vector(["a"]))


# buffers-bounded


@breaks("buffers-bounded", "getcwd writes beyond its buffer")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "getcwd"), 0, Buffer(16))


@breaks("buffers-bounded", "statx writes beyond its buffer")
def _(plan: Plan) -> None:
    buffer = plan.steps[find(plan, "statx")].args[4]
    assert isinstance(buffer, Buffer)
    buffer.size = 64


@breaks("buffers-bounded", "a field that begins before the buffer's end and goes on behind it")
def _(plan: Plan) -> None:
    at = find_last(plan, "expect")
    insert(plan, at, like(plan, at, "expect", Field(Buffer(8), 4), 1, 1, 8, 1))
    plan.steps[at].op = OP_EXPECT


@breaks("buffers-bounded", "an errno that init could not report")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "expect"), 4, 0)


@breaks("buffers-bounded", "more groups than are given", "user")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "setgroups"), 0, 10)


@breaks("buffers-bounded", "half a struct open_how")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "openat2", pointer="/mounts/0"), 2, bytes(8))


@breaks("buffers-bounded", "half a struct mount_attr")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mount_setattr", pointer="/root/readonly"), 3, bytes(16))


@breaks("buffers-bounded", "a hostname that is longer than it is")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "sethostname"), 1, 64)


@breaks("buffers-bounded", "half a capability set")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "capset"), 1, bytes(12))


@breaks("buffers-bounded", "half a struct sigaction")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "rt_sigaction"), 1, bytes(16))


@breaks("buffers-bounded", "half a limit")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "prlimit64"), 2, bytes(8))


# own-anything


@breaks("own-anything", "the program")
def _(plan: Plan) -> None:
    argument(plan, len(plan.steps) - 1, 0, Own("/bin/sh"))


@breaks("own-anything", "a path inside the root")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "mkdirat", pointer="/mounts/0"), 1, Own("proc"))


@breaks("own-anything", "a place of the host that is not copied", case="v1-without-cgroup-namespace")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree", pointer="/mounts/6"), 2, 0)


@breaks("own-anything", "the root file system")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "open_tree", pointer="/root/path"), 1, Own("/rootfs"))


@breaks("own-anything", "which kind of file system")
def _(plan: Plan) -> None:
    argument(plan, find(plan, "fsopen"), 0, Own("proc"))


@breaks("slots-in-data", "a variable that any string may be")
def _(plan: Plan) -> None:
    argument(plan, len(plan.steps) - 1, 2, Vector([Own("HOME=/")]))  # type: ignore[list-item]
