"""Files and folders of a container's root file system, which is somebody else's: reached by openat2(2) with that root,
so that symlinks lead inside, and never opened before they are known to be regular.
"""

from __future__ import annotations

import errno
import os
import stat

from ocirt import _sys
from ocirt.errors import printable
from ocirt.manager.errors import LimitError, ManagerError

LARGEST_FILE = 1 << 20
# linux/openat2.h
_RESOLVE = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def opened(path: os.PathLike[str] | str) -> int:
    """A descriptor of a root file system. Raises OSError."""
    return os.open(path, _FOLDER)


def folder(root: int, path: str) -> int:
    """An O_PATH descriptor of a folder. Raises OSError."""
    return _sys.openat2(root, path.lstrip("/") or ".", _FOLDER, _RESOLVE)


def read(root: int, path: str) -> bytes | None:
    """All of a small regular file; None where there is none, or something else (CVE-2024-9676: a FIFO, a device).

    Raises LimitError (CVE-2026-47262: no file is too large for who sends images).
    """
    try:
        found = _sys.openat2(root, path.lstrip("/"), os.O_PATH | os.O_CLOEXEC, _RESOLVE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES):
            return None
        raise ManagerError(f"open {path} of the container: {error.strerror}", errno=error.errno or 0) from error
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return None
        with open(f"/proc/self/fd/{found}", "rb", opener=_opener) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ManagerError(f"read {path} of the container: {error.strerror}", errno=error.errno or 0) from error
    finally:
        os.close(found)
    if len(content) > LARGEST_FILE:
        raise LimitError(f"{path} of the container has more than {LARGEST_FILE} bytes")
    return content


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def make_folder(root: int, path: str) -> int:
    """A folder and all above it, made where they are missing: root's, 0755. An O_PATH descriptor of it.

    Each is made by a descriptor of the one above it (CVE-2026-55686: a WORKDIR over a symlink that was made on the
    host). Raises ManagerError.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    here = folder(root, ".")
    try:
        for number, part in enumerate(parts, 1):
            so_far = "/".join(parts[:number])
            try:
                try:
                    below = folder(root, so_far)
                except FileNotFoundError:
                    if part == "..":
                        raise
                    os.mkdir(part, 0o755, dir_fd=here)
                    below = folder(root, so_far)
            except OSError as error:
                why = "a symlink that leads nowhere" if error.errno == errno.EEXIST else error.strerror
                raise ManagerError(
                    f"make {printable('/' + so_far)} of the container: {why}", errno=error.errno or 0
                ) from error
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here
