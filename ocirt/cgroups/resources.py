"""linux.resources → what is written to which file of the container's cgroups.

It is known before anything exists, so `explain` shows it, and what this host cannot do is refused then. All that may
hinder a process (limits of pids, memory, time) is written when init has done its work and only waits: the limits are
for the program, and a small one must not end, or slow down, what prepares it.
"""

from __future__ import annotations

from ocirt.cgroups.layout import read
from ocirt.cgroups.setting import Setting, apply, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any

    from ocirt.errors import Error

POINTER = "/linux/resources"
PROPERTIES = ("cpu", "memory", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified")


class Resources:
    """The settings of one container.

    early     before the first process joins: where it may run, and what it may be
    late      before the program is executed
    unified   after all others
    warnings  what is not done, "POINTER: words"

    delegated: are the places only what a caller may use who is not root of the host? Then of v2's controllers those
    count that the cgroup has, or will have: nobody else hands down more.
    """

    def __init__(
        self,
        places: Sequence[tuple[str, tuple[str, ...], bool, str, str]],
        wanted: dict[str, Any],
        *,
        delegated: bool = False,
    ) -> None:
        self.early: list[Setting] = []
        self.late: list[Setting] = []
        self.unified: list[Setting] = []
        self.warnings: list[str] = []
        self._found: dict[str, tuple[str, bool]] = {}
        self._v2_folder = ""
        self._delegated = delegated
        self._checks = bool((wanted.get("memory") or {}).get("checkBeforeUpdate"))
        for _, controllers, is_v2, mount, path in places:
            if is_v2:
                self._v2_folder = path
                for controller in self._offered(mount, path):
                    self._found.setdefault(controller, (path, True))
            for controller in controllers:
                self._found[controller] = (path, False)
        # A controller is v1's if it is mounted so, and otherwise what the host is.
        self._v2 = not any(controllers for _, controllers, is_v2, _, _ in places if not is_v2)
        self._compile(wanted)

    def _offered(self, mount: str, path: str) -> list[str]:
        if not self._delegated:
            return read(mount + "/cgroup.controllers").split()
        from ocirt.cgroups.delegation import offered

        return offered(mount, path)

    def _compile(self, wanted: dict[str, Any]) -> None:
        if cpu := wanted.get("cpu"):
            from ocirt.cgroups import cpu as times

            self._add(self.early, "cpuset", times.cpuset(cpu))
            v2 = self._is_v2("cpu")
            self._add(self.early, "cpu", times.realtime(cpu, v2))
            self._add(self.late, "cpu", (times.v2 if v2 else times.v1)(cpu))
        if memory := wanted.get("memory"):
            from ocirt.cgroups import memory as limits

            compiled = (limits.v2 if self._is_v2("memory") else limits.v1)(memory, self.warnings)
            self._add(self.late, "memory", compiled)
        if (limit := (wanted.get("pids") or {}).get("limit")) is not None:
            setting = Setting(POINTER + "/pids/limit", "pids.max", "max" if limit == -1 else limit, default=limit == -1)
            self._add(self.late, "pids", [setting])
        if block_io := wanted.get("blockIO"):
            from ocirt.cgroups import block_io as blocks

            name = "io" if self._is_v2("blkio", "io") else "blkio"
            self._add(self.late, name, (blocks.v2 if name == "io" else blocks.v1)(block_io))
        if any(wanted.get(name) for name in ("hugepageLimits", "network", "rdma")):
            self._rare(wanted)
        for key, value in (wanted.get("unified") or {}).items():
            self._add_unified(key, value)

    def _rare(self, wanted: dict[str, Any]) -> None:
        from ocirt.cgroups import rare

        settings = rare.hugetlb(wanted.get("hugepageLimits") or (), self._is_v2("hugetlb"))
        self._add(self.late, "hugetlb", settings)
        network = wanted.get("network") or {}
        self._add(self.early, "net_cls", rare.net_cls(network))
        self._add(self.early, "net_prio", rare.net_prio(network))
        self._add(self.late, "rdma", rare.rdma(wanted.get("rdma") or {}))

    def _is_v2(self, *controllers: str) -> bool:
        return next((self._found[name][1] for name in controllers if name in self._found), self._v2)

    def _add(self, settings: list[Setting], controller: str, more: list[Setting]) -> None:
        """Raises ConfigError if the host has no such controller and that matters."""
        folder, _ = self._found.get(controller, ("", False))
        if not folder:
            more = [setting for setting in more if not setting.default]
            if not more:
                return
            if controller in ("net_cls", "net_prio") and self._v2:
                raise refuse(more[0].pointer, f"cgroup v2 has no {controller} controller", "mark packets by nftables")
            if self._delegated:
                raise self._undelegated(more[0].pointer, controller)
            hint = "see /sys/fs/cgroup/cgroup.controllers" if self._v2 else "mount it below /sys/fs/cgroup"
            raise refuse(more[0].pointer, f"this host has no {controller} controller", f"{hint}, or remove the value")
        for setting in more:
            setting.folder = folder
        settings += more

    def _add_unified(self, key: str, value: str) -> None:
        pointer = f"{POINTER}/unified/{key.replace('~', '~0').replace('/', '~1')}"
        controller = key.partition(".")[0]
        if self._delegated and (not self._v2_folder or controller not in (*self._found, "cgroup")):
            raise self._undelegated(pointer, controller)
        if not self._v2_folder:
            raise refuse(pointer, "this host has no cgroup v2", "use the properties beside unified")
        setting = Setting(pointer, key, value, lines=True)
        setting.folder = self._v2_folder
        self.unified.append(setting)

    def _undelegated(self, pointer: str, controller: str) -> Error:
        from ocirt.cgroups.delegation import lack

        return lack(pointer, controller, self._v2_folder)

    def set_early(self, made: Sequence[str]) -> None:
        """Raises KernelError. made: new folders, outermost first."""
        apply(self._early(made))

    def _early(self, made: Sequence[str]) -> list[Setting]:
        """With those of new parents, which have no real-time budget to hand down: they get the same."""
        settings = []
        for setting in self.early:
            if setting.file.startswith("cpu.rt_"):
                for folder in made:
                    if setting.folder.startswith(folder + "/"):
                        parents = Setting(setting.pointer, setting.file, setting.value)
                        parents.folder = folder
                        settings.append(parents)
        return settings + self.early

    def check_use(self) -> None:
        """Raises KernelError if more memory is in use than a limit that would kill for it."""
        for setting in self.late:
            if setting.beyond:
                setting.check_use()

    def set_late(self) -> None:
        """Raises KernelError."""
        apply(self.late)
        apply(self.unified)

    def changed_from(self, old: Resources, touched: Container[str], made: Sequence[str]) -> list[Setting]:
        """What has to be written to a container that has the `old` ones: what differs, and what is named anew.

        touched: the pointers of values that are named, whether they differ or not: somebody else may have changed the
        files. For a lowered limit the kernel may kill unless memory.checkBeforeUpdate is set.
        """
        there = {(setting.folder, setting.file, setting.value) for setting in old._all(made)}
        changed = [
            setting
            for setting in self._all(made)
            if setting.pointer in touched or (setting.folder, setting.file, setting.value) not in there
        ]
        for setting in changed:
            setting.running = True
            if not self._checks:
                setting.beyond = ""
        return changed

    def _all(self, made: Sequence[str]) -> list[Setting]:
        return [*self._early(made), *self.late, *self.unified]
