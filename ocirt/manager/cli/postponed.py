"""Modules of the standard library that are loaded when they are first used, not when they are imported.

A command touches a tenth of what its modules import at their top: `dataclasses` imports `inspect` for classes without a
docstring, which we have not, and that is 8 ms. Only plain modules are in the list, which nobody looks up in sys.modules
to see whether they are there.
"""

from __future__ import annotations

import _thread
import sys
from types import ModuleType

NAMES = "hashlib inspect ipaddress queue secrets selectors shutil socket struct subprocess tarfile tempfile".split()
_lock = _thread.RLock()


class _Postponed(ModuleType):
    """Stands for a module in sys.modules until something of it is needed."""

    def __getattr__(self, name: str) -> object:
        own = str(super().__getattribute__("__name__"))
        with _lock:
            if sys.modules.get(own) is self:
                del sys.modules[own]
            __import__(own)
        return getattr(sys.modules[own], name)


def postpone() -> None:
    """From now on, in this process."""
    for name in NAMES:
        if name not in sys.modules:
            sys.modules[name] = _Postponed(name)
