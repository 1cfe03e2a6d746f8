"""podman and buildah of an ordinary user: who that is, and what the engines are told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from engines.buildah import Buildah
from engines.engine import PLACES, require
from engines.podman import Podman
from support import OCIRT

USER = 1500
RANGE = (300000, 65536)
"""What /etc/subuid and /etc/subgid give the user: first id and how many."""
GROUP = 60000
"""A further group of theirs, which is not in the range."""
AS_USER: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": [USER, GROUP], "cwd": "/"}
"""Options of subprocess.run."""
ENTRIES = {
    "passwd": f"ordinary:x:{USER}:{USER}::/nonexistent:/bin/sh",
    "group": f"ordinary:x:{USER}:",
    "subuid": f"ordinary:{RANGE[0]}:{RANGE[1]}",
    "subgid": f"ordinary:{RANGE[0]}:{RANGE[1]}",
}


def make_user(workplace: Path, ocirt: str = OCIRT) -> None:
    """Make the user, who ends with tests/isolate's mount namespace: nothing is written to the host's files.
    ocirt is bound to where the user finds it: a checkout may lie in a folder that is root's alone.
    """
    require("newuidmap", "uidmap")
    (workplace / "etc").mkdir()
    for name, entry in ENTRIES.items():
        here, there = Path("/etc") / name, workplace / "etc" / name
        there.write_text(f"{here.read_text().rstrip()}\n{entry}\n")
        cover(there, here)
    Path("/dev/shm").chmod(0o1777)  # a tmpfs of cover_fixed_places()
    tunnel = Path("/dev/net/tun")
    if tunnel.exists():  # where it is root's alone, slirp4netns has no use of it
        os.mknod(workplace / "tun", 0o020666, os.stat(tunnel).st_rdev)
        (workplace / "tun").chmod(0o666)
        cover(workplace / "tun", tunnel)
    installed = workplace / "installed"
    installed.mkdir()
    cover(Path(ocirt).parents[1], installed)
    PLACES["ocirt"] = str(installed / Path(ocirt).relative_to(Path(ocirt).parents[1]))


def cover(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", source, target], check=True)


def own_folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    os.chown(path, USER, USER)
    return path


class RootlessPodman(Podman):
    """podman of the ordinary user."""

    as_whom = AS_USER

    def prepare(self, folder: Path) -> dict[str, str]:
        own_folder(folder)
        return {"XDG_RUNTIME_DIR": str(own_folder(folder / "xdg")), "XDG_CONFIG_HOME": f"{folder}/config"}

    def end(self) -> None:
        """podman leaves a process that keeps its user namespace."""
        self.clear()
        self.ok("system", "migrate")


class RootlessBuildah(Buildah):
    """buildah of the ordinary user."""

    as_whom = AS_USER
    prepare = RootlessPodman.prepare
