"""Where a caller that is not root of the host may make cgroups (cgroups(7), "Cgroups delegation"; cgroup-v2.rst,
"Delegation"), and what to tell one that may nowhere.

Found out by looking, before anything is made: who may write to the folder in which the cgroup is to be, and on v2 to
cgroup.procs of the one that it shares with our own. A mount that is read-only, as in most containers, counts as one
that nobody may write to. On v1 each hierarchy is looked at for itself.
"""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import exists, in_user_namespace, read
from ocirt.cgroups.manager import Cgroups, below_own
from ocirt.cgroups.setting import refuse
from ocirt.cgroups.v2 import has_processes
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.cgroups.layout import Layout, Mounted
    from ocirt.errors import Error

POINTER = "/linux/cgroupsPath"
_MAY_MAKE = posix.W_OK | posix.X_OK
_CPUS = "cpuset.cpus"


def unprivileged() -> bool:
    """Are we anybody but root of the host? A user namespace's root has no rights beyond that namespace."""
    return posix.geteuid() != 0 or in_user_namespace()


def host_uid() -> int:
    """Our uid as the user namespace above has it; as we have it, if that has none."""
    own = posix.geteuid()
    try:
        lines = read("/proc/self/uid_map").splitlines()
    except OSError:
        return own
    for line in lines:
        inside, outside, count = map(int, line.split())
        if inside <= own < inside + count:
            return outside + own - inside
    return own


def delegated(layout: Layout, cgroups_path: str, container_id: str) -> Cgroups:
    """The cgroups of a new container, in the hierarchies where we may make them; without any, none at all.

    Raises ConfigError if a cgroupsPath is asked for that we may make in no hierarchy.
    """
    places, rest = [], []
    first = ""
    for one in layout.hierarchies:
        for path in _candidates(one, cgroups_path, container_id):
            found = obstacle(one, path)
            if not found:
                places.append((one.name, one.controllers, one.v2, one.mount, one.mount + path))
                break
            first = first or found
        else:
            rest.append(one)
    if not places and cgroups_path:
        message = f'no cgroup "{cgroups_path}": {_why(first)}'
        raise ConfigError(message, pointer=POINTER, hint=f"leave it out; or {fix()}")
    if not places:
        from ocirt.cgroups.disabled import DisabledCgroups

        return DisabledCgroups(layout, lacking=_why(first))
    cgroups = Cgroups(places)
    cgroups.delegated = True
    cgroups.rest = [(one.name, one.controllers, one.v2, one.mount, one.mount + one.own.rstrip("/")) for one in rest]
    return cgroups


def _candidates(one: Mounted, cgroups_path: str, container_id: str) -> list[str]:
    """Where it may be, the best first: on v2 beside our own cgroup, which can have limits, before one below it, which
    has none as long as processes are in our own."""
    found = [below_own(one, cgroups_path, container_id)]
    if one.v2 and one.own != "/" and not cgroups_path.startswith("/"):
        found.append(below_own(one, cgroups_path, container_id, beside=False))
    return found


def obstacle(one: Mounted, path: str) -> str:
    """The file because of which we may not make the cgroup `path` of a hierarchy and put a process into it; "" if we
    may."""
    target = one.mount + path
    folder = target
    while folder != one.mount and not exists(folder):
        folder = folder.rpartition("/")[0]
    if folder != target and not posix.access(folder, _MAY_MAKE, effective_ids=True):
        return folder
    needed = [f"{target}/cgroup.procs"] if folder == target else []
    if one.v2:
        needed.append(f"{one.mount}{_common(one.own, path)}/cgroup.procs")
    for file in needed:
        if not posix.access(file, posix.W_OK, effective_ids=True):
            return file
    if "cpuset" in one.controllers and folder != target and not read(f"{folder}/{_CPUS}").strip():
        return f"{folder}/{_CPUS}"
    return ""


def _common(one: str, other: str) -> str:
    """The deepest cgroup that both are in or below."""
    found = ""
    for part, same in zip(one.split("/")[1:], other.split("/")[1:], strict=False):
        if part != same or not part:
            break
        found += "/" + part
    return found


def _why(path: str) -> str:
    """What is the matter with an obstacle, if there is one."""
    if not path:
        return ""
    if path.endswith(f"/{_CPUS}"):
        return f"{path} is empty"
    return f"the user {host_uid()} may not write to {path}"


def may_join(cgroup: str, mount: str) -> bool:
    """May we put a process of ours into this v2 cgroup?"""
    own = next((line[3:] for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    common = f"{mount}{_common(own, cgroup[len(mount) :])}/cgroup.procs"
    return all(posix.access(file, posix.W_OK, effective_ids=True) for file in (f"{cgroup}/cgroup.procs", common))


def offered(mount: str, path: str) -> list[str]:
    """The controllers that a v2 cgroup has, or will have when v2.enable_controllers has been at work above it.

    mount, path: of the hierarchy, and of the cgroup, absolute.
    """
    if exists(path):
        return read(path + "/cgroup.controllers").split()
    folder = mount
    have = read(mount + "/cgroup.controllers").split()
    for part in path[len(mount) :].strip("/").split("/"):
        handed = read(folder + "/cgroup.subtree_control").split()
        writable = posix.access(folder + "/cgroup.subtree_control", posix.W_OK, effective_ids=True)
        if writable and not has_processes(folder):
            handed += [name for name in have if name not in handed]
        folder += "/" + part
        if not exists(folder):
            return handed
        have = read(folder + "/cgroup.controllers").split()
        have += [name for name in handed if name not in have]
    return have  # somebody has just made it


def lack(pointer: str, controller: str, folder: str) -> Error:
    """The error for a limit whose controller the container's cgroup does not have. folder: on v2, else ""."""
    who = f"the user {host_uid()}"
    if not folder:
        return refuse(pointer, f"no cgroup with the {controller} controller is delegated to {who}", fix(controller))
    above = folder.rpartition("/")[0]
    while not exists(above + "/cgroup.controllers"):
        above = above.rpartition("/")[0]
    if controller in read(above + "/cgroup.controllers").split() and has_processes(above):
        words = f"{above} cannot hand down its {controller} controller, because it has processes"
        return refuse(pointer, words, "put them below it (DelegateSubgroup=, systemd 254), or use `--systemd-cgroup`")
    return refuse(pointer, f"the {controller} controller is not delegated to {who} in {above}", fix(controller))


def fix(controller: str = "") -> str:
    """What would help: a hint."""
    uid = host_uid()
    if not exists("/run/systemd/system"):
        return "have root make a cgroup and give it to you: chown the folder and its cgroup.procs"
    if controller:
        return f"add it to Delegate= of user@{uid}.service, or remove the value"
    if exists(f"/run/user/{uid}/bus") or exists(f"/run/user/{uid}/systemd/private"):
        return "`--systemd-cgroup`, or `systemd-run --user --scope -p Delegate=yes ocirt …`"
    return f"`loginctl enable-linger {uid}`, and then `--systemd-cgroup`; or a service with Delegate=yes"
