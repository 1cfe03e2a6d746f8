"""Bytes as a descriptor that nobody can change any more: the plan, and ocirt-init itself.

init runs from a sealed copy, so that nothing in a container can reach a file of the host through /proc/1/exe and
write to it (CVE-2019-5736).
"""

from __future__ import annotations

import posix
from fcntl import fcntl

from ocirt.errors import EINVAL

MFD_CLOEXEC = 1
MFD_ALLOW_SEALING = 2
MFD_NOEXEC_SEAL = 8  # Linux 6.3
MFD_EXEC = 16  # Linux 6.3
F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1, 2, 4, 8
SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE


def sealed(name: str, content: bytes, *, executable: bool = False) -> int:
    """A descriptor (close-on-exec) of `content`, sealed against every change."""
    fd = sealable(name, executable=executable)
    seal(fd, content)
    return fd


def sealable(name: str, *, executable: bool = False) -> int:
    """An empty one."""
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    try:
        return posix.memfd_create(name, flags | (MFD_EXEC if executable else MFD_NOEXEC_SEAL))
    except OSError as error:
        if error.errno != EINVAL:
            raise
        return posix.memfd_create(name, flags)  # before Linux 6.3 there is no such choice


def seal(fd: int, content: bytes) -> None:
    """Write all that it is to hold, and let nobody write again."""
    view = memoryview(content)
    while view:
        view = view[posix.write(fd, view) :]
    fcntl(fd, F_ADD_SEALS, SEALS)
