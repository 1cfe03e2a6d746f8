"""The commands for volumes."""

from __future__ import annotations

from ocirt.manager.cli.here import confirmed, site, text, texts
from ocirt.manager.cli.human import size
from ocirt.manager.cli.output import each, line, listing
from ocirt.manager.errors import ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value


def create(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.volumes import Volumes

    if values["driver"] != "local":
        raise ManagerError(f"--driver {values['driver']}: there are local volumes only")
    labels = dict(_pair(one) for one in texts(values["label"]))
    options = dict(_pair(one) for one in texts(values["opt"]))
    line(Volumes(site()).create(arguments[0] if arguments else "", labels=labels, options=options).name)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


_COLUMNS = {"Name": "VOLUME NAME", "Driver": "DRIVER", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE", "Labels": "LABELS"}


def listed(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.volumes import Volumes

    volumes = Volumes(site())
    found = [one.inspect() for one in volumes.listed(texts(values["filter"]))]
    if values["quiet"]:
        for one in found:
            line(str(one["Name"]))
        return
    rows = [
        one | {"Labels": ",".join(f"{key}={value}" for key, value in (one["Labels"] or {}).items())} for one in found
    ]
    listing(rows, _COLUMNS, text(values["format"]), ("Driver", "Name"))


def remove(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.volumes import Volumes

    volumes = Volumes(site())

    return each(arguments, lambda name: volumes.remove(name, force=bool(values["force"])))


def prune(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.volumes import Volumes

    what = "all volumes" if values["all"] else "all volumes without a name"
    if confirmed(f"This removes {what} that no container uses. Go on?", force=bool(values["force"])):
        names, freed = Volumes(site()).prune(every=bool(values["all"]), filters=texts(values["filter"]))
        if names:
            line("Deleted Volumes:")
        for name in names:
            line(name)
        line(f"Total reclaimed space: {size(freed)}")
