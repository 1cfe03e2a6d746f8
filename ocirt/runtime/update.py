"""update: change the limits of a container that exists (config-linux.md, "Control groups": they may change any time).

All of a change is made or none of it. What a container's resources are by now is kept in its state folder.
"""

from __future__ import annotations

import posix

from ocirt.cgroups.files import check_there
from ocirt.cgroups.manager import Cgroups
from ocirt.cgroups.merge import POINTER, Merged
from ocirt.cgroups.setting import Change
from ocirt.config.check_resources import check_resources
from ocirt.config.read import MAX_SIZE, parse, placed, read_json
from ocirt.config.shape import RESOURCES as SHAPE
from ocirt.config.shape import check_shape
from ocirt.errors import ConfigError, ContainerError, Error
from ocirt.state.document import dumps
from ocirt.state.status import CREATED, PAUSED, RUNNING, status_of
from ocirt.state.store import CONFIG, RESOURCES, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ocirt.host.resctrl import Schemata
    from ocirt.state.store import Entry

STDIN = "-"


class Wanted:
    """What is to change: `resources` is a linux.resources object with only that.

    text, place   the JSON that it was read from, and where that is: for the line in an error
    names         otherwise, the pointer of a value → what the user calls it, such as "--memory"
    schemata      of intelRdt: "l3CacheSchema", "memBwSchema"
    """

    def __init__(
        self,
        resources: dict[str, Any],
        *,
        text: str = "",
        place: str = "",
        names: Mapping[str, str] | None = None,
        schemata: Mapping[str, str] | None = None,
    ) -> None:
        self.resources = resources
        self.text = text
        self.place = place
        self.names = names or {}
        self.schemata = schemata or {}

    def check(self) -> None:
        """Raises ConfigError for a value that is not of its type."""
        try:
            check_shape(self.resources, SHAPE)
        except ConfigError as error:
            raise self.named(error, {}) from None

    def named(self, error: Error, touched: Mapping[str, str]) -> Error:
        """The error, with the place of its value in what the user said; as it is, if its value is an older one.

        touched: pointer in the merged resources → pointer in this change.
        """
        if error.pointer is None or error.place:
            return error
        pointer = touched.get(error.pointer) if error.pointer.startswith(POINTER) else error.pointer
        if pointer is None:
            return error
        if self.place:
            error.pointer = pointer
            return placed(error, self.place, self.text)
        error.place, error.pointer = self.names.get(pointer, self.place), None
        return error


def read_wanted(path: str) -> Wanted:
    """From a JSON file, or "-": standard input. Raises ConfigError with its place."""
    place = "standard input" if path == STDIN else path
    text = _standard_input() if path == STDIN else read_json(path)
    wanted = Wanted({}, text=text, place=place)
    try:
        wanted.resources = parse(text)
    except ConfigError as error:
        error.place = f"{place}:{error.place}"
        raise
    return wanted


def _standard_input() -> str:
    content = b""
    while chunk := posix.read(0, 65536):
        content += chunk
        if len(content) > MAX_SIZE:
            raise ConfigError(f"more than {MAX_SIZE} bytes", place="standard input")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", place="standard input") from None


def update(root: str, container_id: str, wanted: Wanted) -> list[str]:
    """Returns warnings. Raises Error; then all limits are what they were."""
    wanted.check()
    store = Store(root)
    with store.lock(container_id) as entry:
        known = store.read(container_id)
        status = status_of(known, entry.folder)
        if status not in (CREATED, RUNNING, PAUSED):
            raise ContainerError(f'container not running: "{container_id}" is {status}')
        cgroups = Cgroups.from_state(known["cgroups"])
        if not cgroups.places:
            raise ContainerError(f'"{container_id}" has no cgroup: there is nothing that could limit it')
        check_there(cgroups.places[0][-1])
        old = current(entry)
        merged = Merged(old, wanted.resources)
        try:
            return _update(entry, known, cgroups, old, merged, wanted)
        except Error as error:
            raise wanted.named(error, merged.touched) from None


def current(entry: Entry) -> dict[str, Any]:
    """The resources of a container as they are by now: those of its configuration, or of the last update."""
    try:
        posix.stat(RESOURCES, dir_fd=entry.fd)
    except FileNotFoundError:
        spec = parse(read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd))
        resources: dict[str, Any] = (spec.get("linux") or {}).get("resources") or {}
        return resources
    found: dict[str, Any] = parse(read_json(f"{entry.folder}/{RESOURCES}", folder=entry.fd))
    return found


def _update(
    entry: Entry, known: dict[str, Any], cgroups: Cgroups, old: dict[str, Any], merged: Merged, wanted: Wanted
) -> list[str]:
    check_resources(merged.resources)
    devices = wanted.resources.get("devices") or ()
    if not any(rule["allow"] or "major" in rule or "minor" in rule for rule in devices):
        devices = ()  # no rules but "deny all": CRI sends that with every update, and does not mean it
    after = cgroups.compiled(merged.resources)
    change = Change(after.changed_from(cgroups.compiled(old), merged.touched, cgroups.made))
    schemata = _schemata(entry, known, wanted.schemata) if wanted.schemata else None
    before = {**old, "devices": old.get("devices") or []}
    new = {**merged.resources, "devices": devices or before["devices"]}
    undo: list[Callable[[], object]] = []
    change.check_use()  # before systemd is told, which would have the kernel kill
    try:
        undo.append(lambda: cgroups.tell_manager(before))
        cgroups.tell_manager(new)
        change.apply()
        undo.append(change.undo)
        if devices:
            undo.append(lambda: cgroups.replace_devices(before["devices"]))
            cgroups.replace_devices(devices)
        if schemata:
            schemata.apply()
            undo.append(schemata.undo)
        entry.write(RESOURCES, dumps(new).encode())
    except BaseException:
        for step in reversed(undo):
            try:
                step()
            except Error:
                continue  # the error that led here is the one that counts
        raise
    return after.warnings


def _schemata(entry: Entry, known: dict[str, Any], wanted: Mapping[str, str]) -> Schemata:
    """Raises ContainerError if the container has no class of service."""
    from ocirt.host.resctrl import Schemata, class_folder, mount_point

    rdt = (parse(read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd)).get("linux") or {}).get("intelRdt")
    if rdt is None:
        raise ContainerError(
            f'"{known["id"]}" has no class of service whose schemata could change',
            hint="only one that was created with linux.intelRdt",
        )
    lines = [(f"/linux/intelRdt/{name}", line) for name, line in wanted.items()]
    mount = mount_point()
    return Schemata(mount, class_folder(rdt, known["id"], mount), lines)
