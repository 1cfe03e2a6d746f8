"""The namespaces that all of an ordinary user's commands share."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.ordinary import instead
from support import Done, command, require_isolation

import ocirt
from ocirt.manager.rootless import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

UID, FIRST = 70003, 800000
MAP = f"0 {UID} 1 1 {FIRST} 65536"
SCRIPT = """
import os, sys
sys.path.insert(0, {package!r})
from pathlib import Path
from ocirt.errors import Error
from ocirt.manager import rootless
try:
    rootless.enter(Path({run!r}), os.getuid(), os.getgid())
except Error as error:
    sys.exit(f"{{error}}")
print(os.getuid(), os.getgid(), os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt"), sep="\\n")
print(*Path("/proc/self/uid_map").read_text().split())
{more}
"""


class User:
    """An ordinary user; `enter` runs Python as them, in their namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.package = folder / "package"
        shutil.copytree(Path(ocirt.__file__).parent, self.package / "ocirt", ignore=shutil.ignore_patterns("*.bin"))
        self.grants = dict.fromkeys(("/etc/subuid", "/etc/subgid"), f"lisa:{FIRST}:65536\n")
        self.grants["/etc/passwd"] = f"root:x:0:0::/root:/bin/sh\nlisa:x:{UID}:{UID}::/:/bin/sh\n"

    def enter(self, more: str = "") -> Done:
        script = SCRIPT.format(package=str(self.package), run=str(self.run), more=more)
        drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
        return command(*drop, "/usr/bin/python3", "-I", "-c", script, env={})

    @property
    def holder(self) -> int:
        return int((self.run / "namespaces").read_text().split()[0])

    def granted(self) -> contextlib.AbstractContextManager[None]:
        """With the files in /etc that say so, in our own mount namespace."""
        return instead(self.grants)


@pytest.fixture
def user() -> Iterator[User]:
    require_isolation("make test")
    assert shutil.which("newuidmap"), "apt-get install uidmap"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        one = User(folder)
        one.run.mkdir()
        os.chown(one.run, UID, UID)
        yield one
        if (one.run / "namespaces").exists():
            with contextlib.suppress(ProcessLookupError, ValueError, IndexError):
                os.kill(one.holder, signal.SIGKILL)


pytestmark = pytest.mark.root


def test_all_commands_are_root_of_the_same_namespaces(user: User) -> None:
    with user.granted():
        first = user.enter()
        assert first.code == 0, first.err
        uid, gid, *_, mapped = first.out.splitlines()
        assert (uid, gid, mapped) == ("0", "0", MAP)
        assert os.readlink("/proc/self/ns/user") not in first.out
        assert user.enter().out == first.out
        held = Path(f"/proc/{user.holder}")
        assert {os.readlink(each) for each in (held / "fd").iterdir()} == {"/dev/null"}
        assert os.readlink(held / "cwd") == "/"


def test_a_mount_of_one_is_seen_by_the_next_and_not_by_the_host(user: User) -> None:
    target = user.folder / "target"
    target.mkdir()
    mount = f"import subprocess; subprocess.run(['mount', '-t', 'tmpfs', 'x', {str(target)!r}], check=True)"
    with user.granted():
        assert user.enter(mount).code == 0
        assert f" {target} tmpfs" in user.enter("print(Path('/proc/self/mounts').read_text())").out
    assert str(target) not in Path("/proc/self/mounts").read_text()


def test_files_of_several_users_can_be_made(user: User) -> None:
    make = f"path = Path({str(user.run)!r}) / 'file'; path.touch(); os.chown(path, 5, 6)"
    with user.granted():
        assert user.enter(make).code == 0
    status = (user.run / "file").stat()
    assert (status.st_uid, status.st_gid) == (FIRST + 4, FIRST + 5)


def test_who_comes_at_once_agrees(user: User) -> None:
    with user.granted(), ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: user.enter(), range(6)))
    assert {one.code for one in done} == {0}
    assert len({one.out for one in done}) == 1


def test_a_holder_that_was_killed_is_replaced(user: User) -> None:
    with user.granted():
        first = user.enter()
        os.kill(user.holder, signal.SIGKILL)
        again = user.enter()
    assert (again.code, again.out.splitlines()[0]) == (0, "0"), again.err
    assert first.out != again.out


def test_a_pid_that_is_anothers_now_is_not_believed(user: User) -> None:
    with user.granted():
        first = user.enter()
        pid, start, boot = (user.run / "namespaces").read_text().split()
        os.kill(int(pid), signal.SIGKILL)
        (user.run / "namespaces").write_text(f"{os.getpid()} {start} {boot}\n")
        again = user.enter()
    assert again.code == 0, again.err
    assert again.out.splitlines()[2] not in (first.out.splitlines()[2], os.readlink("/proc/self/ns/user"))


@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_a_user_without_ranges_is_told_what_to_do_and_nothing_is_left(user: User, kind: str) -> None:
    user.grants[f"/etc/sub{kind}"] = "other:1:5\n"
    with user.granted():
        done = user.enter()
    assert done.code == 1
    assert f"lisa has no range in /etc/sub{kind}" in done.err
    assert f"usermod --add-sub{kind}s" in done.err
    assert (user.run / "namespaces").read_text() == ""


def test_a_range_that_is_not_the_users_is_refused_in_newuidmaps_words(user: User) -> None:
    with user.granted():
        more = f"print(rootless.ranges(Path('/etc/subuid'), 'lisa', {UID}))"
        assert user.enter(more).out.splitlines()[-1] == f"[({FIRST}, 65536)]"
        script = "rootless.ranges = lambda *_: [(1, 5)]\n"
        broken = SCRIPT.replace("try:", script + "try:")
        text = broken.format(package=str(user.package), run=str(user.folder / "run/other"), more="")
        drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
        done = command(*drop, "/usr/bin/python3", "-I", "-c", text, env={})
    assert done.code == 1
    assert "newgidmap" in done.err
    assert "not allowed" in done.err


def test_a_file_of_another_is_refused(user: User) -> None:
    (user.run / "namespaces").write_text("")
    (user.run / "namespaces").chmod(0o666)
    with user.granted():
        done = user.enter()
    assert done.code == 1
    assert "not the user's own" in done.err


def test_ranges_are_read(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    assert ranges(file, "a", 7) == []
    file.write_text("a:1:2\nb:3:4\n7:5:6\n# comment\na:x:1\na:1:0\na:8\n77:9:9\n")
    assert ranges(file, "a", 7) == [(1, 2), (5, 6)]
