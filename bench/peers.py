"""Who ocirt is compared with: crun and runc as Debian 12 has them, and as Debian sid has them if `make engines-sid` has
made its root. Those run here with sid's libraries (patchelf(1)): nothing is between them and the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from measuring import PEERS

SID = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocirt-engines" / "sid" / "root"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def version(path: str) -> str:
    """The number that `--version` begins with."""
    done = subprocess.run([path, "--version"], env={}, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[0].split()[-1]


class Peers:
    """Name → executable, and its version. Ours is the first. `work`: a folder for copies."""

    def __init__(self, ocirt: str, work: Path) -> None:
        self.paths = {"ocirt": os.path.realpath(ocirt)}
        self.paths |= {name: path for name, path in PEERS.items() if os.access(path, os.X_OK)}
        loader = SID / LIBRARIES / "ld-linux-x86-64.so.2"
        if loader.exists() and shutil.which("patchelf"):
            for name in PEERS:
                found = next((path for path in SID.glob(f"usr/*bin/{name}") if not path.is_symlink()), None)
                if found:
                    self.paths[f"{name}-sid"] = str(_with_libraries(found, work / name, loader))
        self.versions = {name: version(path) for name, path in self.paths.items()}


def _with_libraries(program: Path, copy: Path, loader: Path) -> Path:
    """A copy of an ELF file that another dynamic loader starts, with the libraries beside that."""
    command = ["patchelf", "--set-interpreter", loader, "--set-rpath", loader.parent, "--force-rpath", "--output", copy]
    subprocess.run([*command, program], check=True)
    return copy
