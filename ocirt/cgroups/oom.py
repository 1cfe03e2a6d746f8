"""Notice that the kernel kills for want of memory in a container's cgroup, by a descriptor to poll.

v1 (admin-guide/cgroup-v1/memory.rst, "OOM Control"): an eventfd that cgroup.event_control ties to memory.oom_control.
It counts one for each time that the limit leaves no way out, also with the OOM killer disabled, and one more when the
cgroup is removed. v2 (admin-guide/cgroup-v2.rst): memory.events wakes who polls for POLLPRI; it counts the kills.
"""

from __future__ import annotations

import posix
import select

from ocirt.cgroups.folder import pairs
from ocirt.cgroups.layout import exists
from ocirt.errors import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE = 200
"""Milliseconds that the kernel may take to say that a cgroup has been removed."""


class OomV1:
    """fd: to poll for `events`. gone: the cgroup is, as far as `happened` has seen."""

    events = select.POLLIN
    gone = False

    def __init__(self, folder: str) -> None:
        self._control = f"{folder}/memory.oom_control"
        self.fd = posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK)
        control = target = -1
        try:
            control = posix.open(self._control, posix.O_RDONLY | posix.O_CLOEXEC)
            target = posix.open(f"{folder}/cgroup.event_control", posix.O_WRONLY | posix.O_CLOEXEC)
            posix.write(target, f"{self.fd} {control}".encode())
        except OSError:
            posix.close(self.fd)
            raise
        finally:
            for fd in (control, target):
                if fd >= 0:
                    posix.close(fd)

    def happened(self) -> bool:
        """Since the last call."""
        count = self._count()
        if not count:
            return False
        self.gone = not exists(self._control)
        if not self.gone:
            return True
        if count == 1:  # of the removal, or of a kill just before it: then there will be one more
            poller = select.poll()
            poller.register(self.fd, select.POLLIN)
            poller.poll(_PATIENCE)
            count += self._count()
        return count > 1

    def _count(self) -> int:
        try:
            return posix.eventfd_read(self.fd)
        except BlockingIOError:
            return 0


class OomV2:
    """The same for v2. Of a cgroup that is gone nobody can tell any more what happened last."""

    events = select.POLLPRI
    gone = False

    def __init__(self, folder: str) -> None:
        self.fd = posix.open(f"{folder}/memory.events", posix.O_RDONLY | posix.O_CLOEXEC)
        self._kills = 0
        self.happened()  # the kernel wakes for what comes after it was read

    def happened(self) -> bool:
        """Since the last call."""
        before = self._kills
        try:
            self._kills = pairs(posix.pread(self.fd, 4096, 0)).get("oom_kill", 0)
        except OSError:  # ENODEV; and poll(2) would never wait again
            self.gone = True
            return False
        return self._kills > before


def watch(places: Sequence[tuple[str, tuple[str, ...], bool, str, str]]) -> OomV1 | OomV2 | None:
    """For the cgroup that has the memory controller; None where no hierarchy has it. Close its fd at the end.

    Raises KernelError; FileNotFoundError if the cgroup is gone.
    """
    for _, controllers, is_v2, _, path in places:
        try:
            if "memory" in controllers:
                return OomV1(path)
            if is_v2 and _has_memory(path):
                return OomV2(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        except OSError as error:
            raise from_os_error(error, f"watch {path} for kills") from None
    return None


def _has_memory(path: str) -> bool:
    fd = posix.open(f"{path}/cgroup.controllers", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return b"memory" in posix.read(fd, 4096).split()
    finally:
        posix.close(fd)
