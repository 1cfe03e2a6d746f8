"""Stopping all processes of a cgroup at once (cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, "cgroup.freeze").

On v1 a process that sleeps uninterruptibly holds everything up, and one that forks at the wrong moment slips through:
the kernel is told again until all are frozen. On v2 the kernel sees to both.
"""

from __future__ import annotations

from time import monotonic, sleep

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import read
from ocirt.errors import ENOENT, KernelError, from_os_error

PATIENCE = 10.0
"""Seconds until a cgroup that does not freeze is let go again."""
GONE = "the container's cgroup is gone: somebody removed it"
_V1 = "/freezer.state"
_V2 = "/cgroup.freeze"
_THAWED_EVERY = 50
"""On v1, of the attempts: processes that are being made, or joining, can keep it from freezing for ever."""


class Freezer:
    """The one of a container: `folder` is its cgroup on the hierarchy that can freeze."""

    def __init__(self, folder: str, *, v2: bool) -> None:
        self.folder = folder
        self.v2 = v2

    def freeze(self, *, patience: float = PATIENCE) -> None:
        """Returns when every process has stopped. Raises KernelError, with nothing frozen, if one does not."""
        try:
            if self._freeze(patience):
                return
        except OSError as error:
            self._let_go()
            raise from_os_error(error, f"freeze {self.folder}", hint=GONE if error.errno == ENOENT else "") from None
        except BaseException:
            self._let_go()
            raise
        self._let_go()
        raise KernelError(
            f"the cgroup {self.folder} has not frozen within {patience:.0f} s",
            hint="a process of it may be waiting for a device: see /proc/PID/stack",
        )

    def thaw(self) -> None:
        """Raises KernelError."""
        try:
            self._thaw()
        except OSError as error:
            raise from_os_error(error, f"thaw {self.folder}", hint=GONE if error.errno == ENOENT else "") from None

    def is_frozen(self) -> bool:
        """Have all processes stopped, for whatever reason?"""
        try:
            if self.v2:
                return "frozen 1" in read(self.folder + "/cgroup.events").splitlines()
            return read(self.folder + _V1) == "FROZEN\n"
        except OSError:
            return False  # it is gone

    def is_asked(self) -> bool:
        """Is it to be frozen for its own sake?"""
        try:
            return read(self.folder + (_V2 if self.v2 else "/freezer.self_freezing")) == "1\n"
        except OSError:
            return False

    def is_held_from_above(self) -> bool:
        """Is a cgroup above it frozen? Then thawing this one changes nothing."""
        above = self.folder.rpartition("/")[0]
        try:
            if self.v2:
                return "frozen 1" in read(above + "/cgroup.events").splitlines()
            return read(self.folder + "/freezer.parent_freezing") == "1\n"
        except OSError:
            return False  # the root has no such file

    def _freeze(self, patience: float) -> bool:
        until = monotonic() + patience
        if self.v2:
            write(self.folder + _V2, "1")
        attempt = 0
        delay = 0.0
        while True:
            if not self.v2:
                write(self.folder + _V1, "FROZEN")
            if self.is_frozen():
                return True
            if monotonic() > until:
                return False
            attempt += 1
            if not self.v2 and attempt % _THAWED_EVERY == 0:
                self._thaw()
            sleep(delay)
            delay = min(delay + 0.0002, 0.01)

    def _thaw(self) -> None:
        write(self.folder + (_V2 if self.v2 else _V1), "0" if self.v2 else "THAWED")

    def _let_go(self) -> None:
        try:
            self._thaw()
        except OSError:
            pass  # it is gone
