"""A process of a model kernel that walks a plan: what ocirt-init does, and what is left when the program starts.

Written from the man pages (capabilities(7), credentials(7), user_namespaces(7), execve(2), …) and from init/wire.h, not
from `verify`: it is the judge of what `verify` lets through.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from plan.model.world import ROOTFS, Mount, Place, Refused, host

from ocirt.plan.kernel import CLONE_NEWUSER
from ocirt.plan.step import Field, Own, Plan, Program, Reg, Slot, Step, Vector
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_MAPPED, SYNC_READY
from ocirt.plan.wire import (
    ARGS,
    ERRNOS,
    OP_CALL,
    OP_CHANNEL,
    OP_CLONE,
    OP_EXPECT,
    OP_LOAD,
    OP_SENDFD,
    OP_SYNC,
    REGISTERS,
)

ALL_CAPABILITIES = (1 << 41) - 1
CAP = {"SETGID": 6, "SETUID": 7, "SETPCAP": 8, "CHROOT": 18, "ADMIN": 21, "RESOURCE": 24, "MKNOD": 27}


@dataclass
class Opened:
    """What a descriptor refers to. place: for O_PATH, directories and mounts; context: of fsopen(2)."""

    what: str
    place: Place | None = None
    context: dict[str, Any] = field(default_factory=dict)
    cloexec: bool = True

    def duplicate(self, *, cloexec: bool) -> Opened:
        return Opened(self.what, self.place, self.context, cloexec)


@dataclass
class Credentials:
    uids: tuple[int, int, int] = (0, 0, 0)
    gids: tuple[int, int, int] = (0, 0, 0)
    groups: tuple[int, ...] = (0, 4, 27)
    effective: int = ALL_CAPABILITIES
    permitted: int = ALL_CAPABILITIES
    inheritable: int = 0
    bounding: int = ALL_CAPABILITIES
    ambient: int = 0
    keep: bool = False
    no_new_privs: bool = False


@dataclass
class Pointer:
    """The address of a string, in a register."""

    text: str


class Done(Exception):
    """The program was executed."""


class Kernel:
    """One process, from its first step to execve: `run` says whether it came so far, the attributes what it is then.

    harmed    what it did to the host on the way, and what could have been done to it
    """

    def __init__(self, plan: Plan, held: dict[int, Opened], rootfs: str = ROOTFS) -> None:
        self.plan = plan
        self.rootfs = rootfs
        self.world: Mount = host(rootfs)
        self.namespace = self.world  # the root of our mount namespace's mounts
        self.root = self.cwd = Place(self.world, "")
        # Beside what the plan is given, something that the caller has leaked.
        self.fds = {0: Opened("stdin"), 1: Opened("stdout"), 2: Opened("stderr"), 77: Opened("leaked")}
        for number in range(3, plan.inherited + 1):
            self.fds[number] = Opened("control" if number == plan.control else f"inherited {number}")
        self.fds |= held
        del self.fds[plan.inherited]  # init has mapped the plan and closed it
        for opened in self.fds.values():
            opened.cloexec = False
        self.creds = Credentials()
        self.namespaces = 0
        self.cloned = self.attached = self.ready = self.mapped = False
        self.cgroup_root_known = True
        self.in_user = False
        self.dumpable = True
        self.filter: tuple[bytes, int] | None = None
        self.session = self.keyring = False
        self.limits: dict[int, bytes] = {}
        self.harmed: list[str] = []
        self.registers: list[Any] = [None] * REGISTERS
        self.memory: dict[int, bytearray] = {}
        self.failed = -1
        self.why = 0

    def run(self) -> bool:
        steps = self.plan.steps
        if not all(_is_sound(step, index, len(steps)) for index, step in enumerate(steps)):
            return False  # init's decoder refuses it
        index = 0
        while index < len(steps):
            step = steps[index]
            failed = 0
            try:
                result = self._carry_out(step)
            except Refused as refused:
                failed = refused.number
            except (TypeError, AttributeError, ValueError):
                # A pointer where a number should be, or the reverse; or an argument that is not there.
                failed = errno.EFAULT
            except Done:
                return True
            if failed and not _tolerated(step, failed):
                self.failed, self.why = index, failed
                return False
            if step.result is not None and not failed:
                self.registers[step.result.number] = result
            label = step.fail if failed else step.ok
            index = label.index if label is not None and label.index else index + 1
        return False  # a plan ends in execve

    def _carry_out(self, step: Step) -> Any:
        if step.op == OP_EXPECT:
            return self._expect(*step.args)
        args = [self._register(arg) if type(arg) is Reg else arg for arg in step.args]
        if step.op == OP_CALL:
            from plan.model.calls import CALLS

            call = CALLS.get(step.call)
            if call is None:
                raise AssertionError(f"the model kernel has no {step.call}")
            return call(self, *args[:ARGS])
        if step.op == OP_CLONE:
            return self._clone(*args)
        if step.op == OP_SYNC:
            return self._meet(args[0])
        if step.op == OP_LOAD:
            return Pointer(args[0]) if isinstance(args[0], str) else args[0]
        if step.op == OP_SENDFD:
            if args[0] not in self.fds:
                raise Vanished
            return 0
        assert step.op == OP_CHANNEL
        return 0

    def _register(self, register: Reg) -> Any:
        """init ends where one is used that nothing was put into."""
        value = self.registers[register.number]
        if value is None:
            raise Vanished
        return value

    def _clone(self, flags: int, cgroup: int = -1) -> int:
        from plan.model.calls_process import clone

        return clone(self, flags, cgroup)

    def _meet(self, tag: int) -> int:
        """What the host does when init reports: creation.py. It follows init until SYNC_READY."""
        if self.plan.control not in self.fds or self.fds[self.plan.control].what != "control":
            raise Vanished
        if not self.cloned or self.ready:
            raise Vanished  # the host waits for a pid, or for the program
        if tag == SYNC_ATTACHED:
            self.attached = True
        elif tag == SYNC_MAPPED:
            self.mapped = True
        elif tag == SYNC_READY:
            # The host has attached it when it knew its pid, and puts the limits in force now.
            self.ready = True
        elif not isinstance(tag, int) or tag >= 1000 or tag < 0:
            raise Vanished  # the host has no such mount
        return 0

    def _expect(self, value: Any, mask: int, want: int, width: int, number: int) -> int:
        if type(value) is Field:
            content = self.memory.get(id(value.buffer), bytearray(value.buffer.size))
            found: Any = int.from_bytes(content[value.at : value.at + width], "little")
        else:
            found = self._register(value) if type(value) is Reg else value
        if isinstance(found, Pointer):
            found = 0x7F0000000000
        if found & mask & 0xFFFFFFFFFFFFFFFF != want & 0xFFFFFFFFFFFFFFFF:
            raise Refused(number)
        return 0

    # What the system calls need.

    def opened(self, fd: Any) -> Opened:
        if type(fd) is not int or fd not in self.fds:
            raise Refused(errno.EBADF)
        return self.fds[fd]

    def place(self, fd: Any) -> Place:
        found = self.opened(fd).place
        if found is None:
            raise Refused(errno.ENOTDIR)
        return found

    def new_fd(self, opened: Opened) -> int:
        number = 0
        while number in self.fds:
            number += 1
        self.fds[number] = opened
        return number

    def may(self, capability: int) -> None:
        if not self.creds.effective >> capability & 1:
            raise Refused(errno.EPERM)

    def harm(self, what: str) -> None:
        self.harmed.append(what)

    def own(self, namespace: int) -> bool:
        return bool(self.namespaces & namespace)

    @property
    def has_user_namespace(self) -> bool:
        return bool(self.namespaces & CLONE_NEWUSER)


class Vanished(Refused):
    """The host is gone, or waits for something else: init ends."""

    def __init__(self) -> None:
        super().__init__(0)
        self.number = 1000  # of no errno list


def _is_sound(step: Step, index: int, count: int) -> bool:
    """What init's decoder looks at (decode.h)."""
    for label in (step.ok, step.fail):
        if label is not None and label.index and not index < label.index < count:
            return False
    if len(step.args) > ARGS or len(step.errnos) > ERRNOS or any(not 0 <= number < 256 for number in step.errnos):
        return False
    if step.result is not None and not 0 <= step.result.number < REGISTERS:
        return False
    if step.op == OP_EXPECT:
        value, _, _, width, number = step.args
        if width not in (1, 2, 4, 8) or type(number) is not int or not 1 <= number <= 255:
            return False
        if type(value) is Field and not 0 <= value.at <= value.buffer.size - width:
            return False
    return all(type(arg) is not Reg or 0 <= arg.number < REGISTERS for arg in step.args)


def _tolerated(step: Step, number: int) -> bool:
    if number == 1000:
        return False
    listed = [one for one in step.errnos if one]
    return number in listed or (step.fail is not None and bool(step.fail.index) and not listed)


def text_of(value: Any) -> str:
    """A path or a name in memory."""
    if isinstance(value, Pointer):
        return value.text
    if isinstance(value, str):
        return value
    if isinstance(value, Slot):
        return value.prefix
    if isinstance(value, Own):
        return value.content
    if isinstance(value, bytes):
        return value.split(b"\0")[0].decode("latin-1")
    raise Refused(errno.EFAULT)


def is_data(value: Any) -> bool:
    return isinstance(value, (str, bytes, Vector, Slot, Own, Program, Pointer))
