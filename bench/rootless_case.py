"""One runtime, called by an ordinary user: a bundle, commands, and what they have to answer."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import Done, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SLEEP = ["sleep", "1000"]


class Person:
    """Who calls: their ids, the first of their range and its size, a folder of theirs, and how root becomes them."""

    def __init__(self, uid: int, first: int, size: int, folder: Path, become: Sequence[str] = ()) -> None:
        self.uid = uid
        self.first = first
        self.size = size
        self.folder = folder
        self.become = list(become)
        self.cgroup = ""
        """The cgroup below which they may make others; empty if there is none."""
        self.locked = Path("/dev/shm")
        """A folder on a mount with nosuid and nodev."""
        self.systemd = False
        """Is there a systemd of theirs, to be asked for cgroups?"""


class Case:
    """A bundle for one cell. `config` may be changed up to the first command."""

    def __init__(self, name: str, path: str, person: Person) -> None:
        self.name = name
        self.path = path
        self.person = person
        self.folder = Path(tempfile.mkdtemp(dir=person.folder))
        os.chown(self.folder, person.uid, person.uid)
        self.rootfs = make_rootfs(self.folder / "rootfs")
        (self.rootfs / "data").mkdir()
        (self.rootfs / "data/file").write_text("of the image\n")
        runtime_folder = self.folder / "xdg"
        runtime_folder.mkdir(mode=0o700)
        for file in (runtime_folder, self.rootfs, *self.rootfs.rglob("*")):
            os.chown(file, person.uid, person.uid, follow_symlinks=False)
        self.environment = {"PATH": PATH, "HOME": str(self.folder), "XDG_RUNTIME_DIR": str(runtime_folder)}
        if person.systemd:
            keep = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
            self.environment |= {name: os.environ[name] for name in keep}
        self.global_flags = ["--root", str(self.folder / "state")]
        if person.systemd:
            self.global_flags.append("--systemd-cgroup")
        self.config = base(person)
        self.started: list[str] = []
        self.processes: list[int] = []
        """Descriptors of processes that have to be gone at the end."""
        self.joins_without_maps = False

    # What a row says of the configuration

    def args(self, *args: str) -> None:
        self.config["process"]["args"] = list(args)

    def namespace(self, kind: str, path: str = "") -> None:
        """Add a namespace, or say where it is."""
        self.without_namespace(kind)
        self.config["linux"]["namespaces"].append({"type": kind, **({"path": path} if path else {})})

    def without_namespace(self, kind: str) -> None:
        linux = self.config["linux"]
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != kind]

    def mount(self, destination: str, kind: str, source: str | Path = "x", *options: str, **more: Any) -> None:
        """Add a mount, in the place of another of the same destination."""
        mounts = self.config["mounts"] = [one for one in self.config["mounts"] if one["destination"] != destination]
        mounts.append(
            {"destination": destination, "type": kind, "source": str(source), "options": list(options), **more}
        )

    def ranges(self) -> None:
        """Map the user's range too."""
        person = self.person
        for kind in ("uidMappings", "gidMappings"):
            more = {"containerID": 1, "hostID": person.first, "size": person.size}
            self.config["linux"][kind] = [self.config["linux"][kind][0], more]

    def own_folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(mode=0o755)
        os.chown(path, self.person.uid, self.person.uid)
        return path

    # Commands

    def write(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def command(self, *argv: str | Path, stdin: str = "") -> Done:
        """Any command of the user's. Files, not pipes: a created container keeps its stdout."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [*self.person.become, *map(str, argv)],
                env=self.environment, input=stdin, stdout=out, stderr=err, text=True, timeout=60, check=False,
                cwd=self.folder,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            return Done(done.returncode, out.read(), err.read())

    def __call__(self, *args: str | Path) -> Done:
        """One call of the runtime."""
        return self.command(self.path, *self.global_flags, *args)

    def ok(self, *args: str | Path) -> str:
        done = self(*args)
        assert done.code == 0, done.err.strip() or f"{args}: exit code {done.code}"
        return done.out.rstrip()

    def sh(self, script: str) -> str:
        """What a script prints in a container of its own."""
        self.args("sh", "-c", script)
        self.write()
        return self.ok("run", "box")

    def says(self, script: str, out: str) -> None:
        """The script has to print just that."""
        seen = self.sh(script)
        assert seen == out, f"it printed {seen!r}"

    def start(self, *args: str, name: str = "box") -> int:
        """Create and start a container that stays. Returns its first process."""
        self.args(*(args or SLEEP))
        self.write()
        self.started.append(name)
        self.ok("create", name)
        self.ok("start", name)
        pid = int(self.state(name)["pid"])
        self.remember(pid)
        return pid

    def remember(self, pid: int) -> None:
        """A process to end in any case, whatever the runtime makes of it."""
        self.processes.append(os.pidfd_open(pid))

    def state(self, name: str = "box") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("state", name))
        return found

    def exec(self, script: str, *flags: str) -> str:
        return self.ok("exec", *flags, "box", "sh", "-c", script)

    def eventually(self, what: Callable[[], Any], name: str = "it did not happen") -> Any:
        until = time.monotonic() + 20
        while not (answer := what()):
            assert time.monotonic() < until, name
            time.sleep(0.02)
        return answer

    def console(self) -> ConsoleSocket:
        return ConsoleSocket(self.folder / "tty", self.person.uid)

    def clear(self) -> None:
        for name in self.started:
            self("delete", "--force", name)
        for process in self.processes:
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(process)
        self.command("/bin/rm", "-rf", self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


class ConsoleSocket:
    """Receives the master of a terminal."""

    def __init__(self, path: Path, uid: int) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.socket.settimeout(20)
        os.chown(path, uid, uid)

    def read(self) -> str:
        """What comes from the terminal, up to its end."""
        with self.socket, self.socket.accept()[0] as connection:
            _, (master, *_), _, _ = socket.recv_fds(connection, 4096, 1)
        seen = b""
        try:
            while block := os.read(master, 4096):
                seen += block
        except OSError:  # EIO: the other side is closed
            pass
        os.close(master)
        return seen.decode().replace("\r", "")


BASE: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "hostname": "box",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "cwd": "/",
        "env": [f"PATH={PATH}"],
        "capabilities": {
            kind: ["CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")
        },
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
    ],
    "linux": {"namespaces": [{"type": kind} for kind in ("user", "mount", "pid", "ipc", "uts", "network")]},
}


def base(person: Person) -> dict[str, Any]:
    """What an ordinary user can have anywhere: one id, no cgroup."""
    config = copy.deepcopy(BASE)
    one = {"containerID": 0, "hostID": person.uid, "size": 1}
    config["linux"] |= {"uidMappings": [one], "gidMappings": [dict(one)]}
    if person.cgroup:
        config["linux"]["cgroupsPath"] = f"{person.cgroup}/box-{time.monotonic_ns()}"
    if person.systemd:
        config["linux"]["cgroupsPath"] = f"user.slice:table:{time.monotonic_ns()}"
    return config
