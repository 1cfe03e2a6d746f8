"""Nothing is read from the working directory, which engines set to the bundle, nor from where the environment points
to.

A bundle can be somebody else's: of an engine's user, of an image, of a build. Whoever may write to it may write the
configuration, and so has what the caller has (docs/threat-model.md); but an image that is unpacked over it may not.

LD_PRELOAD, LD_LIBRARY_PATH and their like are left out: for a program that is not setuid the loader follows them
before any code of ours runs. Who sets them runs what they want as the caller already.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from init.running import need
from launchers import PYTHON, build_launcher
from runtime.hosts import has
from runtime.life import wait_until
from security.watched import Calls, named, seen, watched, watching
from support import OCIRT, Bundle, command

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
PLANTED = (
    *("pyvenv.cfg", "python311._pth", "python.exe._pth", "ocirt.py", "ocirt/__init__.py", "ocirt/cli/main.py", "os.py"),
    *(
        "sitecustomize.py",
        "usercustomize.py",
        "encodings/__init__.py",
        "codecs.py",
        "re.py",
        "json/__init__.py",
        "marshal.py",
    ),
    *(
        "click/__init__.py",
        "jsonschema/__init__.py",
        "pyroute2/__init__.py",
        "prctl.py",
        "posix.py",
        "_sys.py",
        "_json.py",
    ),
    *("python311.zip", "python3.11/os.py", "lib/python3.11/os.py", "lib/python3.11/site-packages/x.pth", "x.pth"),
    *("libseccomp.so.2", "libc.so.6", "libpython3.11.so.1.0", "libz.so.1", "ld.so.cache", "gconv-modules", "UTF-8.so"),
    *(".pdbrc", ".pythonrc", "gconv/gconv-modules", "C.UTF-8/LC_CTYPE", "locale/C/LC_MESSAGES/x.mo", "zoneinfo/UTC"),
    *(
        "ocirt-init",
        "init/ocirt-init",
        "hot/run.bin",
        "ocirt/hot/run.bin",
        "ocirt/hot/main.bin",
        "openssl.cnf",
        "__main__.py",
    ),
    *(
        "ps",
        "sh",
        "criu",
        "newuidmap",
        "newgidmap",
        "systemctl",
        "python3",
        "passwd",
        "group",
        "nsswitch.conf",
        "subuid",
    ),
)
"""What somebody could hope to be loaded; the programs among them are executable."""
EVIL = {
    **{f"PYTHON{name}": "{here}" for name in ("PATH", "HOME", "USERBASE", "PYCACHEPREFIX", "PLATLIBDIR", "EXECUTABLE")},
    "PYTHONSTARTUP": "{here}/.pythonrc",
    "PYTHONBREAKPOINT": "ocirt.evil",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "utf-16",
    "PYTHONUTF8": "0",
    "PYTHONDEBUG": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONTRACEMALLOC": "9",
    "PYTHONMALLOC": "debug",
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "7",
    "PYTHONCASEOK": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONSAFEPATH": "",
    "PYTHONNOUSERSITE": "",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONFAULTHANDLER": "1",
    **dict.fromkeys(("GCONV_PATH", "LOCPATH", "NLSPATH", "TZDIR", "HOME", "VIRTUAL_ENV", "XDG_CONFIG_HOME"), "{here}"),
    **dict.fromkeys(("TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HOSTALIASES", "RES_OPTIONS"), "{here}"),
    "LANG": "evil",
    "LC_ALL": "evil",
    "LANGUAGE": "evil",
    "LC_CTYPE": "evil",
    "TZ": "{here}/zoneinfo/UTC",
    "OPENSSL_CONF": "{here}/openssl.cnf",
    "BASH_ENV": "{here}/sh",
    "ENV": "{here}/sh",
}


@pytest.fixture
def planted(bundle: Bundle) -> Bundle:
    """A bundle that is full of these; each prints what nobody may print."""
    for name in PLANTED:
        path = bundle.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\nprint('EVIL') if 0 else 0\n")
        path.chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    return bundle.write()


@pytest.fixture(params=["installed", "launcher"])
def executable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The executable with Python in it, and the one that starts python3 -I -S."""
    yield Path(OCIRT) if request.param == "installed" else build_launcher(tmp_path / "launcher")


HOT = (
    "state c",
    "kill c CONT",
    "exec c /bin/true",
    "list",
    "pause c",
    "resume c",
    *(["update --pids-limit 99 c"] if has("pids") else []),
    "ps -f json c",
)
COLD = (
    *("--help", "--version", "features", "check -b {bundle}", "explain -b {bundle}", "ps c", "events --stats c"),
    *("list --format json", "spec -b {empty}", "exec --help", "nonsense", "--debug state c", "mounts add --help"),
)


def of_ours(calls: Calls, here: Path, *meant: str) -> list[tuple[str, str]]:
    """What is named in the working directory, but for what is meant: by a relative path, or below its own."""
    found = []
    for call, path in named(calls):
        if call in ("pivot_root", "umount2", "umount", "chroot", "mount", "getcwd"):
            continue  # of init, by then in the container
        if not path.startswith("/"):
            found.append((call, path))
        elif path.startswith(f"{here}/"):
            found.append((call, path[len(str(here)) + 1 :]))
    allowed = {"", ".", "config.json", "rootfs", *meant}
    return [(call, path) for call, path in found if path.removeprefix("./") not in allowed]


def test_the_judge_of_these_tests_sees_a_file_that_is_opened(planted: Bundle, tmp_path: Path) -> None:
    """By a path of either kind, with Python as it is without -I and -S."""
    environment = {"PYTHONPATH": str(planted.path), "PYTHONNOUSERSITE": "1"}
    words = (PYTHON, "-S", "-c", "import os; open('.pdbrc').close()")
    _, calls = watched(tmp_path / "strace", *words, env=environment, cwd=planted.path)
    assert {path for _, path in of_ours(calls, planted.path)} & {
        ".pdbrc",
        "python311.zip",
        "os.py",
        "encodings/__init__.py",
    }


def test_no_verb_reads_anything_but_the_configuration_in_the_bundle(
    planted: Bundle, tmp_path: Path, executable: Path
) -> None:
    """Without the I of -IS (launcher/starting.h, become_python) the launcher's Python looks for its library where
    PYTHONHOME says, and no verb works. Without TZDIR being taken away (settle, there too) libc opened TZDIR/UTC0,
    with each verb of both executables: so this test found it."""
    here, root, empty = planted.path, tmp_path / "state", tmp_path / "empty"
    empty.mkdir()
    env = {name: value.format(here=here) for name, value in EVIL.items()}
    start = (executable, "--root", root)
    found = {}
    with watching(tmp_path / "create", *start, "create", "c", env=env, cwd=here):
        try:
            wait_until(lambda: command(executable, "--root", root, "state", "c").code == 0)
            wait_until(lambda: status(executable, root) == "created")
            for line in ("start c", *HOT, *COLD, "delete --force c"):
                words = line.format(bundle=here, empty=empty).split()
                done, calls = watched(tmp_path / "strace", *start, *words, env=env, cwd=here)
                assert done.code == 0 or line == "nonsense", (line, done)
                assert "EVIL" not in done.out + done.err
                if wrong := of_ours(calls, here):
                    found[line] = wrong
        finally:
            command(executable, "--root", root, "delete", "--force", "c")
    if wrong := of_ours(seen(tmp_path / "create"), here):
        found["create"] = wrong
    assert found == {}


def status(executable: Path, root: Path) -> str:
    return str(json.loads(command(executable, "--root", root, "state", "c").out)["status"])


def test_the_configurations_words_count_from_the_bundle_not_from_the_working_directory(
    planted: Bundle, tmp_path: Path
) -> None:
    """root.path, a relative bind source and `--config`: with another working directory it is the same container."""
    (planted.path / "own").write_text("the bundle's\n")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "rootfs").mkdir(parents=True)
    (elsewhere / "own").write_text("the directory's\n")
    planted.config["mounts"].append({"destination": "/own", "type": "bind", "source": "own", "options": ["bind"]})
    planted.config["process"]["args"] = ["/bin/cat", "/own"]
    planted.write()
    done = command(OCIRT, "--root", tmp_path / "s", "run", "-b", planted.path, "c", cwd=elsewhere)
    assert (done.code, done.out) == (0, "the bundle's\n"), done.err


def test_the_executable_has_no_library_path_of_its_own() -> None:
    """DT_RUNPATH and DT_RPATH could name a folder that others may write to, or a relative one."""
    need("readelf", packages="binutils")
    shown = command("readelf", "-dW", OCIRT)
    assert shown.code == 0, shown.err
    assert "RUNPATH" not in shown.out and "RPATH" not in shown.out


def test_names_in_the_state_root_that_are_no_containers_are_not_looked_into(planted: Bundle, tmp_path: Path) -> None:
    """Neither a link nor a FIFO there holds `list` up."""
    root = tmp_path / "state"
    (root / "folder").mkdir(parents=True)
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to(planted.path)
    os.mkfifo(root / "folder/state.json")
    done = command(OCIRT, "--root", root, "list", timeout=30)
    assert done.code == 0, done
    assert str(planted.path) not in done.out
