"""What the one file (`make dist`) carries: all of ocirt, the packages that it needs, and what those need of Python's
standard library, as an archive that is linked into the executable. carried_main.py reads it.

The archive: the size of the index (u64), the index (marshalled: name → (kind, place, size, unpacked size)), the
entries, each compressed (raw deflate). A module is its code, marshalled; a shared library is its file.
"""

from __future__ import annotations

import _imp
import ast
import importlib.machinery
import marshal
import os
import subprocess
import sys
import sysconfig
import types
import zlib
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("click", "jsonschema", "jeepney", "pyroute2.iproute.linux", "pyroute2.netlink.exceptions", "pyroute2.netns")
EMPTY = ("pyroute2",)
"""Packages whose own module imports all that they have, of which we need little: without it."""
WITHOUT = {
    "attr._make": ("unicodedata",),  # for make_class(), which nobody calls; a megabyte
    "pyroute2.netlink.rtnl.probe_msg": ("ssl",),  # for what answers to probes
}
"""Imports that are taken out of a module, and that only functions miss that are never called."""
BESIDE = {
    "jsonschema_specifications": "jsonschema_specifications/schemas/**/*",
    "ocirt": "ocirt/schemas/*",
}
"""Files that a package reads."""

LIBRARIES = {"_ctypes": ("libffi.so.8",), "ctypes": ("libseccomp.so.2",)}
"""Shared libraries that are loaded before a module, under the names by which it asks for them."""

CODECS = ("encodings.ascii", "encodings.latin_1", "encodings.unicode_escape", "encodings.utf_8")
"""What bytes.decode() and str.encode() import by name."""

LEFT_OUT = (
    # Not for containers' own sake, and with packages that nothing else needs.
    "ocirt.manager",
    # What only a person at a keyboard calls, and tests.
    *("bdb", "cmd", "code", "codeop", "doctest", "pdb", "pydoc", "pydoc_data", "rlcompleter", "sysconfig", "test"),
    *("_aix_support", "_osx_support", "distutils", "lib2to3", "pip", "setuptools", "tkinter", "winreg"),
    # The network beyond netlink and unix sockets; asyncio and urllib do without.
    *(
        "ftplib",
        "http",
        "hashlib",
        "html",
        "mimetypes",
        "netrc",
        "nturl2path",
        "smtplib",
        "ssl",
        "urllib.request",
        "xml",
    ),
    *("urllib.error", "urllib.response", "xmlrpc", "_ssl", "_hashlib"),
    # Archives, which shutil and importlib.resources know to unpack.
    *("bz2", "_bz2", "lzma", "_lzma", "tarfile", "zipapp"),
    # Other systems, and what other versions of Python have.
    *(
        "asyncio.proactor_events",
        "asyncio.windows_events",
        "asyncio.windows_utils",
        "multiprocessing.popen_spawn_win32",
    ),
    *(
        "_pydecimal",
        "_uuid",
        "click._winconsole",
        "ctypes.wintypes",
        "ctypes.macholib",
        "importlib_resources",
        "exceptiongroup",
        "ntpath",
    ),
    # Not called by what we call.
    *("_strptime", "calendar", "email", "encodings.idna", "importlib.metadata", "plistlib", "statistics", "stringprep"),
    *("concurrent.futures.process", "jeepney.io", "jsonschema.cli", "jsonschema.tests", "unittest.async_case"),
    *("multiprocessing.managers", "multiprocessing.pool", "multiprocessing.dummy", "webbrowser", "encodings.mbcs"),
    *("pyroute2.bsd", "pyroute2.iproute.bsd", "pyroute2.iproute.darwin"),
    *("pyroute2.iproute.windows", "pyroute2.ndb", "pyroute2.plan9", "hmac", "unicodedata"),
)
"""Modules, with all below them, that are imported somewhere in what we carry, but not by what we call."""


class Carried:
    """Collects what is needed. `source`: the package ocirt; `packages`: the folder that holds the others."""

    def __init__(self, source: Path, packages: Path) -> None:
        self.source = source
        standard = Path(sysconfig.get_path("stdlib"))
        self.folders = (standard, standard / "lib-dynload", packages)
        self.found: dict[str, tuple[str, Path]] = {}

    def find(self, name: str) -> tuple[str, Path] | None:
        """(kind, file) of a module that is to be carried."""
        if any(name == one or name.startswith(f"{one}.") for one in LEFT_OUT):
            return None
        if name in sys.builtin_module_names or name == "_json":  # launcher/json.c
            return None
        parts = name.split(".")
        folders = (self.source.parent,) if parts[0] == "ocirt" else self.folders
        for folder in folders:
            place = folder.joinpath(*parts)
            if (place / "__init__.py").is_file():
                return "package", place / "__init__.py"
            if place.with_name(f"{parts[-1]}.py").is_file():
                return "module", place.with_name(f"{parts[-1]}.py")
            for suffix in importlib.machinery.EXTENSION_SUFFIXES:
                if place.with_name(parts[-1] + suffix).is_file():
                    return "extension", place.with_name(parts[-1] + suffix)
        return None

    def add(self, *roots: str) -> None:
        """Modules, with all that they import."""
        todo = list(roots)
        while todo:
            parts = todo.pop().split(".")
            for length in range(1, len(parts) + 1):
                name = ".".join(parts[:length])
                if name in self.found:
                    continue
                found = self.find(name)
                if found is None:
                    break
                self.found[name] = found
                if found[0] != "extension":
                    package = name if found[0] == "package" else name.rpartition(".")[0]
                    todo += sorted(set(imports(self.tree(name), package)))

    def tree(self, name: str) -> ast.Module:
        """What a module consists of, without what we leave out of it."""
        if name in EMPTY:
            return ast.Module([], [])
        tree = ast.parse(self.found[name][1].read_bytes())
        left_out = WITHOUT.get(name, ())
        for node in list(tree.body):
            if isinstance(node, ast.Import) and node.names[0].name in left_out:
                tree.body.remove(node)
        return tree


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The names of all modules that a module of `package` imports at any time; some are names in modules instead."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(ast.Module([other], []), package)
        elif not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)):
            yield from imports(node, package)


def library_file(name: str, user: Path | None) -> Path:
    """Where ld.so finds a library: as another needs it (`user`), or by itself."""
    lines = subprocess.run(
        ["ldd", user] if user else ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout
    for line in lines.splitlines():
        words = line.split()
        if words and words[0] == name and "=>" in words and (user or "x86-64" in line):
            return Path(words[words.index("=>") + 1])
    raise SystemExit(f"ocirt: {name} is not installed (Debian: apt-get install libffi8 libseccomp2)")


def stripped(path: Path, work: Path) -> bytes:
    """A shared library without what only debuggers and linkers need."""
    copy = work / "library"
    subprocess.run(["strip", "--strip-unneeded", "-o", copy, path], check=True)
    return copy.read_bytes()


def archive(source: Path, packages: Path, extra: dict[str, bytes], work: Path) -> bytes:
    """The archive's bytes, for the Python that runs this. `extra`: modules and files of ocirt that the build writes, by
    their paths."""
    carried = Carried(source, packages)
    own = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        if "packaging" not in parts and parts[-1] not in ("_build", "__main__"):
            own.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    carried.add(*own, *PACKAGES, *CODECS, "traceback", *LIBRARIES)
    entries: dict[str, tuple[str, bytes]] = {}
    for name, (kind, path) in carried.found.items():
        if kind == "extension":
            entries[name] = kind, stripped(path, work)
        elif not _imp.is_frozen(name):  # that is in the interpreter
            where = name.replace(".", "/") + ("/__init__.py" if kind == "package" else ".py")
            entries[name] = kind, marshal.dumps(code(carried.tree(name), where))
    for package, pattern in BESIDE.items():
        if package != "ocirt":
            for path in packages.glob(pattern):
                if path.is_file():
                    entries[str(path.relative_to(packages))] = "file", path.read_bytes()
    for where, content in extra.items():
        if where.endswith(".py"):
            entries[where[:-3].replace("/", ".")] = "module", marshal.dumps(code(content, where))
        else:
            entries[where] = "file", content
    tables: dict[str, tuple[object, ...]] = {}
    for name, libraries in LIBRARIES.items():
        kind, path = carried.found[name]
        tables[f"libraries of {name}"] = libraries
        for library in libraries:
            entries[library] = "library", stripped(library_file(library, path if kind == "extension" else None), work)
    return packed(entries, tables)


def code(content: bytes | ast.Module, where: str) -> types.CodeType:
    """Without docstrings and assertions; in brackets, or a traceback looks for the file in the working directory."""
    made = compile(content, f"<{where}>", "exec", optimize=2, dont_inherit=True)
    assert isinstance(made, types.CodeType)
    return made


def packed(entries: dict[str, tuple[str, bytes]], tables: dict[str, tuple[object, ...]]) -> bytes:
    blobs, at = [], 0
    places: dict[str, tuple[str, int, int, int]] = {}
    for name, (kind, content) in sorted(entries.items()):
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        blob = compressor.compress(content) + compressor.flush()
        places[name] = kind, at, len(blob), len(content)
        blobs.append(blob)
        at += len(blob)

    def index(base: int) -> bytes:
        moved = {name: (kind, base + at, *sizes) for name, (kind, at, *sizes) in places.items()}
        return marshal.dumps({**moved, **tables}, 2)  # without references, its size depends on no place

    base = 8 + len(index(0))
    head = index(base)
    assert 8 + len(head) == base
    return len(head).to_bytes(8, "little") + head + b"".join(blobs)


if __name__ == "__main__":  # by a Python that leaves column numbers out: ocirt_build.py
    _, source, packages, given, target = sys.argv
    extra = {
        str(path.relative_to(given)): path.read_bytes() for path in sorted(Path(given).rglob("*")) if path.is_file()
    }
    Path(target).write_bytes(archive(Path(source), Path(packages), extra, Path(os.path.dirname(target))))
