"""What ocim keeps, as a whole: df, prune, check."""

from __future__ import annotations

from ocirt.manager.cli.here import confirmed, site, text, texts
from ocirt.manager.cli.human import size
from ocirt.manager.cli.images import pairs
from ocirt.manager.cli.output import line, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.system import Pruned

_DF = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
_TITLES = {"containers": "Deleted Containers:", "volumes": "Deleted Volumes:", "images": "Deleted Images:"}


def df(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager import system

    rows = []
    for one in system.df(site()):
        part = f" ({100 * one.reclaimable // one.size}%)" if one.size else ""
        free = f"{size(one.reclaimable)}{part}"
        counts = {"TotalCount": str(one.total), "Active": str(one.active)}
        rows.append({"Type": one.type, **counts, "Size": size(one.size), "Reclaimable": free})
    listing(rows, _DF, text(values["format"]), tuple(_DF))


def prune(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager import system

    everything, volumes = bool(values["all"]), bool(values["volumes"])
    what = "all containers that do not run, all images without a " + ("container" if everything else "name")
    if volumes:
        what += ", all volumes without a name that no container uses"
    if not confirmed(f"This removes {what}. Go on?", force=bool(values["force"])):
        return
    done = system.prune(site(), all_=everything, volumes_=volumes, filters=pairs(texts(values["filter"])))
    for part, pruned in done.items():
        told(pruned, _TITLES.get(part, ""), last=False)
    line(f"Total reclaimed space: {size(sum(pruned.bytes for pruned in done.values()))}")


def told(pruned: Pruned, title: str = "", *, last: bool = True) -> None:
    """What was removed, as docker prints it."""
    if pruned.lines and title:
        line(title)
    for one in pruned.lines:
        line(one)
    if pruned.lines and not last:
        line("")
    if last:
        line(f"Total reclaimed space: {size(pruned.bytes)}")


def check(values: dict[str, Value], arguments: list[str]) -> int:
    """Exit code 1 if something is wrong and was not put right."""
    from ocirt.manager.checking import check as look

    found = look(site(), repair=bool(values["repair"]))
    for one in found:
        line(str(one))
    if not found:
        line("Everything is as it should be.")
    return int(any(not one.repaired for one in found))
