"""Runs ocirt as a user without a name, a capability, or a range of ids, in a cgroup of choice; under tests/isolate."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import OCIRT, Bundle, Done, command, default_config, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = 70000
ROOT = Path("/sys/fs/cgroup")
PREFIX = Path(OCIRT).resolve().parents[1]


def as_user(
    *args: str | Path, cgroups: tuple[Path, ...] = (), env: dict[str, str] | None = None, **options: Any
) -> Done:
    """A command as the user. cgroups: folders that root puts it into first."""
    move = "".join(f"echo $$ > '{folder}/cgroup.procs' || exit 125; " for folder in cgroups)
    drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    clean = ["env", "-i", f"PATH={path}", *(f"{key}={value}" for key, value in (env or {}).items())]
    return command("sh", "-c", f'{move}exec "$@"', "sh", *drop, *clean, *args, env={"PATH": path}, **options)


class Ordinary:
    """The user's ocirt, with a state folder and a bundle of their own below `home`. Called as support.Runtime is."""

    def __init__(self, home: Path, executable: str) -> None:
        self.home = home
        self.executable = executable
        self.cgroups: tuple[Path, ...] = ()
        folder = home / "bundle"
        make_rootfs(folder / "rootfs")
        self.bundle = Bundle(folder, default_config())
        self.bundle.config["linux"].pop("cgroupsPath", None)

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        options.setdefault("cgroups", self.cgroups)
        return as_user(self.executable, "--root", self.home / "state", *args, **options)

    def script(self, text: str) -> Path:
        """The bundle, with this for a program."""
        self.bundle.config["process"]["args"] = ["/bin/sh", "-c", text]
        return self.bundle.write().path

    def run(self, text: str, *flags: str, container_id: str = "c", **options: Any) -> Done:
        return self(*flags, "run", "-b", self.script(text), container_id, **options)

    def started(self, text: str, *flags: str, container_id: str = "c") -> None:
        done = self(*flags, "run", "-d", "-b", self.script(text), container_id)
        assert done.code == 0, done.err


def ordinary_users() -> Iterator[Ordinary]:
    """For a fixture. pytest's own folders are closed to others, and so may be the one that ocirt is installed in: that
    is mounted where the user may see it, in our own mount namespace."""
    home = Path(tempfile.mkdtemp(prefix="ocirt-user-", dir="/tmp"))
    executable, mounted = OCIRT, None
    if as_user("test", "-x", OCIRT, cwd="/").code:
        mounted = Path(tempfile.mkdtemp(prefix="ocirt-installed-", dir="/tmp"))
        mounted.chmod(0o755)
        subprocess.run(["mount", "--bind", PREFIX, mounted], check=True)
        executable = str(mounted / Path(OCIRT).resolve().relative_to(PREFIX))
    try:
        one = Ordinary(home, executable)
        for folder, _, files in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, UID, UID, follow_symlinks=False)
        home.chmod(0o755)
        yield one
        one("delete", "--force", "c")
    finally:
        if mounted:
            subprocess.run(["umount", mounted], check=True)
            mounted.rmdir()
        shutil.rmtree(home)
