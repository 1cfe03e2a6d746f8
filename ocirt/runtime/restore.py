"""restore: make a container out of what `checkpoint` has written, by CRIU."""

from __future__ import annotations

import os

from ocirt.errors import ConfigError, UnsupportedError, UsageError
from ocirt.host import criu_files, criu_mounts
from ocirt.host.criu import Criu, Failed, Request, restored_pid
from ocirt.host.criu_root import bring_loopback_up, in_own_mounts
from ocirt.host.criu_wire import CGROUP_MODES, RESTORE
from ocirt.host.foreground import block_signals
from ocirt.plan.kernel import CLONE_NEWNET
from ocirt.runtime.creation import Creation
from ocirt.runtime.criu import EXTERNAL, Folders, Wishes, check_images, config_file, refuse_without_rights, text_of
from ocirt.runtime.run import finish
from ocirt.state.process import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

RESTORE_LOG = "restore.log"
FIRST_INHERITED = 4
"""What follows CRIU's own end of our socket (host.criu.CONTROL)."""
JOINED = {"ipc": "ipc", "uts": "uts", "user": "user", "time": "time"}
"""kind → CRIU's name, of the namespaces that it joins by their path; network and pid it is handed as descriptors."""


class Restore(Wishes):
    """The wishes of a restore.

    lsm_profile         TYPE:NAME of the AppArmor or SELinux profile, if it is to be another than before
    lsm_mount_context   the same for the context of mounts
    """

    def __init__(self, *args: Any, lsm_profile: str = "", lsm_mount_context: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.lsm_profile = lsm_profile
        self.lsm_mount_context = lsm_mount_context
        if lsm_profile and ":" not in lsm_profile:
            raise UsageError(f'--lsm-profile: expected TYPE:NAME, got "{lsm_profile}"', hint="such as apparmor:name")

    def options(self) -> dict[str, Any]:
        return {
            **super().options(),
            "lsm_profile": self.lsm_profile or None,
            "lsm_mount_context": self.lsm_mount_context or None,
        }


def restore(
    root: str,
    container_id: str,
    bundle: str,
    wishes: Restore,
    *,
    detach: bool = False,
    console_socket: str | None = None,
    pid_file: str | None = None,
    manager: str = "cgroupfs",
    committed: Callable[[], object] | None = None,
    warn: Callable[[Sequence[str]], object] | None = None,
) -> int:
    """As `run`, but the processes go on where they were: the exit code of the first, or 0 with `detach`.

    Raises Error, leaving nothing.
    """
    refuse_without_rights("restore")
    check_images(wishes.images)
    restoration = Restoration(
        wishes,
        root,
        container_id,
        bundle,
        wait_for_start=False,
        console_socket=console_socket,
        terminal_is_ours=not detach,
        pid_file=pid_file,
        new_keyring=False,
        manager=manager,
    )
    if warn:
        warn(restoration.warnings)
    restoration.in_foreground = not detach
    try:
        restoration.launch()
        if committed:
            committed()
    except BaseException as error:
        raise restoration.undone(error) from None
    restoration.done()
    return 0 if detach else finish(restoration, warn=warn)


class Restoration(Creation):
    """A container being restored. What `create` does with init, this does with CRIU; all else is the same, and is
    undone the same way."""

    in_foreground = False
    notifies = False  # what was saved knows of none

    def __init__(self, wishes: Restore, *args: Any, **more: Any) -> None:
        self.wishes = wishes
        self.criu = Criu(wishes.criu)
        self.criu.check()
        self.keys = criu_files.read(wishes.images)
        super().__init__(*args, **more)
        if self.agent:
            self.handing.close()
            self.close_descriptors()
            raise UnsupportedError("a seccomp filter with a listener cannot be restored", pointer="/linux/seccomp")

    def _begin(self) -> None:
        if not self._cgroups_made:
            self._make_cgroups()
        spec = self.config.spec
        request, options, folders = in_own_mounts(
            self.facts.rootfs, spec.get("mounts") or (), self.config.bundle, self._start
        )
        with folders, folders.searchable(self._maps_ids):
            try:
                # Whatever it makes is in the container's cgroups, from the first process on.
                self.cgroups.attach(request.pid)
                self.cgroups.joined()
                options["cg_root"] = cgroup_roots(text_of(f"/proc/{request.pid}/cgroup"))
                self.init.pid = restored_pid(request.finish(self._notified))
            except Failed as failed:
                raise failed.error(f'restore "{self.id}"', self.wishes.log(RESTORE_LOG)) from None
            finally:
                request.end()
                self.close_descriptors()

    def _start(self) -> tuple[Request, dict[str, Any], Folders]:
        """CRIU, in its mount namespace, with what it is going to be asked. The folders have to be those of that
        namespace: it works, and mounts, in one of them."""
        inherited = [*criu_files.inherited(self.keys), *self._namespaces()]
        folders = Folders(self.wishes, make=False)
        try:
            options = {**folders.options(), **self.options(), "inherit_fd": numbered(inherited)}
            message = {"type": RESTORE, "opts": options}
            request = Request(self.criu, message, inherited=[fd for _, fd in inherited], sibling=True)
        except BaseException:
            folders.close()
            raise
        return request, options, folders

    def _namespaces(self) -> list[tuple[str, int]]:
        """(key, descriptor) of those that are external in the images."""
        found = []
        for kind, (_, key) in EXTERNAL.items():
            fd = self.descriptors.get(f"{kind} namespace", -1)
            if fd >= 0:
                found.append((key, fd))
        return found

    def options(self) -> dict[str, Any]:
        spec = self.config.spec
        host = criu_mounts.parse(text_of("/proc/self/mountinfo"))
        cgroups = [(name, path) for name, _, _, _, path in self.cgroups.places]
        sources = criu_mounts.sources(spec, self.config.bundle, host, cgroups)
        return {
            **self.wishes.options(),
            "log_file": RESTORE_LOG,
            "root": self.facts.rootfs,
            "rst_sibling": True,
            "evasive_devices": True,
            "empty_ns": CLONE_NEWNET,
            "config_file": config_file(spec.get("annotations") or {}),
            **({} if cgroups else {"manage_cgroups_mode": CGROUP_MODES["ignore"]}),
            "external": [f"mnt[{key}]:{source}" for key, source in sources.items()],
            "join_ns": [
                {"ns": JOINED[one["type"]], "ns_file": one["path"]}
                for one in spec["linux"].get("namespaces") or ()
                if one.get("path") and one["type"] in JOINED and one["type"] in self.facts.joined
            ],
        }

    def _notified(self, script: str, pid: int, fd: int) -> None:
        """CRIU waits meanwhile: at "setup-namespaces" there is a first process, and its namespaces are empty; at
        "post-restore" all is there, and nothing runs yet."""
        if script == "orphan-pts-master" and fd >= 0:
            self.handing.master = fd
            if not self.has_terminal:
                raise ConfigError(
                    "the checkpoint is of a container with a terminal, this one has none", pointer="/process/terminal"
                )
            return
        if fd >= 0:
            os.close(fd)
        if script == "setup-namespaces":
            self._set_up(pid)
        elif script == "post-restore":
            self._restored(pid)

    def _set_up(self, pid: int) -> None:
        self.pid = self.init.pid = pid
        if "network" in self.new_namespaces():
            bring_loopback_up(pid)
        if self.net_devices:
            self.net_devices.enter(pid)
            self.net_devices.move()
        hooks = self.config.spec.get("hooks") or {}
        for kind in ("prestart", "createRuntime"):
            if hooks.get(kind):
                self._poststop_due = True
                self.state["pid"] = pid
                self.hooks().run(kind, status="creating")
        self.state["pid"] = 0  # to all others it is being created, until it is

    def _restored(self, pid: int) -> None:
        """What a container is from now on: before any of its processes runs."""
        assert self.entry
        self.pid = self.init.pid = pid
        self._poststop_due = True
        if self.resctrl:
            self.resctrl.create()
            self.resctrl.attach(pid)
        self._set_limits()
        if self.in_foreground:
            block_signals()  # from now on they are the container's
        self.state["pid"], self.state["pidStart"] = pid, start_time(pid)
        self.entry.write_state(self.state)


def numbered(inherited: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """inherit_fd, of (key, descriptor of ours): CRIU has them in this order."""
    return [{"key": key, "fd": number} for number, (key, _) in enumerate(inherited, FIRST_INHERITED)]


def cgroup_roots(cgroup: str) -> list[dict[str, str]]:
    """cg_root: for each hierarchy where the container is now, of /proc/PID/cgroup of a process in it."""
    roots = []
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        roots += [{"ctrl": controller, "path": path} for controller in controllers.split(",")]
    return roots
