"""Formatting, lint, types and C warnings are tests like others."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from init.running import build, build_flags, need
from support import REPOSITORY

BIN = Path(sys.prefix) / "bin"
SOURCES = REPOSITORY / "ocirt"
COMPILERS = {"gcc": "gcc", "clang": "clang"}


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


def test_ruff_has_nothing_to_say() -> None:
    passes(BIN / "ruff", "check", "--no-cache", ".")


def test_the_code_is_formatted() -> None:
    passes(BIN / "ruff", "format", "--no-cache", "--check", ".")


def test_types_are_strict() -> None:
    passes(BIN / "mypy", "--no-error-summary", "--cache-dir", REPOSITORY / ".mypy_cache")


@pytest.fixture(params=COMPILERS)
def compiler(request: pytest.FixtureRequest) -> str:
    need(request.param, packages=COMPILERS[request.param])
    name: str = request.param
    return name


def test_init_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    build("x86_64", tmp_path / "init", compiler=compiler)


def test_the_launcher_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    source = tmp_path / "launcher.c"
    source.write_text(
        '#define PYTHON "/python"\n#define VERSION "python3"\n#define VERBS "create"\n'
        f'#include "{SOURCES / "launcher" / "launcher.c"}"\n'
    )
    build("x86_64", tmp_path / "launcher", source, compiler=compiler)


def test_the_executable_with_python_in_it_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    warnings = [flag for flag in build_flags()[0] if flag != "-Wpedantic"]
    defines = ['-DPYTHON="/python"', '-DHOME="/"', '-DVERSION="python3"', '-DVERBS="create"']
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-fno-pie", *warnings, "-isystem", sysconfig.get_path("include")]
    for source in ("embedded.c", "json.c"):
        passes(compiler, *flags, *defines, "-c", "-o", tmp_path / "object.o", SOURCES / "launcher" / source)


def test_the_extension_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """All but -Wpedantic, which Python's own headers do not pass."""
    warnings = [flag for flag in build_flags()[0] if flag != "-Wpedantic"]
    include = sysconfig.get_path("include")
    flags = ["-std=c11", "-O2", "-fPIC", "-shared", *warnings, "-isystem", include]
    passes(compiler, *flags, "-o", tmp_path / "_sys.so", SOURCES / "_sys.c")


def test_the_c_of_the_tests_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    folder = REPOSITORY / "tests"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-c", "-o", tmp_path / "object.o"]
    for source in (folder / "init" / "hosted.c", folder / "fuzz" / "fuzz_decode.c", folder / "faults" / "injector.c"):
        passes(compiler, *flags, source)


@pytest.mark.parametrize("script", sorted(REPOSITORY.glob("tests/**/*.sh")), ids=lambda path: path.name)
def test_a_shell_script_has_no_syntax_error(script: Path) -> None:
    passes(script.read_text().split("\n", 1)[0].removeprefix("#!"), "-n", script)
