"""The compiled ocirt-init, as it was installed beside this package."""

from __future__ import annotations

import posix

from ocirt.errors import Error

carried: bytes | None = None
"""Set where it is inside the executable (`make dist`)."""


def init_image() -> bytes:
    """The ELF file's bytes. Raises Error if the package was never built."""
    if carried is not None:
        return carried
    path = __file__.rpartition("/host/")[0] + "/init/ocirt-init"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        raise Error(f"{path} is missing", hint="`pip install .` compiles it") from None
    try:
        return posix.read(fd, 1 << 16)
    finally:
        posix.close(fd)
