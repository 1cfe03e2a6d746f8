"""All modules that a hot verb needs, in one file, and the order in which it needs them.

The file holds one marshalled code object, which the launcher has Python execute: a small loader, and the modules' code,
marshalled. What a verb imports at the top of its modules is known here, at build time: it is loaded in that order
without asking the import system (40 µs a module). Other modules come from the package's folder, as usual.
"""

from __future__ import annotations
import __future__

import ast
import marshal
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

ROOTS = {
    "create": ("ocirt.cli.actions", "ocirt.runtime.create"),
    "start": ("ocirt.cli.actions", "ocirt.runtime.start"),
    "run": ("ocirt.cli.actions", "ocirt.runtime.run"),
    "state": ("ocirt.cli.actions", "ocirt.runtime.state"),
    "kill": ("ocirt.cli.actions", "ocirt.runtime.kill"),
    "delete": ("ocirt.cli.actions", "ocirt.runtime.delete"),
}
"""Hot verb → what it imports when it is carried out. All have ocirt.cli.main."""


class Modules:
    """The package's modules as source: which they are, what they import, their code."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._trees: dict[str, ast.Module] = {}

    def path(self, name: str) -> Path | None:
        place = self.source.joinpath(*name.split(".")[1:])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                return path
        return None

    def tree(self, name: str) -> ast.Module:
        if name not in self._trees:
            path = self.path(name)
            assert path
            self._trees[name] = ast.parse(path.read_bytes())
        return self._trees[name]

    def imports(self, name: str) -> list[str]:
        """Modules of the package that `name` imports when it is loaded: its packages, and its top-level imports."""
        found = [name.rpartition(".")[0]] if "." in name else []
        for node in self.tree(name).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ocirt":
                found.append(node.module)
                found += [f"{node.module}.{alias.name}" for alias in node.names]
        return [module for module in found if self.path(module)]

    def order(self, roots: tuple[str, ...]) -> list[str]:
        """All that the roots need, each module after what it imports itself."""
        ordered: list[str] = []

        def visit(name: str) -> None:
            if name not in ordered:
                for module in self.imports(name):
                    visit(module)
                if name not in ordered:
                    ordered.append(name)

        for root in roots:
            visit(root)
        return ordered

    def code(self, name: str) -> types.CodeType:
        """Without docstrings and assertions, and without `import __future__`, whose effect is put in by a flag."""
        tree = self.tree(name)
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        ]
        path = self.path(name)
        assert path
        where = str(Path("ocirt") / path.relative_to(self.source))
        flags = __future__.annotations.compiler_flag
        return compile(tree, where, "exec", flags=flags, optimize=2, dont_inherit=True)


def bundle(source: Path) -> bytes:
    """The bytes of hot.bin, for the Python that runs this."""
    modules = Modules(source)
    orders = {verb: modules.order(("ocirt.cli.main", *roots)) for verb, roots in ROOTS.items()}
    codes = {}
    for name in dict.fromkeys(name for order in orders.values() for name in order):
        path = modules.path(name)
        assert path
        codes[name] = (path.name == "__init__.py", marshal.dumps(modules.code(name)))
    main = (Path(__file__).parent / "hot_main.py").read_text()
    main = main.replace("CODES: dict = {}", f"CODES = {codes!r}").replace("ORDERS: dict = {}", f"ORDERS = {orders!r}")
    return marshal.dumps(compile(main, "ocirt/hot.py", "exec", optimize=2))
