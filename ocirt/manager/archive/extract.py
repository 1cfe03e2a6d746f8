"""Unpacks a layer into a folder, and nowhere else (image-spec 1.1, layer.md).

Every member is reached by a descriptor of its parent folder, which openat2(2) resolves with the target folder as the
root: a symlink of the archive leads inside, however it is written, and one component is made at a time without
following it. That is so for the target of a hard link, for whiteouts, and for the metadata that folders get at the end
(CVE-2014-6407, CVE-2021-29136, CVE-2021-32760, CVE-2026-33056, GHSA-hfg8-hc9c-6c3h).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from ocirt import _sys
from ocirt.manager.archive import reader
from ocirt.manager.archive.reader import Entry, Reader, Stream, shown
from ocirt.manager.archive.whiteouts import OPAQUE, WHITEOUT, Apply, Overlay, Plain
from ocirt.manager.errors import ArchiveError, ConflictError, LimitError, ManagerError
from ocirt.manager.snapshots import trees

# linux/openat2.h
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

MOST_ENTRIES = 10_000_000
MOST_BYTES = 1 << 40
_OPEN_FOLDERS = 64
_MOST_LATER = 20_000  # folders whose metadata is kept for later; half a KiB each
_MOST_IMPLIED = 200_000
_SMALL = 256 << 10
# Attributes that would tell overlayfs where else to look.
_NEVER = (b"trusted.overlay.", b"user.overlay.")


@dataclass(slots=True)
class Unpacked:
    """What came of an archive.

    entries   members that were made
    size      bytes of their regular files, as they read
    lost      attributes that the file system does not take, devices that a user namespace may not make: "NAME:
              ATTRIBUTE", at most a hundred
    root      whether the archive says what the folder itself is like
    implied   folders that members are in, and of which the archive says nothing, the outer first
    """

    entries: int = 0
    size: int = 0
    root: bool = False
    implied: list[bytes] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class _Folders:
    """Descriptors of the folders that members go into. What was used last stays open, up to a number.
    changing: is told of each folder before one is made in it.

    The two that were got last are never closed by the next one.
    """

    def __init__(self, root: int, changing: Callable[[bytes, int], None]) -> None:
        self._root = root
        self._changing = changing
        self._open: dict[bytes, int] = {}  # the one used last is the last
        self._last: tuple[bytes | None, int] = (None, -1)
        self.implied: set[bytes] = set()  # made, and not described since

    def get(self, path: bytes) -> int:
        """The folder at a path, made (0755) where it is missing. Raises ArchiveError where a file is in the way."""
        if self._last[0] == path:
            return self._last[1]
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            descriptor = self._resolve(path)
            if len(self._open) >= _OPEN_FOLDERS:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = descriptor
        self._last = path, descriptor
        return descriptor

    def _resolve(self, path: bytes) -> int:
        try:
            return _sys.openat2(self._root, path or b".", _FOLDER, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        except FileNotFoundError:
            return self._make(path)
        except OSError as error:
            hint = "the archive has members below something that is no folder"
            raise ArchiveError(f"{shown(path)}: {error.strerror}", hint=hint) from error

    def _make(self, path: bytes) -> int:
        parent, _, name = path.rpartition(b"/")
        folder = self.get(parent)
        self._changing(parent, folder)
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
        except FileExistsError as error:  # a symlink that leads nowhere
            raise ArchiveError(
                f"{shown(path)} is a symlink that leads nowhere, and the archive has members below it"
            ) from error
        self.implied.add(path)
        if len(self.implied) > _MOST_IMPLIED:
            raise LimitError(f"the layer has members in more than {_MOST_IMPLIED} folders of which it says nothing")
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)

    def forget(self, but: int = -1) -> None:
        """Close all but one: a folder was removed, and a path may lead elsewhere now."""
        for descriptor in self._open.values():
            if descriptor != but:
                os.close(descriptor)
        self._open = {path: descriptor for path, descriptor in self._open.items() if descriptor == but}
        self._last = None, -1


class Extractor:
    """One archive into one folder.

    root        descriptor of the folder
    whiteouts   an Overlay(), an Apply() or a Plain()
    below       a folder in it, where all members go; symlinks lead to anywhere below `root` all the same
    umask       the process's own, if it is known: with 0, files get their modes when they are made
    """

    def __init__(
        self,
        root: int,
        whiteouts: Overlay | Apply | Plain,
        *,
        most_bytes: int = MOST_BYTES,
        most_entries: int = MOST_ENTRIES,
        umask: int = 0o777,
        below: bytes = b"",
    ) -> None:
        self._below = below
        self._content: bytes | None = None  # of the small file that is being made
        self._root = root
        self._umask = umask
        self._whiteouts = whiteouts
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._folders = _Folders(root, self._changing)
        # Path -> member: folders get their times and modes at the end, when nothing more is made in them. Where they
        # are too many to remember they get them before, and again if something is made in them after all.
        self._later: dict[bytes, Entry] = {}
        self._some_done = False
        self.result = Unpacked()

    def run(self, stream: Stream) -> Unpacked:
        """Unpack all of it. Raises ArchiveError, LimitError, ManagerError (the file system's reason); the folder is
        then half full.
        """
        archive = Reader(stream)
        try:
            for entry in archive:
                try:
                    self._member(entry, archive)
                except OSError as error:
                    raise ManagerError(
                        f"unpack {shown(entry.name)}: {error.strerror}", errno=error.errno or 0
                    ) from error
            self._finish()
            self.result.implied = sorted(self._folders.implied)
        finally:
            self._folders.forget()
        return self.result

    def _member(self, entry: Entry, archive: Reader) -> None:
        self._content = None
        result = self.result
        result.entries += 1
        result.size += entry.length
        if result.entries > self._most_entries or result.size > self._most_bytes:
            raise LimitError(f"the layer has more than {self._most_entries} members or {self._most_bytes} bytes")
        parent, name = self._inside(entry.name)
        if not name:
            if isinstance(self._whiteouts, Plain):
                return  # the folder is there, and is what it is
            if entry.kind != reader.FOLDER:
                raise ArchiveError(f"{shown(entry.name)}: the root of a layer must be a folder")
            self._later[b""] = entry
            result.root = True
            return
        folder = self._folders.get(parent)
        self._changing(parent, folder)
        if len(self._later) > _MOST_LATER:
            self._finish()
            self._some_done = True
            folder = self._folders.get(parent)
            self._changing(parent, folder)
        if name.startswith(WHITEOUT) and not isinstance(self._whiteouts, Plain):
            self._whiteout(folder, parent, name)
            return
        self._make(folder, parent, name, entry, archive)
        self._whiteouts.made(parent, name)

    def _changing(self, path: bytes, folder: int) -> None:
        """Something is about to be made in a folder."""
        if self._some_done and path not in self._later:
            self._later[path] = _as_it_is(folder)

    def _inside(self, name: bytes) -> tuple[bytes, bytes]:
        parent, last = inside(name)
        if self._below and last:
            parent = self._below + b"/" + parent if parent else self._below
        return parent, last

    def _whiteout(self, folder: int, parent: bytes, name: bytes) -> None:
        assert not isinstance(self._whiteouts, Plain)
        if name == OPAQUE:
            self._whiteouts.hide_all(folder, parent)
        elif not name.startswith(WHITEOUT + WHITEOUT):  # AUFS's own files, which nobody has had since
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise ArchiveError(f"{shown(parent + b'/' + name)}: a whiteout of nothing")
            self._whiteouts.hide(folder, parent, hidden)
            self._folders.forget()

    def _make(self, folder: int, parent: bytes, name: bytes, entry: Entry, archive: Reader) -> None:
        path = parent + b"/" + name if parent else name
        if entry.kind == reader.FOLDER:
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    self._replace(folder, path, name, entry.kind)
                    os.mkdir(name, 0o700, dir_fd=folder)
                    self._whiteouts.instead(folder, name)
            self._folders.implied.discard(path)
            self._later[path] = entry
            return
        if self._later:
            self._later.pop(path, None)
        try:
            self._create(folder, name, entry, archive)
        except FileExistsError:
            if entry.kind == reader.HARD_LINK and self._same(folder, name, entry):
                return
            self._replace(folder, path, name, entry.kind)
            self._create(folder, name, entry, archive)

    def _replace(self, folder: int, path: bytes, name: bytes, kind: bytes) -> None:
        """Something is at the name: a later member goes before an earlier one."""
        if isinstance(self._whiteouts, Plain) and not self._whiteouts.folders:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            if is_folder or kind == reader.FOLDER:
                raise ConflictError(
                    f"{shown(path)} is {'a' if is_folder else 'no'} folder there, and not in the archive"
                )
        if trees.remove(folder, name):
            self._folders.forget(but=folder)
            below = path + b"/"
            for gone in [key for key in self._later if key == path or key.startswith(below)]:
                del self._later[gone]

    def _create(self, folder: int, name: bytes, entry: Entry, archive: Reader) -> None:
        """Make what is no folder. Raises FileExistsError before anything was made, and may be called again then."""
        if entry.kind == reader.REGULAR:
            self._file(folder, name, entry, archive)
            return
        if entry.kind == reader.HARD_LINK:
            source, target = self._target(entry)
            os.link(target, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            return
        if entry.kind == reader.SYMLINK:
            if not entry.target:
                raise ArchiveError(f"{shown(entry.name)}: a symlink to nothing")
            os.symlink(entry.target, name, dir_fd=folder)
        else:
            kind = {reader.CHARACTER: stat.S_IFCHR, reader.BLOCK_DEVICE: stat.S_IFBLK, reader.FIFO: stat.S_IFIFO}[
                entry.kind
            ]
            try:
                os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=folder)
            except PermissionError:  # a user namespace makes no devices; a container's own are the runtime's anyway
                self._lose(entry.name, b"the device")
                return
        if entry.uid or entry.gid or not self._whiteouts.fresh:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.kind != reader.SYMLINK:
            _chmod(folder, name, entry.mode)
        for attribute, value in entry.xattrs.items():
            self._attribute(f"/proc/self/fd/{folder}/".encode() + name, entry.name, attribute, value)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

    def _target(self, entry: Entry) -> tuple[int, bytes]:
        """Where a hard link's other name is: always inside, absolute or not."""
        parent, name = self._inside(entry.target)
        if not name:
            raise ArchiveError(f"{shown(entry.name)}: a hard link to the root")
        return self._folders.get(parent), name

    def _same(self, folder: int, name: bytes, entry: Entry) -> bool:
        """Whether a hard link is there already: replacing the name would remove what it is to link to."""
        source, target = self._target(entry)
        try:
            return os.path.samestat(
                os.stat(name, dir_fd=folder, follow_symlinks=False),
                os.stat(target, dir_fd=source, follow_symlinks=False),
            )
        except FileNotFoundError:
            return False

    def _file(self, folder: int, name: bytes, entry: Entry, archive: Reader) -> None:
        if entry.size <= _SMALL and entry.extents is None and not entry.xattrs:
            self._small(folder, name, entry, archive)
            return
        descriptor = os.open(name, _NEW, entry.mode & 0o777, dir_fd=folder)
        try:
            if entry.extents is None:
                for piece in archive.data():
                    _write(descriptor, piece)
            else:
                os.ftruncate(descriptor, entry.length)
                for offset, length in entry.extents:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    while length:
                        piece = archive.exactly(min(length, reader.CHUNK))
                        _write(descriptor, piece)
                        length -= len(piece)
            self._metadata(descriptor, entry, self._whiteouts.fresh)
        finally:
            os.close(descriptor)

    def _small(self, folder: int, name: bytes, entry: Entry, archive: Reader) -> None:
        """Most files: in one call, which lets go of the interpreter once and not six times."""
        if self._content is None:
            self._content = archive.exactly(entry.size)
        fresh = self._whiteouts.fresh
        owner = (-1, -1) if fresh and not entry.uid and not entry.gid else (entry.uid, entry.gid)
        chmod = not fresh or bool(entry.mode & (self._umask | 0o7000))
        _sys.make_file(folder, name, self._content, entry.mode, chmod, *owner, entry.mtime)

    def _metadata(self, descriptor: int, entry: Entry, made: bool) -> None:
        """Owner first: it takes away set-id bits and file capabilities. Times last. made: with this mode, as far as the
        umask lets it."""
        if entry.uid or entry.gid or not self._whiteouts.fresh:
            os.fchown(descriptor, entry.uid, entry.gid)
        if not made or entry.mode & (self._umask | 0o7000):
            os.fchmod(descriptor, entry.mode)
        for attribute, value in entry.xattrs.items():
            self._attribute(descriptor, entry.name, attribute, value)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))

    def _attribute(self, where: int | bytes, name: bytes, attribute: bytes, value: bytes) -> None:
        if attribute.startswith(_NEVER):
            return
        try:
            if isinstance(where, int):
                os.setxattr(where, attribute, value)
            else:
                os.setxattr(where, attribute, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                raise
            self._lose(name, attribute)

    def _lose(self, name: bytes, what: bytes) -> None:
        if len(self.result.lost) < 100:
            self.result.lost.append(f"{shown(name)}: {shown(what)}")

    def _finish(self) -> None:
        """Modes, owners and times of folders, the innermost first."""
        for path in sorted(self._later, key=lambda path: path.count(b"/"), reverse=True):
            parent, _, name = path.rpartition(b"/")
            try:
                descriptor = os.open(name or b".", _FOLDER | os.O_NOFOLLOW, dir_fd=self._folders.get(parent))
            except (FileNotFoundError, NotADirectoryError, ArchiveError):
                continue  # a later member, by another way to the same place, is no folder
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue
                raise ManagerError(f"unpack {shown(path)}: {error.strerror}", errno=error.errno or 0) from error
            try:
                self._metadata(descriptor, self._later[path], False)
            finally:
                os.close(descriptor)
        self._later.clear()


def _as_it_is(folder: int) -> Entry:
    """A folder that is there, as a member; its attributes do not change by what is made in it."""
    about = os.fstat(folder)
    entry = Entry()
    entry.kind = reader.FOLDER
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
    entry.mtime = about.st_mtime_ns
    return entry


def inside(name: bytes) -> tuple[bytes, bytes]:
    """A member's parent and last component, below the root; ("", "") for the root itself.

    Empty and "." components mean nothing, ".." goes up as far as there is anything. Raises ArchiveError for more.
    """
    if (
        b"//" not in name
        and b"./" not in name
        and not name.startswith((b"/", b"."))
        and not name.endswith((b"/", b"/.", b".."))
    ):
        parent, _, last = name.rpartition(b"/")
        return parent, last
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise ArchiveError(f"{shown(name)}: a name that leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts[:-1]), parts[-1] if parts else b""


def _chmod(folder: int, name: bytes, mode: int) -> None:
    """Of what is at the name: chmod(2) cannot be told not to follow a link, which a container could put there."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    done = os.write(descriptor, data)
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])
