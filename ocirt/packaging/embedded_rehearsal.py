"""Hot verbs on a host that is made up: what a call writes to in the executable's memory, the build learns from this
(launcher/profile.h). Runs in a child of the build that writes no picture; `begin` is embedded_main.py's, `loaded` is
sys.modules.

Nothing is looked at, made or signalled outside: the functions of `posix` that modules call are replaced by those of
World.
"""

from __future__ import annotations

import posix
import sys

from ocirt.plan.tags import FD_PASSWD, SYNC_ATTACHED, SYNC_READY
from ocirt.plan.wire import MESSAGE, MSG_FD, MSG_PID, MSG_SYNC
from ocirt.runtime.spec import default_spec
from ocirt.state.document import dumps

PID = 4711
DIRECTORY, FILE, FIFO = 0o040700, 0o100600, 0o010622
FIRST = 4026531837
"""The inode of the first user namespace (include/linux/proc_ns.h)."""
MORE = 1000
"""The index of a step that comes after init's clone."""
CONTROLLERS = ("name=systemd", "pids", "blkio", "freezer", "devices", "memory", "cpuset", "cpuacct", "cpu")
STAT = f"{PID} (ocirt-init) S 1 {PID} {PID} 0 -1 4194560 " + " ".join(["1"] * 44)
STATUS = f"Name:\tocirt\nUid:\t0\t0\t0\t0\nNSpid:\t{PID}\n" + "".join(
    f"Cap{one}:\t000001ffffffffff\n" for one in ("Inh", "Prm", "Eff", "Bnd", "Amb")
)
PACKAGE = "/usr/local/lib/python3.11/dist-packages/ocirt/hot/run.bin"
CALLS = (
    ("run", "--bundle", "/bundle", "one"),
    ("create", "--bundle", "/bundle", "--pid-file", "/pid", "one"),
    ("state", "one"),
    ("start", "one"),
    ("exec", "one", "/bin/true"),
    ("kill", "one", "KILL"),
    ("delete", "--force", "one"),
)

WHOLE = ("run", "create", "state", "kill", "delete")
"""The verbs that come to their ends here; others write to more once they are in a container."""


class EndedError(BaseException):
    """Instead of the process."""


class World:
    """Files by their paths, folders as None; a descriptor is a place in `opened`."""

    def __init__(self) -> None:
        spec = default_spec()
        spec["process"]["terminal"] = False
        self.files: dict[str, bytes | None] = {
            "/bundle/config.json": dumps(spec).encode(),
            "/proc/sys/kernel/cap_last_cap": b"40\n",
            "/proc/self/cgroup": "".join(f"{n}:{name}:/\n" for n, name in enumerate(CONTROLLERS, 1)).encode(),
        }
        folders = ("/", "/tmp", "/run", "/bundle", "/bundle/rootfs", "/sys/fs/cgroup")
        self.files |= dict.fromkeys(folders)
        for name in CONTROLLERS:
            folder = f"/sys/fs/cgroup/{name.removeprefix('name=')}"
            self.files |= {folder: None, f"{folder}/cgroup.procs": b""}
        self.opened: list[str] = ["/dev/null"] * 10
        self.places: dict[int, int] = {}
        self.fifos: set[str] = set()
        self.messages: list[bytes] = []
        self.said = b""  # to stderr

    def whole(self, path: str | int, dir_fd: int | None = None) -> str:
        """The path that is meant: of a descriptor, of a name in an open folder, through /proc/self/fd."""
        if isinstance(path, int):
            return self.opened[path]
        if path.startswith("/proc/self/fd/"):
            return self.opened[int(path.rpartition("/")[2])]
        return path if dir_fd is None or path.startswith("/") else f"{self.opened[dir_fd]}/{path}"

    def find(self, path: str) -> bytes | None:
        if path.startswith("/proc/") and path.endswith("/stat"):
            return STAT.encode()
        if path.startswith("/proc/") and path.endswith("/status"):
            return STATUS.encode()
        if path.startswith("/sys/fs/cgroup/cpuset") and path.rpartition(".")[2] in ("cpus", "mems"):
            return b"0-1\n"
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        path = self.whole(path, dir_fd)
        if flags & posix.O_CREAT:
            self.files[path] = b""
        elif path.startswith("/sys/fs/cgroup/") and flags & posix.O_WRONLY:
            self.files.setdefault(path, b"")
        self.find(path)
        self.opened.append(path)
        return len(self.opened) - 1

    def read(self, fd: int, size: int) -> bytes:
        at = self.places.get(fd, 0)
        content = (self.find(self.opened[fd]) or b"")[at : at + size]
        self.places[fd] = at + len(content)
        return content

    def write(self, fd: int, content: bytes) -> int:
        path = self.opened[fd]
        if fd == 2:
            self.said += content
        elif not path.startswith("/dev/"):
            self.files[path] = (self.files.get(path) or b"") + bytes(content)
        return len(content)

    def stat(self, path: str | int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> posix.stat_result:
        path = self.whole(path, dir_fd)
        content = self.find(path)
        kind = DIRECTORY if content is None else FIFO if path in self.fifos else FILE
        return posix.stat_result((kind, 1, 1, 1, 0, 0, len(content or b""), 0, 0, 0))

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        path = self.whole(path, dir_fd)
        if path in self.files:
            raise FileExistsError(17, "File exists", path)
        self.files[path] = None

    def mkfifo(self, path: str, mode: int, *, dir_fd: int | None = None) -> None:
        path = self.whole(path, dir_fd)
        self.files[path] = b""
        self.fifos.add(path)

    def remove(self, path: str, *, dir_fd: int | None = None) -> None:
        path = self.whole(path, dir_fd)
        self.find(path)
        self.files.pop(path, None)

    def rename(self, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        old, new = self.whole(old, src_dir_fd), self.whole(new, dst_dir_fd)
        self.files[new] = self.files.pop(old)
        if old in self.fifos:
            self.fifos.add(new)

    def listdir(self, path: str | int) -> list[str]:
        folder = self.whole(path) + "/"
        return [
            name[len(folder) :] for name in self.files if name.startswith(folder) and "/" not in name[len(folder) :]
        ]

    def readlink(self, path: str) -> str:
        if path.startswith("/proc/self/fd/"):
            return self.opened[int(path.rpartition("/")[2])]
        if path.endswith("/exe"):
            return "/memfd:ocirt-init (deleted)"
        if "/ns/" in path:
            return f"{path.rpartition('/')[2]}:[{FIRST + ('self' not in path)}]"
        raise OSError(22, "Invalid argument", path)

    def some_file(self, *args: object) -> int:
        self.opened.append("/dev/null")
        return len(self.opened) - 1

    def exit(self, code: int) -> None:
        raise EndedError(code)

    def socketpair(self, *args: object) -> tuple[Socket, Socket]:
        self.messages = [
            MESSAGE.pack(MSG_PID, 0, PID, 0),
            MESSAGE.pack(MSG_SYNC, MORE, SYNC_ATTACHED, 0),
            MESSAGE.pack(MSG_FD, MORE, FD_PASSWD, 0),
            MESSAGE.pack(MSG_SYNC, MORE, SYNC_READY, 0),
            b"",
        ]
        return Socket(self), Socket(self)


class Socket:
    """What init says, one message after the other."""

    def __init__(self, world: World) -> None:
        self.world = world

    def fileno(self) -> int:
        return self.world.some_file()

    def recvmsg(self, size: int, room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        content = self.world.messages.pop(0)
        fds = [(1, 1, self.world.some_file().to_bytes(4, "little"))] if content[0] == MSG_FD else []
        return content, fds, 0, None

    def recv(self, size: int) -> bytes:
        return self.world.messages.pop(0)

    def send(self, content: bytes) -> int:
        return len(content)

    def close(self) -> None:
        pass


class Signal:
    si_signo = 17


def nothing(*args: object, **named: object) -> int:
    return 0


def rehearse(begin, loaded) -> None:  # type: ignore[no-untyped-def]
    world = World()
    posix.__dict__.update(
        {
            name: getattr(world, name)
            for name in ("open", "read", "write", "stat", "mkdir", "rename", "listdir", "readlink")
        }
    )
    ours = {
        "lstat": world.stat,
        "fstat": world.stat,
        "rmdir": world.remove,
        "unlink": world.remove,
        "memfd_create": world.some_file,
        "pidfd_open": world.some_file,
        "posix_spawn": lambda *args, **named: PID - 1,
        "waitpid": lambda pid, options: (pid, 0),
        "mkfifo": world.mkfifo,
        "_exit": world.exit,
        "access": lambda path, mode, **named: True,
    }
    ours |= dict.fromkeys(("close", "chmod", "kill", "getuid", "geteuid"), nothing)
    posix.__dict__.update(ours)
    instead = {"fcntl": world.some_file, "socketpair": world.socketpair}
    instead |= dict.fromkeys(("flock", "pthread_sigmask", "pidfd_send_signal", "sleep"), nothing)
    for name, module in list(loaded.items()):
        if name.startswith("ocirt."):
            variables = module.__dict__
            variables.update({key: instead[key] for key in instead if key in variables})
    signals = loaded["_signal"].__dict__
    signals.update(
        pthread_sigmask=nothing, signal=nothing, sigwaitinfo=lambda numbers: Signal, pidfd_send_signal=nothing
    )
    world.files[PACKAGE.replace("hot/run.bin", "init/ocirt-init")] = b"\x7fELF"
    for words in CALLS:
        sys.argv = ["-c", PACKAGE, "0", "ocirt", *words]
        try:
            if words is CALLS[0]:  # only once: it puts the modules' places right
                begin(sys.argv, [b"LC_ALL=C", b"TZ=UTC0", b"PATH=/usr/bin:/bin"])
            loaded["ocirt.cli.main"].entry()
        except EndedError as ended:
            if ended.args[0] and words[0] in WHOLE:
                raise ValueError(f"rehearsal: {words[0]} fails: {world.said!r}") from None
