"""Installed with rights that its caller has not, ocirt refuses every call."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from init.running import build
from support import OCIRT, REPOSITORY, command

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
from hot import ROOTS

pytestmark = pytest.mark.root
USER = 54321
"""Of whom nothing is known on this host."""
VERBS = ", ".join(f'"{verb}"' for verb in ROOTS)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may look into, where setuid bits count."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "suid,exec,mode=755", "ocirt", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


@pytest.fixture(params=["installed", "launcher"])
def copy(request: pytest.FixtureRequest, place: Path) -> Path:
    """An executable of each kind, with nothing around it: it cannot even find its package."""
    path = place / "ocirt"
    if request.param == "installed":
        shutil.copyfile(OCIRT, path)
    else:
        original = REPOSITORY / "ocirt" / "launcher" / "launcher.c"
        source = place / "launcher.c"
        source.write_text(
            f'#define PYTHON "/bin/false"\n#define VERSION "python3"\n#define VERBS {VERBS}\n#include "{original}"\n'
        )
        build(os.uname().machine, path, source)
    path.chmod(0o755)
    return path


def called(path: Path, *args: str) -> tuple[int, str]:
    """(exit code, stderr) of a call by a user who is nobody special."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    done = command(*user, path, *args, cwd="/")
    assert done.out == ""
    return done.code, done.err


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755], ids=oct)
@pytest.mark.parametrize("args", [["run", "x"], ["--version"], ["--root", "/run/ocirt", "delete", "-f", "x"]], ids=str)
def test_it_refuses_to_run_setuid_or_setgid(copy: Path, mode: int, args: list[str]) -> None:
    copy.chmod(mode)
    code, err = called(copy, *args)
    assert code == 1
    assert err.startswith("ocirt: it is installed setuid, setgid or with capabilities")
    assert err.count("\n") == 1


def test_it_refuses_to_run_with_capabilities_of_its_file(copy: Path) -> None:
    cap_sys_admin = 1 << 21
    # struct vfs_cap_data of <linux/capability.h>: revision 2 and "effective", then permitted and inheritable, twice.
    os.setxattr(copy, "security.capability", struct.pack("<IIIII", 0x02000001, cap_sys_admin, 0, 0, 0))
    code, err = called(copy, "state", "x")
    assert (code, err.startswith("ocirt: it is installed setuid, setgid or with capabilities")) == (1, True)


def test_the_same_copy_without_them_goes_on(copy: Path) -> None:
    """That is: the tests above can fail. It then misses its package, but with the editable installation's it works."""
    code, err = called(copy, "state", "x")
    assert code == 1
    assert "installed setuid" not in err


def test_root_may_run_what_is_setuid_root(copy: Path) -> None:
    """It gives nothing that the caller has not."""
    copy.chmod(0o4755)
    done = command(copy, "state", "x", cwd="/")
    assert (done.code, "installed setuid" in done.err) == (1, False)
