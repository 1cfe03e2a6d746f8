"""Named volumes: folders that outlive containers, `volumes/NAME/_data`.

A volume may instead be what a mount gives (docker's driver options type, device and o), which each container that uses
it mounts for itself.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ocirt.manager import names
from ocirt.manager.errors import ConflictError, GrammarError, ManagerError, MissingError
from ocirt.manager.snapshots import copies, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.site import Site

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that was given no name, as in docker since 23.0."""
_OPTIONS = frozenset({"type", "device", "o"})


@dataclass(frozen=True, slots=True)
class Volume:
    """created: nanoseconds since 1970; labels, options: as they were given; path: of its folder, which is there also
    where its content is a mount's."""

    name: str
    created: int
    labels: Mapping[str, str]
    options: Mapping[str, str]
    path: Path

    @property
    def mount(self) -> dict[str, Any] | None:
        """The mount of config.json that gives its content, without a destination, or None for the folder."""
        if not self.options:
            return None
        options = [word for word in self.options.get("o", "").split(",") if word]
        kind = "bind" if {"bind", "rbind"} & set(options) else self.options.get("type", "none")
        return {"type": kind, "source": self.options.get("device", kind), "options": options}

    def inspect(self) -> dict[str, Any]:
        """In the shape of docker's."""
        return {
            "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created // 10**9)),
            "Driver": "local",
            "Labels": dict(self.labels) or None,
            "Mountpoint": str(self.path),
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }


class Volumes:
    """All volumes of a site."""

    def __init__(self, site: Site) -> None:
        self._database = site.database
        self._folder = site.root / "volumes"

    def __iter__(self) -> Iterator[Volume]:
        rows = self._database.read.execute("select name, created, document from volumes order by name")
        return map(self._volume, rows.fetchall())

    def find(self, name: str) -> Volume:
        """Raises MissingError."""
        found = self._found(self._database.read, name)
        if found is None:
            raise MissingError(f"there is no volume {name}", hint="ocim volume ls lists them")
        return found

    def create(
        self, name: str = "", labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """One that is there already is given back, if it was made with the same options. "": one without a name.

        Raises GrammarError, ConflictError, ManagerError.
        """
        labels, options = dict(labels or {}), dict(options or {})
        if not name:
            name, labels = os.urandom(32).hex(), {ANONYMOUS: "", **labels}
        names.name(name, "volume")
        check_options(options)
        with self._database.write() as transaction:
            found = self._found(transaction, name)
            if found is not None:
                if options and dict(found.options) != options:
                    raise ConflictError(f"the volume {name} is there, with other options")
                return found
            self._make(name)
            document = json.dumps({"labels": labels, "options": options})
            transaction.execute("insert into volumes values (?, ?, ?)", (name, time.time_ns(), document))
        return self.find(name)

    def _make(self, name: str) -> None:
        """The folder. What a removal that was killed left there is nobody's."""
        try:
            (self._folder / name).mkdir(parents=True, mode=0o701, exist_ok=True)
            self._folder.chmod(0o701)  # for a container in a user namespace, whose root is not ours
            data = self._folder / name / "_data"
            if data.exists() and not data.is_symlink():
                self._drop(name)
                (self._folder / name).mkdir(mode=0o701)
            data.mkdir(mode=0o755)
            data.chmod(0o755)
        except OSError as error:
            raise ManagerError(f"make the volume {name}: {error.strerror}", errno=error.errno or 0) from error

    def users(self, name: str) -> list[str]:
        """The ids of the containers that have it."""
        return _users(self._database.read).get(name, [])

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises MissingError (unless `force`), ConflictError where a container has it."""
        with self._database.write() as transaction:
            if self._found(transaction, name) is None:
                if force:
                    return
                raise MissingError(f"there is no volume {name}", hint="ocim volume ls lists them")
            used = _users(transaction).get(name)
            if used:
                raise ConflictError(
                    f"the volume {name} is in use by {', '.join(one[:12] for one in used)}", hint="ocim rm them first"
                )
            transaction.execute("delete from volumes where name = ?", (name,))
            self._drop(name)

    def _drop(self, name: str) -> None:
        """Before the end of the transaction: afterwards the name could be somebody else's again."""
        try:
            descriptor = os.open(self._folder, trees.FOLDER)
            try:
                trees.remove(descriptor, name)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ManagerError(f"remove the volume {name}: {error.strerror}", errno=error.errno or 0) from error

    def listed(self, filters: Sequence[str] = ()) -> list[Volume]:
        """With docker's filters: name=, label=KEY[=VALUE], dangling=true|false, driver=. Raises GrammarError."""
        used = _users(self._database.read)
        return [one for one in self if all(_fits(one, text, used) for text in filters)]

    def prune(self, *, every: bool = False, filters: Sequence[str] = ()) -> tuple[list[str], int]:
        """Remove the volumes that no container has, and that nobody named unless `every`: names and bytes."""
        removed, size = [], 0
        for volume in self.listed((*filters, "dangling=true")):
            if every or ANONYMOUS in volume.labels:
                bytes_ = usage(volume.path)
                try:
                    self.remove(volume.name)
                except (ConflictError, MissingError):  # a container took it meanwhile, or it is gone
                    continue
                removed.append(volume.name)
                size += bytes_
        return removed, size

    @staticmethod
    @contextmanager
    def _locked(volume: Volume) -> Iterator[None]:
        descriptor = os.open(volume.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def fill(self, volume: Volume, source: int) -> None:
        """Copy what an image has in a folder (a descriptor) to the volume, if that is empty, and make it like it.

        A copy that was killed is made again by the next. Raises ManagerError.
        """
        if volume.mount is not None:
            return
        mark = volume.path.parent / "filling"
        try:
            with self._locked(volume):
                target = os.open(volume.path, trees.FOLDER)
                readable = os.open(".", trees.FOLDER, dir_fd=source)
                try:
                    if mark.exists():
                        for name in os.listdir(target):
                            trees.remove(target, name)
                    if os.listdir(target):
                        return
                    mark.touch()
                    copies.copy(readable, target)
                    mark.unlink()
                finally:
                    os.close(readable)
                    os.close(target)
        except OSError as error:
            raise ManagerError(f"copy to the volume {volume.name}: {error.strerror}", errno=error.errno or 0) from error

    def _found(self, connection: sqlite3.Connection, name: str) -> Volume | None:
        row = connection.execute("select name, created, document from volumes where name = ?", (name,)).fetchone()
        return None if row is None else self._volume(row)

    def _volume(self, row: tuple[str, int, str]) -> Volume:
        document = json.loads(row[2])
        return Volume(row[0], row[1], document["labels"], document["options"], self._folder / row[0] / "_data")


def check_options(options: Mapping[str, str]) -> None:
    """Raises GrammarError."""
    for key in options:
        if key not in _OPTIONS:
            raise GrammarError(f"--opt {key}: not known", hint="type, device and o, as mount(8) has them")
    kind = options.get("type", "none")
    if options and not re.fullmatch(r"[a-z0-9._]{1,40}", kind):
        raise GrammarError(f"--opt type={kind[:60]}: no file system's name")
    words = options.get("o", "").split(",")
    if options and not options.get("device") and kind != "tmpfs":
        raise GrammarError("--opt device= is missing", hint="it is what is to be mounted")
    if options and kind == "none" and not {"bind", "rbind"} & set(words):
        raise GrammarError("--opt type= is missing", hint="or o=bind, for a folder")
    if {"bind", "rbind"} & set(words) and not options.get("device", "").startswith("/"):
        raise GrammarError(f"--opt device={options.get('device', '')[:100]}: not an absolute path")


def _users(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Which containers have which volumes."""
    query = (
        "select containers.id, json_extract(each.value, '$.Name') from containers,"
        " json_each(containers.document, '$.mounts') as each where json_extract(each.value, '$.Type') = 'volume'"
    )
    found: dict[str, list[str]] = {}
    for container, name in connection.execute(query).fetchall():
        found.setdefault(name, []).append(container)
    return found


def _fits(volume: Volume, text: str, used: Mapping[str, Sequence[str]]) -> bool:
    key, equals, value = text.partition("=")
    if key == "name" and equals:
        return value in volume.name
    if key in ("label", "label!") and equals:
        name, given, wanted = value.partition("=")
        has = name in volume.labels and (not given or volume.labels[name] == wanted)
        return has == (key == "label")
    if key == "dangling" and value in ("true", "1", "false", "0"):
        return (volume.name not in used) == (value in ("true", "1"))
    if key == "driver" and equals:
        return value == "local"
    raise GrammarError(f"--filter {text[:100]}: not known", hint="name=, label=, dangling=true|false, driver=")


def usage(path: Path) -> int:
    """The bytes that a tree takes on disk; what vanishes meanwhile counts nothing."""
    total = 0
    for _, _, files, descriptor in os.fwalk(path, follow_symlinks=False):
        for name in files:
            try:
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
    return total
