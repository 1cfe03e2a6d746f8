"""Run untrusted code in a disposable container: one call makes it, runs a program in it and removes it.

>>> from ocirt import sandbox
>>> sandbox.run(["echo", "hello"]).stdout
b'hello\\n'

docs/sandbox.md says what a program in a sandbox can see and do.
"""

from __future__ import annotations

from ocirt.sandbox.client import close, run, run_async
from ocirt.sandbox.pool import Pool
from ocirt.sandbox.result import Result, Usage

__all__ = ["Pool", "Result", "Usage", "close", "run", "run_async"]
