"""The executable without Python in it, which is installed where Python cannot be embedded, beside the same package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from init.running import build
from support import REPOSITORY

import ocirt

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
from hot import ROOTS

PACKAGES = Path(ocirt.__file__).parents[1]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
VERBS = ", ".join(f'"{verb}"' for verb in ROOTS)


def build_launcher(folder: Path) -> Path:
    """`folder`: a prefix to make for it."""
    (folder / "bin").mkdir(parents=True)
    source = folder / "launcher.c"
    original = REPOSITORY / "ocirt" / "launcher" / "launcher.c"
    source.write_text(
        f'#define PYTHON "{PYTHON}"\n#define VERSION "{VERSION}"\n#define VERBS {VERBS}\n#include "{original}"\n'
    )
    (folder / "lib" / VERSION).mkdir(parents=True)
    (folder / "lib" / VERSION / "site-packages").symlink_to(PACKAGES)
    return build(os.uname().machine, folder / "bin" / "ocirt", source)
