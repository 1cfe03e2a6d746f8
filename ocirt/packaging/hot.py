"""All modules that a hot verb needs, in one file: each costs a few system calls less to import than from its own .pyc.

The file is a .pyc that Python runs as its main program: a small importer, and the modules' code, marshalled,
loaded only when a module is imported. Modules that are not in it come from the package's folder, as usual.
"""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path

COLD = (
    "packaging",
    "cli/cold_actions",
    "cli/commands",
    "cli/version",
    "config/locate",
    "config/schema",
    "plan/explain",
    "runtime/check",
    "runtime/explain",
    "runtime/list",
    "runtime/spec",
    "_build",
)


def hot_modules(source: Path) -> dict[str, Path]:
    """Module name → file, of all modules below `source` but the cold ones."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        relative = path.relative_to(source)
        if not str(relative).startswith(COLD):
            parts = ["ocirt", *relative.with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def bundle(source: Path) -> bytes:
    """The bytes of _hot.pyc. Docstrings and assertions are left out; line numbers stay."""
    codes = {}
    for name, path in hot_modules(source).items():
        where = str(Path("ocirt") / path.relative_to(source))
        code = compile(path.read_bytes(), where, "exec", optimize=2, dont_inherit=True)
        codes[name] = (path.name == "__init__.py", marshal.dumps(code))
    main = (Path(__file__).parent / "hot_main.py").read_text()
    program = compile(main.replace("CODES: dict = {}", f"CODES = {codes!r}"), "ocirt/_hot.py", "exec", optimize=2)
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    return header + marshal.dumps(program)
