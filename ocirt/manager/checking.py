"""check: whether everything in the store is what it should be, and with `repair` what can be done about it.

Looked at are the database itself, the bytes of every blob, whether images have what they need and say so, the folders
of snapshots, those of containers, and files that nobody knows of. What is damaged is removed, so that a pull brings it
again; what cannot be brought back is told. The files of an unpacked layer are not compared with the layer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ocirt.manager import documents
from ocirt.manager.documents import Index
from ocirt.manager.errors import ManagerError
from ocirt.manager.site import Site
from ocirt.manager.store.collect import sweep, unknown_files

_NEEDED_BY = """
with recursive above (name) as (
    select ?
    union select edges.parent from above join edges on edges.child = above.name
)
"""
_LEASED_ABOVE = _NEEDED_BY + "select 1 from leased join above on leased.name = above.name limit 1"
_NAMES_ABOVE = _NEEDED_BY + "select images.name from images join above on images.digest = above.name order by 1"
_CONTAINERS_ABOVE = (
    _NEEDED_BY + "select containers.name from containers join above on containers.image = above.name order by 1"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    kind       "database", "blob", "image", "edge", "snapshot", "container" or "file"
    name       of what it is: a digest, a name, a path
    problem    what is wrong with it
    repaired   what was done about it, or ""
    hint       what is left to do, or ""
    """

    kind: str
    name: str
    problem: str
    repaired: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.problem}" + "".join(
            f"; {one}" for one in (self.repaired, self.hint) if one
        )


def check(site: Site, *, repair: bool = False) -> list[Finding]:
    """All that is wrong. Others may be at work; what is just coming or going is no finding. Raises ManagerError where
    the database cannot be read at all.
    """
    found = list(_database(site, repair))
    if any(one.kind == "database" and not one.repaired for one in found):
        return found  # what its tables say is worth nothing
    for part in (_blobs, _images, _edges, _snapshots, _containers, _files):
        found += part(site, repair)
    return found


def _database(site: Site, repair: bool) -> Iterator[Finding]:
    wrong = _integrity(site)
    if not wrong:
        return
    repaired = ""
    if repair:
        try:
            site.database.read.execute("reindex")
            repaired = "" if _integrity(site) else "its indexes were made anew"
        except sqlite3.Error:
            pass
    hint = "" if repaired else "move it away; ocim load and ocim pull bring images again, blobs that are here stay"
    yield Finding("database", str(site.database.path), "; ".join(wrong[:3]), repaired, hint)


def _integrity(site: Site) -> list[str]:
    try:
        rows = site.database.read.execute("pragma integrity_check(10)").fetchall()
        broken = site.database.read.execute("pragma foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [str(row[0]) for row in rows if row[0] != "ok"] + [f"a row of {row[0]} refers to none" for row in broken]


def _blobs(site: Site, repair: bool) -> Iterator[Finding]:
    for digest, why in site.blobs.verify():
        if site.blobs.size(digest) is None:
            continue  # collected meanwhile
        finding = Finding("blob", digest, why, hint=_again(site, digest))
        if repair:
            with site.database.write() as transaction:
                site.blobs.path(digest).unlink(missing_ok=True)
                transaction.execute("delete from blobs where digest = ?", (digest,))
            finding = replace(finding, repaired="removed")
        yield finding


def _again(site: Site, name: str) -> str:
    """Which images have to be pulled, and which containers suffer."""
    read = site.database.read
    names = [str(row[0]) for row in read.execute(_NAMES_ABOVE, (name,)).fetchall()]
    users = [str(row[0]) for row in read.execute(_CONTAINERS_ABOVE, (name,)).fetchall()]
    said = []
    if names:
        said.append("ocim pull " + " ".join(names))
    if users:
        said.append("needed by the containers " + " ".join(users))
    return "; ".join(said)


def _images(site: Site, repair: bool) -> Iterator[Finding]:
    """Names whose document is gone, and manifests without all that they need."""
    for image in site.images:
        if site.blobs.size(image.target.digest) is None:
            yield Finding("image", image.name, f"{image.target.digest} is gone", hint=f"ocim pull {image.name}")
    kinds = ", ".join(f"'{kind}'" for kind in sorted(documents.MANIFESTS))
    query = f"select digest from blobs where not dead and media_type in ({kinds})"
    for (digest,) in site.database.read.execute(query).fetchall():
        yield from _manifest(site, str(digest), repair)


def _manifest(site: Site, digest: str, repair: bool) -> Iterator[Finding]:
    try:
        parsed = documents.parse(site.blobs.read(digest, documents.LARGEST_DOCUMENT), what=f"manifest {digest}")
    except ManagerError as error:
        if site.blobs.size(digest) is not None and _wanted(site, digest):
            yield Finding("image", digest, error.message, hint=_again(site, digest))
        return
    if isinstance(parsed, Index):
        return
    needs = [parsed.config.digest, *(layer.digest for layer in parsed.layers)]
    rows = site.database.read.execute("select child from edges where parent = ?", (digest,)).fetchall()
    lost = sorted(set(needs) - {str(row[0]) for row in rows})
    if lost and site.blobs.size(digest) is not None:
        finding = Finding("edge", digest, f"it does not say that it needs {', '.join(lost)}")
        if repair:
            with site.database.write() as transaction:
                transaction.executemany("insert or ignore into edges values (?, ?)", [(digest, one) for one in lost])
            finding = replace(finding, repaired="said again")
        yield finding
    gone = [one for one in dict.fromkeys(needs) if site.blobs.size(one) is None]
    if gone and _wanted(site, digest):
        yield Finding("image", digest, f"without {', '.join(gone)}", hint=_again(site, digest))


def _wanted(site: Site, digest: str) -> bool:
    """Whether something needs it, and no process is just bringing it in."""
    if site.database.read.execute(_LEASED_ABOVE, (digest,)).fetchone() is not None:
        return False
    return bool(_again(site, digest))


def _edges(site: Site, repair: bool) -> Iterator[Finding]:
    """Those of what is not there: nothing comes of them, but of the same digest later."""
    query = (
        "select distinct parent from edges where parent not in (select digest from blobs)"
        " and parent not in (select name from snapshots)"
    )
    with site.database.write() as transaction:
        lost = [str(row[0]) for row in transaction.execute(query).fetchall()]
        if repair:
            transaction.executemany("delete from edges where parent = ?", [(name,) for name in lost])
    for name in lost:
        yield Finding("edge", name, "it is not there, and needs something", "forgotten" if repair else "")


def _snapshots(site: Site, repair: bool) -> Iterator[Finding]:
    read = site.database.read
    own = site.snapshots.driver.name
    for name, driver, folder in read.execute("select name, driver, folder from snapshots where not dead").fetchall():
        path = site.root / "snapshots" / folder
        problem = "" if path.is_dir() and not path.is_symlink() else "its folder is gone"
        if not problem and driver != own:
            problem = f"it is of the driver {driver}, and the store of {own}"
        if not problem or read.execute("select 1 from snapshots where folder = ?", (folder,)).fetchone() is None:
            continue
        finding = Finding("snapshot", str(name), problem, hint=_again(site, str(name)))
        if repair:
            with site.database.write() as transaction:
                transaction.execute("delete from snapshots where name = ? and folder = ?", (name, folder))
                transaction.execute("delete from edges where parent = ?", (name,))
            finding = replace(finding, repaired="forgotten: the layer is unpacked again when it is needed")
        yield finding


def _containers(site: Site, repair: bool) -> Iterator[Finding]:
    """Nothing of a container is removed: it may have what nobody else has."""
    for identity, name, image in site.database.read.execute("select id, name, image from containers").fetchall():
        if not site.container(str(identity)).is_dir():
            yield Finding("container", str(name), "its folder is gone", hint=f"ocim rm {name}")
        elif image and site.blobs.size(str(image)) is None:
            yield Finding("container", str(name), f"its image's manifest {image} is gone")


def _files(site: Site, repair: bool) -> Iterator[Finding]:
    if not repair:
        for path in unknown_files(site.root, site.database):
            yield Finding("file", str(path), "nobody knows of it")
        return
    for path in sweep(site.root, site.database):
        yield Finding("file", str(path), "nobody knew of it", "removed")
    for name in site.snapshots.sweep():
        yield Finding("file", str(site.root / "snapshots" / name), "nobody knew of it", "removed")
