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
        if name == "__path__":  # which `from … import` asks for: none of them is a package
            raise AttributeError(name)
        own = str(super().__getattribute__("__name__"))
        with _lock:
            if sys.modules.get(own) is self:
                del sys.modules[own]
            __import__(own)
        return getattr(sys.modules[own], name)


class _Database(ModuleType):
    """sqlite3 without what it adds to _sqlite3: conversions of dates, which nobody here asks for, by datetime."""

    def __getattr__(self, name: str) -> object:
        import _sqlite3

        return getattr(_sqlite3, name)


def _quoted(*words: object) -> object:
    """The one function of urllib.parse that pathlib takes from it, for as_uri()."""
    from urllib import parse

    return parse.quote_from_bytes(*words)  # type: ignore[arg-type]


def postpone() -> None:
    """From now on, in this process."""
    for name in NAMES:
        if name not in sys.modules:
            sys.modules[name] = _Postponed(name)
    sys.modules.setdefault("sqlite3", _Database("sqlite3"))
    if "urllib.parse" not in sys.modules:
        parse = _Postponed("urllib.parse")
        parse.__dict__["quote_from_bytes"] = _quoted
        sys.modules["urllib.parse"] = parse
