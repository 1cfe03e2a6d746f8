"""The build backend: setuptools, and what that cannot do: ocirt-init, the executable, the bundles of hot modules.

OCIRT_EMBED=1 in the environment: fail if Python cannot be embedded in the executable; 0: do not try.
pyproject.toml names this file as in-tree backend (PEP 517, "backend-path"); nothing of it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from distutils.command.build_scripts import build_scripts
from pathlib import Path

import embed
import hot
import setuptools  # noqa: F401  first: it brings the distutils that Python 3.12 has no more
from setuptools.build_meta import *  # noqa: F403  the hooks of PEP 517 and PEP 660
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parents[1]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
FREESTANDING = (
    "-std=c11 -Os -ffreestanding -fno-builtin -fno-stack-protector -fno-asynchronous-unwind-tables"
    " -fno-jump-tables -fcf-protection=none -static -nostdlib -nostartfiles -Wl,--build-id=none -Wl,-z,noexecstack"
    " -Wl,-z,noseparate-code -s"
).split()


def compiler() -> list[str]:
    """$CC, or the system's C compiler. Says which package brings it if there is none."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    for candidate in (command, ["cc"], ["gcc"]):
        if shutil.which(candidate[0]):
            return candidate
    raise SystemExit("ocirt: no C compiler found: install gcc (Debian: apt-get install gcc; Fedora: dnf install gcc)")


def check_headers() -> None:
    """Python.h and the C library's headers, by the packages' names."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise SystemExit(
            f"ocirt: {include}/Python.h is missing: install Python's headers"
            " (Debian: apt-get install python3-dev; Fedora: dnf install python3-devel)"
        )
    probe = subprocess.run(
        [*compiler(), "-E", "-include", "sys/syscall.h", "-include", "linux/bpf.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        raise SystemExit(
            "ocirt: the headers of the C library or the kernel are missing: install them"
            " (Debian: apt-get install libc6-dev linux-libc-dev; Fedora: dnf install glibc-devel kernel-headers)\n"
            + probe.stderr
        )


def compile_freestanding(source: Path, output: Path, *defines: str) -> None:
    """One freestanding executable, all warnings being errors."""
    output.parent.mkdir(parents=True, exist_ok=True)
    flags = [flag for flag in FREESTANDING if flag != "-fcf-protection=none" or os.uname().machine == "x86_64"]
    subprocess.run([*compiler(), *WARNINGS, *flags, *defines, "-o", str(output), str(source)], check=True)


def commit() -> str:
    """The commit that is built, "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def write_hot(function: str, target: Path) -> None:
    """A function of hot.py, by a Python that leaves column numbers out: a third less to read at every start."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import hot; from pathlib import Path; " + (
        "getattr(hot, sys.argv[2])(Path(sys.argv[3]), Path(sys.argv[4]))"
    )
    command = [sys.executable, "-X", "no_debug_ranges", "-c", program]
    subprocess.run([*command, str(Path(__file__).parent), function, str(SOURCE), str(target)], check=True)


def defines() -> list[str]:
    """What starting.h wants to know."""
    return [
        f'-DPYTHON="{os.path.realpath(getattr(sys, "_base_executable", sys.executable))}"',
        f'-DVERSION="python{sys.version_info.major}.{sys.version_info.minor}"',
        "-DVERBS=" + ",".join(f'"{verb}"' for verb in hot.ROOTS),
    ]


class BuildNative(build_ext):
    """ocirt._sys, as always; and ocirt-init, the hot bundle and the build's facts, as files of the package."""

    def run(self) -> None:
        compiler()
        check_headers()
        for extension in self.extensions:
            extension.extra_compile_args = [
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Wconversion",
                "-Wshadow",
                "-Werror",
                "-fstack-protector-strong",
            ]
            # Its few symbols are looked up at once, and the table of them is readonly then.
            extension.extra_link_args = ["-Wl,-z,relro,-z,now,-z,noexecstack"]
        super().run()
        package = SOURCE if self.inplace or getattr(self, "editable_mode", False) else Path(self.build_lib) / "ocirt"
        compile_freestanding(SOURCE / "init" / "init.c", package / "init" / "ocirt-init")
        (package / "_build.py").write_text(f'"""Written by the build."""\n\nCOMMIT = "{commit()}"\n')
        write_hot("bundles", package / "hot")
        schemas = package / "schemas"
        schemas.mkdir(exist_ok=True)
        for schema in (SOURCE.parent / "spec").glob("*.json"):
            shutil.copy(schema, schemas)


class BuildPython(build_py):
    """Without this folder, and without what an in-place build left in the tree."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "_build"]


class BuildLauncher(build_scripts):
    """The executables, where setuptools would copy a script: `ocirt`, with Python in it or a launcher; and `ocim`."""

    def run(self) -> None:
        known = defines()
        if getattr(self, "editable_mode", False) or getattr(
            self.distribution.get_command_obj("build_ext"), "editable_mode", False
        ):
            known.append(f'-DSOURCES="{SOURCE.parent}"')
        output = Path(self.build_dir) / "ocirt"
        wish = os.environ.get("OCIRT_EMBED", "")
        try:
            if wish == "0":
                raise embed.CannotError("OCIRT_EMBED=0 asks for that")
            embed.build(compiler(), output, known, lambda target: write_hot("write_picture", target))
        except embed.CannotError as error:
            if wish == "1":
                raise SystemExit(f"ocirt: Python cannot be embedded: {error}") from error
            self.warn(f"the executable ocirt starts {known[0][10:-1]}, and has no Python in it: {error}")
            compile_freestanding(SOURCE / "launcher" / "launcher.c", output, *known)
        # Without a picture of memory: its commands import extension modules, and most wait for networks and disks.
        compile_freestanding(SOURCE / "launcher" / "launcher.c", output.with_name("ocim"), "-DMANAGER=1", *known)
