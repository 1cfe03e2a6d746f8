"""In a program with threads: what may take long, or is many calls in a row, does not keep the other threads waiting."""

from __future__ import annotations

from ocirt import _sys
from ocirt.cgroups import calls
from ocirt.host import launch


def let_others_run() -> None:
    """From now on, for all of this process."""
    calls.several = _sys.several
    launch.start = _sys.spawn
