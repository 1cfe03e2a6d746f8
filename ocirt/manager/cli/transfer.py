"""cp between a container and here: where things go is docker's rule, how they get there is a tar archive in a pipe.

The side of the container is copying's, by descriptors below its root. On our side what comes from a container is not
to be trusted: it is unpacked by descriptors too, and never through a symlink that came with it.
"""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from threading import Thread
from typing import BinaryIO

from ocirt.manager.archive.extract import Extractor
from ocirt.manager.archive.whiteouts import Plain
from ocirt.manager.containers import copying
from ocirt.manager.errors import ConflictError, GrammarError, ManagerError, MissingError
from ocirt.manager.site import Site

_MOST_LINKS = 40


def to_host(site: Site, container: str, path: str, target: str, *, follow: bool, archive: bool) -> None:
    """Copy out of a container. archive: with the owners that it has there. Raises ManagerError."""
    about = copying.stat(site, container, path)
    if follow and about.link_target:
        about = _followed(site, container, about)
    content = path.endswith("/.") or path == "."
    is_folder = stat.S_ISDIR(about.mode)
    owner = None if archive else (os.getuid(), os.getgid())

    def out(stream: BinaryIO) -> None:
        copying.copy_out(site, container, path, stream, follow=follow, owner=owner)

    if os.path.isdir(target):
        _through_pipe(out, lambda stream: _unpack(stream, target))
        return
    if target.endswith("/") and not is_folder:
        raise MissingError(f"there is no folder {target}")
    if is_folder and os.path.lexists(target):
        raise ConflictError(f"{target} is no folder, and {path} is one")
    parent = os.path.dirname(target.rstrip("/")) or "."
    with tempfile.TemporaryDirectory(dir=parent, prefix=".ocim-") as folder:
        if content or os.path.basename(path.rstrip("/")) in ("", ".", ".."):
            inner = os.path.join(folder, "copied")
            os.mkdir(inner)
            _through_pipe(out, lambda stream: _unpack(stream, inner))
        else:
            _through_pipe(out, lambda stream: _unpack(stream, folder))
            inner = os.path.join(folder, os.path.basename(path.rstrip("/")))
        os.rename(inner, target.rstrip("/"))


def _unpack(stream: BinaryIO, folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        Extractor(descriptor, Plain(folders=False)).run(stream)
    finally:
        os.close(descriptor)


def _followed(site: Site, container: str, about: copying.Stat) -> copying.Stat:
    for _ in range(_MOST_LINKS):
        if not about.link_target:
            return about
        about = copying.stat(site, container, about.link_target)
    raise ManagerError("too many symlinks, one after the other")


def from_host(site: Site, container: str, source: str, path: str, *, follow: bool, archive: bool) -> None:
    """Copy into a container. Without `archive` it is root's there. Raises ManagerError."""
    about = os.stat(source) if follow or source.endswith("/") else os.lstat(source)
    is_folder = stat.S_ISDIR(about.st_mode)
    into, name = _place(site, container, path, os.path.basename(source.rstrip("/")), is_folder=is_folder)
    if is_folder and (source == "." or source.endswith("/.") or name == ".."):
        into, name = (into, ".") if _is_folder(site, container, path) else (into, name)

    def member(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if not archive:
            info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    def out(stream: BinaryIO) -> None:
        with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
            tar.add(os.path.realpath(source) if follow else source, name, filter=member)

    _through_pipe(lambda stream: copying.copy_in(site, container, into, stream), out, reads_here=True)


def _is_folder(site: Site, container: str, path: str) -> bool:
    try:
        return stat.S_ISDIR(_followed(site, container, copying.stat(site, container, path)).mode)
    except MissingError:
        return False


def _place(site: Site, container: str, path: str, name: str, *, is_folder: bool) -> tuple[str, str]:
    """(the folder in the container, the name there): docker's rule for SOURCE and TARGET."""
    if _is_folder(site, container, path):
        return path, name or "."
    there = True
    try:
        copying.stat(site, container, path)
    except MissingError:
        there = False
    if path.endswith("/") and not is_folder:
        raise MissingError(f"there is no folder {path} in the container")
    if there and is_folder:
        raise ConflictError(f"{path} is no folder in the container, and what is to be copied is one")
    parent, _, own = path.rstrip("/").rpartition("/")
    if own in ("", ".", ".."):
        raise GrammarError(f"{path[:200]!r} cannot be made in the container")
    return parent or "/", own


def _through_pipe(
    main: Callable[[BinaryIO], object], other: Callable[[BinaryIO], object], *, reads_here: bool = False
) -> None:
    """`main`, which uses the store, runs here; `other` in a thread, at the other end of a pipe. What fails first is
    raised: the broken pipe of the other one says nothing."""
    reading, writing = os.pipe()
    ours, theirs = (reading, writing) if reads_here else (writing, reading)
    failures: list[BaseException] = []

    def run() -> None:
        with open(theirs, "wb" if reads_here else "rb", buffering=1 << 16) as stream:
            _noted(other, stream, failures)

    thread = Thread(target=run)
    thread.start()
    with open(ours, "rb" if reads_here else "wb", buffering=1 << 16) as stream:
        _noted(main, stream, failures)
    thread.join()
    for failure in sorted(failures, key=lambda one: isinstance(one, BrokenPipeError)):
        raise failure


def _noted(action: Callable[[BinaryIO], object], stream: BinaryIO, failures: list[BaseException]) -> None:
    try:
        action(stream)
        if stream.writable():
            stream.flush()
    except BaseException as error:
        failures.append(error)
