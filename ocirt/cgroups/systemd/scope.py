"""The systemd driver: a container's cgroup is that of a transient scope, which systemd makes and knows the limits of.

systemd starts a scope with a process, so init is there first, and meets us before the step that needs its cgroup. On v1
and hybrid hosts the hierarchies that systemd does not care for are made and joined by us, at the same path.
"""

from __future__ import annotations

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import exists
from ocirt.cgroups.manager import Cgroups, removed
from ocirt.cgroups.systemd import devices
from ocirt.cgroups.systemd.bus import SYSTEM, Bus, BusError, own_address
from ocirt.cgroups.systemd.properties import (
    COLLECT_MODE,
    Property,
    annotated,
    early,
    late,
    pointer_of,
)
from ocirt.cgroups.systemd.unit import POINTER, ROOT_SLICE, Unit, object_path, unit_for
from ocirt.errors import EACCES, EPERM, ConfigError, ContainerError, Error, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirt.cgroups.layout import Layout

_SYSTEMDS = frozenset("cpu cpuacct blkio memory devices pids name=systemd".split())
"""The v1 hierarchies in which systemd makes the cgroups of its units."""
_ENDED = ("inactive", "failed")


class SystemdCgroups(Cgroups):
    """unit          what systemd calls it
    description   ours, by which we know our unit from another one's of the same name
    annotations   the properties that the configuration's annotations ask for
    """

    manager = "systemd"

    def __init__(
        self,
        places: Sequence[tuple[str, tuple[str, ...], bool, str, str]],
        unit: Unit,
        bus: Bus,
        description: str,
        annotations: Sequence[Property] = (),
    ) -> None:
        super().__init__(places)
        self.unit = unit
        self.bus = bus
        self.annotations = list(annotations)
        self.description = next((one.value for one in annotations if one.name == "Description"), description)
        self._started = False
        self._wanted: dict[str, Any] = {}
        self._version = 0
        self._pure_v2 = len(self.places) == 1 and self.places[0][2]
        self.delegated = bus.user

    @classmethod
    def for_unit(
        cls, layout: Layout, cgroups_path: str, container_id: str, annotations: dict[str, str]
    ) -> SystemdCgroups:
        """Asks the manager where its own cgroup is. Raises ConfigError; Error if there is no manager."""
        bus = Bus(own_address())
        unit = unit_for(cgroups_path, container_id, user=bus.user)
        properties = annotated(annotations)
        if bus.user and not layout.pure_v2:
            raise Error(
                "a user's systemd makes cgroups on pure cgroup v2 only",
                hint="use `--cgroup-manager cgroupfs` or `disabled`",
            )
        root = _asked(bus, "ControlGroup").rstrip("/")
        places = [
            (one.name, one.controllers, one.v2, one.mount, one.mount + root + unit.folder) for one in layout.hierarchies
        ]
        return cls(places, unit, bus, f"ocirt container {container_id}", properties)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SystemdCgroups:
        places = [(name, tuple(names), v2, mount, path) for name, names, v2, mount, path in state["places"]]
        unit = Unit(state["unit"], state["slice"], "")
        cgroups = cls(places, unit, Bus(state["bus"]), state["description"])
        cgroups.made = list(state["made"])
        cgroups.claimed = cgroups._started = True
        return cgroups

    def to_state(self) -> dict[str, Any]:
        return {
            **super().to_state(),
            "manager": self.manager,
            "unit": self.unit.name,
            "slice": self.unit.slice,
            "bus": self.bus.address,
            "description": self.description,
        }

    def joins(self, pure_v2: bool) -> tuple[bool, bool]:
        return False, True

    # Making it

    def limit(self, wanted: dict[str, Any]) -> list[str]:
        self._wanted = wanted
        warnings = super().limit(wanted)
        warning = self._device_properties(wanted.get("devices") or ())[1]
        return [*warnings, warning] if warning else warnings

    def plan(self) -> None:
        """Raises ContainerError too if the unit is somebody's, Error if systemd does not answer."""
        self.claimed = False
        status = self._status()
        if status and status not in _ENDED:
            raise self._taken(status)
        super().plan()

    def attach(self, pid: int) -> None:
        """The first process starts the unit, and is in the cgroups of all hierarchies then."""
        if not self._started:
            self._start(pid)
            self._make_again()
        for name, _, _, _, path in self.places:
            try:
                write(path + "/cgroup.procs", str(pid))
            except OSError as error:
                # A user's process that is not below the user's manager: that asks the system's.
                if error.errno in (EACCES, EPERM) and self.bus.user:
                    self._call("AttachProcessesToUnit", "ssau", (self.unit.name, "", [pid]), f"move process {pid} into")
                    continue
                doing = f"join the {name or 'unified'} cgroup {path}"
                raise from_os_error(error, doing, pointer=POINTER) from None

    def _start(self, pid: int) -> None:
        properties = self._first_properties()
        if not self.unit.is_slice:
            properties.insert(0, Property("PIDs", "au", [pid]))
        body: tuple[Any, ...] = (self.unit.name, "fail", [one.message() for one in properties], [])
        try:
            result = self._start_once(body)
        except BusError as error:
            raise self._error(error, "start", properties) from None
        if result != "done":
            reason = f"its job ended as {result}" if result else "systemd has not done it in 30 s"
            raise Error(f"start the unit {self.unit.name}: {reason}", pointer=POINTER, hint=self._look())
        self._started = True
        where = self._property("ControlGroup")
        if not self._is_place(where):
            raise Error(
                f"the unit {self.unit.name} has the cgroup {where or 'none'}, which is not the one that was expected",
                pointer=POINTER,
                hint=self._look(),
            )

    def _make_again(self) -> None:
        """What was made before may be gone on v1: when systemd starts a slice, it clears the hierarchies whose
        controllers the slice does not need, our empty folders among it."""
        lost = [place for place in self.places if not exists(place[4])]
        for _, controllers, v2, mount, path in lost:
            folder, missing = path, []
            while folder != mount and not exists(folder):
                missing.append(folder)
                folder = folder.rpartition("/")[0]
            for one in reversed(missing):
                self._make(one, mount, controllers, v2)
        if lost and self.resources:
            self.resources.set_early(self.made)

    def _start_once(self, body: tuple[Any, ...]) -> str:
        """What an older container left failed may have the name: forget that, and try again, once."""
        signature = "ssa(sv)a(sa(sv))"
        try:
            return self.bus.run_job(self.unit.name, "StartTransientUnit", signature, body)
        except BusError as error:
            if error.name != "UnitExists":
                raise
        status = self._status()
        if status and status not in _ENDED:
            raise self._taken(status)
        self._quietly("ResetFailedUnit", (self.unit.name,))
        try:
            return self.bus.run_job(self.unit.name, "StartTransientUnit", signature, body)
        except BusError as error:
            if error.name != "UnitExists":
                raise
            raise self._taken(self._status() or "loaded") from None

    def _first_properties(self) -> list[Property]:
        """Those of StartTransientUnit, but for the process. An annotation takes precedence over our own."""
        version, above = self._systemd(), self.unit.slice
        found = [
            Property("Description", "s", self.description),
            Property("DefaultDependencies", "b", False),
            *(Property(f"{name}Accounting", "b", True) for name in ("CPU", "Memory", "Tasks")),
            Property("IOAccounting" if self._pure_v2 else "BlockIOAccounting", "b", True),
        ]
        if self.unit.is_slice:
            if above != ROOT_SLICE:
                found.append(Property("Wants", "as", [above]))
        else:
            found += [Property("Slice", "s", above), Property("Delegate", "b", True)]
        if version >= COLLECT_MODE:
            found.append(Property("CollectMode", "s", "inactive-or-failed"))
        found += early(self._wanted, v2=self._pure_v2, version=version)
        found += devices.at_start(v2=self._pure_v2)
        asked = {one.name for one in self.annotations}
        return [one for one in found if one.name not in asked] + self.annotations

    def _late_properties(self) -> list[Property]:
        asked = {one.name for one in self.annotations}
        found = late(self._wanted, v2=self._pure_v2, version=self._systemd())
        found += self._device_properties(self._wanted.get("devices") or ())[0]
        return [one for one in found if one.name not in asked]

    def _device_properties(self, config: Sequence[dict[str, Any]]) -> tuple[list[Property], str]:
        """(the properties, a warning or ""). A user's manager may not load the program that they become."""
        return ([], "") if self.bus.user else devices.properties(config, v2=self._pure_v2)

    def set_late(self, devices: Sequence[dict[str, Any]]) -> None:
        """systemd is told first, and then the files are written, which have the exact values."""
        if self.resources:
            self.resources.check_use()
        self._tell(self._late_properties())
        super().set_late(devices)
        self.bus.close()  # not for as long as the container runs

    def tell_manager(self, resources: dict[str, Any]) -> None:
        v2, version = self._pure_v2, self._systemd()
        changed = [one for one in early(resources, v2=v2, version=version) if one.name != "OOMPolicy"]
        self._tell(changed + late(resources, v2=v2, version=version))
        self.bus.close()

    def tell_devices(self, config: Sequence[dict[str, Any]]) -> None:
        """What systemd has of DeviceAllow= is added to, unless it is emptied first."""
        if self.bus.user:
            return
        known = self._device_properties(config)[0]
        self._tell([Property("DeviceAllow", "a(ss)", [], devices.POINTER), *known])
        self.bus.close()

    def _tell(self, properties: Sequence[Property]) -> None:
        body = (self.unit.name, True, [one.message() for one in properties])
        try:
            self.bus.call("SetUnitProperties", "sba(sv)", body)
        except BusError as error:
            raise self._error(error, "set the limits of", properties) from None

    # Removing it

    def remove(self, *, kill: bool = True) -> None:
        """Nothing of a unit that has the name and is not ours is touched: then ours was never started, and no process
        was put anywhere."""
        status = self._status() if self.claimed else ""
        if not self.claimed or (status and not self._is_ours()):
            for folder in reversed(self.made):
                removed(folder)
            self.bus.close()
            return
        busy = self.processes() if kill else self._staying()
        if busy and not kill:
            raise ContainerError(
                f"the unit {self.unit.name} has processes of others: {', '.join(map(str, busy[:8]))}",
                hint="--force kills them",
            )
        if busy:
            self.unhinder()
            self.kill()
        try:
            if status:
                self._stop()
            self.made = self._to_remove()
        finally:
            self.bus.close()
        super().remove(kill=True)

    def _stop(self) -> None:
        """Stop the unit and have it forgotten, also after an OOM kill, which it remembers as a failure."""
        try:
            result = self.bus.run_job(self.unit.name, "StopUnit", "ss", (self.unit.name, "replace"))
        except BusError as error:
            if error.name == "NoSuchUnit":
                return
            raise self._error(error, "stop") from None
        if not result:
            from ocirt.cgroups.signals import named

            left = named(self.processes())
            hint = f"still in it: {left}" if left else self._look()
            raise Error(f"stop the unit {self.unit.name}: systemd has not done it in 30 s", hint=hint)
        self._quietly("ResetFailedUnit", (self.unit.name,))

    def _is_ours(self) -> bool:
        """Another's may have the name meanwhile, or had it before ours was started."""
        try:
            path = object_path(self.unit.name)
            if self.bus.get(path, "Unit", "Description") != self.description:
                return False
        except BusError:
            return False  # gone in this moment
        where = self._property("ControlGroup")
        return not where or self._is_place(where)

    def _to_remove(self) -> list[str]:
        """Of the folders that were made those that we have to remove: a slice's that is active are systemd's."""
        own = {path for _, _, _, _, path in self.places}
        systemds = [
            mount for _, controllers, v2, mount, _ in self.places if v2 or not _SYSTEMDS.isdisjoint(controllers)
        ]
        above = [one for one in self.made if one not in own and any(one.startswith(mount + "/") for mount in systemds)]
        if not above or not self._status(self.unit.slice):
            return self.made
        return [one for one in self.made if one not in above]

    # systemd

    def _systemd(self) -> int:
        """Its version."""
        if not self._version:
            text = _asked(self.bus, "Version").lstrip("v")
            digits = len(text) - len(text.lstrip("0123456789"))
            self._version = int(text[:digits] or 0)
        return self._version

    def _status(self, unit: str = "") -> str:
        """ActiveState of a unit ("active", "failed" …), or "" if systemd has not loaded it."""
        name = unit or self.unit.name
        try:
            (path,) = self.bus.call("GetUnit", "s", (name,))
            return str(self.bus.get(path, "Unit", "ActiveState"))
        except BusError as error:
            if error.name in ("NoSuchUnit", "UnknownObject"):
                return ""
            raise self._error(error, "look for") from None

    def _property(self, name: str) -> str:
        kind = "Slice" if self.unit.is_slice else "Scope"
        try:
            return str(self.bus.get(object_path(self.unit.name), kind, name))
        except BusError:
            return ""

    def _is_place(self, control_group: str) -> bool:
        return any(path == mount + control_group for _, _, _, mount, path in self.places)

    def _call(self, member: str, signature: str, body: tuple[Any, ...], doing: str) -> None:
        try:
            self.bus.call(member, signature, body)
        except BusError as error:
            raise self._error(error, doing) from None

    def _quietly(self, member: str, body: tuple[str]) -> None:
        """For what may be done already: a unit that is not loaded is all right."""
        try:
            self.bus.call(member, "s", body)
        except BusError as error:
            if error.name != "NoSuchUnit":
                raise self._error(error, "reset") from None

    def _taken(self, status: str) -> ContainerError:
        self.claimed = False
        return ContainerError(
            f"systemd has a unit {self.unit.name} already: it is {status}",
            pointer=POINTER,
            hint=f"give each container a name of its own; see {self._look()}",
        )

    def _error(self, error: BusError, doing: str, properties: Sequence[Property] = ()) -> Error:
        hint = error.hint(user=self.bus.user) or ("" if error.name != "NoSuchUnit" else "it has ended")
        message = f"{doing} the unit {self.unit.name}: {error.message or error.name}"
        kind = ConfigError if error.name in ("InvalidArgs", "PropertyReadOnly") else Error
        return kind(message, pointer=pointer_of(error.message, properties), hint=hint)

    def _look(self) -> str:
        return f"`systemctl {'' if self.bus.address == SYSTEM else '--user '}status {self.unit.name}`"

    def steps(self, when: str) -> list[tuple[str, str, list[str]]]:
        name = self.unit.name
        if when == "attach":
            shown = [str(one) for one in self._first_properties()]
            start = f"start the {'slice' if self.unit.is_slice else 'scope'} {name} over D-Bus, with init in it"
            return [(POINTER, start, shown)]
        if when == "limits":
            told: dict[str, list[str]] = {}
            for one in self._late_properties():
                told.setdefault(one.pointer, []).append(str(one))
            return [(pointer, "tell systemd of the limit", shown) for pointer, shown in told.items()]
        return [(POINTER, f"stop the unit {name}", [])]


def _asked(bus: Bus, name: str) -> str:
    """A property of the manager. Raises Error."""
    try:
        return str(bus.get("/org/freedesktop/systemd1", "Manager", name))
    except BusError as error:
        raise Error(
            f"ask systemd for its {name}: {error.message or error.name}",
            hint=error.hint(user=bus.user) or "is pid 1 systemd? `--cgroup-manager cgroupfs` does without it",
        ) from None
