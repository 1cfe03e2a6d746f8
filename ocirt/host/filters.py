"""The cache of compiled seccomp filters: by the profile's content, so that a second container compiles nothing.

    FOLDER/KEY    one filter; KEY is a hash of the profile and of all else that a filter depends on

FOLDER is $OCIRT_CACHE, or ocirt-cache beside the state (state.place): /run/ocirt-cache, or a user's
$XDG_RUNTIME_DIR/ocirt-cache. It and its files have to be ours alone, or they are not used. Files are put into place
whole, by a rename; one that is damaged, or was compiled by another libseccomp than is there now, is compiled anew.
"""

from __future__ import annotations

import posix
from _blake2 import blake2b
from _struct import Struct
from marshal import dumps
from time import time

from ocirt.plan.facts import Filter
from ocirt.state.place import own_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMPILER = 1
"""Raise it when host/seccomp.py compiles a profile to something else, or the file's layout changes."""
MOST = 64
"""Filters that are kept; the oldest go."""
MAX_SIZE = 1 << 20
PATIENCE = 60.0
"""Seconds that a writer may take."""
STRICT = "run.oci.seccomp_fail_unknown_syscall"
"""The annotation with which an unknown system call is an error: crun's."""

_MAGIC = b"OCIRTBPF"
_DIGEST = 16
_HEADER = Struct(f"<8s{_DIGEST}sIIIII")  # magic, checksum of the rest, then flags, blocks, three lengths
_FLAGS = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def filter_of(spec: dict[str, Any], machine: str, *, cached: bool = True) -> Filter:
    """The filter of a configuration that has linux.seccomp. Raises ConfigError for what is wrong in it."""
    seccomp = spec["linux"]["seccomp"]
    lowers = lowers_rights(spec["process"])
    strict = is_strict(spec.get("annotations") or {})
    if not cached:
        return _compile(seccomp, machine, lowers, strict)
    key = _key(machine, lowers, strict, seccomp)
    if not key:
        return _compile(seccomp, machine, lowers, strict)
    folder, why = _open_folder()
    if folder < 0:
        found = _compile(seccomp, machine, lowers, strict)
        return _with_warning(found, why) if why else found
    try:
        stored = _read(folder, key)
        if stored:
            return stored
        found = _compile(seccomp, machine, lowers, strict)
        _write(folder, key, found)
        return found
    finally:
        posix.close(folder)


def is_cached(spec: dict[str, Any], machine: str) -> bool:
    """Would filter_of compile nothing? Makes no folder to find that out."""
    strict = is_strict(spec.get("annotations") or {})
    key = _key(machine, lowers_rights(spec["process"]), strict, spec["linux"]["seccomp"])
    folder = _open_folder(make=False)[0] if key else -1
    if folder < 0:
        return False
    try:
        return _read(folder, key) is not None
    finally:
        posix.close(folder)


def _key(machine: str, lowers: bool, strict: bool, seccomp: dict[str, Any]) -> bytes:
    """All that a filter depends on, as the name of its file; b"" for what cannot be a profile."""
    try:
        # Version 2 has no references, so equal values give equal bytes.
        content = dumps((COMPILER, machine, lowers, strict, seccomp), 2)
    except ValueError:  # nested too deeply
        return b""
    return blake2b(content, digest_size=20, person=b"ocirt-filter").digest()


def lowers_rights(process: dict[str, Any]) -> bool:
    """Does init give up CAP_SYS_ADMIN after it has loaded the filter (plan/seccomp.py)?"""
    if process.get("noNewPrivileges"):
        return False
    return "CAP_SYS_ADMIN" not in ((process.get("capabilities") or {}).get("effective") or ())


def is_strict(annotations: dict[str, str]) -> bool:
    """As crun: set to anything but 0."""
    return annotations.get(STRICT, "0") != "0"


def _compile(seccomp: dict[str, Any], machine: str, lowers: bool, strict: bool) -> Filter:
    from ocirt.host.seccomp import compile_filter

    return compile_filter(seccomp, machine, lowers=lowers, strict=strict)


def _with_warning(found: Filter, why: str) -> Filter:
    return Filter(found.program, found.flags, (*found.warnings, why), blocks=found.blocks)


def folder_path() -> str:
    """Where filters are kept."""
    path = posix.environ.get(b"OCIRT_CACHE", b"").decode("utf-8", "surrogateescape")
    return path or own_folder("ocirt-cache")


def _open_folder(*, make: bool = True) -> tuple[int, str]:
    """(a descriptor of the folder, or -1; why it is not used, if somebody should know)."""
    path = folder_path()
    flags = _FLAGS | posix.O_DIRECTORY
    try:
        try:
            fd = posix.open(path, flags)
        except FileNotFoundError:
            if not make:
                return -1, ""
            try:
                posix.mkdir(path, 0o700)
            except FileExistsError:
                pass  # another process was faster
            fd = posix.open(path, flags)
    except OSError as error:
        return -1, f"no cache of seccomp filters: {path}: {error.strerror}"
    status = posix.fstat(fd)
    if status.st_uid != posix.geteuid() or status.st_mode & 0o077:
        posix.close(fd)
        whose = f"owner {status.st_uid}, mode {status.st_mode & 0o7777:o}"
        return -1, f"no cache of seccomp filters: {path} is not ours alone: {whose}"
    return fd, ""


def _read(folder: int, key: bytes) -> Filter | None:
    """The filter of this key, if there is a sound one."""
    try:
        fd = posix.open(key.hex(), _FLAGS | posix.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None  # absent, or nothing that we made: it is made anew, or used as if it were not there
    try:
        status = posix.fstat(fd)
        if (
            status.st_mode & 0o170077 != 0o100000  # a regular file, for its owner alone
            or status.st_uid != posix.geteuid()
            or status.st_size > MAX_SIZE
        ):
            return None
        content = posix.read(fd, status.st_size + 1)
    finally:
        posix.close(fd)
    return unpack(content, key)


def pack(found: Filter, key: bytes, library: bytes) -> bytes:
    """A filter as a file's content. library: who compiled it, as `identity` has it."""
    warnings = "\n".join(found.warnings).encode("utf-8", "surrogateescape")
    lengths = (len(found.program), len(library), len(warnings))
    rest = b"".join((found.program, library, warnings))
    checksum = _checksum(key, found.flags, found.blocks, rest)
    return _HEADER.pack(_MAGIC, checksum, found.flags, found.blocks, *lengths) + rest


def unpack(content: bytes, key: bytes) -> Filter | None:
    """The reverse; None unless it is whole, of this key, and of the libseccomp that is there now."""
    if len(content) < _HEADER.size:
        return None
    magic, checksum, flags, blocks, *lengths = _HEADER.unpack_from(content)
    rest = content[_HEADER.size :]
    if magic != _MAGIC or sum(lengths) != len(rest) or checksum != _checksum(key, flags, blocks, rest):
        return None
    program, library = lengths[0], lengths[0] + lengths[1]
    path, _, known = rest[program:library].rpartition(b"\n")
    now = identity(path)
    # A library that was removed since has no successor yet: what it compiled is good.
    if now and now != known:
        return None
    warnings = rest[library:].decode("utf-8", "surrogateescape")
    return Filter(rest[:program], flags, tuple(warnings.split("\n")) if warnings else (), blocks=bool(blocks))


def _checksum(key: bytes, flags: int, blocks: int, rest: bytes) -> bytes:
    return blake2b(rest, digest_size=_DIGEST, key=key, salt=b"%d %d" % (flags, blocks)).digest()


def identity(path: bytes) -> bytes:
    """What changes when a file is replaced; b"" if there is none."""
    try:
        status = posix.stat(path)
    except OSError:
        return b""
    return b"%d %d %d %d" % (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _write(folder: int, key: bytes, found: Filter) -> None:
    """Put it into place whole, whoever else does the same just now. A failure is not the container's: the next one
    compiles its filter again."""
    from ocirt.host.seccomp import library_path

    path = library_path()
    content = pack(found, key, path + b"\n" + identity(path))
    name = key.hex()
    temporary = f".{name}.{posix.getpid()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            whole = posix.write(fd, content) == len(content)
        except OSError:  # such as a full file system
            whole = False
        finally:
            posix.close(fd)
        if whole:
            posix.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            posix.unlink(temporary, dir_fd=folder)
        _prune(folder)
    except OSError:
        return


def _prune(folder: int) -> None:
    """Remove the oldest files beyond MOST, and what writers that were killed left behind."""
    with posix.scandir(folder) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in entries]
    found.sort(reverse=True)
    now = time()
    for index, (when, name) in enumerate(found):
        if index >= MOST or (name.startswith(".") and now - when > PATIENCE):
            posix.unlink(name, dir_fd=folder)
