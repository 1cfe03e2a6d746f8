"""What a container made of its image: a list as of docker diff, and a layer (image-spec 1.1, layer.md "Representing
Changes").
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ocirt.manager.archive.whiteouts import OPAQUE, WHITEOUT
from ocirt.manager.archive.writer import Out, Writer
from ocirt.manager.snapshots import trees
from ocirt.manager.snapshots.trees import Found


@dataclass(frozen=True, slots=True)
class Change:
    """kind: "A" for what is new, "C" for what is other than in the image, "D" for what is gone; path: from the root."""

    kind: str
    path: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """path: below the root; found: what is there now, or None; opaque: a folder that has nothing of the image's, in
    which the image has the names `hidden`; alike: a folder with the image's owner and mode.
    """

    kind: str
    path: bytes
    found: Found | None
    opaque: bool = False
    hidden: frozenset[bytes] = frozenset()
    alike: bool = False


_MOUNTED = frozenset((b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"))
"""Over which files of ours are mounted (containers/etc.py): where the image has none, an empty one is made for that."""


_POINTS = frozenset((b"dev", b"proc", b"sys"))
"""Where the kernel's file systems are mounted: folders, which are made where the image has none."""


def made_for_mounts(differences: Iterator[Difference]) -> frozenset[bytes]:
    """The empty files and folders that were made to mount ours over, and /etc if it is as in the image but for them."""
    files: set[bytes] = set()
    folders: set[bytes] = set()
    alike = False
    for one in differences:
        top = one.path.partition(b"/")[0]
        if one.path == b"etc":
            alike = one.alike or one.kind == "A"
        elif one.path in _MOUNTED and _is_empty(one):
            files.add(one.path)
        elif top == b"etc":
            alike = False
        elif one.path in _POINTS and one.kind == "A" and one.found is not None and one.found.about.st_uid == 0:
            folders.add(one.path)
        else:
            folders.discard(top)
    return frozenset(files | folders | ({b"etc"} if files and alike else set()))


def _is_empty(one: Difference) -> bool:
    return (
        one.kind == "A"
        and one.found is not None
        and stat.S_ISREG(one.found.about.st_mode)
        and one.found.about.st_size == 0
    )


def _alike(about: os.stat_result, there: os.stat_result | None) -> bool:
    return there is not None and (about.st_mode, about.st_uid, about.st_gid) == (
        there.st_mode,
        there.st_uid,
        there.st_gid,
    )


def write(differences: Iterator[Difference], out: Out) -> None:
    """The layer of these differences."""
    writer = Writer(out)
    for one in differences:
        parent, _, name = one.path.rpartition(b"/")
        prefix = parent + b"/" if parent else b""
        if one.found is None:
            writer.empty(prefix + WHITEOUT + name)
            continue
        try:
            writer.member(one.found)
        except FileNotFoundError:
            continue
        if one.opaque:
            writer.empty(one.path + b"/" + OPAQUE)
    writer.close()


# overlayfs: its upper folder is the list already.


def of_upper(upper: int, below: Sequence[int], opaque: Callable[[int], bool]) -> Iterator[Difference]:
    """upper: what the container wrote; below: the layers that are seen, highest first; opaque: whether a folder hides
    those below it.
    """
    # Of each folder that was walked: the layers whose folders of that name are merged with it.
    merged: dict[bytes, list[int]] = {b"": list(below)}
    for found in trees.walk(upper):
        parent = found.path.rpartition(b"/")[0]
        there, layers = _lower(found.path, merged[parent])
        about = found.about
        if _is_whiteout(about):
            if there is not None:
                yield Difference("D", found.path, None)
            continue
        kind = "A" if there is None else "C"
        if not stat.S_ISDIR(about.st_mode):
            yield Difference(kind, found.path, found)
            continue
        hides = bool(layers) and _hides(found, opaque)
        merged[found.path] = [] if hides else layers
        hidden = _names(found.path, layers) if hides else frozenset()
        yield Difference(kind, found.path, found, hides, hidden, not hides and _alike(about, there))


def _lower(path: bytes, layers: Sequence[int]) -> tuple[os.stat_result | None, list[int]]:
    """What the layers have at a path, in whose parent they are merged; and those of them that are merged in it."""
    first: os.stat_result | None = None
    folders = []
    for layer in layers:
        try:
            about = os.stat(path, dir_fd=layer, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _is_whiteout(about):
            break
        if first is None:
            first = about
        if not stat.S_ISDIR(about.st_mode):
            break
        folders.append(layer)
    return first, folders


def _names(path: bytes, layers: Sequence[int]) -> frozenset[bytes]:
    """What is to be seen in a folder that these layers have, highest first."""
    seen: dict[bytes, bool] = {}
    for layer in layers:
        folder = os.open(path, trees.FOLDER, dir_fd=layer)
        try:
            for name in map(os.fsencode, os.listdir(folder)):
                seen.setdefault(name, not _is_whiteout(os.stat(name, dir_fd=folder, follow_symlinks=False)))
        finally:
            os.close(folder)
    return frozenset(name for name, there in seen.items() if there)


def _is_whiteout(about: os.stat_result) -> bool:
    return stat.S_ISCHR(about.st_mode) and about.st_rdev == 0


def _hides(found: Found, opaque: Callable[[int], bool]) -> bool:
    try:
        descriptor = os.open(found.name, trees.FOLDER, dir_fd=found.folder)
    except OSError:
        return False
    try:
        return opaque(descriptor)
    finally:
        os.close(descriptor)


def listed(differences: Iterator[Difference]) -> Iterator[Change]:
    """As a list."""
    waiting: dict[bytes, set[bytes]] = {}
    for one in differences:
        yield Change(one.kind, b"/" + one.path)
        parent, _, name = one.path.rpartition(b"/")
        if parent in waiting:
            waiting[parent].discard(name)
        if one.hidden:
            waiting[one.path] = set(one.hidden)
    for folder in sorted(waiting):
        for name in sorted(waiting[folder]):
            yield Change("D", b"/" + folder + b"/" + name)


# Copies: two trees, compared.


def of_copy(copy: int, base: int, since: int) -> Iterator[Difference]:
    """copy: the container's tree; base: the one that it began as; since: nanoseconds, when it was whole. A file
    that has not changed since then (by its ctime, which nobody can set) has the same content.
    """
    told: set[bytes] = set()
    pending: list[tuple[bytes, os.stat_result]] = []
    for found in trees.walk(copy):
        while pending and not found.path.startswith(pending[-1][0] + b"/"):
            pending.pop()
        there = _at(base, found.path)
        kind = "A" if there is None else "C" if _differs(found, there, base, since) else ""
        inner = []
        if stat.S_ISDIR(found.about.st_mode) and there is not None and stat.S_ISDIR(there.st_mode):
            inner = list(_gone(found, base))
        if kind or inner:
            for path, about in pending:
                if path not in told:
                    told.add(path)
                    with _again(copy, path, about) as folder:
                        yield Difference("C", path, folder, alike=True)
            told.add(found.path)
            yield Difference(kind or "C", found.path, found, alike=not kind or _alike(found.about, there))
            yield from inner
        if stat.S_ISDIR(found.about.st_mode):
            pending.append((found.path, found.about))
    top = set(os.listdir(copy))
    yield from (Difference("D", os.fsencode(name), None) for name in sorted(os.listdir(base)) if name not in top)


@contextmanager
def _again(copy: int, path: bytes, about: os.stat_result) -> Iterator[Found]:
    """What was found before: the walk has closed its folder since."""
    parent, _, name = path.rpartition(b"/")
    folder = trees.beneath(copy, parent)
    try:
        yield Found(path, folder, name, about)
    finally:
        os.close(folder)


def _gone(found: Found, base: int) -> Iterator[Difference]:
    """What the base has in a folder, and the copy has not."""
    descriptor = os.open(found.name, trees.FOLDER, dir_fd=found.folder)
    try:
        ours = set(os.listdir(descriptor))
    finally:
        os.close(descriptor)
    descriptor = os.open(found.path, trees.FOLDER, dir_fd=base)
    try:
        names = os.listdir(descriptor)
    finally:
        os.close(descriptor)
    for name in sorted(names):
        if name not in ours:
            yield Difference("D", found.path + b"/" + os.fsencode(name), None)


def _at(base: int, path: bytes) -> os.stat_result | None:
    """What the base has there; its links are not followed."""
    parent, _, name = path.rpartition(b"/")
    try:
        folder = trees.beneath(base, parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)


def _differs(found: Found, there: os.stat_result, base: int, since: int) -> bool:
    about = found.about
    folder = stat.S_ISDIR(about.st_mode)
    fields = ("st_mode", "st_uid", "st_gid", "st_rdev", *(() if folder else ("st_size", "st_mtime_ns")))
    if any(getattr(about, field) != getattr(there, field) for field in fields):
        return True
    if folder:
        return False  # what is in it speaks for itself
    if stat.S_ISLNK(about.st_mode):
        return os.readlink(found.name, dir_fd=found.folder) != os.readlink(found.path, dir_fd=base)
    return stat.S_ISREG(about.st_mode) and about.st_ctime_ns >= since and _content_differs(found, base)


def _content_differs(found: Found, base: int) -> bool:
    """Or attributes."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    ours = os.open(found.name, flags, dir_fd=found.folder)
    try:
        theirs = os.open(found.path, flags, dir_fd=base)
        try:
            if _attributes(ours) != _attributes(theirs):
                return True
            while (piece := os.read(ours, 1 << 20)) == os.read(theirs, 1 << 20):
                if not piece:
                    return False
            return True
        finally:
            os.close(theirs)
    finally:
        os.close(ours)


def _attributes(descriptor: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
