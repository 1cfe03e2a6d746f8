"""Plans that go into a container that is there: a hook's, which may also stay beside it, and that of `exec`.

ocirt-init walks it as it does a container's plan, so that a hook, too, has nothing of what the caller leaked, and no
Python code runs between fork and exec. `verify_enter` has the rules. Where it goes is a kind's namespaces and rights:

    CALLER     ours, as we are: prestart, createRuntime, poststart, poststop
    ROOT       the container's, before its pivot, with the rights that init has then: createContainer
    PROGRAM    the container's, with the program's rights, and never more: startContainer runs the image's code
    EXEC       the same, and with the program's terminal, environment and PATH (enter_exec)
"""

from __future__ import annotations

from ocirt.plan import namespaces, process
from ocirt.plan.asked import Asked
from ocirt.plan.inherited import CONTROL
from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_PARENT,
    EACCES,
    EPERM,
    O_CLOEXEC,
    O_PATH,
    OPEN_HOW,
    PR_SET_DUMPABLE,
)
from ocirt.plan.paths import HOW_SIZE, parts_of
from ocirt.plan.procfs import open_proc
from ocirt.plan.rootfs import CLONE_TREE
from ocirt.plan.scope import Scope, drop_rights, reset
from ocirt.plan.step import Label, Plan, Vector
from ocirt.plan.tags import SYNC_ATTACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config
    from ocirt.plan.facts import Facts

CALLER, ROOT, PROGRAM, EXEC = "caller", "root", "program", "exec"
_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, 0)
OF_CHILDREN = CLONE_NEWPID | CLONE_NEWTIME
"""Joining these acts on children alone (setns(2)), so it comes before the clone. An ordinary user's right to join them
comes from their user namespace, which is joined in the same call."""


class Entrance:
    """How to get into a container that is there.

    namespaces    the CLONE_NEW* flags of those in which its first process is and we are not
    into_cgroup   by clone3(2), into the v2 cgroup whose descriptor is inherited; else the host attaches the process
    """

    __slots__ = ("into_cgroup", "namespaces")

    def __init__(self, namespaces: int, *, into_cgroup: bool) -> None:
        self.namespaces = namespaces
        self.into_cgroup = into_cgroup


def inherited_to_enter(entrance: Entrance | None, facts: Facts | None = None) -> dict[str, int]:
    """name → number, as `inherited` has it: "first" is a pidfd of the container's first process, "root" its root.

    facts: of `exec`, which may hand descriptors on; its filter, or a hook's, may have a listener.
    """
    names = ["control"]
    if entrance:
        names += ["first", "root"]
        if entrance.into_cgroup:
            names.append("cgroup")
    if facts and facts.seccomp and facts.seccomp.listens:
        names.append("words")
    if facts:
        names += [f"user map {index}" for index in range(facts.user_maps)]
    names.append("plan")
    first = CONTROL + (facts.preserved if facts else 0)
    return {name: first + index for index, name in enumerate(names)}


def compile_hook(
    config: Config, facts: Facts, entrance: Entrance | None, *, rights: str, kind: str, index: int, folder: str
) -> Plan:
    """The plan of the hook /hooks/`kind`/`index`. `folder`: where it runs; with the program's rights, process.cwd.

    Without `entrance` it runs where we are. Of the facts those count that are not about mounts.
    """
    hook: dict[str, Any] = config.spec["hooks"][kind][index]
    plan = Plan(facts.machine, control=CONTROL)
    scope = Scope(config, facts, plan)
    scope.inherited = inherited_to_enter(entrance, facts)
    plan.namespaces = entrance.namespaces if entrance else 0
    if rights == PROGRAM:
        plan.asked = Asked(scope)
    reset(scope)
    pointer = f"/hooks/{kind}/{index}"
    if entrance:
        enter(scope, entrance, pointer, labelled=rights == PROGRAM)
    else:
        plan.at(pointer, "start the hook's process")
        plan.clone(CLONE_PARENT)
        plan.sync(SYNC_ATTACHED)
        plan.at(pointer, "start a session")
        plan.call("setsid")
    if rights == PROGRAM:
        enter_directory(scope)
        drop_rights(scope)
        umask = scope.process["user"].get("umask")
        if umask is not None:
            plan.at("/process/user/umask", "set the umask")
            plan.call("umask", umask)
    else:
        _go_to(plan, pointer, folder)
    process.close_descriptors(scope)
    if rights == PROGRAM and facts.seccomp:
        from ocirt.plan import seccomp

        seccomp.load(scope)
    plan.at(pointer, f"exec {hook['path']}")
    plan.call("execve", hook["path"], Vector(hook.get("args") or [hook["path"]]), Vector(hook.get("env") or []))
    return plan


def hide(scope: Scope, pointer: str) -> None:
    """As long as it has the host's rights."""
    scope.plan.unprivileged = scope.facts.unprivileged
    scope.plan.at(pointer, "keep what is in the container from looking into this process")
    scope.plan.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter(scope: Scope, entrance: Entrance, pointer: str, *, labelled: bool, there: int = 0) -> None:
    """Up to the container's root. labelled: with the label of the process, not with that of whoever called us.

    there: the namespaces that the process has joined already, as `hide` has to come before.
    """
    if not there:
        hide(scope, pointer)
    if entrance.namespaces & CLONE_NEWUSER:
        _enter_user_namespace(scope, entrance, pointer, labelled=labelled, there=there)
    else:
        _enter_unseen(scope, entrance, pointer, labelled=labelled)


def _enter_unseen(scope: Scope, entrance: Entrance, pointer: str, *, labelled: bool) -> None:
    """Without a user namespace of its own a process of the container may have CAP_SYS_PTRACE over ours, from which
    nothing hides. So when ours appears in the container's pid namespace, nothing of the host is in it any more: its
    root, its working directory and its descriptors are the container's by then.

    The cgroup is handed to it as a tree that is mounted nowhere: from the folder itself ".." leads to the host's root.
    """
    plan, numbers = scope.plan, scope.inherited
    late = entrance.namespaces & CLONE_NEWCGROUP
    cgroup = None
    if entrance.into_cgroup:
        plan.at(pointer, "take the container's cgroup")
        cgroup = plan.open("cgroup", "open_tree", numbers["cgroup"], "", CLONE_TREE | AT_EMPTY_PATH)
        plan.call("close", numbers["cgroup"])
    plan.at(pointer, "join the container's namespaces")
    if entrance.namespaces != late:
        plan.call("setns", numbers["first"], entrance.namespaces & ~late)
    _enter_root(scope, pointer)
    if not late:
        plan.call("close", numbers["first"])
    if cgroup:
        plan.clone(CLONE_PARENT | CLONE_INTO_CGROUP, cgroup)
        plan.close(cgroup)
    else:
        plan.clone(CLONE_PARENT)
    _meet_host(scope, pointer, labelled=labelled)
    if late:
        # After the host's part: it is put into the cgroup from outside the container's cgroup namespace.
        plan.at(pointer, "join the container's cgroup namespace")
        plan.call("setns", numbers["first"], late)
        plan.call("close", numbers["first"])


def _enter_user_namespace(scope: Scope, entrance: Entrance, pointer: str, *, labelled: bool, there: int) -> None:
    """What is hidden is hidden from all rights that there are in the container's user namespace."""
    plan, numbers = scope.plan, scope.inherited
    early = OF_CHILDREN | CLONE_NEWUSER if plan.unprivileged else OF_CHILDREN
    first, rest = entrance.namespaces & early & ~there, entrance.namespaces & ~early & ~there
    # It is one to join, whatever it was to the container; in it, setgroups(2) may be denied.
    scope.joined = {"user": pointer}
    if rest & CLONE_NEWUSER:
        plan.at(pointer, "give up the caller's groups")
        plan.call("setgroups", 0, 0)
    plan.at(pointer, "join the container's namespaces")
    if first:
        plan.call("setns", numbers["first"], first)
    if entrance.into_cgroup:
        plan.clone(CLONE_PARENT | CLONE_INTO_CGROUP, numbers["cgroup"])
    else:
        plan.clone(CLONE_PARENT)
    _meet_host(scope, pointer, labelled=labelled)
    plan.at(pointer, "join the container's namespaces")
    if rest:
        plan.call("setns", numbers["first"], rest)
    _enter_root(scope, pointer)
    for name in ("first", "cgroup"):
        if name in numbers:
            plan.call("close", numbers[name])
    namespaces.be_root(scope, pointer)


def _meet_host(scope: Scope, pointer: str, *, labelled: bool) -> None:
    plan = scope.plan
    plan.at(pointer, "wait for the host to join the cgroups")
    plan.sync(SYNC_ATTACHED)
    if labelled and (scope.process.get("apparmorProfile") or scope.process.get("selinuxLabel")):
        _label(scope)
    else:
        namespaces.enter_session(scope)


def _enter_root(scope: Scope, pointer: str) -> None:
    """Joining the mount namespace leads to its root; the root of the container's first process may be another."""
    plan = scope.plan
    plan.at(pointer, "change to the container's root")
    plan.call("fchdir", scope.inherited["root"])
    plan.call("chroot", ".")
    plan.call("close", scope.inherited["root"])


def open_root(scope: Scope) -> None:
    """The container's root as scope.root, by its path: we are in it."""
    scope.plan.at("/root/path", "open the container's root")
    scope.root = scope.plan.open("root", "openat2", AT_FDCWD, "/", _ROOT, HOW_SIZE)


def _label(scope: Scope) -> None:
    """By a procfs of its own, while the host's root, whose the process still is, may write to it."""
    from ocirt.plan import lsm

    proc = open_proc(scope.plan)
    lsm.check(scope)
    lsm.label_keyring(scope, proc, begin=True)
    namespaces.enter_session(scope)
    lsm.label_keyring(scope, proc, begin=False)
    lsm.confine(scope, proc)
    scope.plan.close(proc)


def enter_directory(scope: Scope) -> None:
    """As root first, as init has done it: where root may not, the user tries again when the rights are dropped."""
    plan = scope.plan
    cwd = "/" + "/".join(parts_of(scope.process["cwd"]))
    plan.at("/process/cwd", f"enter {cwd}")
    scope.entered = plan.load("entered", 0)
    refused = Label()
    plan.call("chdir", cwd, ignore=(EACCES, EPERM), fail=refused)
    plan.load(scope.entered, 1)
    plan.place(refused)


def _go_to(plan: Plan, pointer: str, folder: str) -> None:
    """The engine may have removed the bundle already when poststop runs: then in the root."""
    plan.at(pointer, f"enter {folder}")
    entered, gone = Label(), Label()
    plan.call("chdir", folder, ok=entered, fail=gone)
    plan.place(gone)
    plan.call("chdir", "/")
    plan.place(entered)
