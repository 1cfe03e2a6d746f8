"""The store as a whole: how much room it takes (df), what nothing needs (prune), whether it is what it should be
(check: checking.py).

Others may pull, load and run meanwhile: what they are at is leased, locked, or not yet old enough to be anybody's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ocirt.manager import volumes
from ocirt.manager.checking import Finding, check
from ocirt.manager.containers import create, state
from ocirt.manager.containers.records import Records
from ocirt.manager.errors import ConflictError, GrammarError, MissingError
from ocirt.manager.images import facts, operations
from ocirt.manager.images.operations import Listed
from ocirt.manager.site import Site
from ocirt.manager.store import staging
from ocirt.manager.store.collect import collect, sweep

__all__ = ["Finding", "Pruned", "Usage", "check", "df", "prune", "prune_containers", "prune_images"]

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """A line of df. size, reclaimable: bytes; active: how many are in use."""

    type: str
    total: int
    active: int
    size: int
    reclaimable: int


@dataclass(slots=True)
class Pruned:
    """lines: as docker prints them; bytes: that were freed."""

    lines: list[str] = field(default_factory=list)
    bytes: int = 0


_TOTAL = "select (select coalesce(sum(size), 0) from blobs) + (select coalesce(sum(size), 0) from snapshots)"
_HELD = """
with recursive reached (name) as (
    select image from containers
    union select name from leased
    union select edges.child from reached join edges on edges.parent = reached.name
)
select (select coalesce(sum(size), 0) from blobs where digest in reached)
    + (select coalesce(sum(size), 0) from snapshots where name in reached)
"""


def df(site: Site) -> list[Usage]:
    """Images (with their unpacked layers), containers, volumes, and what came of pulls that did not end."""
    read = site.database.read
    total, held = (int(read.execute(query).fetchone()[0]) for query in (_TOTAL, _HELD))
    targets = {image.target.digest: image.target for image in site.images}
    active = sum(bool(operations.containers_of(site, target)) for target in targets.values())
    images = Usage("Images", len(targets), active, total, total - held)
    left = [size for _, size in staging.left_over(site.root)]
    return [images, _containers(site), _volumes(site), Usage("Unfinished", len(left), 0, sum(left), sum(left))]


def _containers(site: Site) -> Usage:
    sizes = [(site.snapshots.usage(record.id), state.read(site, record).alive) for record in Records(site.database)]
    free = sum(size for size, alive in sizes if not alive)
    return Usage("Containers", len(sizes), sum(alive for _, alive in sizes), sum(size for size, _ in sizes), free)


def _volumes(site: Site) -> Usage:
    found = volumes.Volumes(site)
    sizes = [(volumes.usage(one.path), bool(found.users(one.name))) for one in found]
    free = sum(size for size, used in sizes if not used)
    return Usage("Local Volumes", len(sizes), sum(used for _, used in sizes), sum(size for size, _ in sizes), free)


Filters = Sequence[tuple[str, str]]
"""(name, value): until=TIME (Go's duration, seconds since 1970, or RFC 3339), label=KEY[=VALUE], label!=KEY[=VALUE]."""


def prune(site: Site, *, all_: bool = False, volumes_: bool = False, filters: Filters = ()) -> dict[str, Pruned]:
    """Remove what nothing needs, by what it was: "containers" that do not run, "volumes" (without a name, and only if
    asked for), "images" without a name (all: without a container), "unfinished" pulls.

    Raises GrammarError (a filter) before anything is done.
    """
    _fitting(filters)
    done = {"containers": prune_containers(site, filters)}
    if volumes_:
        labels = [f"{name}={value}" for name, value in filters if name.startswith("label")]
        done["volumes"] = Pruned(*volumes.Volumes(site).prune(filters=labels))
    done["images"] = prune_images(site, all_=all_, filters=filters)
    count, size = staging.clear(site.root)
    done["unfinished"] = Pruned([f"{count} unfinished"] if count else [], size)
    return done


def prune_containers(site: Site, filters: Filters = ()) -> Pruned:
    """Remove the containers that do not run."""
    fits = _fitting(filters)
    done = Pruned()
    for record in Records(site.database):
        labels = record.document.get("config", {}).get("Labels") or {}
        if state.read(site, record).alive or not fits(record.created, labels):
            continue
        size = site.snapshots.usage(record.id)
        try:
            create.remove(site, record, force=False, volumes=False)
        except (ConflictError, MissingError):
            continue  # it was started, or removed, meanwhile
        done.lines.append(record.id)
        done.bytes += size
    return done


def prune_images(site: Site, *, all_: bool = False, filters: Filters = ()) -> Pruned:
    """Remove the images that have no name, or with `all_` those that no container is of; and what is nobody's."""
    fits = _fitting(filters)
    done = Pruned()
    for one in operations.listed(site):
        if (one.repository and not all_) or not fits(one.created, one.labels):
            continue
        image = next((image for image in site.images if image.name == one.name), None)
        if image is None or operations.containers_of(site, image.target):
            continue
        with site.database.write() as transaction:
            query = "delete from images where name = ? and digest = ?"
            if transaction.execute(query, (one.name, one.digest)).rowcount and one.repository:
                done.lines.append(f"untagged: {_shown(one)}")
    collected = collect(site.blobs, site.database, site.snapshots)
    sweep(site.root, site.database)
    site.snapshots.sweep()
    if collected.blobs:
        done.lines.append(f"deleted: {collected.blobs} blobs, {collected.snapshots} unpacked layers")
    done.bytes = collected.size + collected.unpacked
    return done


def _shown(one: Listed) -> str:
    return f"{one.repository}:{one.tag}" if one.tag else f"{one.repository}@{one.digest}"


def _fitting(filters: Filters) -> Callable[[int, dict[str, str]], bool]:
    """Whether something of a time (nanoseconds since 1970) and labels is meant. Raises GrammarError."""
    until = [_until(value) for name, value in filters if name == "until"]
    wanted = [value.partition("=") for name, value in filters if name == "label"]
    unwanted = [value.partition("=") for name, value in filters if name == "label!"]
    for name, _ in filters:
        if name not in ("until", "label", "label!"):
            raise GrammarError(f"{name[:40]!r} is no filter of prune", hint="until, label, label!")

    def has(labels: dict[str, str], key: str, equals: str, value: str) -> bool:
        return key in labels and (not equals or labels[key] == value)

    return lambda created, labels: (
        all(created < moment for moment in until)
        and all(has(labels, *one) for one in wanted)
        and not any(has(labels, *one) for one in unwanted)
    )


def _until(text: str) -> int:
    """Nanoseconds since 1970."""
    from ocirt.manager.images.changes import duration

    if text.isdecimal() and len(text) < 12:
        return int(text) * _SECOND
    moment = facts.nanoseconds(text)
    return moment or time.time_ns() - duration(text)
