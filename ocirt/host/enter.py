"""Go into a container that is there: what the host has to find out and to open for `plan.enter`."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import read, visible
from ocirt.config.names import NAMESPACES
from ocirt.errors import from_os_error
from ocirt.host.facts import CAP_SYS_ADMIN, permitted_capabilities
from ocirt.plan.enter import Entrance
from ocirt.plan.facts import Facts
from ocirt.state.process import is_alive, open_process, own_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.cgroups.manager import Cgroups
    from ocirt.config.read import Config

ESRCH = 3
_NAMES = {"network": "net", "mount": "mnt"}


class Container:
    """A container, by its first process, which must not have ended: `close` it.

    All is opened by its pid, which could be another's by now, or with fewer namespaces because it is just ending: then
    the hook would run on the host. So it has to be alive afterwards, and the one that `started` then (state.process).

    entrance      what the plan needs to know
    descriptors   what the plan inherits
    own_pid       the first process's pid in its own pid namespace
    """

    def __init__(self, pid: int, started: int, cgroups: Cgroups) -> None:
        self.cgroups = cgroups
        self.descriptors: dict[str, int] = {}
        try:
            self.descriptors["first"] = open_process(pid)
            self.descriptors["root"] = posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_CLOEXEC)
            unified = all(is_v2 for _, _, is_v2, _, _ in cgroups.places) and _joinable(cgroups, pid)
            if unified and cgroups.delegated:
                from ocirt.cgroups.delegation import may_join

                if not may_join(unified, cgroups.places[0][3]):
                    unified = ""
            if unified:
                flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
                self.descriptors["cgroup"] = posix.open(unified, flags)
            self.entrance = Entrance(foreign_namespaces(pid), into_cgroup=bool(unified))
            self.own_pid = own_pid(pid)
            if not is_alive(pid, started):
                raise ProcessLookupError(ESRCH, posix.strerror(ESRCH))
        except OSError as error:
            self.close()
            raise from_os_error(error, "open the container's first process") from None

    def close(self) -> None:
        while self.descriptors:
            posix.close(self.descriptors.popitem()[1])


def _joinable(cgroups: Cgroups, pid: int) -> str:
    """The v2 cgroup to put a process into, "" if there is none. A container that has divided its own has no process in
    it any more (cgroup-v2.rst, "No Internal Process Constraint"): then it is where its first process is."""
    unified = cgroups.unified()
    try:
        divided = unified and read(unified + "/cgroup.subtree_control").strip()
    except OSError:
        divided = ""  # it is gone: opening it says so
    if not divided:
        return unified
    mount = next(mount for _, _, is_v2, mount, _ in cgroups.places if is_v2)
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::"):
            first = mount + visible(mount, line[3:], "/proc/self/mountinfo").rstrip("/")
            return first if first.startswith(unified + "/") else unified
    return unified


def foreign_namespaces(pid: int) -> int:
    """The CLONE_NEW* flags of the namespaces that a process is in and we are not: only these can be joined, and of our
    own user namespace setns(2) says EINVAL. Raises OSError for a process that is ending, and has none any more."""
    flags = 0
    for kind, flag in NAMESPACES.items():
        name = _NAMES.get(kind, kind)
        try:
            own = posix.readlink(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # a kernel without this kind
        if posix.readlink(f"/proc/{pid}/ns/{name}") != own:
            flags |= flag
    return flags


def facts_to_enter(
    config: Config,
    container_id: str,
    *,
    as_program: bool,
    preserved: int = 0,
    window: tuple[int, int] | None = None,
) -> Facts:
    """Of the facts those that are not about mounts: `gather` has looked at the others, when the container was made.

    as_program: is it to have the program's rights, and so its filter and its label? What has the caller's must not fail
    for want of them.
    """
    spec = config.spec
    machine = posix.uname().machine
    seccomp = None
    if as_program and (spec.get("linux") or {}).get("seccomp"):
        from ocirt.host.filters import filter_of

        seccomp = filter_of(spec, machine)
    modules: tuple[str, ...] = ()
    if as_program and (spec["process"].get("apparmorProfile") or spec["process"].get("selinuxLabel")):
        from ocirt.host.lsm import security_modules

        modules = security_modules()
    permitted = permitted_capabilities()
    return Facts(
        machine=machine,
        container_id=container_id,
        last_capability=int(read("/proc/sys/kernel/cap_last_cap")),
        permitted=permitted,
        unprivileged=not permitted & CAP_SYS_ADMIN,
        security_modules=modules,
        preserved=preserved,
        wait_for_start=False,
        window=window,
        seccomp=seccomp,
    )
