"""cp: files out of a container and into it, as tar archives, whether it runs or not.

Every path is resolved by openat2(2) with the container's root as root, and what it finds is held by a descriptor, so a
program in the container that swaps folders for links meanwhile leads nowhere but into its own files (CVE-2018-15664,
CVE-2026-41568, CVE-2026-42306). Nothing of the container is executed, and no name is looked up by its files
(CVE-2019-14271, CVE-2026-41567). What is seen is the root file system with the container's volumes, not what is
mounted in its namespace: as docker cp has it, no /proc, /sys and tmpfs.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ocirt import _sys
from ocirt.manager.archive.extract import Extractor
from ocirt.manager.archive.reader import Stream
from ocirt.manager.archive.whiteouts import Plain
from ocirt.manager.archive.writer import Out, Writer
from ocirt.manager.errors import ConflictError, ManagerError, MissingError
from ocirt.manager.site import Site
from ocirt.manager.snapshots import trees
from ocirt.manager.snapshots.opening import Bind
from ocirt.manager.snapshots.trees import Found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_LINKS = 40  # MAXSYMLINKS
_RESOLVE = 0x02 | 0x10  # RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT


@dataclass(frozen=True, slots=True)
class Stat:
    """What is at a path of a container.

    name         last component, as the archive of it has it
    size         bytes; mode: as of stat(2); mtime: nanoseconds since 1970
    link_target  where a symlink leads, as a path from the container's root, or ""
    """

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str


def stat(site: Site, container_id: str, path: str) -> Stat:
    """About a path; a symlink is not followed. Raises MissingError, ManagerError."""
    with _root(site, container_id) as root, _found(root, path, False) as found:
        target = ""
        if modes.S_ISLNK(found.about.st_mode):
            link = os.readlink(os.fsdecode(found.name), dir_fd=found.folder)
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path.rstrip("/")), link))
        about = found.about
        return Stat(os.fsdecode(_base(path)), about.st_size, about.st_mode, about.st_mtime_ns, target)


def copy_out(
    site: Site,
    container_id: str,
    path: str,
    out: Out,
    *,
    follow: bool = False,
    owner: tuple[int, int] | None = None,
) -> None:
    """Write an archive of what is at a path: a file under its name, or a folder with all that is in it.

    follow   where the path is a symlink, what it leads to, under the link's name
    owner    (uid, gid) that the archive says, instead of the container's own
    Raises MissingError, ManagerError, and what `out` raises.
    """
    with _root(site, container_id) as root, _found(root, path, follow) as found:
        writer = Writer(out, owner)
        base = _base(path)
        try:
            writer.member(found, base)
            if modes.S_ISDIR(found.about.st_mode):
                _inside(found, base, writer)
        except OSError as error:
            raise ManagerError(f"copy {path} of {container_id}: {error.strerror}", errno=error.errno or 0) from error
        writer.close()


def _inside(found: Found, base: bytes, writer: Writer) -> None:
    top = os.open(found.name, trees.FOLDER, dir_fd=found.folder)
    try:
        for inner in trees.walk(top):
            try:
                writer.member(inner, base + b"/" + inner.path)
            except FileNotFoundError:
                continue  # it was there a moment ago
    finally:
        os.close(top)


def copy_in(site: Site, container_id: str, path: str, stream: Stream, *, folders: bool = False) -> None:
    """Unpack an archive into a folder of a container, which must be there. Its own owners are kept.

    folders   whether a folder may take the place of something else, and something else that of a folder
    Raises MissingError, ConflictError, ArchiveError, LimitError, ManagerError.
    """
    with _root(site, container_id) as root:
        try:
            folder = _sys.openat2(root, path or "/", os.O_RDONLY | os.O_DIRECTORY, _RESOLVE)
        except OSError as error:
            raise _problem(error, path) from error
        try:
            on_root = os.fstat(folder).st_dev == os.fstat(root).st_dev
        finally:
            os.close(folder)
        if on_root and _document(site, container_id).get("host", {}).get("ReadonlyRootfs"):
            raise ConflictError(f"the root file system of {container_id} is read-only")
        below = b"/".join(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))
        Extractor(root, Plain(folders), below=below).run(stream)


@contextmanager
def _root(site: Site, container_id: str) -> Iterator[int]:
    with site.snapshots.root(container_id, _volumes(_document(site, container_id))) as root:
        yield root


def _document(site: Site, container_id: str) -> dict[str, Any]:
    row = site.database.read.execute("select document from containers where id = ?", (container_id,)).fetchone()
    document: dict[str, Any] = json.loads(row[0]) if row else {}
    return document


def _volumes(document: dict[str, Any]) -> list[Bind]:
    """docker's "Mounts" that have a source."""
    return [
        (mount["Source"], mount["Destination"], bool(mount.get("RW", True)))
        for mount in document.get("mounts", [])
        if mount.get("Source")
    ]


@contextmanager
def _found(root: int, path: str, follow: bool) -> Iterator[Found]:
    """What is at a path, held by the folder that it is in. follow: not a symlink, but what it leads to."""
    for _ in range(_MOST_LINKS):
        parent, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", "..") or path.endswith("/"):
            parent, name = path or "/", "."  # a folder, and no link to one
        try:
            folder = _sys.openat2(root, parent or "/", os.O_PATH | os.O_DIRECTORY, _RESOLVE)
        except OSError as error:
            raise _problem(error, path) from error
        try:
            try:
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                link = os.readlink(name, dir_fd=folder) if modes.S_ISLNK(about.st_mode) else ""
            except OSError as error:
                raise _problem(error, path) from error
            if not (follow and link):
                yield Found(b"", folder, os.fsencode(name), about)
                return
            path = posixpath.join("/", parent, link)
        finally:
            os.close(folder)
    raise ManagerError(f"{path} in the container: {os.strerror(errno.ELOOP)}", errno=errno.ELOOP)


def _base(path: str) -> bytes:
    """What the archive calls it: "." for the root, and for "FOLDER/."."""
    return os.fsencode(posixpath.basename(path.rstrip("/")) or ".")


def _problem(error: OSError, path: str) -> ManagerError:
    if isinstance(error, FileNotFoundError):
        return MissingError(f"there is no {path} in the container")
    if isinstance(error, NotADirectoryError):
        return ConflictError(f"{path} is no folder in the container")
    return ManagerError(f"{path} in the container: {error.strerror}", errno=error.errno or 0)
