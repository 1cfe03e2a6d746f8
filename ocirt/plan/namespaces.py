"""Enter the container's namespaces, and set up what is empty in a new one."""

from __future__ import annotations

from ocirt.plan.kernel import (
    AF_INET,
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    CLONE_PARENT,
    ENOSYS,
    IFF_UP,
    IFREQ_FLAGS,
    KEYCTL_JOIN_SESSION_KEYRING,
    SIOCSIFFLAGS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
)
from ocirt.plan.tags import SYNC_ATTACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.compile import Scope

_FLAGS = {
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "mount": CLONE_NEWNS,
}


def enter(scope: Scope) -> None:
    """Go on in a new process, in the new namespaces.

    CLONE_PARENT makes it a child of the host's ocirt, which waits for it. The cgroup namespace is not among the
    flags: its root is the cgroup of the moment, and that is still ocirt's own.
    """
    plan = scope.plan
    flags = CLONE_PARENT
    for kind in scope.namespaces:
        flags |= _FLAGS.get(kind, 0)
    plan.at("/linux/namespaces", "make the namespaces " + ", ".join(scope.namespaces))
    if "cgroup" in scope.inherited:
        plan.clone(flags | CLONE_INTO_CGROUP, scope.inherited["cgroup"])
    else:
        plan.clone(flags)


def enter_session(scope: Scope) -> None:
    """A session and a session keyring of its own, so that no signal key and no key of the caller's reaches it."""
    plan = scope.plan
    plan.at("/process", "start a session")
    plan.call("setsid")
    plan.at("/process", "join a new session keyring")
    plan.call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, f"_ses.{scope.facts.container_id}", ignore=(ENOSYS,))


def bring_up_loopback(scope: Scope) -> None:
    """A new network namespace has `lo`, down (netdevice(7))."""
    if "network" not in scope.namespaces:
        return
    plan = scope.plan
    plan.at(scope.namespaces["network"], "bring up lo")
    socket = plan.open("socket", "socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    plan.call("ioctl", socket, SIOCSIFFLAGS, IFREQ_FLAGS.pack(b"lo", IFF_UP))
    plan.close(socket)


def set_names(scope: Scope) -> None:
    plan, spec = scope.plan, scope.spec
    for name, call in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        value = spec.get(name)
        if value:
            plan.at(f"/{name}", f"set the {name} to {value}")
            plan.call(call, value, len(value.encode()))


def meet_cgroups(scope: Scope) -> None:
    """Wait until the host has made the cgroups and put us into them; then make the cgroup namespace, whose root is
    the cgroup of the moment."""
    plan = scope.plan
    if scope.facts.attached_late:
        plan.at("/linux/cgroupsPath", "wait for the host to join the cgroups")
        plan.sync(SYNC_ATTACHED)
    if "cgroup" in scope.namespaces:
        plan.at(scope.namespaces["cgroup"], "make the cgroup namespace")
        plan.call("unshare", CLONE_NEWCGROUP)
