"""The layers: a module imports only what stands below its own (the contracts are in setup.cfg)."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

LINT_IMPORTS = Path(sys.prefix) / "bin" / "lint-imports"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the package in a folder, which has the contracts beside it."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--config", "setup.cfg"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_are_kept() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "ocirt", tmp_path / "ocirt", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(REPOSITORY / "setup.cfg", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors.py", "import ocirt.cli.output", "imports point down"),
        ("state/process.py", "from ocirt.plan import facts", "imports point down"),
        ("cgroups/files.py", "from ocirt.state import process", "imports point down"),
        ("host/hints.py", "import ocirt.runtime.kill", "imports point down"),
        ("plan/tags.py", "def f():\n    from ocirt.host import memfd", "without looking at the host"),
    ],
)
def test_a_contract_that_is_broken_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    with (copy / "ocirt" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode != 0
    assert any(contract in line and "BROKEN" in line for line in done.stdout.splitlines()), done.stdout[-4000:]


def test_every_package_has_its_place_in_the_layers() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "ocirt").glob("*/__init__.py")}
    contract = (REPOSITORY / "setup.cfg").read_text().split("layers =", 1)[1].split("\n\n", 1)[0]
    named = {word.removeprefix("ocirt.") for word in contract.split() if word.startswith("ocirt.")}
    assert packages <= named


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / "ocirt" / folder).rglob("*.py"))]


def names_called(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", python_files("plan", "config"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_plans_and_checks_touch_nothing_outside(path: Path) -> None:
    """Pure: no file, no process, no clock. Only config.read and config.schema read the one file that each is for."""
    allowed = {
        "read.py": {"posix.open", "posix.fstat", "posix.read", "posix.close", "posix.readlink"},
        "schema.py": {"open"},
    }
    called = names_called(path) - allowed.get(path.name, set())
    outside = ("posix", "os", "open", "socket", "time", "subprocess")
    assert not {name for name in called if name.split(".")[0] in outside}


@pytest.mark.parametrize(
    "path",
    python_files("runtime", "host", "plan", "config", "state", "cgroups"),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    called = names_called(path)
    if path.name == "supervisor.py":  # a child of fork(2), to which nothing below the command line returns
        called.discard("posix._exit")
    assert not called & {"print", "exit", "quit", "sys.exit", "posix._exit", "os._exit", "SystemExit"}
