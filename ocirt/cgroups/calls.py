"""Calls on many files at once, such as the same on each hierarchy."""

from __future__ import annotations

import posix

from ocirt.errors import EACCES, EINVAL


def several(calls: list[tuple[str, str, bytes]], stop: bool, /) -> list[int]:
    """Calls on files by their paths, in turn. The errno of each, 0 for success. stop: at the first that fails?

    A call is (name, path, content): "mkdir" (mode 0755), "rmdir", "stat", "access" (may we write to it, by our
    effective ids?) or "write", one write(2) of the content, which the kernel takes whole or not at all.

    The library puts ocirt._sys.several here, so that threads do not wait for each other at every call.
    """
    errnos: list[int] = []
    opened, fd = "", -1
    for name, path, content in calls:
        errno = 0
        try:
            if name == "mkdir":
                posix.mkdir(path, 0o755)
            elif name == "rmdir":
                posix.rmdir(path)
            elif name == "stat":
                posix.stat(path)
            elif name == "access":
                errno = 0 if posix.access(path, posix.W_OK, effective_ids=True) else EACCES
            else:
                if path != opened:
                    if fd >= 0:
                        posix.close(fd)
                        opened, fd = "", -1
                    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
                    opened = path
                posix.write(fd, content)
        except OSError as error:
            errno = error.errno or EINVAL
        errnos.append(errno)
        if errno and stop:
            break
    if fd >= 0:
        posix.close(fd)
    return errnos
