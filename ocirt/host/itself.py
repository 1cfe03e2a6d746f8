"""A further process that executes a module of ours, with another Python or with the one file that we are (`make dist`).

For what has to be in a process of its own: no Python code runs between fork and exec in a program that has threads.
"""

from __future__ import annotations

import sys

from ocirt.errors import Error

ONE_FILE = "/proc/self/exe"
FLAG = "--module"
"""What the one file is called with then; the module has a function `main`, which is given the rest."""
MODULES = frozenset(("ocirt.host.inside", "ocirt.sandbox.keeper"))
_START = """
import sys
sys.path.insert(0, sys.argv[1])
__import__(sys.argv[2], fromlist=["main"]).main(sys.argv[3:])
"""


def command(module: str, *words: str) -> list[str]:
    """Its arguments. Raises Error if there is no Python interpreter, as in a program that embeds one."""
    assert module in MODULES
    if __file__.startswith(ONE_FILE + "/"):
        return [ONE_FILE, FLAG, module, *words]
    package = __file__.removesuffix("/ocirt/host/itself.py")
    if not sys.executable or not package.startswith("/"):
        raise Error("no Python interpreter to start a helper with", hint="sys.executable is empty, or ocirt no folder")
    return [sys.executable, "-IS", "-c", _START, package, module, *words]


def carry_out(words: list[str]) -> int:
    """Of the one file: words are those after FLAG."""
    module, *rest = words or [""]
    if module not in MODULES:
        raise Error(f'"{module}" is no module to be executed')
    __import__(module, fromlist=["main"]).main(rest)
    return 0
