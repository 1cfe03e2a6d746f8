"""linux.seccomp → a filter: a program of classic BPF, compiled by libseccomp through its C API (seccomp_rule_add(3)).

Only imported when a profile is not in the cache (host/filters.py), because ctypes alone costs 4 ms.

What the specification leaves open is as runc has it: rules for what is the default anyway are left out; of several
conditions on one argument any is enough; the machine's own architecture is always there. Of several rules that fit a
call the first counts. A call that is newer than all that the profile names fails with ENOSYS, and
not with the default errno: C libraries then fall back to an older call, as they do on an older kernel.
"""

from __future__ import annotations

import ctypes
import os

from ocirt.config.seccomp import (
    ACTIONS,
    DEFAULT_FLAGS,
    ENOSYS,
    EPERM,
    FLAGS,
    MACHINES,
    NEW_LISTENER,
    OPERATORS,
    PERMISSIVE,
    POINTER,
    TSYNC_ESRCH,
    WITH_ERRNO,
    check_seccomp,
    notifies,
)
from ocirt.errors import ConfigError, Error
from ocirt.host import bpf
from ocirt.plan.facts import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LIBRARY = "libseccomp.so.2"
MANY_RULES = 32
"""Above that a filter is a binary tree instead of a list: fewer instructions for each system call."""
MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS (include/uapi/linux/bpf_common.h)."""
CTL_OPTIMIZE = 8
BINARY_TREE = 2
EEXIST = 17
NOT_A_SYSCALL = -1  # __NR_SCMP_ERROR

AUDIT = {"X32": MACHINES["x86_64"]["X86_64"]}
"""The architecture as the kernel tells it to the filter, where that is not libseccomp's token."""
WIDE = ("X86_64", "AARCH64", "RISCV64")
"""Architectures whose arguments have 64 bits."""
MULTIPLEXED = frozenset(
    (
        "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown"
        " setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg semop semget semctl semtimedop msgsnd msgrcv"
        " msgget msgctl shmat shmdt shmget shmctl"
    ).split()
)
"""On x86 also reached by socketcall(2) and ipc(2), whose first argument says which is meant; libseccomp knows how."""


class Condition(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def library() -> ctypes.CDLL:
    """libseccomp, with the types of what is called here. Raises Error if it is not installed."""
    try:
        lib = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise Error(
            f"cannot load {LIBRARY}: {error}", pointer=POINTER, hint="install libseccomp2 (Debian), libseccomp (others)"
        ) from None
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = (ctypes.c_uint32,)
    lib.seccomp_release.argtypes = (ctypes.c_void_p,)
    lib.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    lib.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    lib.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    lib.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    lib.seccomp_rule_add_array.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(Condition),
    )
    lib.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return lib


def library_path() -> bytes:
    """The file that libseccomp was loaded from (proc(5), maps)."""
    library()
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            path = line.rstrip(b"\n").partition(b"/")[2]
            if path.rpartition(b"/")[2].startswith(b"libseccomp.so"):
                return b"/" + path
    return b""


def compile_filter(seccomp: dict[str, Any], machine: str, *, lowers: bool, strict: bool) -> Filter:
    """The filter of a profile. Raises ConfigError for what is wrong in it, Error without libseccomp.

    lowers: is capset(2) called after the filter is loaded?  strict: is a name that libseccomp does not know an error?
    """
    warnings = check_seccomp(seccomp, lowers=lowers)
    blocks = bool(warnings)
    lib = library()
    architectures = _architectures(seccomp, machine, warnings)
    program = Compiler(lib, seccomp, architectures, strict, warnings).program()
    if len(program) > MOST_INSTRUCTIONS * 8:
        raise ConfigError(
            f"the profile has {len(program) // 8} instructions, the kernel takes {MOST_INSTRUCTIONS}",
            pointer=POINTER,
            hint="fewer rules, conditions or architectures",
        )
    names = seccomp.get("flags")
    flags = 0
    for name in DEFAULT_FLAGS if names is None else names:
        flags |= FLAGS[name]
    if notifies(seccomp):
        flags |= NEW_LISTENER
        if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:  # seccomp(2) takes the two together only with a third
            flags |= TSYNC_ESRCH
    return Filter(program, flags, tuple(warnings), blocks=blocks)


def _architectures(seccomp: dict[str, Any], machine: str, warnings: list[str]) -> dict[str, int]:
    """The machine's own, and those of the profile whose programs it runs: name → libseccomp's token."""
    known = MACHINES[machine]
    chosen = dict(list(known.items())[:1])
    for index, name in enumerate(seccomp.get("architectures") or ()):
        short = name.removeprefix("SCMP_ARCH_")
        if short in known:
            chosen[short] = known[short]
        else:
            warnings.append(f"{POINTER}/architectures/{index}: {name}: ignored: {machine} does not run its programs")
    return chosen


def action_of(holder: dict[str, Any], action: str, name: str) -> int:
    """What the filter returns: an action, with the errno from the property `name` or EPERM if it is of those."""
    errno = holder.get(name, EPERM) if action in WITH_ERRNO else 0
    return ACTIONS[action] | errno


class Compiler:
    """One profile on its way to a program.

    What has conditions is written out by `bpf`, the rest is libseccomp's: each architecture, and the calls of x86 that
    share one number (socketcall(2), ipc(2)).
    """

    def __init__(
        self,
        lib: ctypes.CDLL,
        seccomp: dict[str, Any],
        architectures: dict[str, int],
        strict: bool,
        warnings: list[str],
    ) -> None:
        self.lib = lib
        self.seccomp = seccomp
        self.architectures = architectures
        self.strict = strict
        self.warnings = warnings
        self.default = action_of(seccomp, seccomp["defaultAction"], "defaultErrnoRet")
        self.rules = self._rules()
        self.conditional = {name for name, rules in self.rules.items() if any(conditions for conditions, _ in rules)}

    def _rules(self) -> dict[str, list[bpf.Alternative]]:
        """The rules for each name, up to one without conditions; those for what is the default anyway are left out."""
        found: dict[str, list[bpf.Alternative]] = {}
        for index, rule in enumerate(self.seccomp.get("syscalls") or ()):
            action = action_of(rule, rule["action"], "errnoRet")
            alternatives = _alternatives(rule.get("args") or ())
            for place, name in enumerate(rule["names"]):
                if self.lib.seccomp_syscall_resolve_name(name.encode()) == NOT_A_SYSCALL:
                    self._unknown(name, f"{POINTER}/syscalls/{index}/names/{place}")
                elif action != self.default:
                    rules = found.setdefault(name, [])
                    if all(conditions for conditions, _ in rules):
                        rules += [(conditions, action) for conditions in alternatives]
        return found

    def _unknown(self, name: str, where: str) -> None:
        if self.strict:
            raise ConfigError(
                f'unknown system call "{name}"',
                pointer=where,
                hint="libseccomp does not know it; the annotation run.oci.seccomp_fail_unknown_syscall is set",
            )
        self.warnings.append(f'{where}: unknown system call "{name}": ignored')

    def program(self) -> bytes:
        """struct sock_filter after struct sock_filter."""
        before = b""
        for name, token in self.architectures.items():
            body = self._newer(token) + self._conditional(name, token)
            if body:
                x32 = name == "X32" if name in ("X86_64", "X32") else None
                before += bpf.for_architecture(AUDIT.get(name, token), body, x32=x32)
        return before + self._libseccomp()

    def _newer(self, token: int) -> bytes:
        """ENOSYS for numbers above the highest that the profile names for an architecture.

        Not where the default lets calls happen, or is ENOSYS anyway.
        """
        if self.seccomp["defaultAction"] in PERMISSIVE or self.seccomp.get("defaultErrnoRet") == ENOSYS:
            return b""
        names = {name for rule in self.seccomp.get("syscalls") or () for name in rule["names"]}
        last = max((self._number(token, name) for name in names), default=0)
        return bpf.when(bpf.GREATER, last, bpf.returning(ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)) if last > 0 else b""

    def _conditional(self, architecture: str, token: int) -> bytes:
        numbers = {self._number(token, name): self.rules[name] for name in sorted(self.conditional)}
        rules = {number: alternatives for number, alternatives in numbers.items() if number >= 0}
        return bpf.calls(rules, self.default, width=64 if architecture in WIDE else 32)

    def _number(self, token: int, name: str) -> int:
        """A call's number on an architecture; negative if there is none."""
        number: int = self.lib.seccomp_syscall_resolve_name_arch(token, name.encode())
        return number

    def _libseccomp(self) -> bytes:
        lib = self.lib
        context = lib.seccomp_init(self.default)
        if not context:
            raise Error("libseccomp: seccomp_init failed", pointer=f"{POINTER}/defaultAction")
        try:
            for name, token in self.architectures.items():
                self._done(lib.seccomp_arch_add(context, token), f"add the architecture {name}")
            if len(self.rules) > MANY_RULES:
                self._done(lib.seccomp_attr_set(context, CTL_OPTIMIZE, BINARY_TREE), "ask for a binary tree")
            for name, alternatives in self.rules.items():
                if name not in self.conditional or name in MULTIPLEXED:
                    self._add(context, name, alternatives)
            fd = os.memfd_create("ocirt-filter")
            try:
                self._done(lib.seccomp_export_bpf(context, fd), "export the filter")
                return os.pread(fd, os.fstat(fd).st_size, 0)
            finally:
                os.close(fd)
        finally:
            lib.seccomp_release(context)

    def _add(self, context: int, name: str, alternatives: list[bpf.Alternative]) -> None:
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        for conditions, action in alternatives:
            array = (Condition * len(conditions))(*map(_condition, conditions))
            result = self.lib.seccomp_rule_add_array(context, action, number, len(conditions), array)
            self._done(result, f"add a rule for {name}")

    def _done(self, result: int, doing: str) -> None:
        if result < 0 and result != -EEXIST:
            raise Error(f"libseccomp: {doing}: {os.strerror(-result)}", pointer=POINTER, errno=-result)


def _condition(one: dict[str, Any]) -> Condition:
    return Condition(one["index"], OPERATORS[one["op"]], one["value"], one.get("valueTwo", 0))


def _alternatives(args: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Conditions that have to hold together; where two are on one argument, each on its own (as runc and crun)."""
    indices = {one["index"] for one in args}
    return [args] if len(indices) == len(args) else [[one] for one in args]
