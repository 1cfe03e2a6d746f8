"""Snapshots: an image's layers unpacked, once for all images that have them, and a container's file system upon them.

    ROOT/snapshots/driver      "overlay", "vfs" or "btrfs": what the store uses, from its first use on
    ROOT/snapshots/xxxxx       a snapshot; the table `snapshots` says of which layer
    ROOT/containers/ID/        snapshot.json (what the container stands on), rootfs (where it is mounted), and the
                               driver's own

A snapshot is there when its row is. A folder without a row is at work, or was left by a process that was killed: who
works in one holds its lock (flock(2)), and `sweep` removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ocirt import _sys
from ocirt.manager import digest as digests
from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Manifest
from ocirt.manager.errors import ManagerError, MissingError
from ocirt.manager.snapshots import drivers, layers, overlay, trees
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database
from ocirt.manager.store.leases import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:  # and where they are needed: what only starts a container waits for none of it
    from ocirt.manager.archive.writer import Out
    from ocirt.manager.snapshots.changes import Change, Difference
    from ocirt.manager.snapshots.opening import Bind
    from ocirt.manager.snapshots.unpacking import Progress, Task, Unpacking

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


class Snapshots:
    """All of a store.

    root     the store's folder
    wanted   the driver's name, or "" for the best that the file system takes; it is chosen once
    """

    def __init__(self, root: Path, database: Database, blobs: Blobs, wanted: str = "") -> None:
        self._root = root
        self._folder = root / "snapshots"
        self._database = database
        self._blobs = blobs
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.driver = drivers.choose(self._folder, wanted)

    # Unpacking.

    def unpack(self, manifest: Descriptor, lease: Lease, progress: Progress | None = None) -> tuple[str, ...]:
        """Have all layers of an image unpacked, whose blobs are there. Returns the snapshots' names, lowest first.

        manifest   of the platform's image. The lease holds it and its snapshots from now on.
        Raises MissingError (a blob), DigestError, DocumentError, ArchiveError, LimitError, ManagerError.
        """
        self._blobs.hold(manifest.digest, lease)
        data = self._blobs.read(manifest.digest, documents.LARGEST_DOCUMENT)
        parsed = documents.parse(data, manifest.media_type, what=f"manifest {manifest.digest}")
        if not isinstance(parsed, Manifest):
            raise ManagerError(f"{manifest.digest} is an index, not an image of one platform")
        names, _, there = self._there(parsed, lease)
        if there.keys() >= set(names):
            return names
        with self.unpacking(parsed, lease, progress) as (names, work):
            for task in work.tasks:
                if self._blobs.size(task.layer.digest) is None:
                    raise MissingError(f"layer {task.layer.digest} is not here", hint="pull the image again")
                task.whole = str(self._blobs.path(task.layer.digest))
            return names

    @contextmanager
    def unpacking(
        self, manifest: Manifest, lease: Lease, progress: Progress | None = None
    ) -> Iterator[tuple[tuple[str, ...], Unpacking]]:
        """Unpack what is not yet there while its blobs come in; the configuration's blob must be there. Gives the
        names, lowest first, and whom to tell of each layer. At the end of the block all of it is waited for, and
        becomes true.

        To be entered before threads are started: it forks.
        """
        from ocirt.manager.snapshots.unpacking import Unpacking

        names, diff_ids, there = self._there(manifest, lease)
        tasks = self._tasks(names, diff_ids, manifest, there)
        work = Unpacking(tasks, self._make, self.drop, self.driver, progress)
        keep = False
        try:
            yield names, work
            work.finish()
            if tasks:
                self._implied(tasks, names, there)
                self._commit(tasks, manifest.config.digest, names, lease)
            keep = True
        finally:
            work.close(keep)

    def _there(self, manifest: Manifest, lease: Lease) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
        """The snapshots' names, the DiffIDs, and those of the names that are there: held, and with edges if all are."""
        diff_ids = layers.diff_ids(self._blobs, manifest)
        names = layers.names(diff_ids, self.driver.chained)
        with self._database.write() as transaction:
            there = self._held(transaction, names, lease)
            if len(there) == len(set(names)):
                self._edges(transaction, manifest.config.digest, names)
        return names, diff_ids, there

    def _held(self, transaction: sqlite3.Connection, names: Sequence[str], lease: Lease) -> dict[str, str]:
        """Those that are there, and their folders; the lease holds them."""
        there = {}
        for name in names:
            row = transaction.execute("select folder from snapshots where name = ? and not dead", (name,)).fetchone()
            if row is not None:
                there[name] = str(row[0])
                lease.hold(transaction, "snapshot", name)
        return there

    def _tasks(
        self, names: Sequence[str], diff_ids: Sequence[str], manifest: Manifest, there: dict[str, str]
    ) -> list[Task]:
        from ocirt.manager.snapshots.unpacking import Task

        tasks: dict[str, Task] = {}
        below = ""
        for name, diff_id, layer in zip(names, diff_ids, manifest.layers, strict=True):
            if name not in there and name not in tasks:
                task = Task(name, diff_id, layer)
                if self.driver.chained and below:
                    task.below = tasks.get(below)
                    task.below_folder = str(self._folder / there[below]) if below in there else ""
                tasks[name] = task
            below = name
        return list(tasks.values())

    def _make(self, below: str) -> tuple[str, Path, int]:
        """A folder that is ours: named, made and locked."""
        while True:
            name = "".join(_LETTERS[byte & 31] for byte in os.urandom(5))
            path = self._folder / name
            try:
                self.driver.make(path, below)
            except FileExistsError:
                continue
            try:
                descriptor = os.open(path, trees.FOLDER)
            except FileNotFoundError:
                continue  # somebody swept between these two lines, or between the next two
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            try:
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return name, path, descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def drop(self, name: str) -> None:
        """Remove the folder of a snapshot that has no row, when nobody is at work in it."""
        self._sweep(name, fcntl.LOCK_EX)

    def _sweep(self, name: str, lock: int) -> bool:
        path = self._folder / name
        try:
            descriptor = os.open(path, trees.FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            fcntl.flock(descriptor, lock)
            # Now it is ours: who makes a row for it holds its lock until the row is there.
            if self._database.read.execute("select 1 from snapshots where folder = ?", (name,)).fetchone():
                return False
            self.driver.drop(path)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            raise ManagerError(f"remove {path}: {error.strerror}", errno=error.errno or 0) from error
        finally:
            os.close(descriptor)

    def sweep(self) -> list[str]:
        """Remove the folders that have no row, and at which nobody is at work: a process was killed. Returns them."""
        return [name for name in os.listdir(self._folder) if self._sweep(name, fcntl.LOCK_EX | fcntl.LOCK_NB)]

    def _implied(self, tasks: Sequence[Task], names: Sequence[str], there: dict[str, str]) -> None:
        """Folders that a layer has members in and says nothing of are like the layers' below: alone, such a layer would
        give the image's folders to root. Of several images with that layer the first counts.
        """
        folders = there | {task.name: task.folder for task in tasks}
        for task in tasks:
            below = [self._folder / folders[name] for name in reversed(names[: names.index(task.name)])]
            for path in task.implied:
                overlay.adopt(self._folder / task.folder, path, below)

    def _commit(self, tasks: Sequence[Task], config: str, names: Sequence[str], lease: Lease) -> None:
        """On disk, then true: the rows, the edges to them, and the lease, at once."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sys.syncfs(descriptor)
        finally:
            os.close(descriptor)
        superfluous = []
        with self._database.write() as transaction:
            for task in tasks:
                found = transaction.execute(
                    "select folder, dead from snapshots where name = ?", (task.name,)
                ).fetchone()
                if found is not None:
                    # Another process did the same and was first, or a collector is about to remove it.
                    superfluous.append(str(found[0]) if found[1] else task.folder)
                    if not found[1]:
                        lease.hold(transaction, "snapshot", task.name)
                        continue
                transaction.execute(
                    "insert or replace into snapshots (name, driver, folder, size, added, dead)"
                    " values (?, ?, ?, ?, ?, 0)",
                    (task.name, self.driver.name, task.folder, task.size, time.time_ns()),
                )
                lease.hold(transaction, "snapshot", task.name)
            self._edges(transaction, config, names)
        for folder in superfluous:
            self.drop(folder)

    def _edges(self, transaction: sqlite3.Connection, config: str, names: Sequence[str]) -> None:
        """Who needs the configuration needs its snapshots."""
        if self.driver.chained:
            pairs = list(zip((config, *reversed(names)), reversed(names), strict=False))
        else:
            pairs = [(config, name) for name in names]
        transaction.executemany("insert or ignore into edges values (?, ?)", pairs)

    # A container's file system.

    def prepare(self, container_id: str, names: Sequence[str]) -> None:
        """Make what a container's changes go to, upon these snapshots; once. `mount` does it too, but create should, so
        that there is something to be copied from and to.
        """
        folder = self._container(container_id)
        if (folder / "snapshot.json").exists():
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder):
            if not (folder / "snapshot.json").exists():
                self.driver.prepare(folder, self._folders(names))
                written = folder / "snapshot.json.new"
                written.write_text(json.dumps({"driver": self.driver.name, "names": list(names)}))
                written.rename(folder / "snapshot.json")

    def mount(
        self, container_id: str, names: Sequence[str], target: Path | None = None, size: int | None = None
    ) -> Path:
        """Have the file system at containers/ID/rootfs, where it may be already. Returns that path.

        target   that path, or None; size: bytes that the container may write, which no driver here can hold it to
        Raises ManagerError, MissingError (a snapshot).
        """
        folder = self._container(container_id)
        if size is not None:
            raise ManagerError(
                "the size of a container's file system cannot be limited", hint="leave out --storage-opt size"
            )
        if target is not None and target != folder / "rootfs":
            raise ManagerError(f"{target} is not where {container_id} is mounted")
        self.prepare(container_id, names)
        with _locked(folder):
            self.driver.mount(folder, self._folders(self.names(container_id)))
        return folder / "rootfs"

    def unmount(self, container_id: str) -> None:
        """Undo `mount`; where it is not mounted nothing happens."""
        folder = self._container(container_id)
        if folder.is_dir():
            with _locked(folder):
                self.driver.unmount(folder)

    def remove(self, container_id: str) -> None:
        """Remove a container's folder with all in it, mounted or not. Where there is none nothing happens."""
        folder = self._container(container_id)
        self.unmount(container_id)
        self.driver.release(folder)
        parent = os.open(folder.parent, trees.FOLDER)
        try:
            trees.remove(parent, folder.name)
        except OSError as error:
            raise ManagerError(f"remove {folder}: {error.strerror}", errno=error.errno or 0) from error
        finally:
            os.close(parent)

    # What it holds.

    def changes(self, container_id: str) -> Iterator[Change]:
        """What the container made of its image, running or not. Raises MissingError, LimitError, ManagerError."""
        from ocirt.manager.snapshots.changes import listed

        return listed(self._differences(container_id))

    def layer(self, container_id: str, out: Out) -> str:
        """Write the changes as a layer, a tar archive. Returns its digest, the DiffID. The same changes give the same
        bytes. Raises as `changes`, and what `out` raises.
        """

        from ocirt.manager.snapshots.changes import write

        hashing = _Hashing(out)
        write(self._differences(container_id), hashing)
        return hashing.digest

    def usage(self, container_id: str) -> int:
        """Bytes on disk that are the container's own."""
        descriptor = os.open(self.driver.written(self._container(container_id)), trees.FOLDER)
        try:
            return trees.usage(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def root(self, container_id: str, binds: Sequence[Bind] = ()) -> Iterator[int]:
        """A descriptor of the root file system, whether it is mounted or not. Nobody else sees what is mounted for it.

        binds   what is to be seen there too: its volumes
        """

        from ocirt.manager.snapshots.opening import opened

        folder = self._container(container_id)
        below = self._folders(self.names(container_id))
        with opened(folder / "rootfs", lambda: self.driver.mount(folder, below), binds) as descriptor:
            yield descriptor

    def _differences(self, container_id: str) -> Iterator[Difference]:
        from ocirt.manager.snapshots.changes import made_for_mounts

        folder = self._container(container_id)
        try:
            below = self._folders(self.names(container_id))
            ours = made_for_mounts(self.driver.differences(folder, below))
            yield from (one for one in self.driver.differences(folder, below) if one.path not in ours)
        except OSError as error:
            raise ManagerError(f"read what {container_id} changed: {error.strerror}", errno=error.errno or 0) from error

    def names(self, container_id: str) -> tuple[str, ...]:
        """The snapshots that a container stands on, lowest first. Raises MissingError."""
        return tuple(self._kept(container_id)["names"])

    def _kept(self, container_id: str) -> dict[str, list[str]]:
        try:
            kept: dict[str, list[str]] = json.loads((self._container(container_id) / "snapshot.json").read_bytes())
        except FileNotFoundError:
            raise MissingError(f"container {container_id} has no file system") from None
        return kept

    def _folders(self, names: Sequence[str]) -> list[Path]:
        """Where snapshots are. Raises MissingError."""
        found = []
        for name in names:
            row = self._database.read.execute(
                "select folder from snapshots where name = ? and not dead", (name,)
            ).fetchone()
            if row is None:
                raise MissingError(f"there is no snapshot {name}", hint="pull the image again")
            found.append(self._folder / str(row[0]))
        return found

    def _container(self, container_id: str) -> Path:
        if not container_id or "/" in container_id or container_id.startswith("."):
            raise ManagerError(f"{container_id!r} is no id of a container")
        return self._root / "containers" / container_id


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time changes what is mounted in a container's folder."""
    descriptor = os.open(folder, trees.FOLDER)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Hashing:
    """Passes on what is written, and knows its digest."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._hash = digests.start("sha256")

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes, /) -> None:
        self._hash.update(data)
        self._out.write(data)
