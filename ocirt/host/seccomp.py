"""linux.seccomp → a filter: a program of classic BPF, compiled by libseccomp through its C API (seccomp_rule_add(3)).

Only imported when a profile is not in the cache (host/filters.py), because ctypes alone costs 4 ms.

What the specification leaves open is as runc has it. Rules for what is the default anyway are left out. Several
conditions on one argument, which libseccomp does not take in one rule, become a rule each: any of them is enough. The
program's own architecture is always there. A call that is newer than all that the profile names fails with ENOSYS, and
not with the default errno: C libraries then fall back to an older call, as they do on an older kernel.
"""

from __future__ import annotations

import ctypes
import os
from struct import pack

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
    X32_BIT,
    check_seccomp,
    notifies,
)
from ocirt.errors import ConfigError, Error
from ocirt.plan.facts import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
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

# Classic BPF (include/uapi/linux/filter.h), and struct seccomp_data.
LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NR_AT, ARCH_AT = 0, 4


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
    program = _newer(lib, seccomp, architectures) + Compiler(lib, seccomp, architectures, strict, warnings).program()
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
    """One profile on its way through libseccomp."""

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

    def program(self) -> bytes:
        """struct sock_filter after struct sock_filter."""
        lib, rules = self.lib, self.seccomp.get("syscalls") or ()
        default = action_of(self.seccomp, self.seccomp["defaultAction"], "defaultErrnoRet")
        context = lib.seccomp_init(default)
        if not context:
            raise Error("libseccomp: seccomp_init failed", pointer=f"{POINTER}/defaultAction")
        try:
            for name, token in self.architectures.items():
                self._done(lib.seccomp_arch_add(context, token), f"add the architecture {name}", POINTER)
            if sum(len(rule["names"]) for rule in rules) > MANY_RULES:
                self._done(lib.seccomp_attr_set(context, CTL_OPTIMIZE, BINARY_TREE), "ask for a binary tree", POINTER)
            for index, rule in enumerate(rules):
                action = action_of(rule, rule["action"], "errnoRet")
                if action != default:
                    self._add(context, rule, action, f"{POINTER}/syscalls/{index}")
            fd = os.memfd_create("ocirt-filter")
            try:
                self._done(lib.seccomp_export_bpf(context, fd), "export the filter", POINTER)
                return os.pread(fd, os.fstat(fd).st_size, 0)
            finally:
                os.close(fd)
        finally:
            lib.seccomp_release(context)

    def _add(self, context: int, rule: dict[str, Any], action: int, pointer: str) -> None:
        for index, name in enumerate(rule["names"]):
            where = f"{pointer}/names/{index}"
            number = self.lib.seccomp_syscall_resolve_name(name.encode())
            if number == NOT_A_SYSCALL:
                if self.strict:
                    raise ConfigError(
                        f'unknown system call "{name}"',
                        pointer=where,
                        hint="libseccomp does not know it; the annotation run.oci.seccomp_fail_unknown_syscall is set",
                    )
                self.warnings.append(f'{where}: unknown system call "{name}": ignored')
                continue
            for conditions in _alternatives(rule.get("args") or ()):
                result = self.lib.seccomp_rule_add_array(context, action, number, len(conditions), conditions)
                self._done(result, f"add a rule for {name}", where)

    def _done(self, result: int, doing: str, pointer: str) -> None:
        if result < 0 and result != -EEXIST:
            raise Error(f"libseccomp: {doing}: {os.strerror(-result)}", pointer=pointer, errno=-result)


def _alternatives(args: Any) -> Iterator[ctypes.Array[Condition]]:
    """The conditions of each rule that an entry's `args` become: one rule with all, but where two are on one argument
    a rule for each."""
    conditions = [Condition(one["index"], OPERATORS[one["op"]], one["value"], one.get("valueTwo", 0)) for one in args]
    if len({one.arg for one in conditions}) == len(conditions):
        yield (Condition * len(conditions))(*conditions)
    else:
        for one in conditions:
            yield (Condition * 1)(one)


def _newer(lib: ctypes.CDLL, seccomp: dict[str, Any], architectures: dict[str, int]) -> bytes:
    """What stands before the program: ENOSYS for numbers above the highest that the profile names.

    For each architecture on its own. Not where the default lets calls happen, or is ENOSYS anyway.
    """
    if seccomp["defaultAction"] in PERMISSIVE or seccomp.get("defaultErrnoRet") == ENOSYS:
        return b""
    names = {name for rule in seccomp.get("syscalls") or () for name in rule["names"]}
    fail = _instruction(RETURN, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)
    stub = b""
    for name, token in architectures.items():
        last = max((lib.seccomp_syscall_resolve_name_arch(token, one.encode()) for one in names), default=0)
        if last <= 0:  # none of them exists there
            continue
        audit = MACHINES["x86_64"]["X86_64"] if name == "X32" else token
        check = _instruction(JUMP_GREATER, last, no=1) + fail
        if name == "X86_64":
            check = _instruction(JUMP_IF_SET, X32_BIT, yes=2) + check
        elif name == "X32":
            check = _instruction(JUMP_IF_SET, X32_BIT, no=2) + check
        check = _instruction(LOAD, NR_AT) + check
        stub += _instruction(LOAD, ARCH_AT) + _instruction(JUMP_EQUAL, audit, no=len(check) // 8) + check
    return stub


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """struct sock_filter; `yes` and `no`: how many instructions a jump passes over."""
    return pack("<HBBI", code, yes, no, value)
