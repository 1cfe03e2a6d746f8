"""What tests share: the executable under test, bundles to run, and what a host must look like before and after."""

from __future__ import annotations

import atexit
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
OCIRT = os.environ.get("OCIRT") or str(Path(sys.prefix) / "bin" / "ocirt")
"""The installed executable: of the environment that pytest runs in, unless $OCIRT names another."""
CACHE = tempfile.mkdtemp(prefix="ocirt-cache-")
"""Where compiled seccomp filters go, instead of the host's /run."""
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh true false cat ls id hostname ps mount sleep echo env stat touch mkdir head tail test wc grep kill tty stty pwd"
    " umask uname"
)


def require_isolation(how: str) -> None:
    """Skip a test that makes containers unless it may; in CI fail instead. `how` names what runs it isolated."""
    if os.getuid() == 0 and os.environ.get("OCIRT_ISOLATED") == "1":
        return
    why = f"makes containers: run it as root under tests/isolate ({how} does)"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def needs_kernel(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    """Skips a test on an older kernel, such as the one of tests/vm. `what`: what came with this one."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return pytest.mark.skipif(release < (major, minor), reason=f"Linux {major}.{minor}: {what}")


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(*args: str | Path, stdin: str | None = None, timeout: float = 60, **options: Any) -> Done:
    """Run a command with an empty environment, as engines run a runtime, but for the place of the cache."""
    options.setdefault("env", {"OCIRT_CACHE": CACHE})
    # Files, not pipes: a created container keeps its stdout, so a pipe's end-of-file would never come.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            [str(arg) for arg in args],
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            **{"stdout": out, "stderr": err, "text": True, "timeout": timeout, "check": False, **options},
        )
        out.seek(0)
        err.seek(0)
        return Done(done.returncode, out.read(), err.read())


def make_rootfs(path: Path) -> Path:
    """A root file system with a static busybox and the usual folders."""
    for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, path / "bin" / "busybox")
    for applet in APPLETS.split():
        link = path / "bin" / applet
        if not link.is_symlink():
            link.symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    return path


def default_config(**process: Any) -> dict[str, Any]:
    """`ocirt spec`'s configuration without a terminal; `process` replaces properties of the process."""
    from ocirt.runtime.spec import default_spec

    config = copy.deepcopy(default_spec())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/true"]
    config["process"].update(process)
    return config


@dataclass
class Bundle:
    """A bundle on disk: change `config`, then `write`."""

    path: Path
    config: dict[str, Any]

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    def write(self) -> Bundle:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        return self


class Runtime:
    """The executable with a state root of its own. Each method is one command; it does not raise for a failure."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        return command(OCIRT, "--root", self.root, *args, **options)

    def sh(self, bundle: Bundle, script: str, container_id: str = "sh", **options: Any) -> Done:
        """`ocirt run` of a shell script in the bundle."""
        bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
        bundle.write()
        return self("run", "--bundle", bundle.path, container_id, **options)

    def state(self, container_id: str) -> dict[str, Any]:
        done = self("state", container_id)
        assert done.code == 0, done.err
        return json.loads(done.out)


def cgroup_folders() -> set[str]:
    """Every cgroup below the (isolated) roots."""
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup")}


def processes() -> dict[int, str]:
    """pid → name of each process that could be ours: all but kernel threads."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                if os.readlink(entry / "exe"):
                    found[int(entry.name)] = stat[stat.index("(") + 1 : stat.rindex(")")]
            except (OSError, ValueError):
                continue
    return found


def within(entry: Path) -> bool:
    """Is this process (/proc/PID) inside our isolation? Another test run on this machine shows as "/../…".

    A zombie, which whoever adopted it has not reaped yet, is nothing that we left: it has no exe.
    """
    try:
        os.readlink(entry / "exe")
        paths = [line.split(":", 2)[2] for line in (entry / "cgroup").read_text().splitlines()]
        if all(path == "/" for path in paths):  # also what v1 says of a process that is just ending
            return os.readlink(entry / "ns" / "cgroup") == os.readlink("/proc/self/ns/cgroup")
        return not any(path.startswith("/..") for path in paths)
    except OSError:
        return False


def inits() -> set[int]:
    """Processes that run ocirt-init."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "exe").startswith("/memfd:ocirt-init") and within(entry):
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def tree_of(path: Path) -> dict[str, tuple[int, int, int]]:
    """Each path below a folder → mode, size, mtime in ns: what changes when anything is created or written there."""
    found = {}
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


@dataclass
class Traces:
    """What a container could leave on a host."""

    cgroups: set[str]
    mounts: list[str]
    inits: set[int]
    namespaces: set[str]
    state: set[str]
    rootfs: dict[str, tuple[int, int, int]]


def traces(root: Path, rootfs: Path | None = None) -> Traces:
    """Take them: compare one from before with one from after."""
    namespaces = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and within(entry):
            for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
                try:
                    namespaces.add(os.readlink(entry / "ns" / kind))
                except OSError:
                    continue
    return Traces(
        cgroup_folders(),
        Path("/proc/self/mountinfo").read_text().splitlines(),
        inits(),
        namespaces,
        {str(path) for path in root.rglob("*")} if root.exists() else set(),
        tree_of(rootfs) if rootfs else {},
    )
