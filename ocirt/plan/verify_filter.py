"""What capset(2) and seccomp(2) may do in a plan: the filter comes last, and only it may prolong a right.

The checks are called by `verify` like those of verify_order.
"""

from __future__ import annotations

from ocirt.plan.kernel import (
    BPF_MAXINSNS,
    CAP_DATA,
    CAP_HEADER,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    SECCOMP_FILTER_FLAG_LOG,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_TSYNC,
    SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    SECCOMP_SET_MODE_FILTER,
    WORDS_SIZE,
)
from ocirt.plan.step import Program, Reg
from ocirt.plan.verify_credentials import credentials
from ocirt.plan.verify_walk import broken, sized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Step
    from ocirt.plan.verify_walk import Check, Walk

_SYS_ADMIN = 1 << 21
_FILTER_FLAGS = (
    SECCOMP_FILTER_FLAG_TSYNC
    | SECCOMP_FILTER_FLAG_LOG
    | SECCOMP_FILTER_FLAG_SPEC_ALLOW
    | SECCOMP_FILTER_FLAG_NEW_LISTENER
    | SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
)


def _capset(walk: Walk, index: int, step: Step) -> None:
    sized(walk, index, step, (CAP_HEADER.size, CAP_DATA.size))
    words = CAP_DATA.unpack(step.args[1])  # type: ignore[arg-type]
    effective, permitted, inheritable = rights = tuple(words[i] | words[i + 3] << 32 for i in range(3))
    if "capset" not in walk.seen:
        credentials(walk, index, step)
        walk.rights = rights
        return
    first_effective, first_permitted, first_inheritable = walk.rights
    if not walk.certain or step.ok or inheritable != first_inheritable:
        raise broken("credentials-order", index, step, "the program's rights change after they were set")
    if walk.filtered:
        if not walk.raised or effective != first_effective or permitted | _SYS_ADMIN != first_permitted:
            raise broken("credentials-order", index, step, "the program's rights change after they were set")
        walk.raised = False
    else:
        only_admin = effective == first_effective | _SYS_ADMIN and permitted == first_permitted
        if walk.raised or not only_admin or walk.steps[index + 1].call != "seccomp":
            raise broken("credentials-order", index, step, "only CAP_SYS_ADMIN is raised again, and for the filter")
        walk.raised = True


def _seccomp(walk: Walk, index: int, step: Step) -> None:
    """Loaded once, on every way, with the right to: no_new_privs, or CAP_SYS_ADMIN in the effective set."""
    operation, flags, program = step.args
    listens = step.result is not None
    if not walk.certain or step.ok or walk.filtered:
        raise broken("seccomp-last", index, step, "it is loaded once, and may not be skipped")
    if operation != SECCOMP_SET_MODE_FILTER or type(flags) is not int or flags & ~_FILTER_FLAGS:
        raise broken("seccomp-last", index, step, "no rule knows this operation or these flags")
    if listens != bool(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER):
        raise broken("seccomp-last", index, step, "a listener has to be handed on")
    if type(program) is not Program or len(program.instructions) % 8:
        raise broken("buffers-bounded", index, step, "instructions have eight bytes")
    if not 0 < len(program.instructions) <= 8 * BPF_MAXINSNS:
        raise broken("buffers-bounded", index, step, "the kernel does not take so many instructions")
    if not ("no_new_privs" in walk.seen or walk.raised or walk.rights[0] & _SYS_ADMIN):
        raise broken("seccomp-last", index, step, "neither no_new_privs is set nor CAP_SYS_ADMIN effective")
    follows = [one.call for one in walk.steps[index + 1 :]]
    if follows != ["wait"] * listens + ["capset"] * walk.raised + ["execve"]:
        raise broken("seccomp-last", index, step, "the filter may forbid what follows it")
    walk.filtered = True


def _mmap(walk: Walk, index: int, step: Step) -> None:
    """The page that the host shares, and no other memory: what its register holds is an address."""
    address, size, protection, flags, fd, offset = step.args
    if (address, size, protection, flags, offset) != (0, WORDS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0):
        raise broken("buffers-bounded", index, step, "only the words that the host shares are mapped")
    if not walk.certain or type(fd) is not int or fd < 3 or step.result is None:
        raise broken("buffers-bounded", index, step, "the words are inherited from the host")
    walk.words = step.result.number


def _wait(walk: Walk, index: int, step: Step) -> None:
    words, listener, _ = step.args
    loaded = walk.steps[index - 1]
    if type(words) is not Reg or words.number != walk.words:
        raise broken("buffers-bounded", index, step, "it writes to memory that is not shared with the host")
    if loaded.call != "seccomp" or listener is not loaded.result or step.ok:
        raise broken("seccomp-last", index, step, "it hands on the listener, right after the filter was loaded")


FILTER_CHECKS: dict[str, Check] = {
    "capset": _capset,
    "mmap": _mmap,
    "seccomp": _seccomp,
    "wait": _wait,
}
