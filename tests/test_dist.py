"""The one file that `make dist` builds: what it needs of a host, what it reads, and that two builds are the same."""

from __future__ import annotations

import json
import marshal
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from init.running import need
from support import REPOSITORY, Bundle, Done, command, default_config, make_rootfs

import ocirt

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
import embed
from picture import with_picture
from test_embedded import cannot, traced

pytestmark = pytest.mark.skipif(bool(cannot()), reason=f"Python cannot be embedded: {cannot()}")

ROOTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocirt-dist"
"""What tests/roots has made."""
MOST_BYTES = 15_000_000
COLD = (
    ["--version"],
    ["--help"],
    ["features"],
    ["features", "--host"],
    ["check", "."],
    ["explain", "--bundle", "."],
    ["--debug", "state", "nobody"],
    ["state"],
)
HOT = (
    ["list"],
    ["state", "nobody"],
    ["kill", "nobody", "KILL"],
    ["delete", "nobody"],
    ["run", "--bundle", "nowhere", "one"],
)


def build(folder: Path, **options: Any) -> Path:
    """Build it from a copy of the sources in a folder: there is no .git, so the commit is unknown."""
    ignored = shutil.ignore_patterns("__pycache__", "_build.py", "*.so", "hot", "schemas", "ocirt-init")
    shutil.copytree(REPOSITORY / "ocirt", folder / "ocirt", ignore=ignored)
    shutil.copytree(REPOSITORY / "spec", folder / "spec", ignore=ignored)
    output = folder / "dist" / "ocirt"
    words = [sys.executable, folder / "ocirt" / "packaging" / "dist.py", output]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc", "strip", packages="gcc binutils")
    return build(tmp_path_factory.mktemp("one"))


# How it is built.


def test_two_builds_are_the_same(one_file: Path, tmp_path: Path) -> None:
    """In another folder, with another environment and umask."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8"}
    other = build(tmp_path / "a folder with a longer name", env=environment, umask=0o077, cwd="/")
    assert other.read_bytes() == one_file.read_bytes()


def test_it_is_small(one_file: Path) -> None:
    assert one_file.stat().st_size <= MOST_BYTES


def test_the_builds_folders_are_not_in_it(one_file: Path) -> None:
    content = one_file.read_bytes()
    for path in (one_file.parents[1], REPOSITORY / "ocirt", Path(sys.prefix), Path.home() / ".cache"):
        assert f"{path}/".encode() not in content


def test_strip_refuses_it_and_harms_nothing(one_file: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(one_file, tmp_path / "ocirt"))
    done = command("/usr/bin/strip", copy)
    assert done.code == 1
    assert "has no sections" in done.err
    assert copy.read_bytes() == one_file.read_bytes()


IMPORTS = """
import _imp, sys

class Place:
    def __init__(self, name, origin):
        self.name, self.origin = name, origin

sys.modules["ocirt._sys"] = _imp.create_builtin(Place("ocirt._sys", None))
_imp.exec_builtin(sys.modules["ocirt._sys"])
names = {"__name__": "carried"}
exec(archive, names)
Archive = names["Archive"]
frozen = sys.modules["_frozen_importlib"]
sys.meta_path[:] = [frozen.BuiltinImporter, frozen.FrozenImporter, Archive]
sys.path[:] = []
sys.path_hooks[:] = []
sys.path_importer_cache.clear()

def begin(argv, environment):
    import posix
    Archive.entry("")
    found = [name for name, entry in Archive.index.items() if entry[0] in ("module", "package", "extension")]
    for name in ["ocirt.host.netdevices", *found]:  # pyroute2's modules import each other
        try:
            __import__(name)
        except BaseException as error:
            print(name, type(error).__name__, error)
    print(len(found))
    sys.stdout.flush()
    posix._exit(0)
"""


def test_every_module_that_it_carries_can_be_imported(tmp_path: Path) -> None:
    """So nothing is missing that anything imports when it is loaded."""
    lines = "import dist, pathlib, sys; dist.archive(pathlib.Path(sys.argv[1]))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "ocirt" / "packaging")}
    subprocess.run([sys.executable, "-c", lines, tmp_path], env=environment, check=True)
    program, picture, made = (tmp_path / name for name in ("program", "picture", "made"))
    defines = ['-DPYTHON="/none"', '-DVERSION="none"', '-DVERBS="state"']
    embed.link(["gcc"], program, defines, (tmp_path / "archive").read_bytes())
    finder = (REPOSITORY / "ocirt" / "packaging" / "carried_main.py").read_bytes()
    head = marshal.dumps((compile(IMPORTS, "imports", "exec"), {"archive": compile(finder, "finder", "exec")}))
    (tmp_path / "code").write_bytes(len(head).to_bytes(8, "little") + head)
    done = command(program, tmp_path / "code", picture)
    assert done.code == 0, done.err
    made.write_bytes(with_picture(program.read_bytes(), picture.read_bytes()))
    made.chmod(0o755)
    done = command(made, "state", cwd="/")
    assert done.err == ""
    (number,) = done.out.splitlines()  # and no failure
    assert int(number) > 400


# What it reads.


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working directory, which is a bundle, with all that Python might take from there."""
    folder = tmp_path / "bundle"
    make_rootfs(folder / "rootfs")
    Bundle(folder, default_config()).write()
    for name in ("ocirt", "json", "re", "os", "click", "jsonschema", "encodings", "zlib", "_json", "sitecustomize"):
        (folder / f"{name}.py").write_text('raise SystemExit("imported from the wrong place")\n')
    (folder / "pyvenv.cfg").write_text("home = /nowhere\n")
    (folder / "python311._pth").write_text("import site\n")
    return folder


def of_python(path: str) -> bool:
    words = ("python", "pyvenv", "site-packages", "dist-packages", "/encodings", "__pycache__", ".pyc", "/ocirt/hot")
    return any(word in path for word in words) or path.endswith(".py")


@pytest.mark.parametrize("args", [*HOT, *COLD], ids=" ".join)
def test_nothing_is_read_but_what_it_is_asked_about(one_file: Path, hostile: Path, args: list[str]) -> None:
    """Not from the working directory, not from around the executable, no library but the C library's."""
    need("strace", packages="strace")
    beside = hostile.parent / "bin"
    beside.mkdir()
    program = Path(shutil.copy(one_file, beside / "ocirt"))
    opened = traced(hostile, program, "--root", hostile.parent / "state", *args)
    assert str(program) in opened
    ours = {path for path in opened if path.startswith(f"{hostile.parent}/")}
    bundle = (f"{hostile}/rootfs", f"{hostile}/config.json", f"{hostile.parent}/state")
    assert {path for path in ours if path != str(program) and not path.startswith(bundle)} <= {str(hostile)}
    assert {path for path in opened if path and path[0] != "/"} <= {
        ".",
        "config.json",
        "./config.json",
        "rootfs",
        "nowhere",
    }
    assert [path for path in opened if of_python(path) and not path.startswith("/proc/self/exe/")] == []
    libraries = {path.rpartition("/")[2] for path in opened if ".so" in path and not path.startswith("/proc/self")}
    assert libraries <= {"ld.so.cache", "ld.so.preload", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0"}


# On hosts that have no Python.


SCRIPT = """
set -e
root=$1 file=$2 folder=$3
shift 3
mount --bind "$root" "$root"
for one in proc sys dev; do mount --rbind /$one "$root/$one"; done
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/usr/local/bin"
touch "$root/usr/local/bin/ocirt"
mount --bind "$file" "$root/usr/local/bin/ocirt"
ln -s ocirt "$root/usr/local/bin/runc"
mount --bind "$folder" "$root/mnt"
exec /usr/sbin/chroot "$root" "$@"
"""
"""In a mount namespace of its own; the root itself stays as it is."""

Host = Callable[..., Done]


@pytest.fixture(params=["bookworm", "trixie", "sid"])
def host(request: pytest.FixtureRequest, one_file: Path, tmp_path: Path) -> Iterator[Host]:
    """Runs a command there, with the test's folder at /mnt; the state root is below it."""
    root = ROOTS / request.param
    if not (root / "bin" / "sh").exists():
        why = f"there is no {root}: tests/roots makes it"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    assert not list(root.glob("usr/bin/python*"))

    def run(*words: str, env: dict[str, str] | None = None) -> Done:
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "OCIRT_CACHE": "/mnt/cache", **(env or {})}
        inside = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", SCRIPT, "sh", root, one_file, tmp_path]
        return command(*inside, *words, env=variables)

    yield run
    run("ocirt", "--root", "/mnt/state", "delete", "--force", "c")


@pytest.fixture
def there(tmp_path: Path) -> Bundle:
    """A bundle at /mnt/bundle."""
    make_rootfs(tmp_path / "bundle" / "rootfs")
    return Bundle(tmp_path / "bundle", default_config()).write()


@pytest.mark.root
def test_it_says_what_it_is_and_helps(host: Host) -> None:
    for name in ("ocirt", "runc"):
        done = host(name, "--version")
        lines = done.out.splitlines()
        assert lines[:2] == [f"{name} version {ocirt.__version__}", "commit: unknown"]
        assert lines[3].startswith("libseccomp: 2.")
    assert "Usage: ocirt [options] VERB" in host("ocirt", "--help").out
    assert "Usage: ocirt create [options]" in host("ocirt", "create", "--help").out
    assert "_OCIRT_COMPLETE=bash_complete" in host("ocirt", env={"_OCIRT_COMPLETE": "bash_source"}).out
    done = host("ocirt", "craete", "c")
    assert (done.code, "craete" in done.err) == (1, True), done.err
    assert json.loads(host("ocirt", "features", "--host").out)["ociVersionMax"]


@pytest.mark.root
def test_check_reports_every_problem(host: Host, there: Bundle) -> None:
    assert host("ocirt", "check", "/mnt/bundle").code == 0
    there.config["process"]["cwd"] = 7
    there.config["hostname"] = []
    there.write()
    done = host("ocirt", "check", "--json", "/mnt/bundle")
    assert done.code == 1, done.err
    assert {"/process/cwd", "/hostname"} <= {problem["pointer"] for problem in json.loads(done.out)["problems"]}


@pytest.mark.root
def test_a_traceback_has_lines(host: Host, there: Bundle) -> None:
    """What nobody foresaw, such as that no second file can be opened, is shown with --debug."""
    assert there.path.name == "bundle"
    words = "--root /mnt/state run --bundle /mnt/bundle c"
    done = host("sh", "-c", f"ulimit -n 4; exec ocirt {words}")
    assert (done.code, done.err) == (1, "ocirt: run: Too many open files (--debug shows where)\n")
    done = host("sh", "-c", f"ulimit -n 4; exec ocirt --debug {words}")
    assert done.code == 1
    assert "Traceback" in done.err
    assert re.search(r'File "<ocirt/runtime/run\.py>", line [1-9]', done.err)


@pytest.mark.root
def test_a_container_lives(host: Host, there: Bundle) -> None:
    """With a seccomp profile, which libseccomp compiles, and a process that enters it."""
    there.config["process"]["args"] = ["/bin/sleep", "1000"]
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    there.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    there.write()
    state = ("--root", "/mnt/state")
    for words in (("create", "--bundle", "/mnt/bundle", "c"), ("start", "c")):
        done = host("runc", *state, *words)
        assert (done.code, done.err) == (0, "")
    assert json.loads(host("ocirt", *state, "state", "c").out)["status"] == "running"
    done = host("ocirt", *state, "exec", "c", "mkdir", "/tmp/one")
    assert done.code != 0
    assert "Function not implemented" in done.err
    assert host("ocirt", *state, "exec", "c", "/bin/echo", "é").out == "é\n"
    assert host("ocirt", *state, "kill", "c", "KILL").code == 0
    assert host("ocirt", *state, "delete", "--force", "c").code == 0


@pytest.mark.root
def test_a_network_device_goes_into_a_container(host: Host, there: Bundle) -> None:
    """Which pyroute2 does."""
    need("ip", packages="iproute2")
    assert command("/sbin/ip", "link", "add", "ocirt0", "type", "veth", "peer", "name", "ocirt1").code == 0
    try:
        there.config["process"]["args"] = ["/bin/cat", "/proc/net/dev"]
        there.config["linux"]["netDevices"] = {"ocirt0": {"name": "inside0"}}
        there.write()
        done = host("ocirt", "--root", "/mnt/state", "run", "--bundle", "/mnt/bundle", "c")
        assert (done.code, done.err) == (0, "")
        assert "inside0:" in done.out
    finally:
        command("/sbin/ip", "link", "delete", "ocirt1")  # goes with its peer, which the container's namespace had


@pytest.mark.root
def test_without_systemd_its_driver_says_so(host: Host, there: Bundle) -> None:
    """jeepney is carried, so that is all there is to say."""
    words = ("--root", "/mnt/state", "--systemd-cgroup", "run", "--bundle", "/mnt/bundle", "c")
    done = host("ocirt", *words)
    assert done.code == 1
    assert "systemd" in done.err
    assert "jeepney" not in done.err


HIDDEN = """
set -e
for folder in /usr/lib/python3 /usr/lib/python3.*; do mount -t tmpfs tmpfs $folder; done
"$1" sandbox -- echo hello
"""


@pytest.mark.root
def test_a_helper_is_the_file_itself(one_file: Path, tmp_path: Path) -> None:
    """A sandbox's keeper is a process of its own. (Not in those hosts: no user namespace can be made in a chroot.)"""
    alone = tmp_path / "alone"
    shutil.copy(one_file, alone)
    done = command("unshare", "--mount", "sh", "-c", HIDDEN, "sh", alone, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert (done.code, done.out, done.err) == (0, "hello\n", "")
