"""Enter the container's namespaces, and set up what is empty in a new one."""

from __future__ import annotations

from ocirt.config.names import CAPABILITIES, NAMESPACES
from ocirt.errors import ConfigError
from ocirt.plan.facts import KEYRING
from ocirt.plan.kernel import (
    AF_INET,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_PARENT,
    ENOSYS,
    EPERM,
    IFF_UP,
    IFREQ_FLAGS,
    KEYCTL_JOIN_SESSION_KEYRING,
    O_CLOEXEC,
    O_WRONLY,
    PR_SET_DUMPABLE,
    SIOCSIFFLAGS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
)
from ocirt.plan.procfs import hosts_proc, open_proc
from ocirt.plan.tags import SYNC_ATTACHED, SYNC_MAPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope

# Of the namespaces that are joined, these come before the clone: pid and time act on children alone. The user
# namespace is the last, because the rights over the others may be the caller's only; the mount namespace is joined
# when the root is built, and the cgroup namespace when we are in our cgroup: from inside, others cannot be reached.
_JOINED_FIRST = ("uts", "ipc", "network", "pid", "time")
_SYS_PTRACE = 1 << CAPABILITIES["CAP_SYS_PTRACE"]


def hide(scope: Scope) -> None:
    """From the processes of a pid namespace that it joins, which see it from its clone on, in the host's mounts still;
    and, while it waits for `start`, from an `exec` that comes before that: what it has open is no business of theirs.
    Until execve (ptrace(2), "Ptrace access mode checking").

    An ordinary user could not look at it any more either; nor could a root without CAP_SYS_PTRACE, who has to for
    `exec`.
    """
    facts = scope.facts
    if scope.enters_first:
        return
    if "pid" in scope.joined or (facts.wait_for_start and facts.permitted & _SYS_PTRACE):
        scope.plan.at("", "keep the container's processes from looking into init")
        scope.plan.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
        scope.hidden = True


def join(scope: Scope) -> None:
    """The existing namespaces that the container is to share, by the descriptors that the host has checked."""
    for kind in _JOINED_FIRST:
        if kind in scope.joined:
            _join(scope, kind)


def join_user(scope: Scope) -> None:
    """The groups go first: in the namespace setgroups(2) may be denied for good (user_namespaces(7)).

    Who has CAP_SYS_PTRACE there could otherwise trace init, which is still the host's root in the host's mounts, if it
    shares the pid namespace too: no call between this and execve makes init dumpable again (ptrace(2)).
    """
    if "user" in scope.joined:
        if not scope.hidden:
            scope.plan.at(f"{scope.joined['user']}/path", "keep what is in the namespace from looking into init")
            scope.plan.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
        if not scope.enters_first:
            scope.plan.at(f"{scope.joined['user']}/path", "drop the caller's groups")
            scope.plan.call("setgroups", 0, 0)
        _join(scope, "user")


def join_mount(scope: Scope) -> None:
    if "mount" in scope.joined:
        _join(scope, "mount")


def _join(scope: Scope, kind: str) -> None:
    plan, fd = scope.plan, scope.inherited[f"{kind} namespace"]
    plan.at(f"{scope.joined[kind]}/path", f"join the {kind} namespace")
    plan.call("setns", fd, NAMESPACES[kind])
    plan.call("close", fd)


def set_clocks(scope: Scope) -> None:
    """A new time namespace whose clocks are moved: between unshare(2) and the first child (time_namespaces(7)). The
    right to it comes from the user namespace, for an ordinary user: then that is made now, and not by the clone."""
    plan = scope.plan
    if scope.enters_first and "user" in scope.new:
        plan.at(scope.new["user"], "make the user namespace")
        plan.call("unshare", CLONE_NEWUSER)
    plan.at(scope.new["time"], "make the time namespace")
    plan.call("unshare", CLONE_NEWTIME)
    proc = hosts_proc(plan) if scope.enters_first else open_proc(plan)
    for clock, offset in scope.linux["timeOffsets"].items():
        if not offset:
            continue
        line = f"{clock} {offset.get('secs') or 0} {offset.get('nanosecs') or 0}\n"
        plan.at(f"/linux/timeOffsets/{clock}", f"move the clock {line[:-1]}")
        file = plan.open("offsets", "openat", proc, "self/timens_offsets", O_WRONLY | O_CLOEXEC)
        plan.call("write", file, line, len(line))
        plan.close(file)
    plan.close(proc)


def _made_elsewhere(scope: Scope) -> list[str]:
    """New namespaces that are not made by the clone. The root of a cgroup namespace is the cgroup of the moment, and
    that is still ocirt's own; the files in an ipc namespace (mqueue) belong to who makes it, and that has to be the
    root of the user namespace; a time namespace's clocks were moved before."""
    kinds = ["cgroup"]
    if scope.takes_first:
        kinds.append("ipc")
    if scope.linux.get("timeOffsets"):
        kinds.append("time")
        if scope.enters_first:
            kinds.append("user")
    return kinds


def enter(scope: Scope) -> None:
    """Go on in a new process, in the new namespaces.

    CLONE_PARENT makes it a child of the host's ocirt, which waits for it. A user namespace owns those that are made
    with it.
    """
    plan = scope.plan
    flags = CLONE_PARENT
    for kind in scope.new:
        if kind not in _made_elsewhere(scope):
            flags |= NAMESPACES[kind]
    plan.at("/linux/namespaces", "make the namespaces " + ", ".join(scope.new))
    if "cgroup" in scope.inherited:
        plan.clone(flags | CLONE_INTO_CGROUP, scope.inherited["cgroup"])
    else:
        plan.clone(flags)


def become_root(scope: Scope) -> None:
    """In a user namespace: wait until the host has written the maps, then be its root, or nothing could be created."""
    if "user" not in scope.namespaces:
        return
    plan = scope.plan
    if "user" in scope.new:
        plan.at("/linux/uidMappings", "wait for the host to map the ids")
        plan.sync(SYNC_MAPPED)
    be_root(scope, scope.namespaces["user"])
    if "ipc" in scope.new:
        plan.at(scope.new["ipc"], "make the ipc namespace")
        plan.call("unshare", CLONE_NEWIPC)


def be_root(scope: Scope, pointer: str) -> None:
    plan = scope.plan
    plan.at(pointer, "become root in the user namespace")
    if not plan.keeps_groups:
        # Where it is denied they are gone already, or the caller's own, which nobody may drop (user_namespaces(7)).
        plan.call("setgroups", 0, 0, ignore=(EPERM,) if "user" in scope.joined or plan.unprivileged else ())
    plan.call("setresgid", 0, 0, 0)
    plan.call("setresuid", 0, 0, 0)
    stay_visible(scope, pointer)


def stay_visible(scope: Scope, pointer: str) -> None:
    """A change of ids makes a process root's in /proc, where its own user could not look at it any more: not for its
    status, nor to enter its namespaces. In a user namespace that this plan makes there is nobody else who could."""
    if scope.enters_first and "user" not in scope.joined:
        scope.plan.at(pointer, "stay visible for the user")
        scope.plan.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)


def enter_session(scope: Scope) -> None:
    """A session and a session keyring of its own, so that no signal key and no key of the caller's reaches it. The
    caller may want its keyring to be shared."""
    plan = scope.plan
    plan.at("/process", "start a session")
    plan.call("setsid")
    if not scope.facts.new_keyring:
        return
    plan.at("/process", "join a new session keyring")
    name = plan.own(KEYRING, f"_ses.{scope.facts.container_id}")
    plan.call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name, ignore=(ENOSYS,))


def bring_up_loopback(scope: Scope) -> None:
    """A new network namespace has `lo`, down (netdevice(7)). One that is joined is someone else's to set up."""
    if "network" not in scope.new:
        return
    plan = scope.plan
    plan.at(scope.new["network"], "bring up lo")
    socket = plan.open("socket", "socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    plan.call("ioctl", socket, SIOCSIFFLAGS, IFREQ_FLAGS.pack(b"lo", IFF_UP))
    plan.close(socket)


def set_names(scope: Scope) -> None:
    plan, spec = scope.plan, scope.spec
    for name, call in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        value = spec.get(name)
        if value and "uts" not in scope.namespaces:
            raise ConfigError(f"the joined uts namespace is the host's, whose {name} it is", pointer=f"/{name}")
        if value:
            plan.at(f"/{name}", f"set the {name} to {value}")
            plan.call(call, value, len(value.encode()))


def meet_cgroups(scope: Scope) -> None:
    """Wait until the host has made the cgroups and put us into them; then make the cgroup namespace, whose root is
    the cgroup of the moment, or join one."""
    plan = scope.plan
    if scope.facts.attached_late:
        plan.at("/linux/cgroupsPath", "wait for the host to join the cgroups")
        plan.sync(SYNC_ATTACHED)
    if "cgroup" in scope.new:
        plan.at(scope.new["cgroup"], "make the cgroup namespace")
        plan.call("unshare", CLONE_NEWCGROUP)
    elif "cgroup" in scope.joined:
        _join(scope, "cgroup")
