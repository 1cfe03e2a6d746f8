"""The executable with Python in it: linked, run once to take the picture of its memory, and put together."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from picture import with_picture

SOURCE = Path(__file__).resolve().parents[1]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
COMPILE = "-std=c11 -D_GNU_SOURCE -DNDEBUG -O2 -fno-pie -fstack-protector-strong".split()
COMPILE.append(f"-ffile-prefix-map={SOURCE.parent}=.")
LINK = (
    "-no-pie -s -Wl,-O1,--gc-sections,--export-dynamic,--build-id=none,-z,noexecstack"
    " -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free"
).split()
CARRIED = """
    .section .note.GNU-stack,"",@progbits
    .section .rodata.carried,"a"
    .balign 16
    .global carried, carried_size
carried_size:
    .quad carried_end - carried
carried:
    .incbin "{}"
carried_end:
"""
VERSION = (3, 11)
"""The one whose inside embedded.c knows."""

ATTEMPTS = 3
"""A number in the picture may look like a pointer out of it; the kernel puts that at another place each time."""


class CannotError(Exception):
    """Why Python cannot be embedded here."""


def library() -> Path:
    """The static library of the Python that builds."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != VERSION:
        raise CannotError("only CPython {}.{} is".format(*VERSION))
    if os.uname().machine != "x86_64":
        raise CannotError("only on x86_64")
    path = Path(sysconfig.get_config_var("LIBPL") or "") / (sysconfig.get_config_var("LIBRARY") or "")
    if not path.is_file():
        raise CannotError(f"there is no {path} (Debian: apt-get install libpython3.11-dev)")
    return path


def libraries() -> list[str]:
    """What the modules that are built into Python need: static, for less to load, except the C library's own."""
    variables = (sysconfig.get_config_var(name) or "" for name in ("MODLIBS", "LIBS", "SYSLIBS"))
    names = dict.fromkeys(word for words in variables for word in words.split() if word.startswith("-l"))
    own = ("-ldl", "-lpthread", "-lutil", "-lrt", "-lc")
    foreign = [name for name in names if name not in own]
    return ["-Wl,-Bstatic", *foreign, "-Wl,-Bdynamic", *(name for name in names if name in own)]


def link(compiler: list[str], program: Path, defines: list[str], archive: bytes = b"") -> None:
    """The program that takes its picture. `archive`: what it carries (carry.py). Raises CannotError."""
    static = library()
    flags = [*COMPILE, *WARNINGS, "-isystem", sysconfig.get_path("include"), *defines, f'-DHOME="{sys.base_prefix}"']
    if not any(flag.startswith("-DHASH_SEED=") for flag in defines):
        flags.append(f"-DHASH_SEED={int.from_bytes(os.urandom(4), 'little')}u")
    sources = [SOURCE / "launcher" / "embedded.c", SOURCE / "launcher" / "json.c", SOURCE / "_sys.c"]
    with tempfile.TemporaryDirectory() as folder:
        carried, assembly = Path(folder) / "carried", Path(folder) / "carried.s"
        carried.write_bytes(archive)
        assembly.write_text(CARRIED.format(carried))
        _do(*compiler, *flags, *LINK, "-o", program, *sources, assembly, static, *libraries())


def build(
    compiler: list[str], output: Path, defines: list[str], write_modules: Callable[[Path], None], archive: bytes = b""
) -> None:
    """`defines`: what starting.h needs; `write_modules`: writes what the program executes for its picture; `archive`:
    what the one file carries. Raises CannotError."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        program, modules, picture = work / "program", work / "modules", work / "picture"
        link(compiler, program, defines, archive)
        write_modules(modules)
        _do("./program", "modules", "", "profile", folder=work)
        for attempt in range(ATTEMPTS):
            try:
                _do("./program", "modules", "picture", "profile", folder=work)  # these words are in the picture
                break
            except CannotError:
                if attempt == ATTEMPTS - 1:
                    raise
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(with_picture(program.read_bytes(), picture.read_bytes()))
    output.chmod(0o755)
    _try(output, alone=bool(archive) or any(define.startswith("-DSOURCES=") for define in defines))


def _do(*command: str | Path, folder: Path | None = None) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC0"}
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotError(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stderr}")


def _try(output: Path, *, alone: bool) -> None:
    """Whether it works here: `state` of what is not there. `alone`: it looks for no package beside itself."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bin" / "ocirt"
        program.parent.mkdir()
        program.write_bytes(output.read_bytes())
        program.chmod(0o755)
        if not alone:
            # All that it looks for; what it executes is inside.
            bundle = Path(folder) / "lib" / "python{}.{}".format(*VERSION) / "site-packages/ocirt/hot/state.bin"
            bundle.parent.mkdir(parents=True)
            bundle.touch()
        done = subprocess.run(
            [program, "--root", folder, "state", "nobody"], env={}, capture_output=True, text=True, check=False
        )
        if (done.returncode, done.stderr) != (1, 'ocirt: container "nobody" does not exist\n'):
            raise CannotError(f"it does not work ({done.returncode}): {done.stderr}")
