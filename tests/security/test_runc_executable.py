"""CVE-2019-5736: a container that overwrites the program which the host runs, through /proc/PID/exe.

Of ocirt nothing runs in a container but ocirt-init, a copy in memory that is sealed against writing (host/memfd.py),
static, and not to be looked into before it is the program (plan/enter.py). docs/security-tests.md says what was seen
without that.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from init.running import build
from runtime.life import wait_until
from security.attacks import ROUNDS, Hunted
from support import BUSYBOX, OCIRT, REPOSITORY, Bundle, Runtime, command

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
from hot import ROOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root
F_GET_SEALS = 1034
SEALED = 1 | 2 | 4 | 8  # seal, shrink, grow, write
PREFIX = Path(OCIRT).resolve().parents[1]
PACKAGE = next(PREFIX.glob("lib/python3*/site-packages/ocirt"), None)
PYTHON = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def mapped_files() -> set[Path]:
    """The interpreter that runs this, and all libraries that it has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split(None, 5)[5]) for line in lines if line.count("/") and not line.endswith("(deleted)")}


def sums() -> dict[Path, str]:
    """path → sha256 of all that ocirt consists of on this host: executable, interpreter, libraries, package."""
    files = {path for path in mapped_files() if path.is_file()} | {Path(OCIRT), PYTHON}
    if PACKAGE:
        files |= {path for path in PACKAGE.rglob("*") if path.is_file()}
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def changed(before: dict[Path, str]) -> set[Path]:
    """Which of these are not what they were. Others may have come: Python keeps what it has compiled."""
    now = sums()
    return {path for path, content in before.items() if now.get(path) != content}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable that becomes `python3 -IS`, beside the same package."""
    assert PACKAGE
    folder = tmp_path_factory.mktemp("launcher")
    verbs = ", ".join(f'"{verb}"' for verb in ROOTS)
    version = PACKAGE.parents[1].name
    source = folder / "launcher.c"
    original = REPOSITORY / "ocirt" / "launcher" / "launcher.c"
    source.write_text(
        f'#define PYTHON "{PYTHON}"\n#define VERSION "{version}"\n#define VERBS {verbs}\n#include "{original}"\n'
    )
    (folder / "bin").mkdir()
    (folder / "lib" / version).mkdir(parents=True)
    (folder / "lib" / version / "site-packages").symlink_to(PACKAGE.parent)
    return build(os.uname().machine, folder / "bin" / "ocirt", source)


@pytest.fixture(params=["embedded", "launcher"])
def executable(request: pytest.FixtureRequest) -> Path:
    return Path(OCIRT) if request.param == "embedded" else request.getfixturevalue("launcher")


@pytest.fixture
def hunted(hunt: Callable[[Path], Hunted], executable: Path) -> Hunted:
    return hunt(executable)


@pytest.mark.parametrize("program", ["#!/proc/self/exe", "#!/proc/self/exe -x", "link"])
def test_cve_2019_5736_a_program_that_is_our_own_executable(hunted: Hunted, program: str) -> None:
    """The image's program is /proc/self/exe: ocirt-init is executed once more, without its rights and its secrecy, and
    the hunter keeps it open. Whoever reads it may; to write to it is refused, now and when it has ended."""
    evil = hunted.bundle.rootfs / "bin/evil"
    if program == "link":
        evil.symlink_to("/proc/self/exe")
    else:
        evil.write_text(program + "\n")
        evil.chmod(0o755)
    before = sums()
    for _ in range(max(ROUNDS // 4, 1)):
        assert hunted("exec", "c", "/bin/evil").code != 0
    kept = {line for line in hunted.lines() if line.startswith("kept ")}
    assert kept <= {"kept /memfd:ocirt-init (deleted)"}
    assert "overwritten" not in hunted.lines()
    assert changed(before) == set()


@pytest.mark.parametrize("verb", ["run", "create"])
def test_cve_2019_5736_an_entry_point_that_is_our_own_executable(
    runtime: Runtime, bundle: Bundle, executable: Path, verb: str
) -> None:
    (bundle.rootfs / "bin/evil").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "bin/evil").chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/evil"]
    bundle.write()
    before = sums()
    done = command(executable, "--root", runtime.root, verb, "-b", bundle.path, "c")
    if verb == "create":
        assert done.code == 0, done.err
        command(executable, "--root", runtime.root, "start", "c")
        assert command(executable, "--root", runtime.root, "delete", "--force", "c").code == 0
    else:
        assert done.code != 0
    assert done.out == ""
    assert changed(before) == set()


def test_cve_2019_5736_libraries_of_the_image_are_not_loaded(
    runtime: Runtime, bundle: Bundle, executable: Path
) -> None:
    """The attack's other half: code of the image's in the runtime's process. ocirt-init is static."""
    assert PACKAGE
    image = (PACKAGE / "init" / "ocirt-init").read_bytes()
    assert b"ld-linux" not in image and b".so" not in image
    bundle.config["process"]["env"] = ["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/", "GLIBC_TUNABLES=x"]
    bundle.config["process"]["args"] = ["/bin/true"]
    bundle.write()
    done = command(executable, "--root", runtime.root, "run", "-b", bundle.path, "c")
    assert (done.code, done.err) == (0, "")


# init while it waits


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Iterator[int]:
    """The pid of a container that waits for `start`."""
    bundle.config["process"]["args"] = [str(BUSYBOX), "true"]
    assert runtime("create", "-b", bundle.write().path, "h").code == 0
    yield int(runtime.state("h")["pid"])
    runtime("delete", "--force", "h")


def test_cve_2019_5736_the_executable_of_a_waiting_init_is_sealed(waiting: int) -> None:
    """Nothing can be written through /proc/1/exe, neither now nor through a descriptor that is kept."""
    path = f"/proc/{waiting}/exe"
    with pytest.raises(OSError, match="Text file busy"):
        os.open(path, os.O_WRONLY)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.readlink(path).startswith("/memfd:ocirt-init")
        assert fcntl.fcntl(fd, F_GET_SEALS) & SEALED == SEALED
    finally:
        os.close(fd)


def test_cve_2019_5736_a_descriptor_that_is_kept_cannot_be_opened_for_writing_later(
    runtime: Runtime, waiting: int
) -> None:
    kept = os.open(f"/proc/{waiting}/exe", os.O_RDONLY)
    try:
        assert runtime("start", "h").code == 0
        with pytest.raises(PermissionError):
            os.write(os.open(f"/proc/self/fd/{kept}", os.O_WRONLY), b"x")
    finally:
        os.close(kept)


def test_the_hunter_finds_what_is_to_be_found(attacker: Callable[[str], Path], tmp_path: Path) -> None:
    """A program of such a name, in a file, that can be looked into: it is seen with all that it has open, traced, and
    overwritten when it has ended."""
    victim, told = tmp_path / "ocirt-victim", tmp_path / "told"
    shutil.copy("/bin/sleep", victim)
    before = victim.read_bytes()
    script = 'mount -t proc proc /proc && exec "$0" > "$1"'
    with subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, attacker("fd_hunter.c"), told]
    ) as box:
        try:
            wait_until(lambda: told.exists() and "ready" in told.read_text())
            hunter = Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().strip()
            enter = ["nsenter", "--target", hunter, "--pid", "--mount", victim]
            subprocess.run([*enter, "0.2"], check=True, stdin=subprocess.DEVNULL, timeout=60)
            wait_until(lambda: "overwritten" in told.read_text())
        finally:
            box.kill()
    found = set(told.read_text().splitlines())
    assert {"traced", f"kept {victim}", f"seen {victim}", f"descriptor {os.devnull}"} <= found
    assert victim.read_bytes() != before
