"""The installed executable finds itself and depends on nothing around it; the build says what it misses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import OCIRT, REPOSITORY, command

import ocirt

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE = Path(ocirt.__file__).parent


def assert_works(*args: str | Path, **options: object) -> None:
    done = command(*args, "--version", **options)
    assert done.code == 0, done.err
    assert done.out.startswith(f"ocirt version {ocirt.__version__}\n")
    assert done.err == ""


# Where it is and how it is called.


def test_it_needs_no_environment_variable() -> None:
    assert_works(OCIRT, env={})


def test_it_is_an_executable_and_no_script() -> None:
    assert Path(OCIRT).read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("folder", ["/", "/proc", "/tmp"])
def test_it_works_from_any_folder(folder: str) -> None:
    assert_works(OCIRT, cwd=folder)


def test_it_works_from_a_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone} && exec {OCIRT} --version"
    done = command("/bin/sh", "-c", script, cwd=gone)
    assert done.code == 0, done.err


def test_it_works_through_a_symlink_and_a_symlink_to_that(tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(OCIRT)
    (tmp_path / "second").symlink_to("first")
    assert_works(tmp_path / "second")
    assert_works("./second", cwd=tmp_path)


def test_it_is_found_in_path() -> None:
    assert_works("/usr/bin/env", "ocirt", env={"PATH": str(Path(OCIRT).parent)})


def test_called_as_runc_it_says_so(tmp_path: Path) -> None:
    """Docker reads the name of the runtime from the first line."""
    (tmp_path / "runc").symlink_to(OCIRT)
    done = command(tmp_path / "runc", "--version")
    lines = done.out.splitlines()
    assert lines[0] == f"runc version {ocirt.__version__}"
    assert [line.split(":")[0] for line in lines[1:]] == ["commit", "spec", "libseccomp"]


def test_an_empty_argv0_does_no_harm() -> None:
    done = subprocess.run(["", "--version"], executable=OCIRT, capture_output=True, text=True, env={}, check=False)
    assert done.stdout.startswith("ocirt version")


# What is around it.


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules that Python would import, if it looked there."""
    for name in ("ocirt", "json", "posix", "encodings", "sitecustomize", "usercustomize", "marshal", "click", "re"):
        (tmp_path / f"{name}.py").write_text('raise SystemExit("imported from the wrong place")\n')
    return tmp_path


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["state", "nobody"]])
def test_no_module_comes_from_the_working_directory(hostile: Path, args: list[str]) -> None:
    done = (
        command(OCIRT, "--root", hostile / "state", *args, cwd=hostile)
        if args[0] == "state"
        else command(OCIRT, *args, cwd=hostile)
    )
    assert "wrong place" not in done.out + done.err


def test_pythons_environment_variables_are_ignored(hostile: Path) -> None:
    assert_works(
        OCIRT,
        env={
            "PYTHONPATH": str(hostile),
            "PYTHONHOME": str(hostile),
            "PYTHONSTARTUP": str(hostile / "json.py"),
            "PYTHONINSPECT": "1",
            "PYTHONVERBOSE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONOPTIMIZE": "2",
            "PYTHONWARNINGS": "error",
            "PYTHONUSERBASE": str(hostile),
        },
    )


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.UTF-8", "nonsense", ""])
def test_any_locale_will_do(locale: str, tmp_path: Path) -> None:
    done = command(OCIRT, "--root", tmp_path, "state", "é", env={"LC_ALL": locale, "LANG": locale})
    assert done.code == 1
    assert 'container "é" does not exist' in done.err


def test_it_writes_nothing_beside_its_modules() -> None:
    """The installation may be readonly, or root's."""
    before = {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("*")}
    command(OCIRT, "--help")
    command(OCIRT, "--version")
    assert {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("*")} == before


# Where pip may have put it.


@pytest.mark.parametrize(
    "place", [f"lib/{VERSION}/site-packages", f"lib/{VERSION}/dist-packages", "."], ids=["venv", "debian", "target"]
)
def test_the_package_is_found_from_the_executables_own_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy(OCIRT, tmp_path / "bin" / "ocirt")
    shutil.copytree(PACKAGE, tmp_path / place / "ocirt")
    assert_works(tmp_path / "bin" / "ocirt")
    (tmp_path / "moved").mkdir()
    for name in [path.name for path in tmp_path.iterdir() if path.name != "moved"]:
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert_works(tmp_path / "moved" / "bin" / "ocirt")


def test_without_its_package_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy(OCIRT, tmp_path / "bin" / "ocirt")
    done = command(tmp_path / "bin" / "ocirt", "--version")
    assert done.code == 1
    assert done.err == f"ocirt: cannot find its Python package below {tmp_path} (pip install ocirt anew)\n"


def test_everything_is_installed() -> None:
    names = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert {"py.typed", "init/ocirt-init", "_build.py"} <= names
    assert not [name for name in names if name.startswith("packaging/")], "the build backend is not installed"
    sources = {
        str(path.relative_to(REPOSITORY / "ocirt"))
        for path in (REPOSITORY / "ocirt").rglob("*.py")
        if path.parts[-2] not in ("packaging", "stubs") and path.name != "_build.py"
    }
    assert sources <= names


# What the build says when something is missing.


def call_backend(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run some lines after `import ocirt_build as b`."""
    env = {"PYTHONPATH": str(REPOSITORY / "ocirt" / "packaging"), "PATH": "", **env}
    return subprocess.run(
        [sys.executable, "-c", f"import ocirt_build as b\n{code}"], env=env, capture_output=True, text=True, check=False
    )


def test_a_missing_compiler_is_named_with_its_packages() -> None:
    done = call_backend("b.compiler()")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "ocirt: no C compiler found: install gcc (Debian: apt-get install gcc; Fedora: dnf install gcc)"
    )


def test_another_compiler_can_be_chosen() -> None:
    done = call_backend("print(b.compiler())", CC="/bin/sh -x")
    assert done.stdout == "['/bin/sh', '-x']\n"


def test_missing_python_headers_are_named_with_their_packages(tmp_path: Path) -> None:
    code = f"b.sysconfig.get_path = lambda name: {str(tmp_path)!r}\nb.check_headers()"
    done = call_backend(code, CC="/bin/true")
    assert done.returncode == 1
    assert "Python.h is missing" in done.stderr
    assert "apt-get install python3-dev; Fedora: dnf install python3-devel" in done.stderr


def test_missing_headers_of_the_c_library_are_named_with_their_packages(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    code = f"b.sysconfig.get_path = lambda name: {str(tmp_path)!r}\nb.check_headers()"
    done = call_backend(code, CC="/bin/false")
    assert done.returncode == 1
    assert "apt-get install libc6-dev linux-libc-dev; Fedora: dnf install glibc-devel kernel-headers" in done.stderr


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path) -> None:
    done = call_backend("print(b.commit())", PATH="")
    assert done.stdout == "unknown\n"
    assert command(OCIRT, "--version").out.splitlines()[1].startswith("commit: ")


def test_the_umask_of_who_installs_is_respected() -> None:
    assert os.access(OCIRT, os.X_OK)
    assert os.access(PACKAGE / "init" / "ocirt-init", os.R_OK)
