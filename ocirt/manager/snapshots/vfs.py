"""The driver that works everywhere: a snapshot is a copy of the one below it with the layer applied, and a container a
copy of its image. Where the file system can share blocks (reflinks) copies cost little, elsewhere all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ocirt.manager.snapshots import trees
from ocirt.manager.snapshots.changes import Difference, of_copy
from ocirt.manager.snapshots.copies import copy


class Whole:
    """A container has a tree of its own, with everything of its image in it: nothing is mounted."""

    def mount(self, container: Path, below: Sequence[Path]) -> None:
        """See `Driver`."""

    def unmount(self, container: Path) -> None:
        """See `Driver`."""

    def differences(self, container: Path, below: Sequence[Path]) -> Iterator[Difference]:
        """See `Driver`."""
        return compared(container, below)

    def written(self, container: Path) -> Path:
        """See `Driver`."""
        return container / "rootfs"


class Vfs(Whole):
    """See `drivers.Driver`. In a container's folder: rootfs, the copy."""

    name = "vfs"
    chained = True
    opaque = ""
    copied = True  # a new snapshot has to be filled with a copy of what is below it

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, path: Path, below: str) -> None:
        """See `Driver`."""
        path.mkdir(mode=0o700)
        path.chmod(0o755)

    def drop(self, path: Path) -> None:
        """See `Driver`."""
        _remove(path)

    def prepare(self, container: Path, below: Sequence[Path]) -> None:
        """See `Driver`. The copy gets its name when it is whole."""
        target = container / "rootfs.new"
        _remove(target)
        target.mkdir(mode=0o755)
        if below:
            _copied(below[-1], target)
        if (container / "rootfs").is_dir():
            (container / "rootfs").rmdir()
        target.rename(container / "rootfs")

    def release(self, container: Path) -> None:
        """See `Driver`."""


def compared(container: Path, below: Sequence[Path]) -> Iterator[Difference]:
    """A container's tree with the one that it began as; when it was whole snapshot.json was written."""
    if not below:
        (container / "none").mkdir(exist_ok=True)
    ours = os.open(container / "rootfs", trees.FOLDER)
    try:
        base = os.open(below[-1] if below else container / "none", trees.FOLDER)
        try:
            yield from of_copy(ours, base, (container / "snapshot.json").stat().st_mtime_ns)
        finally:
            os.close(base)
    finally:
        os.close(ours)


def _copied(source: Path, target: Path) -> None:
    ours = os.open(source, trees.FOLDER)
    try:
        made = os.open(target, trees.FOLDER)
        try:
            copy(ours, made)
        finally:
            os.close(made)
    finally:
        os.close(ours)


def _remove(path: Path) -> None:
    parent = os.open(path.parent, trees.FOLDER)
    try:
        trees.remove(parent, path.name)
    finally:
        os.close(parent)
