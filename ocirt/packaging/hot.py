"""For each hot verb one file with the code of all modules that it needs, in the order in which it needs them.

The file is a marshalled tuple: the code of a small loader (hot_main.py), which the launcher has Python execute, and the
modules. What a verb imports at the top of its modules is known here, at build time, so the import system (40 µs a
module, and 300 for one that it has to find and read) is not asked. What engines' configurations use and the smallest
does not is in one more file, later.bin, which is read when the first of them is imported. All other modules come from
the package's folder, as usual.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import sys
import types
from pathlib import Path

_FILTERS = ("ocirt.host.filters", "ocirt.plan.seccomp")
_OF_ENGINES = (
    *_FILTERS,
    *("ocirt.config.check_resources", "ocirt.cgroups.resources", "ocirt.cgroups.cpu", "ocirt.cgroups.memory"),
    *("ocirt.cgroups.v1", "ocirt.cgroups.v2", "ocirt.cgroups.rules"),
)
"""What hardly any configuration of an engine does without, although it is imported only where it is needed."""
ROOTS = {
    "create": ("ocirt.cli.actions", "ocirt.runtime.create", "ocirt.state.entry", *_OF_ENGINES),
    "start": ("ocirt.cli.actions", "ocirt.runtime.start", "ocirt.state.entry"),
    "run": ("ocirt.cli.actions", "ocirt.runtime.run", "ocirt.state.entry", *_OF_ENGINES),
    "exec": ("ocirt.cli.actions", "ocirt.cli.process", "ocirt.runtime.exec", "ocirt.host.foreground", *_FILTERS),
    "state": ("ocirt.cli.actions", "ocirt.runtime.state"),
    "kill": ("ocirt.cli.actions", "ocirt.runtime.kill", "ocirt.state.entry"),
    "delete": ("ocirt.cli.actions", "ocirt.runtime.delete", "ocirt.state.entry"),
    "list": ("ocirt.cli.actions", "ocirt.cli.listing", "ocirt.runtime.list"),
    "events": ("ocirt.cli.actions", "ocirt.runtime.events"),
    "pause": ("ocirt.cli.actions", "ocirt.runtime.pause", "ocirt.cgroups.freezer", "ocirt.state.entry"),
    "resume": ("ocirt.cli.actions", "ocirt.runtime.pause", "ocirt.cgroups.freezer", "ocirt.state.entry"),
    "ps": ("ocirt.cli.actions", "ocirt.runtime.ps", "ocirt.cgroups.signals"),
    "update": ("ocirt.cli.actions", "ocirt.cli.amounts", "ocirt.runtime.update", "ocirt.state.entry"),
}
"""Hot verb → what it imports when it is carried out. All have ocirt.cli.main."""


INDEX_SIZE = 8192
"""Of later.bin: hot_main.py reads as much."""
LATER = (
    "ocirt.config.check_process",
    "ocirt.config.check_resources",
    "ocirt.cgroups.resources",
    "ocirt.cgroups.cpu",
    "ocirt.cgroups.memory",
    "ocirt.cgroups.block_io",
    "ocirt.cgroups.rare",
    "ocirt.cgroups.freezer",
    "ocirt.cgroups.signals",
    "ocirt.cgroups.v1",
    "ocirt.cgroups.v2",
    "ocirt.cgroups.rules",
    "ocirt.host.filters",
    "ocirt.plan.seccomp",
    "ocirt.config.sysctl",
    "ocirt.plan.sysctl",
    "ocirt.host.lsm",
    "ocirt.plan.lsm",
    "ocirt.config.check_devices",
    "ocirt.config.check_mounts",
    "ocirt.plan.device_nodes",
    "ocirt.cgroups.oom",
    "ocirt.cgroups.delegation",
    "ocirt.cgroups.disabled",
    "ocirt.state.members",
    "ocirt.state.entry",
    "ocirt.config.check_namespaces",
    "ocirt.host.idmap",
    "ocirt.host.limits",
    "ocirt.host.locked",
    "ocirt.host.rootless",
)
"""What hot verbs import while they are carried out, if the configuration asks for it."""


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

    def foreign_imports(self, name: str) -> set[str]:
        """The first parts of the names of all modules that `name` imports when it is loaded."""
        found: set[str] = set()
        body = list(self.tree(name).body)
        for node in body:
            if isinstance(node, ast.Try):  # what is there on some hosts only
                body += node.body
            elif isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
        return found

    def order(self, roots: tuple[str, ...]) -> list[str]:
        """All that the roots need, each module after what it imports itself."""
        ordered: list[str] = []
        begun: set[str] = set()

        def visit(name: str) -> None:
            if name not in begun:  # a package's own modules import the package
                begun.add(name)
                for module in self.imports(name):
                    visit(module)
                ordered.append(name)

        for root in roots:
            visit(root)
        return ordered

    def code(self, name: str) -> types.CodeType:
        """Without what only readers and type checkers need: docstrings, assertions, annotations."""
        path = self.path(name)
        assert path
        where = f"<{Path('ocirt') / path.relative_to(self.source)}>"  # in brackets, or a traceback looks for the file
        tree = ast.fix_missing_locations(_Strip().visit(ast.parse(path.read_bytes())))
        code = compile(tree, where, "exec", optimize=2, dont_inherit=True)
        assert isinstance(code, types.CodeType)
        return _without_lines(code)


def _without_lines(code: types.CodeType) -> types.CodeType:
    """A fifth of a code object is its line numbers. With --debug, which prints them, the sources are loaded instead."""
    inner = tuple(_without_lines(one) if isinstance(one, types.CodeType) else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=inner)


class _Strip(ast.NodeTransformer):
    """Takes annotations, `from __future__` and `if TYPE_CHECKING` out of a module."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None if not isinstance(node.target, ast.Name) else ast.Pass()
        return ast.Assign(targets=[node.target], value=self.visit(node.value))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def bundle(source: Path, verb: str) -> bytes:
    """The bytes of hot/VERB.bin, for the Python that runs this; "main" is for all that is not a hot verb."""
    modules = Modules(source)
    order = modules.order(("ocirt.cli.main", *ROOTS.get(verb, ())))
    entries = []
    for name in order:
        path = modules.path(name)
        assert path
        entries.append((name, path.name == "__init__.py", modules.code(name)))
    main = (Path(__file__).parent / "hot_main.py").read_bytes()
    return marshal.dumps((compile(main, "ocirt/hot.py", "exec", optimize=2), entries[::-1], extension("_json")))


def later(source: Path) -> bytes:
    """The bytes of hot/later.bin: an index, name → (place, size), and the code: only what is imported is read."""
    modules = Modules(source)
    names = set(modules.order(LATER)).difference(modules.order(("ocirt.cli.main",)))
    # A package has a place, which only the import system gives it; all are small, and most are there already.
    plain = sorted(name for name in names if (path := modules.path(name)) and path.name != "__init__.py")
    index, code = {}, b""
    for name in plain:
        content = marshal.dumps(modules.code(name))
        index[name] = (INDEX_SIZE + len(code), len(content))
        code += content
    head = marshal.dumps(index)
    assert len(head) <= INDEX_SIZE
    return head.ljust(INDEX_SIZE, b"\0") + code


def extension(name: str) -> str | None:
    """Where a module of the standard library's is that is a shared library; None if it is built into Python."""
    spec = importlib.util.find_spec(name)
    return spec.origin if spec and spec.origin != "built-in" else None


def light(modules: Modules) -> tuple[str, ...]:
    """All modules of the package that import nothing, when they are loaded, that is not built into Python."""
    source = modules.source
    names = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        if "packaging" not in parts and parts[-1] not in ("_build", "__main__"):
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))

    def is_light(name: str) -> bool:
        return all(
            root in ("ocirt", "__future__") or root in sys.builtin_module_names
            for root in modules.foreign_imports(name)
        )

    return tuple(name for name in names if all(is_light(one) for one in modules.order((name,))))


def write_picture(source: Path, target: Path, *, alone: bool = False) -> None:
    """Write what launcher/embedded.c executes for the picture of its memory: the size of a marshalled tuple (u64), the
    tuple, (code, the names that it finds), and the code of the modules, each marshalled for itself: that leaves less
    behind in memory. `alone`: for the one file, which finds nothing on the host."""
    modules = Modules(source)
    roots = tuple(root for verb in ROOTS.values() for root in verb)
    entries, content = [], b""
    for name in modules.order(("ocirt.cli.main", *roots, *LATER, *light(modules))):
        path = modules.path(name)
        assert path
        code = modules.code(name)
        packed = marshal.dumps(code)
        entries.append((name, path.name == "__init__.py", len(content), len(content) + len(packed), _asks(code)))
        content += packed
    places = {name: origin for name in ("termios",) if not alone and (origin := extension(name))}
    main, warm, rehearsal, archive = (
        compile((Path(__file__).parent / name).read_bytes(), f"<{name}>", "exec", dont_inherit=True)
        for name in ("embedded_main.py", "embedded_warm.py", "embedded_rehearsal.py", "carried_main.py")
    )
    names = {"modules": entries[::-1], "places": places, "warm": warm, "rehearsal": rehearsal}
    names["archive"] = archive if alone else None
    if alone:
        names["image"] = (target.parent / "ocirt-init").read_bytes()
    head = marshal.dumps((main, names))
    target.write_bytes(len(head).to_bytes(8, "little") + head + content)


def write_picture_alone(source: Path, target: Path) -> None:
    """The same for the one file."""
    write_picture(source, target, alone=True)


def _asks(code: types.CodeType) -> bool:
    """Whether it uses `__file__`."""
    return "__file__" in code.co_names or any(isinstance(one, types.CodeType) and _asks(one) for one in code.co_consts)


def bundles(source: Path, target: Path) -> None:
    """Write all of them into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for verb in ("main", *ROOTS):
        (target / f"{verb}.bin").write_bytes(bundle(source, verb))
    (target / "later.bin").write_bytes(later(source))
