"""How snapshots and containers' file systems are made: overlayfs, plain copies (vfs), subvolumes of btrfs.

A driver is chosen when a store is first used, and written down there: what one has made is nothing to another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ocirt.manager.errors import ConflictError, GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ocirt.manager.snapshots.changes import Difference

    class Driver(Protocol):
        """What each of them does. Raises ManagerError and OSError.

        chained   whether a snapshot holds all layers below it too
        copied    whether a new snapshot has to be filled with a copy of the one below it first
        opaque    the attribute by which a folder hides those below it (overlayfs), or ""
        """

        name: str
        chained: bool
        copied: bool
        opaque: str

        def make(self, path: Path, below: str) -> None:
            """A new snapshot, upon another's folder or "". Raises FileExistsError."""

        def drop(self, path: Path) -> None:
            """Remove a snapshot's folder."""

        def prepare(self, container: Path, below: Sequence[Path]) -> None:
            """What a container's changes go to; below: the snapshots, lowest first. May be done again after a kill."""

        def mount(self, container: Path, below: Sequence[Path]) -> None:
            """Have the file system at container/rootfs."""

        def unmount(self, container: Path) -> None:
            """Nothing is mounted at container/rootfs."""

        def differences(self, container: Path, below: Sequence[Path]) -> Iterator[Difference]:
            """What the container made."""

        def written(self, container: Path) -> Path:
            """The folder of which the size is the container's own."""

        def release(self, container: Path) -> None:
            """What must go before the container's folder can be removed."""


NAMES = ("overlay", "vfs", "btrfs")


def choose(folder: Path, wanted: str) -> Driver:
    """The driver of a store, whose folder for snapshots this is. Raises GrammarError, ConflictError."""
    if wanted and wanted not in NAMES:
        raise GrammarError(f"{wanted[:40]!r} is no driver for snapshots", hint=", ".join(NAMES))
    written = folder / "driver"
    try:
        name = written.read_text().strip()
    except FileNotFoundError:
        name = _settle(written, wanted or _best(folder))
    if wanted and wanted != name:
        raise ConflictError(
            f"the store at {folder.parent} uses the driver {name}, not {wanted}",
            hint="leave out OCIM_DRIVER, or have another store with OCIM_ROOT",
        )
    return _driver(name, folder)


def _settle(written: Path, name: str) -> str:
    """Write it down, unless another process was first."""
    temporary = written.with_name(f"driver.{os.getpid()}")
    temporary.write_text(name + "\n")
    try:
        os.link(temporary, written)
    except FileExistsError:
        return written.read_text().strip()
    finally:
        temporary.unlink()
    return name


def _best(folder: Path) -> str:
    from ocirt.manager.snapshots import btrfs, overlay

    if btrfs.works(folder):
        return "btrfs"
    return "overlay" if overlay.works(folder) else "vfs"


def _driver(name: str, folder: Path) -> Driver:
    if name == "overlay":
        from ocirt.manager.snapshots.overlay import Overlay

        return Overlay(folder)
    if name == "vfs":
        from ocirt.manager.snapshots.vfs import Vfs

        return Vfs(folder)
    if name == "btrfs":
        from ocirt.manager.snapshots.btrfs import Btrfs

        return Btrfs(folder)
    raise GrammarError(f"the store at {folder.parent} was made with the driver {name[:40]!r}, which is not known here")
