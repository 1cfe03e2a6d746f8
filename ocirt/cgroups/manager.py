"""The cgroups of one container, on all hierarchies of the host: the interface that the runtime uses.

Made from the configuration for a new container, or from its state for an existing one.
"""

from __future__ import annotations

import posix
from fcntl import LOCK_EX, LOCK_NB, flock
from time import sleep

from ocirt.cgroups import calls
from ocirt.cgroups.files import processes, remove, write
from ocirt.cgroups.layout import read
from ocirt.errors import EACCES, ENOENT, EPERM, ContainerError, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.cgroups.freezer import Freezer
    from ocirt.cgroups.layout import Layout, Mounted
    from ocirt.cgroups.resources import Resources

MANAGERS = ("cgroupfs", "systemd", "disabled")
"""Who makes a container's cgroups: we, by mkdir(2); systemd; nobody."""


class Cgroups:
    """places: (hierarchy's name, its controllers, whether it is v2, its mount, the container's cgroup in it).

    claimed: are they this container's? Not before it is known that nobody else is in them: what is in a cgroup is
    killed when the cgroup is removed.
    delegated: are they only those that a caller may make who is not root of the host (cgroups.delegation)? Then `rest`
    is that caller's own place in the other hierarchies.
    """

    manager = "cgroupfs"
    delegated = False
    rest: Sequence[tuple[str, tuple[str, ...], bool, str, str]] = ()

    def __init__(self, places: Sequence[tuple[str, tuple[str, ...], bool, str, str]]) -> None:
        self.places = tuple(places)
        self.made: list[str] = []
        self.claimed = False
        self.resources: Resources | None = None
        self._lock = -1

    @classmethod
    def for_container(cls, layout: Layout, cgroups_path: str, container_id: str) -> Cgroups:
        """An absolute cgroupsPath counts from the hierarchy's root; a relative one, or the id, from our own place."""
        return cls(
            [
                (one.name, one.controllers, one.v2, one.mount, one.mount + below_own(one, cgroups_path, container_id))
                for one in layout.hierarchies
            ]
        )

    @classmethod
    def chosen(cls, manager: str, layout: Layout, spec: dict[str, Any], container_id: str) -> Cgroups:
        """Those of a new container, by one of MANAGERS. Raises ConfigError; Error if there is no such manager here."""
        path = (spec.get("linux") or {}).get("cgroupsPath") or ""
        if manager == "systemd":
            from ocirt.cgroups.systemd.scope import SystemdCgroups

            return SystemdCgroups.for_unit(layout, path, container_id, spec.get("annotations") or {})
        if manager == "disabled":
            from ocirt.cgroups.disabled import DisabledCgroups

            return DisabledCgroups(layout)
        if not layout.is_writable():
            from ocirt.cgroups.delegation import delegated

            return delegated(layout, path, container_id)
        return cls.for_container(layout, path, container_id)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Cgroups:
        manager = state.get("manager", "cgroupfs")
        if manager == "systemd":
            from ocirt.cgroups.systemd.scope import SystemdCgroups

            return SystemdCgroups.from_state(state)
        if manager == "disabled":
            from ocirt.cgroups.disabled import DisabledCgroups

            return DisabledCgroups()
        cgroups = cls([(name, tuple(names), v2_, mount, path) for name, names, v2_, mount, path in state["places"]])
        cgroups.made = list(state["made"])
        cgroups.claimed = True
        cgroups.delegated = "delegated" in state
        return cgroups

    def to_state(self) -> dict[str, Any]:
        folder, v2 = self._freezes()
        paused = folder and folder + ("/cgroup.freeze" if v2 else "/freezer.self_freezing")
        return {
            "places": [list(place) for place in self.places],
            "made": self.made,
            "paused": paused,  # state.status reads it: "1" if this cgroup is frozen, and not one above it
            **({"delegated": 1} if self.delegated else {}),
        }

    @property
    def follow(self) -> bool:
        """Do they follow from the configuration, for who has only that?"""
        return self.manager == "cgroupfs" and not self.delegated

    def _freezes(self) -> tuple[str, bool]:
        """The cgroup that can stop all of the container's processes ("": there is none), and whether it is v2's."""
        for _, controllers, _, _, path in self.places:
            if "freezer" in controllers:
                return path, False
        return self.unified(), True

    @property
    def freezer(self) -> Freezer | None:
        """What can stop all of its processes, if anything can."""
        from ocirt.cgroups.freezer import Freezer

        folder, v2 = self._freezes()
        return Freezer(folder, v2=v2) if folder else None

    def joins(self, pure_v2: bool) -> tuple[bool, bool]:
        """How init gets into them: (clone3 starts it there, the host puts it there while it goes on)."""
        return pure_v2, not pure_v2

    def shown(self) -> Sequence[tuple[str, tuple[str, ...], bool, str, str]]:
        """The places that the container's cgroup mount shows."""
        return [*self.places, *self.rest]

    def plan(self) -> None:
        """Note in `made` every folder that `create` will make, so that the state can say so before it happens.

        Raises ContainerError if a cgroup is in use.
        """
        self.made = []
        there = calls.several([("stat", place[4], b"") for place in self.places], False)
        for (_, _, _, mount, path), errno in zip(self.places, there, strict=True):
            folder = path
            missing: list[str] = []
            while folder != mount and not (_exists(folder) if missing else _is_there(errno, path)):
                missing.append(folder)
                folder = folder.rpartition("/")[0]
            if not missing:
                self._check_unused(path)
            if folder != mount:
                _check_thawed(folder)
            self.made += reversed(missing)
        self.claimed = True

    def limit(self, wanted: dict[str, Any]) -> list[str]:
        """Note what linux.resources asks for beside devices. Returns warnings; raises ConfigError for what this host
        cannot do."""
        if not any(value for name, value in wanted.items() if name != "devices"):
            return []
        self.resources = self.compiled(wanted)
        return self.resources.warnings

    def compiled(self, wanted: dict[str, Any]) -> Resources:
        """linux.resources as files and values of these cgroups. Raises ConfigError."""
        from ocirt.cgroups.resources import Resources

        return Resources(self.places, wanted, delegated=self.delegated)

    def create(self) -> None:
        """Make the folders. Raises ContainerError if a cgroup is in use, KernelError if the kernel refuses one."""
        from ocirt.cgroups import v1

        made: set[str] = set()
        for number, (_, controllers, is_v2, mount, path) in enumerate(self.places):
            if number == 1:
                made = self._make_rest()
            for folder in self.made:
                if path == folder or path.startswith(folder + "/"):
                    self._make(folder, mount, controllers, is_v2, made=folder in made)
            if not is_v2 and path not in self.made:  # made beforehand by another, who may have set nothing in it
                try:
                    v1.prepare(path, controllers)
                except OSError as error:
                    raise from_os_error(error, f"prepare the cgroup {path}", pointer="/linux/cgroupsPath") from None
            self._hold(path)
        if self.resources:
            self.resources.set_early(self.made)

    def _make_rest(self) -> set[str]:
        """Of v1, but for the first place: those that could be made, up to one that needs a closer look."""
        rest = [place[4] for place in self.places[1:] if not place[2]]
        new = [folder for folder in self.made if any(path == folder or path.startswith(folder + "/") for path in rest)]
        errnos = calls.several([("mkdir", folder, b"") for folder in new], True)
        return {folder for folder, errno in zip(new, errnos, strict=False) if not errno}

    def _hold(self, path: str) -> None:
        """Of containers that are made in one cgroup at the same time, one goes on: it has a lock on its first folder,
        until a process is in it (`joined`); and before any other is made, so the rest leave nothing."""
        if self._lock >= 0:
            return
        self._lock = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            flock(self._lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            self.claimed = False
            raise ContainerError(
                f"another container is being made in the cgroup {path}",
                pointer="/linux/cgroupsPath",
                hint="give each container a path of its own",
            ) from None
        self._check_unused(path)

    def joined(self) -> None:
        """The container's first process is in its cgroups: whoever looks, finds it."""
        if self._lock >= 0:
            posix.close(self._lock)
            self._lock = -1

    def _make(self, folder: str, mount: str, controllers: tuple[str, ...], is_v2: bool, *, made: bool = False) -> None:
        from ocirt.cgroups import v1, v2

        try:
            if is_v2:
                v2.enable_controllers(mount, folder)
            if not made:
                posix.mkdir(folder, 0o755)
            if not is_v2:
                v1.prepare(folder, controllers, new=True)
        except FileExistsError:
            # Made in this moment: as another container's parent, or by one that has the same path.
            if any(folder == path for _, _, _, _, path in self.places):
                self._check_unused(folder)
        except OSError as error:
            raise from_os_error(error, f"create the cgroup {folder}", pointer="/linux/cgroupsPath") from None

    def _check_unused(self, path: str) -> None:
        busy = processes(path)
        if busy:
            self.claimed = False
            raise ContainerError(
                f"the cgroup {path} has processes already: {', '.join(map(str, busy[:5]))}",
                pointer="/linux/cgroupsPath",
                hint="give each container a path of its own",
            )

    def attach(self, pid: int) -> None:
        """Move a process into all of them."""
        content = str(pid).encode()
        errnos = calls.several([("write", place[4] + "/cgroup.procs", content) for place in self.places], True)
        if errnos and errnos[-1]:
            name, path = self.places[len(errnos) - 1][::4]
            error = OSError(errnos[-1], posix.strerror(errnos[-1]), path + "/cgroup.procs")
            raise from_os_error(error, f"join the {name or 'unified'} cgroup {path}", pointer="/linux/cgroupsPath")

    def join(self, pid: int) -> list[str]:
        """One more process for a container that is there. Returns warnings: a caller that is not root may have come
        from where it may not move a process into these (another session, on v2), and the process is its own."""
        try:
            self.attach(pid)
        except KernelError as error:
            if not self.delegated or error.errno not in (EACCES, EPERM):
                raise
            return [f"the process stays in our own cgroup: {error.message}"]
        return []

    def set_late(self, devices: Sequence[dict[str, Any]]) -> None:
        """Put in force what would hinder init. Raises KernelError."""
        if self.resources:
            self.resources.set_late()
        self.set_devices(devices)

    def tell_manager(self, resources: dict[str, Any]) -> None:
        """For `update`: whoever else keeps the container's limits learns that they have changed. resources: the whole
        of linux.resources as it is now. Devices are left as they are.

        To be called when memory in use was compared with the new limit (where that is asked for), and before the files
        are written, whose values are the exact ones. Raises Error; ConfigError for a value that is refused.
        """

    def steps(self, when: str) -> list[tuple[str, str, list[str]]]:
        """What a manager is asked to do, for `explain`: (pointer, what, its details). when: "attach", "limits" or
        "delete"."""
        return []

    def set_devices(self, config: Sequence[dict[str, Any]]) -> None:
        """Put the device rules in force: by the v1 controller where there is one, else by a BPF program.

        Only root of the host may do either. For all others they are not needed: they can make no device node, and have
        no right to one that they could not open anyway.
        """
        if self.delegated:
            return
        from ocirt.cgroups import v1, v2
        from ocirt.cgroups.rules import container_rules

        rules = container_rules(config)
        for _, controllers, is_v2, _, path in sorted(self.places, key=lambda place: "devices" not in place[1]):
            if is_v2 or "devices" in controllers:
                try:
                    (v2 if is_v2 else v1).set_devices(path, rules)
                except OSError as error:
                    if error.errno == EPERM and _unprivileged():
                        return
                    doing = f"set the device rules{' (bpf)' if is_v2 else ''}"
                    raise from_os_error(error, doing, pointer="/linux/resources/devices") from None
                return
        raise ContainerError("this host has no device controller and no cgroup v2", pointer="/linux/resources/devices")

    def replace_devices(self, config: Sequence[dict[str, Any]]) -> None:
        """New device rules for a container that runs. On v2 one program goes and the other comes in the same moment; v1
        has a list that is written line by line, so nobody may look at it meanwhile: the container is frozen."""
        freezer = self.freezer
        held = freezer is not None and not freezer.v2 and not freezer.is_asked()
        if freezer and held:
            freezer.freeze()
        try:
            self.tell_devices(config)
            self.set_devices(config)
        finally:
            if freezer and held:
                freezer.thaw()

    def tell_devices(self, config: Sequence[dict[str, Any]]) -> None:
        """As tell_manager, of device rules that are about to be replaced."""

    def processes(self) -> list[int]:
        """All pids in any of them."""
        from ocirt.cgroups.signals import pids_in

        return pids_in(self.places)

    def remove(self, *, kill: bool = True) -> None:
        """Remove the container's cgroups, ending whatever is left in them, and the parents that were made for it and
        are empty now. Raises KernelError with the pids that resist.

        kill=False: what is left cannot be the container's own, whose pid namespace is gone. Another one's, then,
        that has the same path by now: ContainerError.
        """
        self.joined()
        if not self.claimed:
            return
        own = [place[4] for place in self.places]
        errnos = calls.several([("rmdir", path, b"") for path in own], False)
        busy = [path for path, errno in zip(own, errnos, strict=True) if errno not in (0, ENOENT)]
        if busy and not kill and (pids := self._staying()):
            raise ContainerError(
                f"the cgroup {busy[0]} has processes of others: {', '.join(map(str, pids[:8]))}",
                hint="--force kills them",
            )
        if busy:
            self.unhinder()
            self.kill()
        for path in busy:
            try:
                remove(path)
            except OSError as error:
                from ocirt.cgroups.signals import named

                pids = processes(path)
                hint = f"still in it: {named(pids)}" if pids else ""
                raise from_os_error(error, f"remove the cgroup {path}", hint=hint) from None
        for folder in reversed(self.made):
            if folder not in own and not removed(folder):
                _remove_soon(folder)

    def _staying(self) -> list[int]:
        """Who is in them, and does not just end: newer kernels list a process until all of it is gone."""
        for _ in range(100):
            pids = self.processes()
            if not pids:
                break
            sleep(0.005)
        return pids

    def unhinder(self) -> None:
        """Take away what keeps processes from ending that have got their SIGKILL: the freezer, and a quota that leaves
        them next to no time. Nothing may be left of what this is about."""
        freezer = self.freezer
        if freezer and freezer.is_asked():
            freezer.thaw()
        for _, controllers, is_v2, _, path in self.places:
            if is_v2 or "cpu" in controllers:
                try:
                    write(f"{path}/{'cpu.max' if is_v2 else 'cpu.cfs_quota_us'}", "max" if is_v2 else "-1")
                except OSError:
                    continue  # there is none

    def kill(self) -> None:
        """SIGKILL to every process in them, until none is new."""
        from ocirt.cgroups.signals import kill_all

        kill_all(self)

    def unified(self) -> str:
        """The cgroup on the v2 hierarchy, or ""."""
        return next((path for _, _, is_v2, _, path in self.places if is_v2), "")


def below_own(one: Mounted, cgroups_path: str, container_id: str, *, beside: bool = True) -> str:
    """A container's cgroup, from the hierarchy's root. beside: on v2 not below our own cgroup, as on v1, but beside it:
    one that has processes cannot hand controllers down."""
    parts = [part for part in (cgroups_path or container_id).split("/") if part not in ("", ".")]
    if cgroups_path.startswith("/"):
        base = ""
    elif one.v2 and beside:
        base = one.own.rpartition("/")[0]
    else:
        base = one.own.rstrip("/")
    return f"{base}/{'/'.join(parts)}"


def _unprivileged() -> bool:
    from ocirt.cgroups.delegation import unprivileged

    return unprivileged()


def removed(path: str) -> bool:
    """rmdir(2) a cgroup if it is empty; is it gone?"""
    try:
        posix.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_soon(folder: str) -> None:
    """rmdir(2) has refused a parent. If it is another container's by now, it stays; if there is nothing in it, the
    kernel is not yet done with what was, which was seen on a busy host."""
    for _ in range(50):
        try:
            if posix.stat(folder).st_nlink > 2 or processes(folder):
                return
        except OSError:
            return
        sleep(0.002)
        if removed(folder):
            return


def _check_thawed(folder: str) -> None:
    """A process that joins a frozen cgroup never goes on. Both files also say what the cgroups above it do."""
    for file, sign in (("freezer.state", "FR"), ("cgroup.events", "frozen 1")):
        try:
            frozen = any(line.startswith(sign) for line in read(f"{folder}/{file}").splitlines())
        except OSError:
            continue  # another hierarchy
        if frozen:
            raise ContainerError(
                f"the cgroup {folder} is frozen", pointer="/linux/cgroupsPath", hint="thaw it first, or use another"
            )


def _exists(path: str) -> bool:
    return _is_there(calls.several([("stat", path, b"")], True)[0], path)


def _is_there(errno: int, path: str) -> bool:
    """errno: of stat(2). Raises KernelError."""
    if errno in (0, ENOENT):
        return not errno
    error = OSError(errno, posix.strerror(errno))
    raise from_os_error(error, f"look for the cgroup {path}", pointer="/linux/cgroupsPath")
