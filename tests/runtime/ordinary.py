"""Runs ocirt as an ordinary user, in a cgroup of choice. One without a name has no capability and no range of ids.

In mounts of our own (tests/isolate), or on a machine that is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import OCIRT, Bundle, Done, command, default_config, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UID = 70000
ROOT = Path("/sys/fs/cgroup")
PREFIX = Path(OCIRT).resolve().parents[1]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def until(reached: Callable[[], Any]) -> Any:
    """What it returns as soon as that is true."""
    end = time.monotonic() + 60
    while not (found := reached()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


ENTER = ["unshare", "--user", "sh", "-c", 'read go && exec unshare --mount "$@" </dev/null', "sh"]
MAP = """
mkfifo "$0/go" || exit 125
"$@" < "$0/go" & pid=$!
exec 3> "$0/go"
while [ "$(readlink /proc/$pid/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.01; done
echo 0 $UID_ 1 > /proc/$pid/uid_map && echo 0 $UID_ 1 > /proc/$pid/gid_map && echo >&3; exec 3>&-
wait $pid; status=$?; rm "$0/go"; exit $status
"""
"""Root's part in giving a command a user namespace: unlike in one that unshare(1) maps, setgroups(2) is allowed."""


def as_user(
    *args: str | Path,
    user: int | str = UID,
    cgroups: Sequence[Path] = (),
    env: dict[str, str] | None = None,
    root_in: Path | None = None,
    **options: Any,
) -> Done:
    """A command as a user, who is also the group. cgroups: folders that root puts it into first.

    root_in: as root of a user namespace; a folder for what that takes.
    """
    move = "".join(f"echo $$ > '{folder}/cgroup.procs' || exit 125; " for folder in cgroups)
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]
    clean = ["env", "-i", f"PATH={PATH}", *(f"{key}={value}" for key, value in (env or {}).items())]
    run = MAP if root_in else 'exec "$@"'
    inner = [*clean, *(ENTER if root_in else ()), *args]
    outer = {"PATH": PATH, "UID_": str(user)}
    return command("sh", "-c", move + run, root_in or "sh", *drop, *inner, env=outer, **options)


@contextlib.contextmanager
def instead(contents: dict[str, str]) -> Iterator[None]:
    """path → what it says, in our own mount namespace, for as long as this lasts."""
    mounted = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number, (path, content) in enumerate(contents.items()):
                file = Path(folder) / str(number)
                file.write_text(content)
                file.chmod(0o644)
                subprocess.run(["mount", "--bind", file, path], check=True)
                mounted.append(path)
            yield
        finally:
            for path in mounted:
                subprocess.run(["umount", path], check=True)


class Ordinary:
    """The user's ocirt, with a state folder and a bundle of their own below `home`. Called as support.Runtime is.

    before: a command that executes ocirt, such as unshare(1). root: as root of a user namespace?
    """

    def __init__(self, user: int | str, home: Path, executable: str) -> None:
        self.user = user
        self.home = home
        self.executable = executable
        self.cgroups: tuple[Path, ...] = ()
        self.before: tuple[str, ...] = ()
        self.root = False
        folder = home / "bundle"
        make_rootfs(folder / "rootfs")
        self.bundle = Bundle(folder, default_config())
        self.bundle.config["linux"].pop("cgroupsPath", None)

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        options.setdefault("cgroups", self.cgroups)
        return self.command(*self.before, self.executable, "--root", self.home / "state", *args, **options)

    def command(self, *args: str | Path, **options: Any) -> Done:
        """Another command of the same user."""
        return as_user(*args, user=self.user, root_in=self.home if self.root else None, **options)

    def script(self, text: str) -> Path:
        """The bundle, with this for a program."""
        self.bundle.config["process"]["args"] = ["/bin/sh", "-c", text]
        return self.bundle.write().path

    def run(self, text: str, *flags: str, container_id: str = "c", **options: Any) -> Done:
        return self(*flags, "run", "-b", self.script(text), container_id, **options)

    def started(self, text: str, *flags: str, container_id: str = "c") -> None:
        done = self(*flags, "run", "-d", "-b", self.script(text), container_id)
        assert done.code == 0, done.err


def ordinary_users(user: int | str = UID) -> Iterator[Ordinary]:
    """For a fixture. user: a number, or a name.

    pytest's own folders are closed to others, and so may be the one that ocirt is installed in: that is mounted where
    the user may see it, in our own mount namespace.
    """
    home = Path(tempfile.mkdtemp(prefix="ocirt-user-", dir="/tmp"))
    executable, mounted = OCIRT, None
    if as_user("test", "-x", OCIRT, user=user, cwd="/").code:
        mounted = Path(tempfile.mkdtemp(prefix="ocirt-installed-", dir="/tmp"))
        mounted.chmod(0o755)
        subprocess.run(["mount", "--bind", PREFIX, mounted], check=True)
        executable = str(mounted / Path(OCIRT).resolve().relative_to(PREFIX))
    try:
        one = Ordinary(user, home, executable)
        uid = pwd.getpwnam(user).pw_uid if isinstance(user, str) else user
        for folder, _, files in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, uid, uid, follow_symlinks=False)
        home.chmod(0o755)
        yield one
        one("delete", "--force", "c")
    finally:
        if mounted:
            subprocess.run(["umount", mounted], check=True)
            mounted.rmdir()
        shutil.rmtree(home)
